"""Where a service keeps what must last: its own SQLite file, or its own schema in a PostgreSQL database.

The same statements run on both, written once in SQLAlchemy's words; the few that differ are made here. A transaction
that writes has the whole database of its service to itself: SQLite lets one writer in, and in PostgreSQL every such
transaction begins by taking one advisory lock. Money needs that (each transaction that posts seals the one before), and
it leaves nothing that could deadlock or would have to be repeated because two transactions met.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

import orjson
from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    String,
    Table,
    bindparam,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeDecorator, TypeEngine

from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.roles import ConfigError

LOCK_SECONDS: Final = 5.0  # how long to wait for another process's write, or for a connection of ours
POSTGRESQL: Final = "postgresql"
READERS: Final = 2  # connections that read an SQLite file: more of them would wait for the same disk

Serial: Final = BigInteger().with_variant(Integer(), "sqlite")
"""The type of a primary key that the database counts: SQLite counts only what is called INTEGER, 64 bits as well."""

E = TypeVar("E", Engine, AsyncEngine)
Bind = Connection | Engine | AsyncConnection | AsyncEngine


class UnusableDatabaseError(ConfigError):
    """There is no such database, or it does not belong to this program, this version of it or this installation."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where one service's tables are.

    Attributes:
        service: Whose they are: `auth`, `router`, `metrics` or `idempotency`.
        path: The SQLite file; created when missing, readable by its owner only. Not used with PostgreSQL.
        config: How PostgreSQL is reached; without a URL the file is meant.
    """

    service: str
    path: Path
    config: DatabaseConfig = field(default_factory=DatabaseConfig)

    @property
    def url(self) -> URL | None:
        """The PostgreSQL database, with what each of its connections is told at the start; None for SQLite."""
        if not self.on_postgresql:
            return None
        from polyroute.mesh.postgresql import url_of

        return url_of(self.config, self.service, self.schema)

    @property
    def on_postgresql(self) -> bool:
        """Whether the tables are in a PostgreSQL database."""
        return bool(self.config.url.get_secret_value())

    @property
    def schema(self) -> str:
        """The PostgreSQL schema that the tables are in: a name that nobody else gives to theirs."""
        return f"polyroute_{self.service}"

    @property
    def name(self) -> str:
        """The place in words, without a password."""
        given = self.config.url.get_secret_value()
        return f"{make_url(given).render_as_string()}, schema {self.schema}" if given else str(self.path)

    def readers(self, **options: Any) -> AsyncEngine:
        """Connections for single statements that read, none of which waits for a writer."""
        size = self.config.connections if self.on_postgresql else READERS
        settings: dict[str, Any] = {
            "isolation_level": "AUTOCOMMIT",
            "skip_autocommit_rollback": True,
            "pool_size": size,
        }
        return self._asynchronous(**settings | {"pool_size": size} | options)

    def writer(self, *, patience: float | None = None, foreign_keys: bool = True, **options: Any) -> AsyncEngine:
        """One connection, whose transactions no other writer of the service can come between.

        Args:
            patience: Seconds to wait for other writers, and for a statement; None means as configured.
            foreign_keys: SQLite looks at them; not while a migration makes tables anew.
            options: For SQLAlchemy's engine.
        """
        settings: dict[str, Any] = {"pool_size": 1} | options
        return _beginning(self._asynchronous(patience, foreign_keys=foreign_keys, **settings), self._alone)

    def thread_reader(self, **options: Any) -> Engine:
        """One connection for threads; each transaction sees one moment of the database, and nothing else."""
        snapshot = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY" if self.on_postgresql else "BEGIN"
        return _beginning(self._threaded(**{"pool_size": 1} | options), snapshot)

    def thread_writer(self, **options: Any) -> Engine:
        """One connection for threads, whose transactions no other writer of the service can come between."""
        return _beginning(self._threaded(**{"pool_size": 1} | options), self._alone)

    @property
    def _alone(self) -> str:
        """The first statement of a transaction that writes."""
        if not self.on_postgresql:
            # A transaction that reads first and asks for the write lock later can fail in between; this one waits at
            # the door. https://www.sqlite.org/lang_transaction.html#deferred_immediate_and_exclusive_transactions
            return "BEGIN IMMEDIATE"
        return f"SELECT pg_advisory_xact_lock({lock_number(self.schema)})"

    def _asynchronous(self, patience: float | None = None, *, foreign_keys: bool = True, **options: Any) -> AsyncEngine:
        if (url := self.url) is not None:
            from polyroute.mesh.postgresql import listening, patient

            url = url if patience is None else patient(url, patience)
            return listening(create_async_engine(url, **_POOLED, **options))
        _create(self.path)
        file = URL.create("sqlite+aiosqlite", database=str(self.path))
        engine = create_async_engine(file, **_BOUNDED, **options)
        event.listen(engine.sync_engine, "connect", _preparing(patience, foreign_keys=foreign_keys))
        return engine

    def _threaded(self, **options: Any) -> Engine:
        if (url := self.url) is not None:
            from polyroute.mesh.postgresql import listening

            return listening(create_engine(url, **_POOLED, **options))
        _create(self.path)
        engine = create_engine(
            URL.create("sqlite", database=str(self.path)),
            connect_args={"check_same_thread": False},  # one thread at a time has it, as the pool sees to
            **_BOUNDED,
            **options,
        )
        event.listen(engine, "connect", _preparing())
        return engine


def locate(service: str, data_dir: Path, *, own: Path | None = None, shared: DatabaseConfig | None = None) -> Location:
    """Where a service's tables are: in a file that its own settings name, else in the database of all services.

    Args:
        service: Whose they are.
        data_dir: Folder of SQLite files, and of what a service keeps beside its database.
        own: What the service's own settings say.
        shared: What the configuration says of all services.
    """
    path = own or data_dir / f"{service}.db"
    return Location(service, path, (shared if own is None else None) or DatabaseConfig())


_BOUNDED: Final[dict[str, Any]] = {
    "hide_parameters": True,  # an error's text must not carry what was being stored
    "max_overflow": 0,
    "pool_timeout": LOCK_SECONDS,
}
_POOLED: Final[dict[str, Any]] = _BOUNDED | {
    "pool_pre_ping": True,  # a server that was started again has forgotten its connections
    "pool_recycle": 1800,  # seconds; what stands between may forget them too
}


def insert_for(bind: Bind) -> Callable[[Table], sqlite.Insert]:
    """The `insert` that has `on_conflict_do_update` and `on_conflict_do_nothing` on this database.

    Both databases have the same words for it, which no standard has.
    """
    if on_postgresql(bind):
        return cast("Callable[[Table], sqlite.Insert]", postgresql.insert)
    return sqlite.insert


def driver_sql(bind: Bind, statement: str) -> str:
    """A statement written with `?` for its values, as the driver of this database wants it.

    For the few statements on which SQLAlchemy's way of binding rows by name costs more than storing them.
    """
    return statement.replace("?", "%s") if on_postgresql(bind) else statement


def on_postgresql(bind: Bind) -> bool:
    """Whether a connection or an engine is one of PostgreSQL."""
    return bind.dialect.name == POSTGRESQL


def among(column: ColumnElement[str], values: Iterable[str]) -> ColumnElement[bool]:
    """Whether a column has one of many values: one parameter, however many they are, and one statement to prepare."""
    return _Among(column, bindparam(None, list(values), type_=_Texts(), unique=True))


def among_named(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """The same, of a statement that is made once: the values are given by their name with each execution, as a list."""
    return _Among(column, bindparam(name, type_=_Texts()))


def lock_number(name: str) -> int:
    """The number of the advisory lock that stands for a name: 64 bits, with a sign, as PostgreSQL wants it."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), signed=True)


