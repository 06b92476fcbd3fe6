"""The databases that tests run on, as the migrations leave them; made once and copied, for there are many tests."""

import asyncio
import shutil
import tempfile
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from polyroute.mesh.migrations.history import SERVICES, history_of
from tests.postgres import Server

KINDS = ("sqlite", "postgresql")
EMPTY = """
DO $$
DECLARE
    one record;
    found boolean;
BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
    SET LOCAL session_replication_role = replica;  -- rows go in any order
    FOR one IN
        SELECT relnamespace::regnamespace AS place, relname AS name, relispartition AS part
        FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text LIKE 'polyroute%'
    LOOP
        IF one.part THEN
            EXECUTE format('DROP TABLE %s.%I', one.place, one.name);
        ELSIF one.name <> 'alembic_version' THEN
            EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s.%I)', one.place, one.name) INTO found;
            IF found THEN
                EXECUTE format('DELETE FROM %s.%I', one.place, one.name);
            END IF;
        END IF;
    END LOOP;
    FOR one IN SELECT schemaname, sequencename FROM pg_sequences WHERE last_value IS NOT NULL LOOP
        EXECUTE format('ALTER SEQUENCE %I.%I RESTART', one.schemaname, one.sequencename);
    END LOOP;
END $$
"""
SHAPE = """
SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema LIKE 'polyroute%' ORDER BY 1, 2, 3
"""


def migrate(folder: Path, config: DatabaseConfig) -> None:
    """Makes every service's tables."""

    async def upgrade() -> None:
        for service in SERVICES:
            await history_of(service).upgrade(locate(service, folder, shared=config))

    with ThreadPoolExecutor(1) as thread:  # wherever this is called, there may be a loop that runs
        thread.submit(lambda: asyncio.run(upgrade())).result()


@cache
def _files() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="polyroute-tables-"))
    migrate(folder, DatabaseConfig())
    for path in [*folder.glob("*-wal"), *folder.glob("*-shm")]:
        path.unlink()
    return folder


def prepare(folder: Path) -> Path:
    """Puts SQLite files with tables into a folder that has none; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in _files().iterdir():
        if not (folder / path.name).exists():
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _tables() -> Generator[None]:
    """Takes the copied files away at the end."""
    yield
    if _files.cache_info().currsize:
        shutil.rmtree(_files())


class Emptied:
    """One PostgreSQL database for many tests, each of which finds its tables empty: making databases takes longer.

    Args:
        server: Where it is.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._made = server.database()
        migrate(Path("unused"), DatabaseConfig.model_validate(self._made))
        self._shape = self._look(self._made)
        self._used: str | None = None

    def url(self) -> str:
        """Its URL, once it is as it was in the beginning; another's when a test changed more than rows."""
        if self._used is not None:
            with psycopg.connect(self._used, autocommit=True) as connection:
                connection.execute(EMPTY)
        if self._used is None or self._look(self._used) != self._shape:
            self._used = self._server.database(make_url(self._made).database or "")
        return self._used

    def _look(self, url: str) -> list[tuple[str, ...]]:
        with psycopg.connect(url) as connection:
            return connection.execute(SHAPE).fetchall()


@pytest.fixture(scope="session")
def _emptied(postgres: Server) -> Emptied:
    """The worker's."""
    return Emptied(postgres)


def opened(kind: str, request: pytest.FixtureRequest) -> DatabaseConfig:
    """A database of a kind, with tables: no URL, which means SQLite files, or a PostgreSQL database."""
    if kind == "sqlite":
        return DatabaseConfig()
    emptied: Emptied = request.getfixturevalue("_emptied")
    return DatabaseConfig.model_validate(emptied.url())


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest) -> DatabaseConfig:
    """Each kind of database in turn."""
    return opened(request.param, request)
