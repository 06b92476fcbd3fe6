"""Sessions: a chain of refresh tokens, each of which works once.

Whoever steals a refresh token and uses it, or uses it after its owner did, makes two of one chain: the second use ends
the whole session, the thief's and the owner's (RFC 9700, 4.14.2).
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
from sqlalchemy import Connection, delete, insert, select, update

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys, schema
from polyroute.auth.database import Database
from polyroute.auth.keys import Digester
from polyroute.auth.people.tokens import AccessTokens, Bearer
from polyroute.mesh.errors import MeshError

MARK: Final = "rt-"
SWEEP_SECONDS: Final = 3600.0
SESSIONS: Final = 100  # of one person at once
USED_TOKENS: Final = 1000  # of one session that are known to have been used

_S: Final = schema.sessions.c
_T: Final = schema.refresh_tokens.c

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pair:
    """What somebody who has signed in gets; `ends` in microseconds since the Unix epoch."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    valid_for: float
    ends: int


class Sessions:
    """Begins, continues and ends sessions.

    Args:
        database: Where they are.
        digester: Turns refresh tokens into what is kept of them.
        tokens: Gives access tokens.
        lasts: Seconds that a session lasts, however often it is refreshed.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(
        self,
        database: Database,
        digester: Digester,
        tokens: AccessTokens,
        *,
        lasts: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._digester = digester
        self._tokens = tokens
        self._lasts = lasts
        self._now = now

    async def begin(self, person_id: str) -> Pair:
        """Signs a person in."""
        now = self._micros()
        session_id, refresh, ends = keys.new_id("ses"), _fresh(), now + round(self._lasts * 1e6)
        row = {"id": session_id, "person_id": person_id, "created": now, "expires": ends}

        def work(connection: Connection) -> None:
            _make_room(connection, person_id)
            connection.execute(insert(schema.sessions).values(row))
            self._keep(connection, refresh, session_id)

        await self._database.write(work)
        return self._pair(Bearer(person_id, session_id), refresh, ends)

    async def refresh(self, presented: str) -> Pair:
        """The next tokens of a session.

        Raises:
            MeshError: REASON_CREDENTIAL_INVALID: unknown, ended, or used before, which ends the session.
        """
        digest, refresh, now = self._digest(presented), _fresh(), self._micros()

        def work(connection: Connection) -> tuple[Bearer, int] | None:
            used = update(schema.refresh_tokens).where(_T.digest == digest, _T.used.is_(None)).values(used=now)
            first = bool(connection.execute(used).rowcount)
            query = select(_S.id, _S.person_id, _S.expires).join_from(schema.refresh_tokens, schema.sessions)
            lives = (_S.ended.is_(None), _S.expires > now, schema.people.c.disabled.is_(False))
            found = connection.execute(query.join(schema.people).where(_T.digest == digest, *lives)).one_or_none()
            if found is None:
                return None
            if not first:
                connection.execute(update(schema.sessions).where(_S.id == found.id).values(ended=now))
                _log.warning("refresh token used twice", person_id=found.person_id, session_id=found.id)
                return None
            _forget_oldest(connection, found.id)
            self._keep(connection, refresh, found.id)
            return Bearer(found.person_id, found.id), found.expires

        outcome = await self._database.write(work)
        if outcome is None:
            raise MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "the refresh token is not valid")
        bearer, ends = outcome
        return self._pair(bearer, refresh, ends)

    async def end(self, presented: str) -> None:
        """Ends the session of a refresh token, if there is one."""
        digest, now = self._digest(presented), self._micros()
        session = select(_T.session_id).where(_T.digest == digest).scalar_subquery()
        ended = update(schema.sessions).where(_S.id == session, _S.ended.is_(None)).values(ended=now)
        await self._database.write(lambda connection: connection.execute(ended))

    async def sweep(self) -> None:
        """Forgets what has expired: sessions with their tokens, and codes that set passwords."""
        now = self._micros()
        over = select(_S.id).where(_S.expires <= now)
        resets = schema.password_resets

        def work(connection: Connection) -> None:
            connection.execute(delete(schema.refresh_tokens).where(_T.session_id.in_(over)))
            connection.execute(delete(schema.sessions).where(_S.expires <= now))
            connection.execute(delete(resets).where(resets.c.expires <= now))

        await self._database.write(work)

    async def run(self) -> None:
        """Sweeps for ever."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    def _keep(self, connection: Connection, refresh: str, session_id: str) -> None:
        row = {"digest": self._digest(refresh), "session_id": session_id}
        connection.execute(insert(schema.refresh_tokens).values(row))

    def _pair(self, bearer: Bearer, refresh: str, ends: int) -> Pair:
        return Pair(self._tokens.give(bearer), refresh, self._tokens.valid_for, ends)

    def _digest(self, refresh: str) -> bytes:
        return self._digester(f"refresh:{refresh}")

    def _micros(self) -> int:
        return round(self._now() * 1e6)


def _make_room(connection: Connection, person_id: str) -> None:
    """Forgets a person's oldest sessions where there are too many: nobody fills the disk by signing in."""
    theirs = select(_S.id).where(_S.person_id == person_id).order_by(_S.created.desc(), _S.id.desc())
    over = connection.scalars(theirs.offset(SESSIONS - 1)).all()
    if over:
        connection.execute(delete(schema.refresh_tokens).where(_T.session_id.in_(over)))
        connection.execute(delete(schema.sessions).where(_S.id.in_(over)))


def _forget_oldest(connection: Connection, session_id: str) -> None:
    """Forgets the oldest of too many used tokens of a session; one that is forgotten is merely unknown from then on."""
    used = select(_T.digest).where(_T.session_id == session_id, _T.used.is_not(None))
    over = connection.scalars(used.order_by(_T.used.desc()).offset(USED_TOKENS)).all()
    if over:
        connection.execute(delete(schema.refresh_tokens).where(_T.digest.in_(over)))


def _fresh() -> str:
    return MARK + secrets.token_urlsafe(32)
