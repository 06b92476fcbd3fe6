"""Puts what the source of the catalog says in force, whole; keeps what is in force when the source is bad.

Three things change what is in force: the file, whoever changes it; an operator, by way of the router, which then writes
the file; and a rollout that moves a step, which leaves the file as it is. Each of them is a version of the catalog.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import structlog

from polyroute.api.errors.v1.errors_pb2 import REASON_INVALID_REQUEST
from polyroute.mesh.errors import MeshError
from polyroute.mesh.roles import ConfigError
from polyroute.router import rollout
from polyroute.router.catalog import Catalog, CatalogError
from polyroute.router.config import CatalogConfig, RolloutConfig
from polyroute.router.document import CatalogFile, DocumentError, catalog_of, replaced, strangers
from polyroute.router.snapshot import CatalogStore
from polyroute.router.sources import source_of
from polyroute.router.store import Changing, RolloutRow, VersionRow
from polyroute.router.telling import APPLY, LOAD, MOVE, change_of

FILE: Final = "file"
ROLLOUT: Final = "rollout"
_MICROSECONDS: Final = 1_000_000
_ACTIONS: Final = {FILE: LOAD, ROLLOUT: MOVE}

_log = structlog.get_logger("router")


class Versions(Protocol):
    """Where versions and rollouts are kept; `store.Store` is one."""

    def recording(self, row: VersionRow, changing: Changing) -> AbstractAsyncContextManager[int]:
        """Stores a version unless the newest says the same, when the body succeeds; gives the newest number.

        What changed with it, in the words of `changing`, is stored to be told.
        """

    async def rollouts(self) -> list[RolloutRow]:
        """How far each rollout is."""

    async def begin_rollout(self, row: RolloutRow) -> None:
        """Stores a rollout that begins, unless it has begun already."""


class UnwritableError(Exception):
    """There is no configuration file that could be written; says why."""


class Said(NamedTuple):
    """Who changed the catalog, and what for; and who that is in the log of changes, where that is not the same."""

    author: str
    note: str
    actor: str = ""


class Applied(NamedTuple):
    """What came of applying a catalog: the version that is in force, what is doubtful, whether anything changed."""

    version: VersionRow
    warnings: tuple[str, ...]
    changed: bool


class Reloader:
    """Keeps a store at its source.

    Args:
        catalogs: Whose catalog; it has the first one already.
        config: What that was made of, without rollouts.
        rows: How far the rollouts were then.
        load: Reads the configuration; raises whatever it likes when that is not possible.
        versions: Where versions and rollouts are kept.
        clock: Seconds since 1970 UTC.
        file: The configuration file, if there is one.
        recorded: Told that a version may have been recorded.
    """

    def __init__(
        self,
        catalogs: CatalogStore,
        config: CatalogConfig,
        rows: Mapping[str, RolloutRow],
        load: Callable[[], CatalogConfig],
        versions: Versions,
        *,
        clock: Callable[[], float],
        file: CatalogFile | None = None,
        recorded: Callable[[], None] = lambda: None,
    ) -> None:
        self._catalogs = catalogs
        self._told = recorded
        self._config = config
        self._rows = dict(rows)
        self._load = load
        self._versions = versions
        self._clock = clock
        self._file = file
        self._changing = asyncio.Lock()
        self._said = Said(FILE, "")
        self._recorded = ""
        self._source = source_of(rollout.overlaid(config, self._rows))
        self.number = 0

    @property
    def rollouts(self) -> dict[str, tuple[RolloutConfig, RolloutRow]]:
        """The rollouts of the catalog that have begun, by alias."""
        found = {}
        for name, config in rollout.wanted(self._config).items():
            row = self._rows.get(name)
            if row is not None and self._is_of(name, config, row):
                found[name] = (config, row)
        return found

    async def reload(self) -> None:
        """Reads the source once; the last good catalog stays when it is bad."""
        try:
            config = await asyncio.to_thread(self._load)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the source, the catalog in force stays
            self._catalogs.refuse(f"{type(error).__name__}: {error}")
            return
        async with self._changing:
            self._adopt(config, Said(FILE, ""))

    async def follow(self) -> None:
        """Takes the steps of rollouts that anybody made, begins new ones, and records what has come into force.

        Raises:
            MeshError: The database does not do its part.
        """
        async with self._changing:
            if rollout.wanted(self._config):
                await self._follow_rollouts()
            if self._source != self._recorded and not self._catalogs.status.error:
                row = self._version(self._catalogs.view.catalog, self._said)
                async with self._versions.recording(row, _changing(self._said)) as number:
                    pass
                self._recorded, self.number = self._source, number
                self._told()

    async def apply(self, text: str, said: Said, *, validate_only: bool) -> Applied:
        """Writes a catalog into the configuration file and puts it in force.

        Args:
            text: Sections of a catalog.
            said: By whom and what for.
            validate_only: Change nothing.

        Raises:
            MeshError: REASON_INVALID_REQUEST with every fault; or the database's.
            UnwritableError: There is no file, or it cannot be written.
        """
        if self._file is None:
            raise UnwritableError("the gateway runs without a configuration file: start it with --config FILE")
        async with self._changing:
            try:
                whole = await asyncio.to_thread(_rewritten, self._file, text)
                async with _beside(self._file, whole) as written:
                    return await self._applied(self._file, written, text, said, validate_only=validate_only)
            except OSError as error:
                raise UnwritableError(f"{self._file.path} cannot be written: {error.strerror}") from error

    async def _applied(
        self, file: CatalogFile, written: Path, text: str, said: Said, *, validate_only: bool
    ) -> Applied:
        config, catalog = await self._checked(file, written)
        source = source_of(rollout.overlaid(config, self._rows))
        changed = source != self._source
        row = self._version(catalog, said)._replace(source=source, text=catalog_of(text))
        if validate_only:
            return Applied(row, catalog.warnings, changed)
        async with self._versions.recording(row, _changing(said)) as number:
            # inside: whoever sees the new file finds its version recorded, with its author
            await asyncio.to_thread(file.put, written)
        self._adopt(config, said)
        self._recorded, self.number = source, number
        self._told()
        return Applied(row._replace(number=number), catalog.warnings, changed)

    async def _checked(self, file: CatalogFile, written: Path) -> tuple[CatalogConfig, Catalog]:
        try:
            config = await asyncio.to_thread(file.parse, written)
            return config, self._catalogs.trial(rollout.overlaid(config, self._rows))
        except CatalogError as error:
            raise _invalid(error.problems) from None
        except ConfigError as error:
            raise _invalid(str(error).replace(str(written), str(file.path)).splitlines()) from None

    def _adopt(self, config: CatalogConfig, said: Said) -> None:
        self._config = config
        self._lead(said)

    def _lead(self, said: Said) -> None:
        """Has the catalog be what was written, with the rollouts as far as they are."""
        led = rollout.overlaid(self._config, self._rows)
        source = source_of(led)
        if source != self._source:
            self._source, self._said = source, said
        self._catalogs.configure(led)

    async def _follow_rollouts(self) -> None:
        if not self._catalogs.status.error:
            for name, config in rollout.wanted(self._config).items():
                row = self._rows.get(name)
                if row is None or not self._is_of(name, config, row):
                    targets = self._config.aliases[name].targets
                    await self._versions.begin_rollout(rollout.began(name, config, targets, self._clock()))
        before = self.rollouts
        self._rows = {row.alias: row for row in await self._versions.rollouts()}
        moved = [
            rollout.told(config, row)
            for name, (config, row) in self.rollouts.items()
            if name not in before or before[name][1][:4] != row[:4]
        ]
        if moved:
            self._lead(Said(ROLLOUT, "; ".join(moved)))

    def _is_of(self, name: str, config: RolloutConfig, row: RolloutRow) -> bool:
        return row.plan == rollout.plan_of(config, self._config.aliases[name].targets)

    def _version(self, catalog: Catalog, said: Said) -> VersionRow:
        """What is recorded of the catalog in force."""
        text = ""
        if self._file is not None:
            with suppress(OSError, DocumentError):  # it may be changing now; then there is another version soon
                text = catalog_of(self._file.text())
        time_us = int(self._clock() * _MICROSECONDS)
        return VersionRow(0, self._source, catalog.version, time_us, said.author, said.note, text)


def _changing(said: Said) -> Changing:
    """The change that somebody makes, for the log of changes."""
    action = APPLY if said.actor else _ACTIONS.get(said.author, APPLY)
    return lambda before, after: change_of(before, after, said.actor or said.author, action)


@asynccontextmanager
async def _beside(file: CatalogFile, text: str) -> AsyncGenerator[Path]:
    written = await asyncio.to_thread(file.beside, text)
    try:
        yield written
    finally:
        await asyncio.to_thread(written.unlink, missing_ok=True)


def _rewritten(file: CatalogFile, text: str) -> str:
    try:
        others = strangers(text)
        if others:
            raise _invalid([f"{name}: is no section of a catalog" for name in others])
        return replaced(file.text(), text)
    except DocumentError as error:
        raise _invalid([str(error)]) from None


def _invalid(problems: list[str] | tuple[str, ...]) -> MeshError:
    return MeshError(
        REASON_INVALID_REQUEST, "; ".join(problems), violations=[("text", problem) for problem in problems[:100]]
    )
