"""One way to both databases: what is written, who waits for whom, and what errors say."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import ValidationError
from sqlalchemy import BigInteger, Column, MetaData, String, Table, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError

from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import Location, Serial, among, driver_sql, insert_for, locate
from tests.postgres import Server

metadata = MetaData()
things = Table(
    "things",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("name", String, unique=True),
    Column("left", BigInteger, nullable=False),
)


@pytest.fixture
async def location(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Location]:
    """A database that has the table."""
    here = Location("auth", tmp_path / "things.db", database)
    engine = here.writer()
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    yield here
    async with engine.begin() as connection:
        await connection.run_sync(metadata.drop_all)
    await engine.dispose()


@pytest.fixture
def write(location: Location) -> Callable[..., Any]:
    """Runs statements in a transaction of their own."""

    def run(*statements: Any) -> Any:
        engine = location.thread_writer()
        try:
            with engine.begin() as connection:
                results = [connection.execute(statement) for statement in statements]
                return results[-1].all() if results[-1].returns_rows else results[-1].rowcount
        finally:
            engine.dispose()

    return run


def rows(*names: str) -> Any:
    """Inserts of things."""
    return insert(things).values([{"name": name, "left": 1 << 40} for name in names])


def test_one_of_many_values(write: Callable[..., Any]) -> None:
    """As one parameter: none, a few, thousands, whatever stands in them."""
    strange = "a\"b',[]{}\\ ü"
    write(rows("a", "b", strange))
    query = select(things.c.name).order_by(things.c.id)
    found = [
        write(query.where(among(things.c.name, values)))
        for values in ([], ["b", "x"], {strange}, ["a", *map(str, range(5000))])
    ]

    assert [[], [("b",)], [(strange,)], [("a",)]] == found


def test_upserts(write: Callable[..., Any], location: Location) -> None:
    """The same words on both databases."""
    engine = location.thread_writer()
    each = insert_for(engine)(things).values(name="a", left=1)
    write(each)
    write(each.on_conflict_do_nothing())
    write(each.on_conflict_do_update(index_elements=["name"], set_={"left": things.c.left + each.excluded.left}))
    engine.dispose()

    assert [("a", 2)] == write(select(things.c.name, things.c.left))


def test_statements_of_the_driver(location: Location, write: Callable[..., Any]) -> None:
    """Written once, with question marks."""
    engine = location.thread_writer()
    with engine.begin() as connection:
        statement = driver_sql(connection, 'INSERT INTO things (name, "left") VALUES (?, ?)')
        connection.exec_driver_sql(statement, [("a", 1), ("b", 2)])
    engine.dispose()

    assert [("a", 1), ("b", 2)] == write(select(things.c.name, things.c.left).order_by(things.c.id))


def test_sums_are_integers(write: Callable[..., Any]) -> None:
    """Also of integers whose sum needs more than 64 bits to be safe."""
    write(rows("a", "b"))
    ((total,),) = write(select(func.sum(things.c.left)))

    assert (2 << 40, int) == (total, type(total))


async def test_writers_take_turns(location: Location, write: Callable[..., Any]) -> None:
    """Threads and tasks of several processes read, think and write: no turn is lost."""
    write(insert(things).values(name="a", left=0))
    threads, tasks = [location.thread_writer() for _ in range(2)], [location.writer() for _ in range(2)]
    read, add = select(things.c.left), update(things)

    def in_thread(engine: Any) -> None:
        for _ in range(10):
            with engine.begin() as connection:
                connection.execute(add.values(left=connection.scalar(read) + 1))

    async def in_task(engine: Any) -> None:
        for _ in range(10):
            async with engine.begin() as connection:
                await connection.execute(add.values(left=await connection.scalar(read) + 1))

    await asyncio.gather(*(asyncio.to_thread(in_thread, one) for one in threads), *map(in_task, tasks))
    for thread in threads:
        thread.dispose()
    for task in tasks:
        await task.dispose()

    assert [(40,)] == write(read)


def test_reader_sees_one_moment(location: Location, write: Callable[..., Any]) -> None:
    """Whatever others write meanwhile, and without keeping them from it."""
    write(rows("a"))
    engine = location.thread_reader()
    with engine.begin() as connection:
        before = connection.scalar(select(func.count()).select_from(things))
        writer = threading.Thread(target=write, args=(rows("b"),))
        writer.start()
        writer.join(5)
        during = connection.scalar(select(func.count()).select_from(things))
    with engine.begin() as connection:
        after = connection.scalar(select(func.count()).select_from(things))
    engine.dispose()

    assert [1, 1, 2] == [before, during, after]


def test_errors_say_no_values(write: Callable[..., Any]) -> None:
    """Neither ours nor the driver's own."""
    write(rows("canary"))
    with pytest.raises(IntegrityError) as caught:
        write(rows("canary"))

    assert "canary" not in str(caught.value)
    assert "canary" not in str(caught.value.orig)


