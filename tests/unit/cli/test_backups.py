"""Backups: whole while everything is written, and put back as they were."""

import sqlite3
import stat
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest

from polyroute.auth.wiring import assembled
from polyroute.cli import backups
from polyroute.cli.claim import claimed
from polyroute.cli.config import Config
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.roles import ConfigError
from polyroute.metrics.config import MetricsConfig
from tests.postgres import Server, binaries
from tests.unit.auth.money import treasury
from tests.unit.cli.lasting import ANSWER, NUMBER, answered, configured, lived_in

FILES = ["auth.db", "auth.db.admin", "auth.db.pepper", "idempotency.db", "metrics.db", "router.db"]


async def test_what_was_backed_up_comes_back(tmp_path: Path) -> None:
    """On another machine: the same keys, the same money, the same secrets; nothing of it for others to read."""
    secret = await lived_in(tmp_path / "old")
    written = backups.backup(configured(tmp_path / "old"), tmp_path / "all.tar.gz")
    (tmp_path / "new").mkdir()

    restored = backups.restore(configured(tmp_path / "new"), tmp_path / "all.tar.gz")

    async with assembled(Config().auth, data_dir=tmp_path / "new") as role:
        verdict = await role.service._verdicts.authorize(secret)
    async with treasury(tmp_path / "new") as money:
        audit = await money.audit()
    assert ANSWER == (await answered(tmp_path / "new")).answer
    assert written == restored
    assert set(FILES) <= set(written)
    assert verdict.id
    assert (sum(90 + number for number in range(NUMBER)), ()) == (audit.spent, audit.findings)
    assert {0o600} == {stat.S_IMODE((tmp_path / "new" / name).stat().st_mode) for name in FILES}
    assert 0o600 == stat.S_IMODE((tmp_path / "all.tar.gz").stat().st_mode)


async def test_files_that_are_elsewhere_are_backed_up(tmp_path: Path) -> None:
    """Call records that have a place of their own, and what lies beside them; they go back there."""
    place = tmp_path / "big" / "calls.db"
    config = Config(data_dir=tmp_path / "data", metrics=MetricsConfig(database=place))
    for path in (place, place.with_name("idempotency.db")):
        path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(path)) as made:
            made.execute("CREATE TABLE t AS SELECT 1 AS a")
    written = backups.backup(config, tmp_path / "all.tar.gz")
    backups.restore(config, tmp_path / "all.tar.gz", force=True)

    assert ["idempotency.db", "metrics.db"] == written
    assert {"calls.db", "idempotency.db"} == {path.name for path in place.parent.iterdir()}


