"""The first start, and starts after it."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys, schema
from polyroute.auth.config import AuthConfig
from polyroute.auth.migrations.history import HISTORY
from polyroute.auth.scopes import Scope
from polyroute.mesh.database import UnusableDatabaseError, locate
from polyroute.mesh.errors import MeshError
from tests.unit.auth.installation import installation

OPERATORS = "pr-" + "operator" * 6


def counts(folder: Path) -> dict[str, int]:
    """Rows of each table, seen from outside."""
    engine = create_engine(f"sqlite:///{folder / 'auth.db'}")
    with engine.connect() as connection:
        tables = (schema.accounts, schema.projects, schema.keys)
        found = {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}
    engine.dispose()
    return found


async def test_first_start_gives_a_key_that_works(tmp_path: Path) -> None:
    """A fresh installation can be called at once."""
    async with installation(tmp_path, AuthConfig(bootstrap_account="me", bootstrap_project="mine")) as auth:
        assert auth.first_secret is not None
        key = await auth.verdicts.authorize(auth.first_secret)

    assert key.name == "default"
    assert [name.partition("_")[0] for name in (key.account_id, key.project_id, key.id)] == ["acc", "prj", "key"]
    assert counts(tmp_path) == {"accounts": 1, "projects": 1, "keys": 1}


async def test_second_start_gives_no_key(tmp_path: Path) -> None:
    """The secret is known once; the key goes on working."""
    async with installation(tmp_path) as first:
        secret = first.first_secret or ""
    async with installation(tmp_path) as second:
        again = second.first_secret
        key = await second.verdicts.authorize(secret)

    assert again is None
    assert keys.prefix(secret) == key.prefix
    assert counts(tmp_path) == {"accounts": 1, "projects": 1, "keys": 1}


async def test_processes_that_start_together_make_one_key(tmp_path: Path) -> None:
    """Of many, one founds the installation; the others find it."""

    async def start() -> str | None:
        async with installation(tmp_path) as auth:
            return auth.first_secret

    secrets = await asyncio.gather(*(start() for _ in range(6)))

    assert sum(secret is not None for secret in secrets) == 1
    assert counts(tmp_path) == {"accounts": 1, "projects": 1, "keys": 1}


async def test_operators_key_is_the_first_and_is_not_announced(tmp_path: Path) -> None:
    """Whoever set it knows it."""
    async with installation(tmp_path, AuthConfig(bootstrap_key=OPERATORS)) as auth:
        announced = auth.first_secret
        key = await auth.verdicts.authorize(OPERATORS)

    assert announced is None
    assert key.prefix == "pr-operat"
    assert counts(tmp_path)["keys"] == 1


async def test_operators_key_may_come_later(tmp_path: Path) -> None:
    """Set on an existing installation, it joins the default project once."""
    async with installation(tmp_path) as before:
        first = await before.verdicts.authorize(before.first_secret or "")
    for _ in range(2):
        async with installation(tmp_path, AuthConfig(bootstrap_key=OPERATORS)) as after:
            late = await after.verdicts.authorize(OPERATORS)

    assert first.project_id == late.project_id
    assert counts(tmp_path)["keys"] == 2


async def test_revoked_operators_key_stays_revoked(tmp_path: Path) -> None:
    """A restart with the same configuration does not bring a key back."""
    config = AuthConfig(bootstrap_key=OPERATORS)
    async with installation(tmp_path, config) as auth:
        await auth.keyring.revoke((await auth.verdicts.authorize(OPERATORS)).id)
    async with installation(tmp_path, config) as auth:
        with pytest.raises(MeshError) as refused:
            await auth.verdicts.authorize(OPERATORS)

    assert refused.value.reason == errors_pb2.REASON_CREDENTIAL_INVALID


async def test_database_of_another_pepper_is_refused(tmp_path: Path) -> None:
    """A lost pepper file is an error at the start, not a day of refused keys."""
    async with installation(tmp_path):
        pass

    with pytest.raises(UnusableDatabaseError, match="pepper"):
        async with installation(tmp_path, pepper=bytes(32)):
            pass


async def test_database_of_another_version_is_refused(tmp_path: Path) -> None:
    """An older program does not write into a newer one's tables."""
    async with installation(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / "auth.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()

    with pytest.raises(UnusableDatabaseError, match=r"newer version .* revision 9999, this version knows those up to"):
        async with installation(tmp_path):
            pass


@pytest.mark.parametrize("version", ["1", "2"])
async def test_database_from_before_there_were_migrations_is_brought_up(tmp_path: Path, version: str) -> None:
    """Its keys go on working, and can be bound."""
    async with installation(tmp_path) as before:
        key, secret = await before.keyring.create(name="old")
    await HISTORY.move(locate("auth", tmp_path), f"000{version}")
    connection = sqlite3.connect(tmp_path / "auth.db")
    connection.execute("DROP TABLE alembic_version")
    (mark,) = connection.execute("SELECT value FROM properties WHERE name = 'schema_version'").fetchone()
    connection.commit()
    connection.close()
    async with installation(tmp_path) as after:
        found = await after.verdicts.authorize(secret)
        await after.keyring.update(key.id, scope=Scope(routes=("/v1/*",)))
        bound = await after.verdicts.authorize(secret)

    assert version == mark
    assert ("old", ()) == (found.name, found.limits)
    assert ("/v1/*",) == bound.scope.routes
