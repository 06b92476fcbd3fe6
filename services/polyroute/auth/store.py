"""What auth remembers: every statement that touches its tables."""

from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.states import halted, is_there
from polyroute.auth.database import Also, Database, nothing
from polyroute.auth.flights import Shelter
from polyroute.auth.keys import Changed, Key, NewKey
from polyroute.auth.migrations.history import HISTORY
from polyroute.auth.money import multipliers
from polyroute.auth.money.inforce import in_force
from polyroute.auth.people.actors import Reach
from polyroute.auth.people.reach import within
from polyroute.auth.rates.limits import Kind, Limit, Place
from polyroute.auth.schema import Property
from polyroute.auth.scopes import Scope
from polyroute.mesh.database import Location, UnusableDatabaseError
from polyroute.mesh.errors import MeshError

P = ParamSpec("P")
T = TypeVar("T")

_KEYS: Final = schema.keys.c
_REVOCATIONS: Final = schema.revocations.c


@dataclass(frozen=True, slots=True)
class Founding:
    """What the first start writes."""

    account_id: str
    account_name: str
    project_id: str
    project_name: str
    key: NewKey


@dataclass(frozen=True, slots=True)
class Revocation:
    """The end of a key."""

    revision: int
    """Its place in the order of all revocations; counts from 1."""
    key_id: str
    digest: bytes


