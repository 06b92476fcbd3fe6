"""Migrations: every way up and down, on both databases, by several processes at once."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select, text

from polyroute.auth import schema as auth
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import Location, UnusableDatabaseError
from polyroute.mesh.migrations.history import SERVICES, History, history_of, migration_context
from polyroute.mesh.migrations.revising import write
from polyroute.metrics import schema as metrics
from tests.databases import KINDS
from tests.postgres import Server

Place = Callable[[str], Location]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty database for a service, of each kind."""
    config = DatabaseConfig()
    if request.param == "postgresql":
        server: Server = request.getfixturevalue("postgres")
        config = DatabaseConfig.model_validate(server.database())
    return lambda service: Location(service, tmp_path / f"{service}.db", config)


def within(location: Location, work: Callable[[Any], Any]) -> Any:
    """The outcome of work in a transaction."""
    engine = location.thread_writer()
    try:
        with engine.begin() as connection:
            return work(connection)
    finally:
        engine.dispose()


PARTITIONED = {family.name for family in metrics.FAMILIES}  # PostgreSQL's parents of partitions, made by the store


def named(name: str | None, kind: str, _parents: object) -> bool:
    """Whether a table is one of those that migrations make."""
    return kind != "table" or name not in PARTITIONED


def differences(location: Location, metadata: MetaData) -> list[Any]:
    """How the tables differ from those in the source."""

    def compared(connection: Connection) -> list[Any]:
        return list(compare_metadata(migration_context(connection, include_name=named), metadata))

    found: list[Any] = within(location, compared)
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_migrations_make_the_tables_that_the_source_has(place: Place, service: str) -> None:
    """Also after all the way down and up again; what they leave at the bottom is nothing."""
    history, location = history_of(service), place(service)
    await history.upgrade(location)
    first = differences(location, history.metadata)
    for revision in (*reversed(history.revisions[:-1]), "base"):
        await history.move(location, revision)
    at_the_bottom = differences(location, MetaData())
    await history.upgrade(location)

    assert ([], [], []) == (first, at_the_bottom, differences(location, history.metadata))
    assert history.head == await history.revision(location)


ROWS: list[tuple[Table, dict[str, Any]]] = [
    (auth.accounts, {"id": "acc_1", "name": "a", "created": 1}),
    (auth.projects, {"id": "prj_1", "account_id": "acc_1", "name": "p", "created": 2}),
    (
        auth.keys,
        {"id": "key_1", "project_id": "prj_1", "digest": b"\x00\xff" * 16, "prefix": "pr-x", "name": "k"}
        | {"models": ["m"], "created": 3, "creator": "c", "scope": {"routes": ["/v1/*"]}},
    ),
    (auth.revocations, {"key_id": "key_1"}),
]


async def test_down_and_up_keeps_rows(place: Place) -> None:
    """Of every table that the older version has, whoever refers to whom; and numbers go on where they were."""
    history, location = history_of("auth"), place("auth")
    await history.upgrade(location)
    within(location, lambda connection: [connection.execute(insert(table).values(row)) for table, row in ROWS])
    await history.move(location, "0002")
    await history.upgrade(location)
    found = within(
        location,
        lambda connection: [dict(connection.execute(select(table)).mappings().one()) for table, _ in ROWS],
    )
    numbers = within(location, lambda connection: connection.scalar(text("SELECT max(revision) FROM revocations")))

    assert [row for _, row in ROWS] == [
        {name: value for name, value in row.items() if name in wanted}
        for row, (_, wanted) in zip(found, ROWS, strict=True)
    ]
    assert 1 == numbers


async def test_processes_that_start_at_once(place: Place) -> None:
    """One migrates, the others wait, and all of them start."""
    history, location = history_of("auth"), place("auth")
    await asyncio.gather(*(asyncio.to_thread(asyncio.run, history.upgrade(location)) for _ in range(3)))

    assert history.head == await history.revision(location)


async def test_newer_tables_are_refused(place: Place) -> None:
    """By name of the database and of both revisions, and left as they are."""
    history, location = history_of("router"), place("router")
    await history.upgrade(location)
    within(location, lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9000'")))

    with pytest.raises(UnusableDatabaseError, match=r"newer version of polyroute: .* 9000, .* up to 0002") as caught:
        await history.upgrade(location)
    with pytest.raises(UnusableDatabaseError, match="newer version"):
        await history.move(location, "base")
    assert location.name in str(caught.value)


async def test_strangers_database_is_refused(place: Place) -> None:
    """One that some other version marked from before there were migrations."""
    history, location = history_of("auth"), place("auth")
    await history.move(location, "0001")
    within(
        location,
        lambda connection: [
            connection.execute(text("UPDATE properties SET value = '9'")),
            connection.execute(text("DROP TABLE alembic_version")),
        ],
    )

    with pytest.raises(UnusableDatabaseError, match="another version"):
        await history.upgrade(location)


async def test_database_that_is_not_there(tmp_path: Path) -> None:
    """Says so in a line, without the password."""
    config = DatabaseConfig.model_validate(f"postgresql://me:canary@/x?host={tmp_path}")

    with pytest.raises(UnusableDatabaseError, match="No such file") as caught:
        await history_of("router").upgrade(Location("router", tmp_path / "unused", config))
    assert "canary" not in str(caught.value)


async def test_unknown_revision_is_refused(tmp_path: Path) -> None:
    """With those that there are."""
    with pytest.raises(UnusableDatabaseError, match=r"router has no revision '0007' \(known: 0001"):
        await history_of("router").move(Location("router", tmp_path / "router.db"), "0007")


def test_next_revision_is_written(tmp_path: Path) -> None:
    """With what the tables in the source have and the migrations do not make; nothing when nothing is missing."""
    columns: list[Column[Any]] = [Column("id", Integer, primary_key=True)]
    written, seen = [], []
    for what in ("Things", "Names of things"):
        table = Table("things", MetaData(), *(Column(one.name, one.type, primary_key=True) for one in columns[:1]))
        for column in columns[1:]:
            table.append_column(Column(column.name, column.type))
        history = History("auth", table.metadata, tmp_path)
        written.append(write(history, what))
        seen.append(history.revisions)
        columns.append(Column("name", String(9)))

    assert [tmp_path / "v0001_things.py", tmp_path / "v0002_names_of_things.py"] == written
    assert [("0001",), ("0001", "0002")] == seen
    assert None is write(history, "nothing")
