"""Passwords at the door: signing in, changing one, setting one by a code."""

import secrets
import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin import journal
from polyroute.auth.admin.journal import Change
from polyroute.auth.database import Database
from polyroute.auth.keys import Digester
from polyroute.auth.people.known import NewPerson
from polyroute.auth.people.passwords import Passwords
from polyroute.auth.people.registrar import Arrival, Registrar
from polyroute.auth.people.registry import People, change_password, person_of, plain
from polyroute.auth.people.sessions import Pair, Sessions
from polyroute.auth.people.throttle import Throttle
from polyroute.mesh.errors import MeshError

MARK: Final = "pw-"
RESET_SECONDS: Final = 86_400.0

_R: Final = schema.password_resets.c


class SignIn:
    """Lets people in by their passwords.

    Args:
        database: Where codes are.
        people: Knows them.
        passwords: Checks them.
        sessions: What they get.
        registrar: Lets new ones in.
        throttle: Counts attempts.
        digester: Turns codes into what is kept of them.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(
        self,
        database: Database,
        people: People,
        passwords: Passwords,
        sessions: Sessions,
        registrar: Registrar,
        throttle: Throttle,
        digester: Digester,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._people = people
        self._passwords = passwords
        self._sessions = sessions
        self._registrar = registrar
        self._throttle = throttle
        self._digester = digester
        self._now = now

    async def register(
        self, email: str, password: str, name: str, invitation: str, address: str
    ) -> tuple[Arrival, Pair]:
        """Somebody new, signed in; every attempt counts, also those that succeed.

        Raises:
            MeshError: As `Registrar.register`; REASON_RATE_LIMITED.
        """
        self._registrar.check(invitation)
        self._throttle.take(plain(email), address)
        kept = await self._passwords.hashed(password)
        arrival = await self._registrar.register(NewPerson(email, name, kept), invitation)
        return arrival, await self._sessions.begin(arrival.person.id)

    async def sign_in(self, email: str, password: str, address: str) -> Pair:
        """Tokens for a password.

        Raises:
            MeshError: REASON_CREDENTIAL_INVALID, in the same words and after the same time whatever is wrong;
                REASON_RATE_LIMITED.
        """
        attempt = self._throttle.take(plain(email), address)
        person = await self._people.by_email(email)
        kept = person.password if person is not None else None
        matched = await self._passwords.matches(kept, password)
        if person is None or kept is None or not matched or person.disabled:
            raise _refused()
        attempt.succeeded()
        if self._passwords.outdated(kept):
            await self._people.keep_password(person.id, await self._passwords.hashed(password))
        return await self._sessions.begin(person.id)

    async def change(self, person_id: str, session_id: str, password: str, new: str, address: str) -> None:
        """Changes the password of somebody who knows the present one; their other sessions end.

        Raises:
            MeshError: REASON_CREDENTIAL_INVALID, REASON_RATE_LIMITED.
        """
        attempt = self._throttle.take(person_id, address)
        person = await self._people.get(person_id)
        if not await self._passwords.matches(person.password, password):
            raise _refused()
        attempt.succeeded()
        await self._people.set_password(person_id, await self._passwords.hashed(new), but=session_id)

    async def offer_reset(self, actor: str, person_id: str) -> tuple[str, int]:
        """A code that sets a password once, and its end in microseconds since the Unix epoch; earlier ones end.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such person.
        """
        code, now = MARK + secrets.token_urlsafe(32), self._micros()
        expires = now + round(RESET_SECONDS * 1e6)
        row = {"digest": self._digest(code), "person_id": person_id, "expires": expires}

        def work(connection: Connection) -> None:
            person_of(connection, person_id)
            connection.execute(delete(schema.password_resets).where(_R.person_id == person_id))
            connection.execute(insert(schema.password_resets).values(row))
            journal.record(connection, Change(actor, "CreatePasswordReset", person_id, {}, {}), now)

        await self._database.write(work)
        return code, expires

    async def reset(self, code: str, new: str, address: str) -> None:
        """Sets a password by a code, which is worth nothing afterwards; every session ends.

        Raises:
            MeshError: REASON_CREDENTIAL_INVALID, the code is not good; REASON_RATE_LIMITED.
        """
        attempt = self._throttle.take("", address)
        digest, now = self._digest(code), self._micros()
        good = (_R.digest == digest, _R.expires > now)
        owner = select(_R.person_id).where(*good)
        if await self._database.read(lambda connection: connection.scalar(owner)) is None:
            raise _refused()  # before the hashing, which costs more than asking
        kept = await self._passwords.hashed(new)

        def work(connection: Connection) -> bool:
            person_id = connection.scalar(owner)
            if person_id is None:
                return False
            change_password(connection, person_id, kept, now)
            journal.record(connection, Change(f"person:{person_id}", "ResetPassword", person_id, {}, {}), now)
            return True

        if not await self._database.write(work):
            raise _refused()
        attempt.succeeded()

    def _digest(self, code: str) -> bytes:
        return self._digester(f"reset:{code}")

    def _micros(self) -> int:
        return round(self._now() * 1e6)


def _refused() -> MeshError:
    return MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "the credential is not valid")
