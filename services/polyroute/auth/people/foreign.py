"""Keys of another gateway, taken over by their SHA-256 digests: applications keep the keys that they have."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Final

from sqlalchemy import Connection, insert, select

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys, schema
from polyroute.auth.admin import journal
from polyroute.auth.admin.journal import Change
from polyroute.auth.database import Database
from polyroute.auth.keys import Digester, Key, NewKey
from polyroute.auth.money.budgets import Budget
from polyroute.auth.money.periods import window, zone
from polyroute.auth.people import messages
from polyroute.auth.people.known import ForeignKey
from polyroute.auth.schema import Property
from polyroute.auth.store import key_row, keys_where
from polyroute.mesh.errors import MeshError

SHOWN: Final = 8  # digits of the digest in the prefix by which people know the key


class Importer:
    """Takes keys over.

    Args:
        database: Where they are written.
        digester: Turns what is known of them into what is kept.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(self, database: Database, digester: Digester, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._digester = digester
        self._now = now

    async def take(self, actor: str, wanted: Sequence[ForeignKey]) -> list[tuple[Key, bool]]:
        """The keys in the same order, and whether each is new; all are written, or none.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such project; REASON_INVALID_REQUEST, a scope.
        """
        for one in wanted:
            one.scope.check()
        now = round(self._now() * 1e6)
        return await self._database.write(
            lambda connection: [self._take(connection, actor, one, now) for one in wanted]
        )

    def _take(self, connection: Connection, actor: str, wanted: ForeignKey, now: int) -> tuple[Key, bool]:
        digest = self._digester(keys.foreign(wanted.sha256))
        known = keys_where(connection, schema.keys.c.digest == digest)
        if known:
            return known[0], False
        project_id = _project(connection, wanted.project_id)
        new = NewKey(
            id=keys.new_id("key"),
            digest=digest,
            prefix=f"sha256:{wanted.sha256[:SHOWN]}",
            name=wanted.name,
            models=wanted.models,
            created=now,
            expires=wanted.expires,
            scope=wanted.scope,
        )
        connection.execute(insert(schema.keys).values(key_row(new, project_id)))
        self._bind(connection, new.id, wanted, now)
        after = messages.foreign(replace(wanted, project_id=project_id))
        journal.record(connection, Change(actor, "ImportKey", new.id, None, after), now)
        return keys_where(connection, schema.keys.c.id == new.id)[0], True

    def _bind(self, connection: Connection, key_id: str, wanted: ForeignKey, now: int) -> None:
        for kind, amount in wanted.limits:
            row = {"scope": key_id, "kind": kind, "model": "", "amount": amount, "burst": 0}
            connection.execute(insert(schema.limits).values(row))
        if wanted.budget is None:
            return
        started, ends = window(wanted.period, zone(""), now)
        budget = Budget(
            id=keys.new_id("bud"),
            scope=key_id,
            period=wanted.period,
            time_zone="",
            amount=wanted.budget,
            hard=True,
            prepaid=False,
            started=started,
            ends=ends,
            spent=0,
            held=0,
        )
        connection.execute(insert(schema.budgets).values(asdict(budget) | {"created": now}))


def _project(connection: Connection, project_id: str) -> str:
    named = schema.properties.c
    if not project_id:
        project_id = connection.scalar(select(named.value).where(named.name == Property.DEFAULT_PROJECT)) or ""
    table = schema.projects.c
    if connection.scalar(select(table.id).where(table.id == project_id)) is None:
        raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such project", metadata={"resource": project_id})
    return project_id
