"""What the cases ask, and how the table tells what they found."""

import orjson
import pytest

from bench.cases import BIG_BYTES, CASES, Case
from bench.load import Report, request_bytes
from bench.machine import machine, pgo
from bench.measure import Measurement
from bench.script import read
from bench.summary import Spread
from bench.table import failures, render
from bench.vendor import last_prompt

CASE = Case(name="unary", title="unary")
STREAM = Case(name="stream", title="stream", stream=True, chunks=10)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_vendor_understands_the_case(case: Case) -> None:
    """The prompt's marker makes the vendor answer what the load then expects."""
    load = case.load("http://h:1/v1", "m", {"authorization": "Bearer k"}, 1.0)
    request = orjson.loads(load.body)
    script = read(last_prompt(request))

    assert (case.first, case.gap) == (script.first, script.gap)
    assert bool(request.get("stream")) == case.stream
    assert load.chunks == (script.chunks if case.stream else 1)
    assert load.url == "http://h:1/v1/chat/completions"
    assert load.timeout > load.ramp + case.waves * (case.first + case.gap * case.chunks) / 1000
    assert (BIG_BYTES if case.padding else 500) < len(load.body) < 2500 + case.padding


def test_request_bytes() -> None:
    """The request names its host, its length and its credential."""
    load = CASE.load("http://127.0.0.1:9/v1", "m", {"authorization": "Bearer k"}, 1.0)
    head, _, body = request_bytes(load).partition(b"\r\n\r\n")

    assert body == load.body
    assert head.split(b"\r\n")[0] == b"POST /v1/chat/completions HTTP/1.1"
    assert {b"host: 127.0.0.1:9", b"authorization: Bearer k"} < set(head.split(b"\r\n"))


def measured(target: str, cpu: float | None, p50: float, *, case: Case = CASE, failed: int = 0) -> Measurement:
    spread = Spread(p50, p50, p50 * 2, p50 * 3)
    report = Report(
        ok=1000,
        failed=failed,
        chunks=1000 * case.chunks,
        wall_seconds=2.0,
        latency=spread,
        first=spread,
        delay=spread,
        cpu_seconds=0.1,
        failures={"status 500": failed} if failed else {},
    )
    return Measurement(
        target=target,
        case=case.name,
        repeat=0,
        report=report,
        cpu_seconds=cpu,
        rss_bytes=None if cpu is None else 5_000_000,
        vendor_requests=1000,
        others_percent=0.0,
    )


def rows(text: str) -> dict[str, list[str]]:
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in cells}


def test_table_compares() -> None:
    """Cost is told beside that of what merely passes on, latency as what the vendor's own does not explain."""
    found = [measured("direct", None, 1.0), measured("nginx", 0.05, 1.5), measured("bare", 0.2, 1.5)]
    found += [measured("up", 0.3, 2.0, failed=2), measured("up", 0.5, 2.0), measured("up", 0.4, 2.0)]

    table = rows(render([CASE, STREAM], ["direct", "nginx", "bare", "up", "roles"], found))

    assert table["direct"] == ["-", "-", "-", "-", "500", "(1.00 / 2.00)", "1,000", "0", "-"]
    assert table["nginx"] == ["50.0", "50.0", "1.0", "0.2", "500", "0.50 / 1.00", "1,000", "0", "5"]
    assert table["up"] == ["400", "300", "8.0", "2.0", "500", "1.00 / 2.00", "3,000", "2", "5"]
    assert "roles" not in table
    assert failures(found) == ["up, unary, repeat 0: {'status 500': 2}"]


def test_table_of_a_stream() -> None:
    """A stream costs per chunk; without others in the run nothing is told beside theirs."""
    table = rows(render([STREAM], ["up"], [measured("up", 0.1, 2.0, case=STREAM)]))

    assert table["up"] == ["10.0", "10.0", "5,000", "(2.00 / 4.00)", "(2.00 / 4.00)", "1,000", "0", "5"]


def test_machine_is_named() -> None:
    """The heading's words are there on any machine."""
    assert "linux" in machine()
    assert pgo() in {"PGO", "no PGO", "PGO not recorded by its build"}
