"""`python -m bench`: measures each target with each case and prints Markdown.

Everything stays on the loopback interface and ends by itself: each load is bounded in number and time, and after
`--limit` seconds nothing new is begun and what was left out is said.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from bench import machine, table
from bench.cases import CASES, Case
from bench.gateways import TARGETS, Target, UnavailableError, vendor_process
from bench.measure import Measurement, measure, warm
from bench.summary import percentile
from bench.vendor import allow_many_files


@dataclass
class Bench:
    """One run of the bench and what it has found so far."""

    cases: Sequence[Case]
    targets: Sequence[str]
    seconds: float
    repeats: int
    deadline: float
    measurements: list[Measurement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unavailable: set[str] = field(default_factory=set)

    def run(self, directory: Path) -> None:
        """Every repeat visits every target, so that a machine that changes its pace changes it for all."""
        (directory / "vendor").mkdir()
        with vendor_process(directory / "vendor") as origin:
            for repeat in range(self.repeats):
                for name in self.targets:
                    if name not in self.unavailable:
                        self._target(name, repeat, origin, directory / f"{name}-{repeat}")

    def _target(self, name: str, repeat: int, origin: str, directory: Path) -> None:
        if self._late(f"{name}, repeat {repeat}"):
            return
        directory.mkdir()
        try:
            with TARGETS[name](origin, directory) as target:
                self._cases(name, target, repeat, origin)
        except UnavailableError as reason:
            self.unavailable.add(name)
            self._note(f"{name} is left out: {reason}")

    def _cases(self, name: str, target: Target, repeat: int, origin: str) -> None:
        wanted = {"unary", "stream100"} | {case.name for case in self.cases if case.translated}
        for case in CASES:
            if case.name in wanted:
                warm(target, case)
        for case in self.cases:
            if (case.once and repeat) or self._late(f"{name}, {case.name}, repeat {repeat}"):
                continue
            found = measure(name, target, case, repeat, self.seconds, origin)
            self.measurements.append(found)
            _progress(found)

    def _late(self, what: str) -> bool:
        late = time.monotonic() > self.deadline
        if late:
            self._note(f"{what} is left out: the run took its whole --limit")
        return late

    def _note(self, text: str) -> None:
        self.notes.append(text)
        print(text, file=sys.stderr, flush=True)


def _progress(found: Measurement) -> None:
    report = found.report
    cost = "" if found.cpu_us_per_request is None else f", {found.cpu_us_per_request:,.0f} us of CPU per request"
    print(f"{found.target} {found.case} #{found.repeat}: {report.ok} ok, {report.failed} failed{cost}", file=sys.stderr)


def heading() -> str:
    """Where and when."""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine.python()}, {machine.machine()}"


def text(bench: Bench, head: str) -> str:
    """The whole report as Markdown."""
    others = sorted(one.others_percent for one in bench.measurements)
    remarks = [
        (
            "CPU is user and system time of the target's process tree: the median of the repeats, and the least; "
            "`x` compares medians. Latency is the median of the repeats; figures in brackets are not "
            "compared with the vendor's own. RSS is summed over processes, at its highest."
        ),
        (
            f"Other work on the machine took {percentile(others, 50):.0f} % of one processor during half of the "
            f"measurements or less, {percentile(others, 100):.0f} % at most."
        ),
        *(f"Failed: {line}" for line in table.failures(bench.measurements)),
        *bench.notes,
    ]
    body = table.render(bench.cases, bench.targets, bench.measurements)
    return "\n\n".join([head, body, "\n".join(f"- {remark}" for remark in remarks)])


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a call costs, beside a plain proxy.")
    names = [case.name for case in CASES]
    parser.add_argument("--targets", type=_list(list(TARGETS)), default=list(TARGETS), help=",".join(TARGETS))
    parser.add_argument("--tests", type=_list(names), default=names, help=",".join(names))
    parser.add_argument("--seconds", type=float, default=1.5, help="how long a case that has no own end is asked")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--limit", type=float, default=315.0, help="seconds after which nothing new is begun")
    parser.add_argument("--json", type=Path, help="also write every measurement to this file")
    return parser.parse_args(given)


class _list:  # noqa: N801 - argparse names the type in its messages
    """A comma-separated choice of known names, in the order in which they are known."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def __call__(self, given: str) -> list[str]:
        wanted = given.split(",")
        unknown = [name for name in wanted if name not in self._known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(self._known)}")
        return [name for name in self._known if name in wanted]


def main() -> None:
    """Measure and print."""
    chosen = arguments()
    allow_many_files()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that what was started is stopped
    cases = [case for case in CASES if case.name in chosen.tests]
    deadline = time.monotonic() + chosen.limit
    bench = Bench(cases, chosen.targets, chosen.seconds, chosen.repeat, deadline)
    head = heading()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        bench.run(Path(directory))
    if chosen.json:
        record = {"taken": head, "measurements": bench.measurements, "notes": bench.notes}
        chosen.json.write_bytes(msgspec.json.encode(record))
    print(text(bench, head))


if __name__ == "__main__":
    main()
