"""What vendors keep: written down once, and found by whoever can name it."""

from pathlib import Path

import pytest

from polyroute.mesh.database import locate
from polyroute.metrics.idempotency.migrations.history import HISTORY
from polyroute.metrics.idempotency.things import Things
from tests.databases import prepare

MINE, OTHER = b"m" * 16, b"o" * 16


async def test_what_was_written_down_is_found(tmp_path: Path) -> None:
    """With the key that made it first; anything else is not there."""
    location = locate("idempotency", prepare(tmp_path))
    await HISTORY.upgrade(location)
    async with Things.open(location) as things:
        await things.remember({MINE: b"first"})
        await things.remember({MINE: b"second", b"n" * 16: b""})
        found = await things.find([MINE, OTHER])
    async with Things.open(location) as again:
        later = await again.find([MINE])

    assert {MINE: b"first"} == found == later


@pytest.mark.parametrize("count", [1, 1200])
async def test_many_at_once(tmp_path: Path, count: int) -> None:
    """More than one statement takes."""
    location = locate("idempotency", prepare(tmp_path))
    await HISTORY.upgrade(location)
    digests = [number.to_bytes(16, "big") for number in range(count)]
    async with Things.open(location) as things:
        await things.remember(dict.fromkeys(digests, b"k"))
        found = await things.find([*digests, OTHER])

    assert dict.fromkeys(digests, b"k") == found
