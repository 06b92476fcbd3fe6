"""A configuration file that may change while the process runs."""

import asyncio
import os
from pathlib import Path

import pytest

from polyroute.mesh.source import Source


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file."""
    path = tmp_path / "polyroute.yaml"
    path.write_text("a: 1")
    return path


def replace(path: Path, text: str) -> None:
    """Puts another file in its place, as editors and Kubernetes do."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


def test_change_is_seen_once(path: Path) -> None:
    """By inode, size or time, whichever differs."""
    source = Source(path)
    at_rest = source.changed()
    replace(path, "a: 1")  # same text, another file
    replaced = source.changed(), source.changed()
    os.utime(path, ns=(1, 1))
    touched = source.changed(), source.changed()

    assert (False, (True, False), (True, False)) == (at_rest, replaced, touched)


async def test_loop_follows_the_file_and_the_signal(path: Path) -> None:
    """A changed file is noticed at the next look; a signal at once, however long the interval."""
    source = Source(path)
    noticed = asyncio.Semaphore(0)

    async def reload() -> None:
        noticed.release()

    async with asyncio.timeout(5):
        looking = asyncio.create_task(source.follow(reload, interval=0.001))
        replace(path, "a: 2")
        await noticed.acquire()
        looking.cancel()
        waiting = asyncio.create_task(source.follow(reload, interval=3600))
        source.wanted.set()
        await noticed.acquire()
        waiting.cancel()

    assert not source.wanted.is_set()


async def test_no_file_is_no_change() -> None:
    """Without a file only the signal counts."""
    source = Source(None)

    assert not source.changed()
