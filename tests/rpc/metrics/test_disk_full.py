"""A disk that is full: no more work is taken on, nothing that was is lost, and it all goes on by itself afterwards."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.api.metrics.v1.metrics_pb2 import AppendRequest, AppendResponse, QueryUsageRequest
from polyroute.edge.recorder import Recorder
from polyroute.edge.trail import Trail
from polyroute.mesh.background import Background
from polyroute.mesh.errors import MeshError
from polyroute.mesh.shipper import Shipper
from polyroute.mesh.spool import Spool
from polyroute.metrics.config import MetricsConfig
from polyroute.metrics.service import MetricsService
from polyroute.metrics.wiring import assembled
from tests.unit.edge.peers import CALLER

SIZE = 6 << 20
RESERVE = 256 << 10
UNDER_WAY = 2000  # calls


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


class Metrics:
    """The metrics role as its stub."""

    def __init__(self, service: MetricsService) -> None:
        self._service = service
        self.refused = 0

    async def Append(self, request: AppendRequest, *, timeout: float) -> AppendResponse:  # noqa: ASYNC109 - as stubs have it
        context: Any = None
        try:
            return await self._service.Append(request, context)
        except MeshError:
            self.refused += 1
            raise


def fill(path: Path) -> None:
    """Takes what is left of the disk, to the last byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError:  # no space is left for so much at once
                    break


def over(number: int) -> Trail:
    trail = Trail(f"r-{number}", user="u" * 300)
    trail.caller = CALLER
    trail.ended(MeshError(errors.REASON_DEADLINE, "late"))
    return trail


async def until(done: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not done():
            await asyncio.sleep(0.02)


def refusal(recorder: Recorder) -> errors.Reason.ValueType:
    with pytest.raises(MeshError) as refused:
        recorder.check()
    return refused.value.reason


async def test_nothing_is_lost(small: Path) -> None:
    """Records wait in the spool, then in memory, while nobody can write; then all are added up."""
    ballast = small / "ballast"
    with closing(Spool(small / "spool", segment_bytes=1 << 20, reserve_bytes=RESERVE)) as spool:
        async with assembled(MetricsConfig(), data_dir=small) as service, Background() as tasks:
            metrics = Metrics(service)
            recorder = Recorder(spool, metrics)
            async with Shipper(spool, recorder.send, every=0.01, sync_every=0.02, longest_wait=0.1):
                tasks.start("records", recorder.run)
                recorder.check()
                recorder.keep(over(0))
                await until(lambda: spool.pending == 0)
                fill(ballast)
                await asyncio.sleep(0.15)
                first = refusal(recorder)  # before anything was lost or had to wait: the disk was looked at
                for number in range(1, UNDER_WAY):
                    recorder.keep(over(number))
                    await asyncio.sleep(0)
                second = refusal(recorder)
                await until(lambda: metrics.refused > 0)
                waiting = len(recorder._unwritten)
                ballast.unlink()
                await until(lambda: not recorder._unwritten and spool.pending == 0)
                recorder.check()
                context: Any = None
                (row,) = (await service.QueryUsage(QueryUsageRequest(), context)).rows

    assert [errors.REASON_USAGE_UNAVAILABLE] * 2 == [first, second]
    assert waiting > 0
    assert (UNDER_WAY, UNDER_WAY) == (row.calls, row.failed_calls)
    assert os.statvfs(small).f_bavail > 0