def test_backup_of_a_database_that_is_written_is_of_one_moment(tmp_path: Path) -> None:
    """Two columns that are always changed together are equal in every copy."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "router.db"
    with closing(sqlite3.connect(file)) as made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE t (a, b, filler)")
        made.executemany("INSERT INTO t VALUES (0, 0, ?)", [("x" * 3000,)] * 300)
        made.commit()
    done = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(file)) as connection:
            while not done.is_set():
                connection.execute("UPDATE t SET a = a + 1, b = b + 1")
                connection.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            backups.backup(configured(tmp_path / "data"), tmp_path / f"{number}.tar.gz")
    finally:
        done.set()
        writer.join()

    moments = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        backups.restore(configured(folder), tmp_path / f"{number}.tar.gz")
        with closing(sqlite3.connect(folder / "router.db")) as copy:
            moments.append(copy.execute("SELECT DISTINCT a, b FROM t").fetchall())
    assert [1, 1, 1] == [len(moment) for moment in moments]
    assert all(a == b for ((a, b),) in moments)
    assert moments == sorted(moments)


async def test_restore_replaces_nothing_unless_told_to(tmp_path: Path) -> None:
    """And keeps what it replaces."""
    await lived_in(tmp_path / "data")
    config = configured(tmp_path / "data")
    backups.backup(config, tmp_path / "all.tar.gz")
    (tmp_path / "data" / "auth.db.admin").write_text("another")

    with pytest.raises(ConfigError, match=r"not empty: it has auth\.db, .* --force replaces them"):
        backups.restore(config, tmp_path / "all.tar.gz")
    untouched = (tmp_path / "data" / "auth.db.admin").read_text()
    backups.restore(config, tmp_path / "all.tar.gz", force=True)
    (aside,) = (tmp_path / "data").glob("replaced-*")

    assert "another" == untouched == (aside / "auth.db.admin").read_text()
    assert "another" != (tmp_path / "data" / "auth.db.admin").read_text()


async def test_running_gateway_is_not_restored(tmp_path: Path) -> None:
    """Its files are open."""
    await lived_in(tmp_path / "data")
    backups.backup(configured(tmp_path / "data"), tmp_path / "all.tar.gz")

    with claimed(tmp_path / "new" / "run", ["edge"]), pytest.raises(ConfigError, match="another process plays edge"):
        backups.restore(configured(tmp_path / "new"), tmp_path / "all.tar.gz")


async def test_damaged_backup_is_refused(tmp_path: Path) -> None:
    """Before anything is replaced."""
    await lived_in(tmp_path / "data")
    whole = tmp_path / "all.tar.gz"
    backups.backup(configured(tmp_path / "data"), whole)
    (tmp_path / "cut.tar.gz").write_bytes(whole.read_bytes()[:-2000])
    (tmp_path / "other.tar.gz").write_bytes(b"something else")

    for name in ("cut.tar.gz", "other.tar.gz", "none.tar.gz"):
        with pytest.raises(ConfigError, match="is not a backup that can be read"):
            backups.restore(configured(tmp_path / "new"), tmp_path / name)
    assert [] == list((tmp_path / "new").glob("*.db"))


def test_backup_from_elsewhere_leads_nowhere_else(tmp_path: Path) -> None:
    """A name in it that is a path is refused."""
    evil = tmp_path / "evil.tar.gz"
    (tmp_path / "manifest.json").write_text('{"format": 1, "files": {"../auth.db": "00"}}')
    with tarfile.open(evil, "w:gz") as tar:
        tar.add(tmp_path / "manifest.json", "manifest.json")
        tar.add(tmp_path / "manifest.json", "../auth.db")

    with pytest.raises(ConfigError, match=r"'../auth\.db' is not the name of a file"):
        backups.restore(configured(tmp_path / "data"), evil)


def test_backup_never_overwrites(tmp_path: Path) -> None:
    """A file that is there is somebody's backup."""
    (tmp_path / "all.tar.gz").write_text("mine")

    with pytest.raises(ConfigError, match="is there already"):
        backups.backup(configured(tmp_path / "data"), tmp_path / "all.tar.gz")
    with pytest.raises(ConfigError, match="there is nothing in"):
        backups.backup(configured(tmp_path / "data"), tmp_path / "all.tar.gz", force=True)
    assert "mine" == (tmp_path / "all.tar.gz").read_text()


async def test_postgresql_is_dumped_and_restored(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own programs, with the pepper and the admin secret of the data directory."""
    monkeypatch.setenv("PATH", str(binaries()), prepend=":")
    first, second = (DatabaseConfig.model_validate(postgres.database()) for _ in range(2))
    async with assembled(Config().auth, data_dir=tmp_path / "data", database=first) as role:
        secret = role.first_secret or ""
    written = backups.backup(configured(tmp_path / "data", first), tmp_path / "all.tar.gz")
    backups.restore(configured(tmp_path / "new", second), tmp_path / "all.tar.gz")
    async with assembled(Config().auth, data_dir=tmp_path / "new", database=second) as role:
        verdict = await role.service._verdicts.authorize(secret)

    assert {"auth.db.admin", "auth.db.pepper", "postgresql.dump"} <= set(written)
    assert [] == [name for name in written if name.endswith(".db")]
    assert verdict.id


def test_without_postgresqls_programs_a_backup_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their names."""
    monkeypatch.setenv("PATH", str(tmp_path))
    config = configured(tmp_path / "data", DatabaseConfig.model_validate("postgresql://me:canary@db/x"))

    with pytest.raises(ConfigError, match="pg_dump is not installed here") as caught:
        backups.backup(config, tmp_path / "all.tar.gz")
    assert "canary" not in str(caught.value)
