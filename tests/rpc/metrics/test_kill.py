"""Killed without warning, at random moments: whatever was acknowledged is there, and nothing is there twice."""

import asyncio
import multiprocessing
import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.mesh.shipper import Shipper
from polyroute.mesh.spool import Spool
from polyroute.metrics import schema
from polyroute.metrics.config import MetricsConfig
from polyroute.metrics.partitions import Family
from polyroute.metrics.rows import request_id_of
from polyroute.metrics.wiring import assembled
from tests.unit.metrics.records import call

LIVES = 20
SENDERS = 3


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Starts processes in milliseconds: what they import was imported once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # what is imported beforehand is looked for there only
        forkserver.ensure_running()
    return context


def receive(data_dir: Path, life: int, answers: Connection) -> None:
    """A process that appends for ever, half of it what was appended before, and says what was acknowledged."""
    asyncio.run(_append_for_ever(data_dir, life, answers))


async def _append_for_ever(data_dir: Path, life: int, answers: Connection) -> None:
    context: Any = None

    async def sender(number: int) -> None:
        before: list[str] = []
        for batch in range(1_000_000):
            names = [f"{life}-{number}-{batch}-{index}" for index in range(5)]
            records = [call(name) for name in (*names, *before)]
            await service.Append(pb.AppendRequest(records=records), context)
            answers.send(names)
            before = names

    async with assembled(MetricsConfig(), data_dir=data_dir) as service, asyncio.TaskGroup() as senders:
        for number in range(SENDERS):
            senders.create_task(sender(number))


def send(folder: Path, answers: Connection) -> None:
    """A process that spools for ever and says what was kept."""
    spool = Spool(folder, segment_bytes=20_000)
    for number in range(1_000_000):
        spool.append(b"%d-%d" % (os.getpid(), number))
        answers.send(f"{os.getpid()}-{number}")


def kill_after(seconds: float, process: Any, answers: Connection) -> list[Any]:
    """Kills the process that long after its first answer; all that it said before."""
    heard = [answers.recv()]
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if answers.poll(left):
            heard.append(answers.recv())
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    while answers.poll():
        try:
            heard.append(answers.recv())
        except EOFError:
            break
    return heard


def test_acknowledged_records_survive(processes: ForkServerContext, tmp_path: Path) -> None:
    """The receiver is killed at 20 random points: acknowledged records are all there and added up, none twice."""
    dice = random.Random(20)
    acknowledged: set[str] = set()
    for life in range(LIVES):
        answers, theirs = processes.Pipe(duplex=False)
        process = processes.Process(target=receive, args=(tmp_path, life, theirs), daemon=True)
        process.start()
        theirs.close()
        with answers:
            for names in kill_after(dice.uniform(0.0, 0.15), process, answers):
                acknowledged.update(names)
    with closing(sqlite3.connect(tmp_path / "metrics.db")) as database:
        stored = [request_id_of(name) for name in _column(database, schema.CALLS, "request_id")]
        sums = [sum(_column(database, family, "calls")) for family in schema.FAMILIES[1:]]
        (sound,) = database.execute("PRAGMA integrity_check").fetchone()

    assert len(acknowledged) >= 5 * LIVES
    assert acknowledged <= set(stored)
    assert len(stored) == len(set(stored))
    assert [len(stored)] * len(sums) == sums
    assert "ok" == sound


def _column(database: sqlite3.Connection, family: Family, column: str) -> list[Any]:
    """A column of every partition of a family."""
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    mine = filter(family.bounds, tables)
    return [value for name in mine for (value,) in database.execute(f"SELECT {column} FROM {name}")]


async def test_spooled_records_survive(processes: ForkServerContext, tmp_path: Path) -> None:
    """The sender is killed five times: the next one ships everything that was kept, in order and once."""
    dice = random.Random(5)
    kept: list[str] = []
    for _ in range(5):
        answers, theirs = processes.Pipe(duplex=False)
        process = processes.Process(target=send, args=(tmp_path, theirs), daemon=True)
        process.start()
        theirs.close()
        with answers:
            kept += kill_after(dice.uniform(0.0, 0.02), process, answers)
    shipped: list[str] = []

    async def receiver(batch: list[bytes]) -> None:
        shipped.extend(record.decode() for record in batch)

    spool = Spool(tmp_path)
    async with Shipper(spool, receiver, every=0):
        pass
    spool.close()

    assert len(shipped) == len(set(shipped))
    assert [name for name in shipped if name in set(kept)] == kept
    assert len(shipped) - len(kept) <= 5
