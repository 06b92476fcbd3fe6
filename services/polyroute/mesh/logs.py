"""Logs: structlog, one line an event, JSON unless a person is watching. Never a key, a prompt or an answer."""

import asyncio
import atexit
import logging
import sys
import time
from contextlib import suppress
from typing import Any, BinaryIO, Final

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from polyroute.mesh.config import LogConfig

WAIT: Final = 0.1  # s that a line may wait before it is written
MANY: Final = 500  # lines that are written at once
LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(config: LogConfig, *, service: str) -> None:
    """Sets up the process's logging; called once, by the command that starts it.

    Args:
        config: Level and format.
        service: Which process this is, for readers of many logs.
    """
    level = LEVELS[config.level]
    as_json = config.format == "json" or (config.format == "auto" and not sys.stderr.isatty())
    shared: list[Processor] = [structlog.processors.add_log_level, _Stamp()]
    if as_json:
        processors: list[Any] = [*shared, _Named(service), structlog.processors.format_exc_info, _json]
        lines: Any = BufferedLines(sys.stderr.buffer)
        factory: Any = structlog.BytesLoggerFactory(file=lines)
    else:
        # the renderer's own form of an exception shows local variables, which hold keys and prompts
        plain = structlog.dev.plain_traceback
        processors = [
            *shared,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain),
        ]
        factory = structlog.PrintLoggerFactory(file=sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[_Libraries()])


class _Libraries(logging.Handler):
    """Warnings and errors of libraries, which log through the standard library, as lines like all others."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line."""
        said = {"logger": record.name, "said": record.getMessage()}
        if record.exc_info:
            said["exc_info"] = record.exc_info  # type: ignore[assignment] # structlog makes a text of it
        structlog.get_logger(record.name).log(record.levelno, "library", **said)


class BufferedLines:
    """A binary file whose lines reach the system together: after `WAIT` seconds, when many are waiting, and at exit.

    A write for each line would cost a gateway more than making the line.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        atexit.register(self.write_out)

    def write(self, line: bytes) -> None:
        """Takes a line."""
        self._lines.append(line)

    def flush(self) -> None:
        """Called after each line: writes at once only when nobody will do it later, or when many wait."""
        if len(self._lines) >= MANY:
            self.write_out()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(WAIT, self.write_out)
            except RuntimeError:  # no loop is running: the start or the end of the process
                self.write_out()

    def write_out(self) -> None:
        """Writes what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            with suppress(OSError):  # a log that has no room ends no call, and there is nobody to tell
                self._file.write(b"".join(lines))
                self._file.flush()


class _Stamp:
    """Adds the time as RFC 3339 UTC with microseconds; the part down to the second is kept between lines."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        event["timestamp"] = f"{self._text}.{int((now - second) * 1e6):06d}Z"
        return event


class _Named:
    """Adds which process the line is from."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        event["service"] = self._service
        return event


def _json(logger: WrappedLogger, method: str, event: EventDict) -> bytes:
    return orjson.dumps(event, default=str)
