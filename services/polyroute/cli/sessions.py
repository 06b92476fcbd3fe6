"""Who is signed in from here, and where: tokens of sessions, in a file that only this user reads.

One session for each gateway. A refresh token works once, and its second use ends the session: whoever refreshes holds a
lock meanwhile, so that two commands at once are not taken for a thief.
"""

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from polyroute.mesh.files import write_private

if TYPE_CHECKING:
    from polyroute.api.auth.v1 import people_pb2
    from polyroute.cli.desk import Desk

FILE: Final = "sessions.json"
LOCK: Final = "sessions.lock"
_SLACK: Final = 15.0  # s, that a token must still work for, or a command would outlive it


@dataclass(frozen=True, slots=True)
class Session:
    """The tokens of a session; times in seconds since the Unix epoch."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)
    works_until: float
    ends: float

    @classmethod
    def of(cls, tokens: "people_pb2.Tokens") -> "Session":
        """The session that tokens are of, which came just now."""
        works_until = time.time() + tokens.valid_for.seconds
        return cls(tokens.access_token, tokens.refresh_token, works_until, tokens.session_end_time.ToSeconds())


def folder() -> Path:
    """Where this user's configuration is (https://specifications.freedesktop.org/basedir-spec/latest/)."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "polyroute"


def signed_in(gateway: str) -> bool:
    """Whether there is a session at a gateway."""
    return gateway in _read()


def keep(gateway: str, session: Session) -> None:
    """Keeps a session, in the place of the one before."""
    with _locked():
        _write(_read() | {gateway: session})


def forget(gateway: str) -> Session | None:
    """The session that was kept for a gateway, and is not any more."""
    with _locked():
        sessions = _read()
        found = sessions.pop(gateway, None)
        if found is not None:
            _write(sessions)
    return found


def token(desk: "Desk") -> str:
    """The access token of whoever is signed in at a desk's gateway, refreshed where it must be; empty when nobody is.

    Raises:
        SystemExit: The session has ended.
    """
    if not signed_in(desk.gateway):
        return ""
    with _locked():
        sessions = _read()
        session = sessions.get(desk.gateway)
        if session is None:
            return ""
        if session.works_until < time.time() + _SLACK:
            session = _refreshed(desk, session)
            _write(sessions | {desk.gateway: session})
    return session.access


def _refreshed(desk: "Desk", session: Session) -> Session:
    from polyroute.api.auth.v1 import people_pb2

    try:
        answer = desk.ask_openly("RefreshTokens", people_pb2.RefreshTokensRequest(refresh_token=session.refresh))
    except SystemExit as refused:
        raise SystemExit(f"{refused}; sign in again (polyroute sign-in), or not at all (polyroute sign-out)") from None
    return Session.of(answer.tokens)


def _read() -> dict[str, Session]:
    try:
        tree: dict[str, Any] = orjson.loads((folder() / FILE).read_bytes())
        return {gateway: Session(**session) for gateway, session in tree.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise SystemExit(
            f"polyroute: {folder() / FILE} cannot be read ({error}); delete it and sign in again"
        ) from None


def _write(sessions: dict[str, Session]) -> None:
    tree = {gateway: asdict(session) for gateway, session in sessions.items()}
    write_private(folder() / FILE, orjson.dumps(tree))


@contextmanager
def _locked() -> Generator[None]:
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder() / LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
