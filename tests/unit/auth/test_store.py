"""The database under auth."""

import asyncio
import random
import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import text

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys
from polyroute.auth.database import Database
from polyroute.auth.keys import NewKey
from polyroute.auth.store import Store
from polyroute.mesh import database as databases
from polyroute.mesh.database import Location, locate
from polyroute.mesh.errors import MeshError
from tests.unit.auth.installation import Installation, installation


def new_key(name: str = "") -> NewKey:
    """A key about to be created."""
    return NewKey(keys.new_id("key"), random.randbytes(32), "pr-abcdef", name, (), created=0)


async def test_every_connection_is_durable(tmp_path: Path) -> None:
    """WAL, a sync per commit, foreign keys; and a file for its owner only."""
    file = Database(Location("auth", tmp_path / "auth.db"))
    pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    async with file.reading() as reading, file.writing() as writing:
        found = [
            [await connection.scalar(text(f"PRAGMA {pragma}")) for pragma in pragmas]
            for connection in (reading, writing)
        ]
    await file.close()

    assert found == [["wal", 2, 1, 5000]] * 2
    assert stat.S_IMODE((tmp_path / "auth.db").stat().st_mode) == 0o600


async def test_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    """All of it or none of it."""
    file = Database(Location("auth", tmp_path / "auth.db"))

    async def fail_halfway() -> None:
        async with file.writing() as connection:
            await connection.execute(text("CREATE TABLE half (x)"))
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        await fail_halfway()
    async with file.reading() as connection:
        tables = (await connection.execute(text("SELECT name FROM sqlite_master"))).all()
    await file.close()

    assert tables == []


async def test_processes_that_write_at_once_take_turns(tmp_path: Path) -> None:
    """Two processes revoke twelve keys: twelve revisions without a gap, and both learn of all."""
    async with installation(tmp_path) as one, installation(tmp_path) as other:
        made = [(await one.keyring.create())[0] for _ in range(12)]
        both = (one.keyring, other.keyring)
        await asyncio.gather(*(both[n % 2].revoke(key.id) for n, key in enumerate(made)))
        stored = await one.store.latest_revocations(100)
        await asyncio.gather(*(keyring.revoke(made[0].id) for keyring in both))

        assert list(range(1, 13)) == [revocation.revision for revocation in stored]
        assert {key.id for key in made} == {revocation.key_id for revocation in stored}
        assert [one.feed.revision, other.feed.revision] == [12, 12]


async def test_revocations_outlive_the_process(tmp_path: Path) -> None:
    """The latest ones come back in order, as many as are wanted."""
    async with installation(tmp_path) as before:
        made = [(await before.keyring.create())[0] for _ in range(3)]
        for key in made:
            await before.keyring.revoke(key.id)
    async with installation(tmp_path) as after:
        found = await after.store.latest_revocations(2)

    assert [(2, made[1].id), (3, made[2].id)] == [(entry.revision, entry.key_id) for entry in found]


async def test_locked_database_is_unavailable_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that cannot get in says so in time; readers do not notice."""
    monkeypatch.setattr(databases, "LOCK_SECONDS", 0.02)
    async with Store.open(locate("auth", tmp_path), fingerprint="f") as store:
        intruder = sqlite3.connect(tmp_path / "auth.db", isolation_level=None)
        intruder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(MeshError) as refused:
            await store.adopt(new_key())
        unknown = await store.find(bytes(32))
        intruder.execute("ROLLBACK")
        intruder.close()
        with pytest.raises(MeshError) as no_project:
            await store.create(new_key(), "prj_none")

    assert refused.value.reason == errors_pb2.REASON_SERVICE_UNAVAILABLE
    assert refused.value.retry_after == 1.0
    assert unknown is None
    assert no_project.value.reason == errors_pb2.REASON_NOT_FOUND


async def test_damaged_database_is_unavailable_without_details(
    auth: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the answer nor the log shows what was being stored."""
    async with auth.store.database.writing() as connection:
        await connection.execute(text("ALTER TABLE keys RENAME TO gone"))
    with pytest.raises(MeshError) as refused:
        await auth.keyring.create(name="canary-name")

    assert refused.value.message == "the database of keys does not answer"
    logged = capsys.readouterr().out
    assert "auth database failed" in logged
    assert "canary-name" not in logged


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "where",
    [
        "keys.digest = x'00'",
        "keys.id = 'a' OR keys.prefix = 'b'",
        "keys.request_id = 'r'",
        "keys.id < 'a' ORDER BY keys.id DESC",
    ],
)
async def test_no_question_reads_every_key(auth: Installation, tmp_path: Path, where: str) -> None:
    """Each is answered from an index, so its cost does not grow with the number of keys."""
    connection = sqlite3.connect(tmp_path / "auth.db")
    query = f"EXPLAIN QUERY PLAN SELECT keys.id FROM keys JOIN projects ON projects.id = keys.project_id WHERE {where}"
    steps = [row[3] for row in connection.execute(query)]
    connection.close()

    assert not [step for step in steps if step.startswith("SCAN")]
    assert not [step for step in steps if "TEMP B-TREE" in step]
