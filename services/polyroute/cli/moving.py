"""Everything that must last, from the SQLite files of one machine to a PostgreSQL database."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from rich.table import Table as Shown
from sqlalchemy import Connection, Engine, Integer, Table, delete, func, insert, inspect, select, text

from polyroute.auth import schema as auth
from polyroute.auth.money.audit import audited
from polyroute.cli.claim import claimed
from polyroute.cli.config import Config
from polyroute.cli.output import show
from polyroute.cli.tables import files
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import Location
from polyroute.mesh.migrations.history import OWNERS, History, history_of
from polyroute.mesh.roles import ConfigError
from polyroute.metrics import schema as metrics
from polyroute.metrics.partitions import create_parents, existing

BATCH: Final = 2000  # rows of one statement
LARGE: Final = {"idempotency_entries": 32}  # of tables whose rows may have megabytes


@dataclass(frozen=True, slots=True)
class Moved:
    """What came of one service's tables."""

    service: str
    tables: int
    rows: int


async def move(config: Config, target: DatabaseConfig) -> None:
    """Copies every service's tables and says how many rows that were; the gateway must not run meanwhile.

    Each service is copied in one transaction, and looked over before that ends: rows are counted, the ledger's sums are
    compared and its seals are checked. The files stay as they are.

    Raises:
        ConfigError: Something is in the target already, or what arrived there is not what was sent.
    """
    with claimed(config.data_dir / "run", set(OWNERS.values())):
        places = [(source, Location(source.service, source.path, target)) for source in sources(config)]
        if not places:
            raise ConfigError(f"there are no databases in {config.data_dir}")
        for source, destination in places:
            await history_of(source.service).upgrade(source)
            await history_of(source.service).upgrade(destination)
        for _, destination in places:
            _check_empty(destination)
        shown = Shown("service", "tables", "rows", box=None)
        for source, destination in places:
            moved = _moved(source, destination)
            shown.add_row(moved.service, f"{moved.tables:,}", f"{moved.rows:,}")
    show(shown)


def sources(config: Config) -> list[Location]:
    """The SQLite files that there are, by service."""
    return [Location(name, path) for name, path in files(config).items() if path.exists()]


def _check_empty(destination: Location) -> None:
    engine = destination.thread_reader()
    try:
        with engine.begin() as connection:
            full = [table.name for table in _tables(destination.service, connection) if _holds_rows(connection, table)]
    finally:
        engine.dispose()
    if full:
        raise ConfigError(f"{destination.name} is not empty: there are rows in {', '.join(full)}")


def _holds_rows(connection: Connection, table: Table) -> bool:
    query = select(1).select_from(table).limit(1)
    if table is auth.properties:
        query = query.where(auth.properties.c.name != "schema_version")  # the migrations' own
    return connection.execute(query).first() is not None


def _moved(source: Location, destination: Location) -> Moved:
    reader, writer = source.thread_reader(), destination.thread_writer()
    try:
        return _copied(source.service, reader, writer)
    finally:
        reader.dispose()
        writer.dispose()


def _copied(service: str, reader: Engine, writer: Engine) -> Moved:
    with reader.begin() as before, writer.begin() as after:
        tables = list(_tables(service, before))
        _make_partitions(service, tables, after)
        after.execute(text("SET LOCAL statement_timeout = 0"))
        if service == "auth":
            after.execute(delete(auth.properties))
        rows = sum(_copy(before, after, table) for table in tables)
        for table in tables:
            _go_on_counting(before, after, table)
        _compare(service, before, after, tables)
    return Moved(service, len(tables), rows)


def _tables(service: str, connection: Connection) -> Iterator[Table]:
    """A service's tables, those that others refer to first; of metrics also the partitions that there are."""
    history: History = history_of(service)
    yield from history.metadata.sorted_tables
    if service == "metrics":
        names = sorted(existing(connection))
        for family in metrics.FAMILIES:
            yield from (family.table(name) for name in names if family.bounds(name) is not None)


def _make_partitions(service: str, tables: list[Table], after: Connection) -> None:
    if service == "metrics":
        create_parents(after, metrics.FAMILIES)
        for family in metrics.FAMILIES:
            for table in tables:
                if family.bounds(table.name) is not None:
                    family.create(after, table.name)


def _copy(before: Connection, after: Connection, table: Table) -> int:
    """Copies a table; how many rows."""
    copied = 0
    found = before.execution_options(yield_per=LARGE.get(table.name, BATCH)).execute(select(table))
    for rows in found.mappings().partitions():
        after.execute(insert(table), [dict(row) for row in rows])
        copied += len(rows)
    return copied


def _go_on_counting(before: Connection, after: Connection, table: Table) -> None:
    """Has the target count on from where the source was: no number is given twice, not even that of a row long gone."""
    column = table.autoincrement_column
    if column is None or not isinstance(column.type, Integer):
        return
    last = before.scalar(select(func.max(column))) or 0
    if inspect(before).has_table("sqlite_sequence"):
        query = text("SELECT seq FROM sqlite_sequence WHERE name = :name")
        last = max(last, before.scalar(query, {"name": table.name}) or 0)
    if last:
        name = {"table": table.name, "column": column.name, "last": last}
        after.execute(text("SELECT setval(pg_get_serial_sequence(:table, :column), :last)"), name)


def _compare(service: str, before: Connection, after: Connection, tables: list[Table]) -> None:
    """Looks whether all has arrived, and whether the ledger adds up there as it did here."""
    for table in tables:
        count = select(func.count()).select_from(table)
        sent, arrived = before.scalar(count), after.scalar(count)
        if sent != arrived:
            raise ConfigError(f"{arrived} rows of {table.name} arrived, {sent} were sent; nothing was kept")
    if service == "auth":
        if _sums(before) != _sums(after):
            raise ConfigError("the sums of the ledger are not those that were sent; nothing was kept")
        here, there = audited(before), audited(after)
        if here != there:
            raise ConfigError(f"the ledger does not add up as it did: {'; '.join(there.findings)}; nothing was kept")


def _sums(connection: Connection) -> list[Any]:
    """What moved between each two books of each account."""
    by = (auth.ledger.c.account_id, auth.ledger.c.debit, auth.ledger.c.credit)
    return list(connection.execute(select(*by, func.sum(auth.ledger.c.amount)).group_by(*by).order_by(*by)).all())
