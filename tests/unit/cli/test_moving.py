"""From SQLite files to PostgreSQL, with everything and all of it once."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from polyroute.auth import schema as auth
from polyroute.auth.wiring import assembled
from polyroute.cli import moving
from polyroute.cli.claim import claimed
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from polyroute.mesh.roles import ConfigError
from polyroute.metrics.store import Store as Calls
from polyroute.metrics.usage import Filter
from polyroute.router.store import Store as Decisions
from tests.postgres import Server
from tests.unit.auth.money import treasury
from tests.unit.cli.lasting import ANSWER, NUMBER, answered, configured, lived_in


@pytest.fixture
def target(postgres: Server) -> DatabaseConfig:
    """An empty database."""
    return DatabaseConfig.model_validate(postgres.database())


async def test_everything_arrives(tmp_path: Path, target: DatabaseConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys work, the ledger adds up and goes on, decisions are explained, calls are counted."""
    secret = await lived_in(tmp_path)

    await moving.move(configured(tmp_path), target)

    said = capsys.readouterr().out
    async with assembled(configured(tmp_path).auth, data_dir=tmp_path, database=target) as role:
        verdict = await role.service._verdicts.authorize(secret)
    async with treasury(tmp_path, target) as money:
        sums = (await money.audit()).spent
        await money.charge("later", 1)
        audit = await money.audit()
    async with Decisions.open(locate("router", tmp_path, shared=target)) as decisions:
        kept = await decisions.decision("call-7")
        versions = await decisions.versions(0, 9)
    async with Calls.open(locate("metrics", tmp_path, shared=target)) as calls:
        listed, _ = await calls.calls(Filter(), limit=2 * NUMBER)
        counted = await calls.usage(Filter(), [])
    repeated = await answered(tmp_path, target)
    assert ANSWER == repeated.answer
    assert None is role.first_secret  # there is one already
    assert verdict.id
    assert sum(90 + number for number in range(NUMBER)) == sums == audit.spent - 1
    assert () == audit.findings
    assert kept is not None
    assert (b"shared", 1) == (kept.shared, len(versions))
    assert NUMBER == len(listed)
    assert NUMBER == counted.rows[0].calls
    assert ["auth", "idempotency", "metrics", "router"] == [line.split()[0] for line in said.splitlines()[-4:]]


async def test_full_target_is_refused(tmp_path: Path, target: DatabaseConfig) -> None:
    """And left as it is."""
    await lived_in(tmp_path)
    await moving.move(configured(tmp_path), target)

    with pytest.raises(ConfigError, match=r"polyroute_auth is not empty: there are rows in .*accounts"):
        await moving.move(configured(tmp_path), target)


async def test_running_gateway_is_not_moved(tmp_path: Path, target: DatabaseConfig) -> None:
    """What it would write meanwhile would be lost."""
    with claimed(tmp_path / "run", ["auth"]), pytest.raises(ConfigError, match="another process plays auth"):
        await moving.move(configured(tmp_path), target)


async def test_nothing_to_move(tmp_path: Path, target: DatabaseConfig) -> None:
    """Is said."""
    with pytest.raises(ConfigError, match="no databases in"):
        await moving.move(configured(tmp_path), target)


async def test_ledger_that_does_not_add_up_there_is_not_kept(tmp_path: Path, target: DatabaseConfig) -> None:
    """Nothing arrives when something does not arrive whole."""
    await lived_in(tmp_path)
    with closing(sqlite3.connect(tmp_path / "auth.db")) as file:  # a row that only a file without types could take
        file.execute("UPDATE ledger SET amount = 'much' WHERE id = 3")
        file.commit()

    with pytest.raises(Exception, match=r"much|integer|bigint"):
        await moving.move(configured(tmp_path), target)

    reader = locate("auth", tmp_path, shared=target).thread_reader()
    with reader.begin() as connection:
        arrived = connection.scalar(select(func.count()).select_from(auth.ledger))
        connection.execute(text("SELECT 1"))
    reader.dispose()
    assert 0 == arrived
