"""The databases that tests run on, as the migrations leave them; made once and copied, for there are many tests."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path, PurePath
from typing import Final

import psycopg
import pytest
from sqlalchemy import make_url

from polyroute.auth import wiring
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import Location, locate
from polyroute.mesh.migrations.history import SERVICES, history_of
from tests.postgres import Server
from tests.redis import RedisServer

KINDS = ("sqlite", "postgresql")
WANTED: Final = os.environ.get("POLYROUTE_TEST_DATABASE", KINDS[0])  # what roles and gateways of tests run on
FOLDERS: Final = frozenset({"mesh", "process", "rpc"})  # where such tests are
ON_BOTH: Final = frozenset(  # files of them that run on both in every run of the suite
    {
        "mesh/test_billing.py",
        "mesh/test_idempotency.py",
        "mesh/test_limits.py",
        "mesh/test_people_door.py",
        "mesh/test_records.py",
    }
)
ON_FILES: Final = frozenset(  # files of them that look into SQLite's files, or fill their disk
    {
        "process/test_money_crashes.py",
        "process/test_money_scorecard.py",
        "rpc/auth/test_canary.py",
        "rpc/auth/test_people_canary.py",
        "rpc/metrics/test_disk_full.py",
        "rpc/metrics/test_kill.py",
    }
)
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

    Attributes:
        made: A database with tables, that nobody uses: what others are copies of.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self.made = server.database()
        migrate(Path("unused"), DatabaseConfig.model_validate(self.made))
        self._shape = self._look(self.made)
        self._used: str | None = None

    def url(self) -> str:
        """Its URL, once it is as it was in the beginning; another's when a test changed more than rows."""
        if self._used is not None:
            with psycopg.connect(self._used, autocommit=True) as connection:
                connection.execute(EMPTY)
        if self._used is None or self._look(self._used) != self._shape:
            self._used = self._server.database(make_url(self.made).database or "")
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


class Elsewhere:
    """Has roles that would keep files keep what they keep in PostgreSQL, and count limits in Redis.

    Each data directory has a database of its own there, as it would have files of its own.

    Args:
        server: Where the databases are.
        redis: Where limits are counted.
        template: A database with tables.
    """

    def __init__(self, server: Server, redis: RedisServer, template: str) -> None:
        self._server = server
        self._redis = redis
        self._template = make_url(template).database or ""
        self._made: dict[Path, str] = {}

    def config(self, folder: Path) -> DatabaseConfig:
        """The database of a data directory."""
        place = folder.absolute()
        if place not in self._made:
            self._made[place] = self._server.database(self._template)
        return DatabaseConfig.model_validate(self._made[place])

    def environment(self, folder: Path) -> dict[str, str]:
        """Of a process on a data directory."""
        return {
            "POLYROUTE_DATABASE": self.config(folder).url.get_secret_value(),
            "POLYROUTE_REDIS": self._redis.url,
        }

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Has the roles of this process do so."""
        located, counting = Location.__init__, wiring._counting

        def elsewhere(self_: Location, service: str, path: Path, config: DatabaseConfig | None = None) -> None:
            given = config or DatabaseConfig()
            usual = path.name == f"{service}.db"  # and not a file that its own settings name
            if usual and not given.url.get_secret_value():
                given = self.config(path.parent)
            located(self_, service, path, given)

        patch.setattr(Location, "__init__", elsewhere)
        patch.setattr(wiring, "_counting", lambda url: counting(url or self._redis.url))

    def drop(self, kept: Mapping[Path, str]) -> None:
        """Drops the databases that were made since; forgets what was counted, unless it is of those that stay."""
        for place in self._made.keys() - kept.keys():
            self._server.drop(self._made.pop(place))
        if not kept and self._redis.running:
            self._redis.flush()

    def kept(self) -> dict[Path, str]:
        """The databases that there are."""
        return dict(self._made)


_current: Elsewhere | None = None


def environment_of(folder: Path) -> dict[str, str]:
    """What says to a process on a data directory where its databases are, when they are not files there."""
    return {} if _current is None else _current.environment(folder)


def kinds(path: PurePath) -> tuple[str, ...]:
    """What the tests of a file run on."""
    if path.parts[0] not in FOLDERS or path.as_posix() in ON_FILES:
        return KINDS[:1]
    return KINDS if path.as_posix() in ON_BOTH else (WANTED,)


@pytest.fixture(scope="module", autouse=True)
def _elsewhere(request: pytest.FixtureRequest) -> Generator[None]:
    """The databases of all roles and gateways of a module that name none."""
    global _current
    if getattr(request, "param", KINDS[0]) == KINDS[0]:
        yield
        return
    emptied: Emptied = request.getfixturevalue("_emptied")
    server, redis = request.getfixturevalue("postgres"), request.getfixturevalue("redis_process")
    if not redis.running:  # an earlier module has killed it
        redis.start()
    _current = Elsewhere(server, redis, emptied.made)
    with pytest.MonkeyPatch.context() as patch:
        _current.install(patch)
        yield
    _current.drop({})
    _current = None


@pytest.fixture(autouse=True)
def _dropped(_elsewhere: None) -> Generator[None]:
    """Drops what one test made: hundreds of databases are many gigabytes."""
    here = _current
    kept = {} if here is None else here.kept()
    yield
    if here is not None:
        here.drop(kept)
