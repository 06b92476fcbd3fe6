"""The history of one service's tables: a folder of alembic revisions, each with its way up and its way down.

A new database is made by the same steps as an old one is brought up to date. Alembic is loaded only where there is
something to do: a process that starts finds its tables as they should be by asking for one row.
"""

import importlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog
from sqlalchemy import Connection, MetaData, column, inspect, select, table, text
from sqlalchemy.exc import OperationalError

from polyroute.mesh.database import Location, UnusableDatabaseError, on_postgresql

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationContext

OWNERS: Final = {"auth": "auth", "idempotency": "metrics", "metrics": "metrics", "router": "router"}
"""Service that has tables -> role that keeps them."""
SERVICES: Final = tuple(OWNERS)
PATIENCE: Final = 600.0  # seconds to wait for another process that migrates
VERSION_TABLE: Final = "alembic_version"
FIRST: Final = "base"
_VERSION: Final = table(VERSION_TABLE, column("version_num"))

_log = structlog.get_logger("database")


@dataclass(frozen=True, slots=True)
class History:
    """The revisions of one service's tables.

    Attributes:
        service: Whose they are.
        metadata: The tables as the newest revision leaves them.
        folder: A Python package of revisions, `v0001_what.py` and so on; the number is the revision's name.
    """

    service: str
    metadata: MetaData
    folder: Path

    @property
    def revisions(self) -> tuple[str, ...]:
        """All of them, oldest first."""
        return tuple(sorted(path.name[1:5] for path in self.folder.glob("v[0-9][0-9][0-9][0-9]_*.py")))

    @property
    def head(self) -> str:
        """The newest one."""
        return self.revisions[-1]

    async def upgrade(self, location: Location) -> None:
        """Brings a database up to the newest revision; one process does, others that start meanwhile wait for it.

        Raises:
            UnusableDatabaseError: The database was written by a newer version of the program.
        """
        async with _migrating(location) as run:
            await run(lambda connection: self._upgrade(connection, location))

    async def move(self, location: Location, revision: str) -> None:
        """Brings a database up or down to a revision; `base` means before the first.

        Raises:
            UnusableDatabaseError: There is no such revision, or the database has one that is not known.
        """
        if revision not in (*self.revisions, FIRST):
            raise UnusableDatabaseError(
                f"{self.service} has no revision {revision!r} (known: {', '.join(self.revisions)})"
            )
        async with _migrating(location) as run:
            await run(lambda connection: self._move(connection, location, revision))

    async def revision(self, location: Location) -> str | None:
        """The revision that a database is at; None when it has none of our tables."""
        async with _migrating(location) as run:
            found: str | None = await run(revision_of)
            return found

    def _upgrade(self, connection: Connection, location: Location) -> None:
        if self._known(connection, location) != self.head:
            _create_schema(connection, location)
            self.run(connection, self.head)

    def _move(self, connection: Connection, location: Location, revision: str) -> None:
        self._known(connection, location)
        _create_schema(connection, location)
        self.run(connection, revision)

    def _known(self, connection: Connection, location: Location) -> str | None:
        """The revision that the database is at, if it is one of ours."""
        found = revision_of(connection)
        if found is not None and found not in self.revisions:
            raise UnusableDatabaseError(
                f"{location.name}: the database was written by a newer version of polyroute: "
                f"its tables are of revision {found}, this version knows those up to {self.head}"
            )
        return found

    def run(self, connection: Connection, revision: str) -> None:
        """Migrates within the transaction of a connection."""
        from alembic.operations import Operations
        from alembic.script import ScriptDirectory

        script = ScriptDirectory(str(self.folder), version_locations=[str(self.folder)])
        found = revision_of(connection)
        ordered = [FIRST, *self.revisions]
        down = ordered.index(revision) < ordered.index(found or FIRST)

        def steps(current: Any, _context: object) -> Any:
            plan = script._downgrade_revs if down else script._upgrade_revs  # noqa: SLF001 - what alembic's own command calls
            return plan(revision, current)

        context = migration_context(connection, fn=steps, target_metadata=self.metadata)
        with Operations.context(context):
            context.run_migrations()
        _check_references(connection)
        _log.info("tables migrated", service=self.service, before=found or FIRST, after=revision)


def history_of(service: str) -> History:
    """The history of a service's tables, by the service's name."""
    owner = OWNERS[service]
    package = owner if owner == service else f"{owner}.{service}"
    history: History = importlib.import_module(f"polyroute.{package}.migrations.history").HISTORY
    return history


def migration_context(connection: Connection, **options: Any) -> "MigrationContext":
    """How alembic sees a database: everything in the transaction that we began."""
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection, opts={"transactional_ddl": True, **options})


def revision_of(connection: Connection) -> str | None:
    """The revision that a database is at; None before the first."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = connection.scalar(select(_VERSION.c.version_num))
    return found


def _create_schema(connection: Connection, location: Location) -> None:
    """Creates the service's PostgreSQL schema, unless somebody did who may create schemas when we may not."""
    if not on_postgresql(connection):
        return
    there = connection.scalar(text("SELECT to_regnamespace(:name) IS NOT NULL"), {"name": location.schema})
    if not there:
        connection.exec_driver_sql(f"CREATE SCHEMA {location.schema}")


def _check_references(connection: Connection) -> None:
    """SQLite does not look at foreign keys while tables are made anew: this does, before the commit."""
    if on_postgresql(connection):
        return
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise UnusableDatabaseError(f"a row of {broken[0]} refers to a row of {broken[2]} that is not there")


Run = Callable[[Callable[[Connection], Any]], Any]


@asynccontextmanager
async def _migrating(location: Location) -> AsyncGenerator[Run]:
    """Runs work in a transaction that no other process can migrate or write beside."""
    engine = location.writer(patience=PATIENCE, foreign_keys=False)
    try:
        async with engine.begin() as connection:
            yield connection.run_sync
    except OperationalError as error:
        said = " ".join(str(error.orig).split())  # a driver's hints stand on lines of their own
        raise UnusableDatabaseError(f"{location.name}: {said}") from error
    finally:
        await engine.dispose()
