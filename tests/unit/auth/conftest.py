"""Fixtures of auth's unit tests."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from polyroute.mesh.config import DatabaseConfig
from tests.unit.auth.installation import Installation, installation


@pytest.fixture
async def auth(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Installation]:
    """A fresh installation, on each kind of database."""
    async with installation(tmp_path, database=database) as fresh:
        yield fresh
