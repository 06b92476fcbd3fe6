"""One line an event, JSON, written together, never lost at exit."""

import asyncio
import functools
import io
import re
import subprocess
import sys
from typing import Any

import orjson
import pytest

from polyroute.mesh import logs
from polyroute.mesh.logs import MANY, BufferedLines

SECRET = "pr-ivate"
PROGRAM = """
import asyncio, sys, structlog
from pydantic import SecretStr
from polyroute.mesh import logs
from polyroute.mesh.config import LogConfig
logs.configure(LogConfig(level="{level}", format="{format}"), service="edge")
log = structlog.get_logger()
async def main():
    prompt = "what is {secret}?"
    log.debug("quiet")
    log.info("rpc", method="/a/B", key=SecretStr("pr-secret"), text="a\\nb", size=2**63)
    try:
        raise OSError("gone")
    except OSError:
        log.exception("failed")
    import logging
    logging.getLogger("lib").info("chatter")
    logging.getLogger("lib").warning("heed")
asyncio.run(main())
raise SystemExit('bye')
"""


@functools.cache
def run(level: str, form: str) -> list[str]:
    """What a process writes to standard error until it has ended."""
    program = PROGRAM.format(level=level, format=form, secret=SECRET)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert "" == done.stdout
    return done.stderr.splitlines()


class Sink(io.BytesIO):
    """Counts how often the system is asked to write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, data: Any) -> int:
        self.writes += 1
        return super().write(data)


@pytest.fixture
def sink() -> Sink:
    return Sink()


def put(lines: BufferedLines, count: int) -> None:
    for number in range(count):
        lines.write(b"%d\n" % number)
        lines.flush()


def test_line_is_json() -> None:
    """Time in UTC, level, process, event, fields; one line however the text is broken; what was buffered is out."""
    lines = [orjson.loads(line) for line in run("info", "json") if line.startswith("{")]
    first, second = [line for line in lines if line["event"] != "library"]

    assert ("rpc", "info", "edge", "a\nb") == (first["event"], first["level"], first["service"], first["text"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["timestamp"])
    assert ("failed", "error", True) == (second["event"], second["level"], "OSError: gone" in second["exception"])


def test_secrets_are_not_written() -> None:
    """A SecretStr is what it says."""
    assert "pr-secret" not in "\n".join(run("info", "json") + run("debug", "console"))


@pytest.mark.parametrize(("level", "form"), [("info", "json"), ("debug", "console")])
def test_exceptions_show_no_variables(level: str, form: str) -> None:
    """They hold keys and prompts."""
    written = "\n".join(run(level, form))

    assert "OSError: gone" in written
    assert SECRET not in written


def test_level() -> None:
    """What is below it is not written."""
    assert "quiet" not in "".join(run("info", "json"))
    assert "quiet" in "".join(run("debug", "console"))


def test_libraries_warn_in_the_same_form() -> None:
    """One event a line, whoever writes it; their chatter is left out, also where ours is wanted."""
    lines = [orjson.loads(line) for line in run("info", "json") if "lib" in line]

    assert [("library", "warning", "lib", "heed")] == [
        (line["event"], line["level"], line["logger"], line["said"]) for line in lines
    ]
    assert ["heed"] == [line[line.index("said=") + 5 :] for line in run("debug", "console") if "lib" in line]


def test_process_that_dies_has_written() -> None:
    """The last lines are those that matter."""
    lines = run("info", "json")

    assert "bye" in lines
    assert any('"failed"' in line for line in lines)


def test_without_a_loop_lines_are_written_at_once(sink: Sink) -> None:
    """At the start and at the end of a process nobody would do it later."""
    put(BufferedLines(sink), 2)

    assert (b"0\n1\n", 2) == (sink.getvalue(), sink.writes)


async def test_lines_are_written_together(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a moment, in order, by one call of the system."""
    monkeypatch.setattr(logs, "WAIT", 0.01)
    put(BufferedLines(sink), 3)
    before = sink.writes
    await asyncio.sleep(0.03)

    assert (0, 1, b"0\n1\n2\n") == (before, sink.writes, sink.getvalue())


async def test_many_lines_do_not_wait(sink: Sink) -> None:
    """Memory is bounded."""
    lines = BufferedLines(sink)
    put(lines, MANY + 1)
    before = sink.writes
    lines.write_out()

    assert (1, 2, MANY + 1) == (before, sink.writes, sink.getvalue().count(b"\n"))


async def test_nothing_to_write_writes_nothing(sink: Sink) -> None:
    """A process that is quiet makes no calls."""
    BufferedLines(sink).write_out()

    assert 0 == sink.writes
