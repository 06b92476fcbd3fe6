"""PostgreSQL's side of `database`; loaded only where it is used, for the driver takes its time."""

from typing import Any, TypeVar

import psycopg
from psycopg.abc import Buffer
from psycopg.types.numeric import NumericLoader
from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from polyroute.mesh.config import DatabaseConfig

E = TypeVar("E", Engine, AsyncEngine)


def url_of(config: DatabaseConfig, service: str, schema: str) -> URL:
    """The URL with what each connection is told at the start; what the operator's own says stands."""
    given = make_url(config.url.get_secret_value())
    settings = {
        "search_path": schema,
        "statement_timeout": f"{config.statement_timeout * 1000:.0f}",
        "lock_timeout": f"{config.lock_timeout * 1000:.0f}",
        "idle_in_transaction_session_timeout": f"{config.statement_timeout * 1000:.0f}",
        "synchronous_commit": "on",  # what was committed is on the disk, also after a power cut
        # a report takes a tenth of a second of one core: compiling it or sharing it with workers takes as long again
        "jit": "off",
        "max_parallel_workers_per_gather": "0",
        "work_mem": "32MB",  # for each step of a statement: sums of ten thousand facets without sorting them first
    }
    defaults = {
        "application_name": f"polyroute-{service}",
        "connect_timeout": "5",
        "keepalives_idle": "30",
        "tcp_user_timeout": "10000",  # ms: a server whose machine is gone does not say so
    }
    query = {**defaults, **given.query, "options": _options(settings, given.query.get("options", ""))}
    return given.set(drivername="postgresql+psycopg", query=query)


async def connect(url: URL) -> "psycopg.AsyncConnection[Any]":
    """A connection of its own, for notifications.

    Raises:
        psycopg.Error: The database does not answer.
    """
    _, settings = url.get_dialect()().create_connect_args(url)
    return await psycopg.AsyncConnection.connect(autocommit=True, **settings)


def patient(url: URL, seconds: float) -> URL:
    """The URL of connections that wait longer for others, and for their own statements."""
    settings = dict.fromkeys(("lock_timeout", "statement_timeout"), f"{seconds * 1000:.0f}")
    return url.update_query_dict({"options": _options(settings, url.query["options"], first=False)})


def listening(engine: E) -> E:
    """The engine, whose sums of integers are integers, and whose errors say no values."""
    sync_engine = engine.sync_engine if isinstance(engine, AsyncEngine) else engine
    event.listen(sync_engine, "connect", _read_sums)
    event.listen(sync_engine, "handle_error", _silence)
    return engine


def _options(settings: dict[str, str], others: Any, *, first: bool = True) -> str:
    """Settings as the command line of a server takes them; the last one of a name holds."""
    ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return (f"{ours} {others}" if first else f"{others} {ours}").strip()


class _WholeLoader(NumericLoader):
    """Reads a `numeric` that is whole as an integer: PostgreSQL's sums of integers of 64 bits are numerics."""

    def load(self, data: Buffer) -> Any:
        found = super().load(data)
        return int(found) if found == found.to_integral_value() else found


def _read_sums(connection: Any, _record: object) -> None:
    """Has sums of integers come as integers, as SQLite's do."""
    getattr(connection, "driver_connection", connection).adapters.register_loader("numeric", _WholeLoader)


def _silence(context: Any) -> None:
    """Takes the values of rows out of an error's text: PostgreSQL adds them as details."""
    original, wrapped = context.original_exception, context.sqlalchemy_exception
    said = getattr(getattr(original, "diag", None), "message_primary", None)
    if said:
        original.args = (said,)
        if wrapped is not None:
            wrapped.args = (f"({type(original).__name__}) {said}",)