class _Texts(TypeDecorator[list[str]]):
    """Many texts as one parameter."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == POSTGRESQL:
            return dialect.type_descriptor(postgresql.ARRAY(String()))
        return dialect.type_descriptor(String())

    def process_bind_param(self, value: list[str] | None, dialect: Dialect) -> Any:
        return value if dialect.name == POSTGRESQL else orjson.dumps(value).decode()


class _Among(FunctionElement[bool]):
    type = Boolean()
    inherit_cache = True

    def self_group(self, against: OperatorType | None = None) -> Self:
        """As it is: SQLAlchemy would compare it with 1, and SQLite would then read the whole table."""
        return self


@compiles(_Among, "sqlite")  # type: ignore[no-untyped-call,untyped-decorator,unused-ignore] # SQLAlchemy's own
def _among_sqlite(element: _Among, compiler: Any, **kwargs: Any) -> str:
    column, listed = (compiler.process(clause, **kwargs) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({listed}))"  # noqa: S608 - a column and a parameter


@compiles(_Among, POSTGRESQL)  # type: ignore[no-untyped-call,untyped-decorator,unused-ignore] # SQLAlchemy's own
def _among_postgresql(element: _Among, compiler: Any, **kwargs: Any) -> str:
    column, listed = (compiler.process(clause, **kwargs) for clause in element.clauses)
    return f"{column} = ANY ({listed})"


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)  # SQLite gives its -wal and -shm files the same mode


def _preparing(patience: float | None = None, *, foreign_keys: bool = True) -> Callable[[Any, object], None]:
    """What sets what every connection to a file has."""
    pragmas = (
        f"busy_timeout={(patience or LOCK_SECONDS) * 1000:.0f}",
        "journal_mode=WAL",
        "synchronous=FULL",  # what was committed is on the disk, also after a power cut
        f"foreign_keys={'ON' if foreign_keys else 'OFF'}",
    )

    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin when we say so: the driver's own come too late
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return prepare


def _beginning(engine: E, statement: str) -> E:
    """The engine, whose transactions begin with a statement."""
    sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    event.listen(sync_engine, "begin", lambda connection: connection.exec_driver_sql(statement))
    return engine
