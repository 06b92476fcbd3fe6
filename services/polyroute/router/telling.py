"""Changes of the catalog, for the log of administrative changes, which auth keeps.

A change is written down beside the version that it makes, in one transaction, and waits there until auth has it: auth
may be away while a catalog changes. Any router of the database may tell; auth takes a change once, by its id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Protocol
from uuid import uuid4

import orjson
import structlog
import yaml

from polyroute.api.auth.v1 import changes_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.store import ChangeRow, VersionRow

APPLY: Final = "ApplyCatalog"
LOAD: Final = "LoadCatalog"
MOVE: Final = "MoveRollout"
RESOURCE: Final = "catalog"
AGAIN_SECONDS: Final = 1.0  # before auth is told again that did not answer
AT_ONCE: Final = 16  # changes
_NAMED: Final = 50  # values that a change names
_LONGEST: Final = 200  # characters of a path or a value
_NOTE: Final = 1000  # characters
_ACTOR: Final = 64  # characters
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_log = structlog.get_logger("router")

Tell = Callable[[pb.RecordChangesRequest], Awaitable[None]]


class Outbox(Protocol):
    """Where changes wait; `store.Store` is one."""

    async def untold(self, limit: int) -> list[ChangeRow]:
        """Changes that auth has not, oldest first."""

    async def told(self, changes: Sequence[ChangeRow]) -> None:
        """Auth has these."""


def change_of(before: VersionRow, after: VersionRow, actor: str, action: str) -> ChangeRow:
    """The change from one version of the catalog to the next.

    Args:
        before: What was in force.
        after: What is.
        actor: Who changed it.
        action: What they did.
    """
    old, new = _values(before.text), _values(after.text)
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    states = [
        orjson.dumps(_state(version, values, names)).decode() for version, values in ((before, old), (after, new))
    ]
    return ChangeRow(uuid4().hex, after.time_us, actor[:_ACTOR], action, *states)


def _state(version: VersionRow, values: Mapping[str, str], names: Sequence[str]) -> dict[str, Any]:
    """A version as the log shows it: what names it, and those of its values that are not as they were or will be."""
    state: dict[str, Any] = {
        "number": version.number,
        "version": version.version,
        "digest": version.source,
        "author": version.author[:_LONGEST],
        "note": version.note[:_NOTE],
        "values": {name[:_LONGEST]: values[name][:_LONGEST] for name in islice(names, _NAMED) if name in values},
    }
    if len(names) > _NAMED:
        state["more_values"] = len(names) - _NAMED
    return state


def _values(text: str) -> dict[str, str]:
    """What a catalog says, each value by its path, such as `models.m.deployments.0.prompt`."""
    try:
        return dict(_leaves(yaml.load(text, _LOADER), ""))  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError):
        return {}  # it is in force in another form, or there is no file: its digest says that it differs


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict) and tree:
        for name, value in tree.items():
            yield from _leaves(value, f"{path}.{name}" if path else str(name))
    elif isinstance(tree, list) and any(isinstance(value, dict | list) for value in tree):
        for place, value in enumerate(tree):
            yield from _leaves(value, f"{path}.{place}")
    elif tree is not None:
        yield path, orjson.dumps(tree, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class Telling:
    """Tells auth of changes.

    Args:
        outbox: Where they wait.
        tell: Tells auth; raises `MeshError` while it does not answer.
    """

    def __init__(self, outbox: Outbox, tell: Tell) -> None:
        self._outbox = outbox
        self._tell = tell
        self._news = asyncio.Event()
        self._news.set()  # what a process that ended has left

    def wake(self) -> None:
        """Something waits."""
        self._news.set()

    async def run(self) -> None:
        """Tells for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._flush()
            except MeshError as error:
                _log.warning("changes of the catalog not told", reason=error.message)
                self._news.set()
                await asyncio.sleep(AGAIN_SECONDS)

    async def _flush(self) -> None:
        while rows := await self._outbox.untold(AT_ONCE):
            await self._tell(pb.RecordChangesRequest(changes=map(_message, rows)))
            await self._outbox.told(rows)


def _message(row: ChangeRow) -> pb.RecordedChange:
    change = pb.RecordedChange(
        id=row.id, actor=row.actor, action=row.action, resource=RESOURCE, before=row.before, after=row.after
    )
    change.time.FromMicroseconds(row.time_us)
    return change