async def test_connections_that_the_server_lost_are_replaced(postgres: Server, tmp_path: Path) -> None:
    """A server that was started again is asked again, and nobody hears of it."""
    location = Location("auth", tmp_path / "unused", DatabaseConfig.model_validate(postgres.database()))
    readers, writer = location.readers(), location.thread_writer()
    async with readers.connect() as connection:
        await connection.execute(text("SELECT 1"))
    with writer.begin() as held:
        held.execute(text("SELECT 1"))
    with psycopg.connect(location.config.url.get_secret_value()) as other:
        others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        cut = other.execute(f"SELECT pg_terminate_backend(pid) {others}").fetchall()
    async with readers.connect() as connection:
        again = await connection.scalar(text("SELECT 2"))
    with writer.begin() as held:
        written = held.scalar(text("SELECT 3"))
    await readers.dispose()
    writer.dispose()

    assert (2, 2, 3) == (len(cut), again, written)


def test_every_connection_to_postgresql_is_durable_and_bounded(postgres: Server, tmp_path: Path) -> None:
    """Commits on the disk, the service's own schema first, and an end to everything that takes too long."""
    config = DatabaseConfig.model_validate({"url": postgres.database(), "statement_timeout": 0.05, "lock_timeout": 2})
    location = Location("router", tmp_path / "unused", config)
    writer, reader = location.thread_writer(), location.thread_reader()
    names = ("synchronous_commit", "search_path", "statement_timeout", "lock_timeout", "application_name")
    with writer.begin() as connection:
        found = [connection.scalar(text(f"SHOW {name}")) for name in names]
    with pytest.raises(DBAPIError, match="statement timeout"), writer.begin() as connection:
        connection.execute(text("SELECT pg_sleep(9)"))
    with pytest.raises(InternalError, match="read-only"), reader.begin() as connection:
        connection.execute(text("CREATE TABLE t (x int)"))
    writer.dispose()
    reader.dispose()

    assert ["on", "polyroute_router", "50ms", "2s", "polyroute-router"] == found


def test_reports_of_postgresql_take_one_core(postgres: Server, tmp_path: Path) -> None:
    """Nothing is compiled and no worker is started for them; the operator's own word, in the URL, stands."""
    url = postgres.database()
    names = ("jit", "max_parallel_workers_per_gather", "work_mem")
    found = []
    for given in (url, f"{url}&options=-c%20work_mem%3D64MB"):
        reader = Location("metrics", tmp_path / "unused", DatabaseConfig.model_validate(given)).thread_reader()
        with reader.begin() as connection:
            found.append([connection.scalar(text(f"SHOW {name}")) for name in names])
        reader.dispose()

    assert [["off", "0", "32MB"], ["off", "0", "64MB"]] == found


def test_a_service_may_have_a_file_of_its_own(tmp_path: Path) -> None:
    """Its own setting is nearer than the one for all."""
    shared = DatabaseConfig.model_validate("postgresql://me:canary@db/polyroute")
    own = locate("auth", tmp_path, own=tmp_path / "mine.db", shared=shared)
    others = locate("router", tmp_path, shared=shared)

    assert (str(tmp_path / "mine.db"), None) == (own.name, own.url)
    assert "postgresql://me:***@db/polyroute, schema polyroute_router" == others.name


@pytest.mark.parametrize("url", ["mysql://me:canary@db/x", "canary", "postgresql:/canary"])
def test_other_databases_are_refused(url: str) -> None:
    """Without saying the password."""
    with pytest.raises(ValidationError, match="must begin with postgresql://") as caught:
        DatabaseConfig.model_validate(url)

    assert "canary" not in str(caught.value)


def test_the_other_spelling_of_the_scheme() -> None:
    """Is what some hosts hand out."""
    assert "postgresql://db/x" == DatabaseConfig.model_validate("postgres://db/x").url.get_secret_value()


def test_among_finds_rows_by_their_index(tmp_path: Path) -> None:
    """Compared with 1, as SQLAlchemy would have it, it would read the whole table for each question."""
    engine = Location("auth", tmp_path / "auth.db").thread_writer()
    metadata = MetaData()
    names = Table("names", metadata, Column("name", String(8), primary_key=True), Column("kind", String(8)))
    metadata.create_all(engine)
    query = select(names).where(among(names.c.name, ["a", "b"]), names.c.kind.in_(["x", "y"]))
    said = str(query.compile(engine, compile_kwargs={"render_postcompile": True}))
    with engine.begin() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {said}", ("[]", "x", "y")).all()
    engine.dispose()

    assert "SEARCH names USING INDEX" in plan[0][3]
