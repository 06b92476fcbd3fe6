"""One measurement: a load on a target, and what the target's processes used for it."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Final

import msgspec

from bench.cases import Case
from bench.cpu import Tree, machine_busy_seconds
from bench.gateways import ROOT, Target, UnavailableError, vendor_stats
from bench.load import Load, Report

SETTLE_SECONDS: Final = 0.3  # what a gateway does after the answer (records, settlements) belongs to the call
SAMPLE_SECONDS: Final = 0.25
WARM_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One case on one target, once.

    Attributes:
        target: The target's name.
        case: The case's name.
        repeat: Which repeat, from 0.
        report: What the client saw.
        cpu_seconds: What the target's processes used; None for a target without processes.
        rss_bytes: The most resident memory that they had at once, summed; None likewise.
        vendor_requests: Requests that reached the vendor.
        others_percent: Percent of one processor that went to anything but target, vendor and client.
    """

    target: str
    case: str
    repeat: int
    report: Report
    cpu_seconds: float | None
    rss_bytes: int | None
    vendor_requests: int
    others_percent: float

    @property
    def cpu_us_per_request(self) -> float | None:
        """Processor microseconds of the target for each right answer."""
        return None if self.cpu_seconds is None else self.cpu_seconds * 1e6 / max(self.report.ok, 1)

    @property
    def cpu_us_per_chunk(self) -> float | None:
        """Processor microseconds of the target for each chunk of a right answer."""
        return None if self.cpu_seconds is None else self.cpu_seconds * 1e6 / max(self.report.chunks, 1)


def measure(name: str, target: Target, case: Case, repeat: int, seconds: float, origin: str) -> Measurement:
    """Put the case's load on the target and account for it."""
    load = _load(target, case, seconds)
    vendor, busy, own, began = vendor_stats(origin), machine_busy_seconds(), _own_seconds(), time.monotonic()
    cpu = target.tree.cpu_seconds() if target.tree else 0.0
    report, rss = run_load(load, target.tree)
    time.sleep(SETTLE_SECONDS)
    used = target.tree.cpu_seconds() - cpu if target.tree else 0.0
    wall, busy, after = time.monotonic() - began, machine_busy_seconds() - busy, vendor_stats(origin)
    known = used + _own_seconds() - own + after["cpu_seconds"] - vendor["cpu_seconds"]
    return Measurement(
        target=name,
        case=case.name,
        repeat=repeat,
        report=report,
        cpu_seconds=used if target.tree else None,
        rss_bytes=rss if target.tree else None,
        vendor_requests=int(after["requests"] - vendor["requests"]),
        others_percent=max(0.0, 100 * (busy - known) / wall),
    )


def _load(target: Target, case: Case, seconds: float) -> Load:
    """The case's load for this target."""
    return case.load(target.url, target.translated if case.translated else target.model, target.headers, seconds)


def _own_seconds() -> float:
    """Processor time of this process and of the loads that it has waited for."""
    return sum(os.times()[:4])


def warm(target: Target, case: Case) -> None:
    """Ask for a moment without measuring. UnavailableError when nothing is answered right."""
    report, _ = run_load(_load(target, case, WARM_SECONDS), None)
    if not report.ok:
        raise UnavailableError(f"no right answer: {report.failures}")


def run_load(load: Load, tree: Tree | None) -> tuple[Report, int]:
    """The load in a process of its own, and the most memory that the tree had meanwhile, in bytes."""
    command = [sys.executable, "-m", "bench.load"]
    most = 0
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        try:
            client.stdin.write(msgspec.json.encode(load))
            client.stdin.close()
            deadline = time.monotonic() + load.timeout + 10
            while client.poll() is None and time.monotonic() < deadline:
                most = max(most, tree.rss_bytes() if tree else 0)
                time.sleep(SAMPLE_SECONDS)
        finally:
            client.kill()  # no effect on one that has ended
        answer = client.stdout.read()
    if client.returncode:
        raise UnavailableError(f"the load generator ended with {client.returncode}")
    return msgspec.json.decode(answer, type=Report), most
