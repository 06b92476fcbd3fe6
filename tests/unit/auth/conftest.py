"""Fixtures of auth's unit tests."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.unit.auth.installation import Installation, installation


@pytest.fixture
async def auth(tmp_path: Path) -> AsyncGenerator[Installation]:
    """A fresh installation."""
    async with installation(tmp_path) as fresh:
        yield fresh