def _whole(
    method: Callable[Concatenate["Store", P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate["Store", P], Coroutine[Any, Any, T]]:
    """The method, running to its end even if its caller is cancelled.

    A cancelled statement costs SQLAlchemy the connection: it stops the driver's thread without closing the file, and a
    transaction that was open keeps its lock on the database until the garbage collector comes by.
    """

    @wraps(method)
    async def run(store: "Store", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await store._transactions.run(method(store, *args, **kwargs))  # noqa: SLF001 - a method of its own

    return run


class Store:
    """Accounts, projects, keys and revocations.

    Every method is one transaction, which ends well or badly but not halfway when its caller goes away. All raise
    `MeshError` with REASON_SERVICE_UNAVAILABLE when the database does not answer in time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._transactions = Shelter()

    @property
    def database(self) -> Database:
        """The connections, for the other parts of auth that keep tables there."""
        return self._database

    @classmethod
    @asynccontextmanager
    async def open(cls, location: Location, *, fingerprint: str) -> AsyncGenerator[Self]:
        """The store in a database, with its tables; closed at the end.

        Args:
            location: Where it is.
            fingerprint: Of the pepper under which digests are made.

        Raises:
            UnusableDatabaseError: The database was made by a newer version of the program or under another pepper.
        """
        await HISTORY.upgrade(location)
        store = cls(Database(location))
        try:
            await store._claim(location, fingerprint)
            yield store
        finally:
            await store._transactions.close()
            await store._database.close()

    @_whole
    async def _claim(self, location: Location, fingerprint: str) -> None:
        """Marks a new database as ours; refuses one that bears another mark."""
        async with self._database.writing() as connection:
            if await _property(connection, Property.PEPPER, default=fingerprint) != fingerprint:
                raise UnusableDatabaseError(
                    f"{location.name}: the database's keys were made under another pepper: "
                    "restore the pepper file that belongs to it"
                )

    @_whole
    async def found(self, founding: Founding) -> bool:
        """Writes the first account, project and key, unless that was done before; whether it was done now."""
        async with self._database.writing() as connection:
            default_project = await _property(connection, Property.DEFAULT_PROJECT, default=founding.project_id)
            if default_project != founding.project_id:  # whoever records it first is the founder
                return False
            created = founding.key.created
            account = {"id": founding.account_id, "name": founding.account_name, "created": created}
            await connection.execute(insert(schema.accounts).values(account))
            project = {"id": founding.project_id, "account_id": founding.account_id, "name": founding.project_name}
            await connection.execute(insert(schema.projects).values(project | {"created": created}))
            await _insert_key(connection, founding.key, founding.project_id)
            return True

    @_whole
    async def adopt(self, new: NewKey) -> bool:
        """Writes a key into the default project, unless its secret is known, revoked or not; whether it was written."""
        async with self._database.writing() as connection:
            if await _one_key(connection, _select_keys().where(_KEYS.digest == new.digest)):
                return False
            await _insert_key(connection, new, await _default_project(connection))
            return True

    @_whole
    async def create(self, new: NewKey, project_id: str, also: Also[Changed] = nothing) -> tuple[Key, bool]:
        """Writes a key, unless its `request_id` was used before: then that key and False.

        Args:
            new: The key.
            project_id: Its project; empty means the default project.
            also: Done beside it.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such project.
        """
        async with self._database.writing() as connection:
            if new.request_id is not None:
                earlier = await _one_key(connection, _select_keys().where(_KEYS.request_id == new.request_id))
                if earlier is not None:
                    return earlier, False
            project_id = project_id or await _default_project(connection)
            if not await connection.run_sync(is_there, project_id):
                raise MeshError(
                    errors_pb2.REASON_NOT_FOUND, "there is no such project", metadata={"resource": project_id}
                )
            await _insert_key(connection, new, project_id)
            key = await _key(connection, new.id)
            await connection.run_sync(also, Changed(None, key))
            return key, True

    @_whole
    async def find(self, digest: bytes) -> Key | None:
        """The key whose secret has this digest."""
        async with self._database.reading() as connection:
            key = await _one_key(connection, _select_keys().where(_KEYS.digest == digest))
            key = key or await _by_former_secret(connection, digest)
            return None if key is None else await _bound(connection, key)

    @_whole
    async def named(self, name: str, *, limit: int) -> list[Key]:
        """At most `limit` keys that have this id or this prefix, oldest first; ended keys as well."""
        query = _select_keys().where(or_(_KEYS.id == name, _KEYS.prefix == name)).order_by(_KEYS.id).limit(limit)
        async with self._database.reading() as connection:
            return [_to_key(row) for row in await connection.execute(query)]

    @_whole
    async def page(
        self,
        *,
        project_id: str,
        before: str,
        live_at: int | None,
        limit: int,
        reach: Reach | None = None,
        oldest: bool = False,
        wanted: Sequence[ColumnElement[bool]] = (),
    ) -> list[Key]:
        """Keys, newest first unless said.

        Args:
            project_id: Only this project's; empty means all.
            before: Only keys that follow the one with this id; empty means from the first on.
            live_at: Only keys that work at this time; None means ended ones as well.
            limit: At most this many.
            reach: Whose keys may be shown; None means everybody's.
            oldest: Oldest first.
            wanted: What else must be true of a key's row, or of its project's.
        """
        order = _KEYS.id if oldest else _KEYS.id.desc()
        query = _select_keys().where(*wanted, *within(schema.keys, reach)).order_by(order).limit(limit)
        if project_id:
            query = query.where(_KEYS.project_id == project_id)
        if before:
            query = query.where(_KEYS.id > before if oldest else _KEYS.id < before)
        if live_at is not None:
            query = query.where(_KEYS.revoked.is_(None), or_(_KEYS.expires.is_(None), _KEYS.expires > live_at))
        async with self._database.reading() as connection:
            return [_to_key(row) for row in await connection.execute(query)]

    @_whole
    async def revoke(
        self, key_id: str, *, at: int, known: int, also: Also[Changed] = nothing
    ) -> tuple[Key, list[Revocation]]:
        """Ends a key for good; a key that has been revoked stays as it is, and `also` is not done.

        Returns:
            The key, and every revocation after revision `known` in order: this one and those of other processes.
        """
        async with self._database.writing() as connection:
            before = await _key(connection, key_id)
            still_works = (schema.keys.c.id == key_id) & _KEYS.revoked.is_(None)
            changed = await connection.execute(update(schema.keys).where(still_works).values(revoked=at))
            if changed.rowcount:
                await connection.execute(delete(schema.former_secrets).where(schema.former_secrets.c.key_id == key_id))
                await connection.execute(insert(schema.revocations).values(key_id=key_id))
                await connection.run_sync(also, Changed(before, await _key(connection, key_id)))
            query = _select_revocations().where(_REVOCATIONS.revision > known).order_by(_REVOCATIONS.revision)
            revocations = [Revocation(*row) for row in await connection.execute(query)]
            return await _key(connection, key_id), revocations

    @_whole
    async def change(self, key_id: str, values: Mapping[str, Any], also: Also[Changed] = nothing) -> Changed:
        """Changes columns of a key; the key before and after.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such key.
        """
        async with self._database.writing() as connection:
            before = await _one_key(connection, _select_keys().where(_KEYS.id == key_id))
            if before is None:
                raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such key", metadata={"resource": key_id})
            if values:
                await connection.execute(update(schema.keys).where(_KEYS.id == key_id).values(**values))
            changed = Changed(before, await _key(connection, key_id))
            await connection.run_sync(also, changed)
            return changed

    @_whole
    async def rotate(
        self, key_id: str, digest: bytes, prefix: str, *, old_until: int, also: Also[Changed] = nothing
    ) -> tuple[Key, bytes]:
        """Gives a key another secret; the old one is found until `old_until`. The key, and the old digest."""
        async with self._database.writing() as connection:
            before = await _key(connection, key_id)
            old: bytes = (await connection.execute(select(_KEYS.digest).where(_KEYS.id == key_id))).scalar_one()
            former = {"digest": old, "key_id": key_id, "expires": old_until}
            await connection.execute(insert(schema.former_secrets).values(former))
            values = {"digest": digest, "prefix": prefix}
            await connection.execute(update(schema.keys).where(_KEYS.id == key_id).values(**values))
            key = await _key(connection, key_id)
            await connection.run_sync(also, Changed(before, key))
            return key, old

    @_whole
    async def binds_itself(self, key_id: str) -> bool:
        """Whether a key has limits or budgets of its own."""
        async with self._database.reading() as connection:
            for table in (schema.limits, schema.budgets):
                if (await connection.execute(select(1).where(table.c.scope == key_id).limit(1))).first():
                    return True
            return False

    @_whole
    async def revocations_after(self, revision: int) -> list[Revocation]:
        """Every revocation after one, oldest first."""
        query = _select_revocations().where(_REVOCATIONS.revision > revision).order_by(_REVOCATIONS.revision)
        async with self._database.reading() as connection:
            return [Revocation(*row) for row in await connection.execute(query)]

    @_whole
    async def latest_revocations(self, limit: int) -> list[Revocation]:
        """The last `limit` revocations, oldest first."""
        query = _select_revocations().order_by(_REVOCATIONS.revision.desc()).limit(limit)
        async with self._database.reading() as connection:
            return [Revocation(*row) for row in await connection.execute(query)][::-1]


def _select_keys() -> Select[Any]:
    columns = (
        _KEYS.id,
        schema.projects.c.account_id,
        _KEYS.project_id,
        _KEYS.prefix,
        _KEYS.name,
        _KEYS.models,
        _KEYS.created,
        _KEYS.expires,
        _KEYS.revoked,
        _KEYS.scope,
        _KEYS.creator,
    )
    return select(*columns).join_from(schema.keys, schema.projects)


def _select_revocations() -> Select[Any]:
    return select(_REVOCATIONS.revision, _REVOCATIONS.key_id, _KEYS.digest).join_from(schema.revocations, schema.keys)


def _to_key(row: Sequence[Any]) -> Key:
    key_id, account_id, project_id, prefix, name, models, created, expires, revoked, scope, creator = row
    times = (created, expires, revoked)
    return Key(
        key_id, account_id, project_id, prefix, name, tuple(models), *times, Scope.from_json(scope), creator=creator
    )


async def _by_former_secret(connection: AsyncConnection, digest: bytes) -> Key | None:
    table = schema.former_secrets.c
    found = (await connection.execute(select(table.key_id, table.expires).where(table.digest == digest))).one_or_none()
    if found is None:
        return None
    key = await _key(connection, found.key_id)
    ends = found.expires if key.expires is None else min(key.expires, found.expires)
    return replace(key, expires=ends, former=True)


async def _bound(connection: AsyncConnection, key: Key) -> Key:
    """The key with its limits, its purse and the plan in force."""
    limits = schema.limits.c
    found = await connection.execute(select(schema.limits).where(limits.scope.in_(key.path)))
    bounds = tuple(Limit(Place(row.scope, Kind(row.kind), row.model), row.amount, row.burst) for row in found)
    plan = await connection.run_sync(in_force, key.project_id, key.account_id)
    if plan is not None:
        key, bounds = replace(key, plan=plan), bounds + plan.limits
    budgets = schema.budgets.c
    hard = select(budgets.scope).where(budgets.scope.in_(key.path), budgets.hard)
    scopes = set((await connection.execute(hard)).scalars())
    purse = next((scope for scope in key.path if scope in scopes), "")
    priced = await connection.run_sync(multipliers.of, [key.account_id])
    multiplier = priced.get(key.account_id, 0)
    return replace(
        key, limits=bounds, purse=purse, multiplier=multiplier, halted=await connection.run_sync(halted, key)
    )


async def _one_key(connection: AsyncConnection, query: Select[Any]) -> Key | None:
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _to_key(row)


async def _key(connection: AsyncConnection, key_id: str) -> Key:
    return _to_key((await connection.execute(_select_keys().where(_KEYS.id == key_id))).one())


def keys_where(connection: Connection, *conditions: ColumnElement[bool]) -> list[Key]:
    """The keys of which these conditions hold, oldest first, for those who are in a transaction of their own."""
    query = _select_keys().where(*conditions).order_by(_KEYS.id)
    return [_to_key(row) for row in connection.execute(query)]


def key_row(new: NewKey, project_id: str) -> dict[str, Any]:
    """A new key as it is written."""
    return {
        "id": new.id,
        "project_id": project_id,
        "digest": new.digest,
        "prefix": new.prefix,
        "name": new.name,
        "models": list(new.models),
        "created": new.created,
        "expires": new.expires,
        "request_id": new.request_id,
        "scope": new.scope.to_json(),
        "creator": new.creator,
    }


async def _insert_key(connection: AsyncConnection, new: NewKey, project_id: str) -> None:
    await connection.execute(insert(schema.keys).values(key_row(new, project_id)))


async def _property(connection: AsyncConnection, name: str, *, default: str) -> str:
    """The value recorded under `name`; `default` is recorded when there is none."""
    table = schema.properties
    value: str | None = await connection.scalar(select(table.c.value).where(table.c.name == name))
    if value is None:
        await connection.execute(insert(table).values(name=name, value=default))
        return default
    return value


async def _default_project(connection: AsyncConnection) -> str:
    query = select(schema.properties.c.value).where(schema.properties.c.name == Property.DEFAULT_PROJECT)
    return str((await connection.execute(query)).scalar_one())
