"""The parent's end of the child process: start it, hear that it is ready, learn how it died, end it."""

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from polyroute.providers.local.server import Ready, Settings

STOP_SECONDS: Final = 2.0
STDERR_LINES: Final = 20
ERROR_CHARS: Final = 300
# -P: no module of the folder that happens to be the working directory
COMMAND: Final = (sys.executable, "-P", "-m", "polyroute.providers.local.server")
# All of our environment that the child is given: vendors' keys stand there too, and are none of its business.
ENVIRONMENT: Final = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "HOME", "TMPDIR", "LANG", "LC_ALL")

_Stream = TypeVar("_Stream")

# What a death by signal most likely means here.
_HINTS: Final = {
    signal.SIGILL: "this CPU lacks instructions that the runtime was built for (AVX2, FMA, F16C)",
    signal.SIGKILL: "perhaps the machine ran out of memory",
}


class ChildError(Exception):
    """The child did not become ready, or died.

    Args:
        message: Why, for people.
        code: Its exit code, negative for a signal; None when it did not exit by itself.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code

    @property
    def hopeless(self) -> bool:
        """Another try on this machine would end the same way."""
        return self.code == -signal.SIGILL


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the models are served.

    Args:
        base_url: Serves /v1/chat/completions and /v1/completions.
        embedding_url: Serves /v1/embeddings.
        api_key: To be sent as a bearer token.
        pid: The child's.
    """

    base_url: str
    embedding_url: str
    api_key: str = field(repr=False)
    pid: int


class Child:
    """A running child. Made by `start`."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Ready, api_key: str, stderr: "_Tail") -> None:
        self._process = process
        self._stderr = stderr
        self.endpoints = Endpoints(ready["base_url"], ready["embedding_url"], api_key, ready["pid"])

    @classmethod
    async def start(cls, settings: Settings, *, seconds: float, command: Sequence[str] = COMMAND) -> "Child":
        """Starts a child and waits until it serves.

        Raises:
            ChildError: It died, said nothing within `seconds`, or cannot be started.
        """
        process = await _spawn(command)
        stderr = _Tail(process)
        try:
            async with asyncio.timeout(seconds):
                line = await _greet(process, settings)
        except TimeoutError:
            await _end(process, stderr)
            raise ChildError(f"the model was not ready within {seconds:g} seconds") from None
        except asyncio.CancelledError:
            await _end(process, stderr)
            raise
        if not line.endswith(b"\n"):
            code = await process.wait()
            raise ChildError(_death(code, await stderr.last_line()), code)
        return cls(process, json.loads(line), settings["api_key"], stderr)

    async def died(self) -> ChildError:
        """Waits for the child's end and says how it came; what it wrote after it was ready stays out of the text."""
        code = await self._process.wait()
        await self._stderr.close()
        return ChildError(_death(code), code)

    async def stop(self) -> None:
        """Ends the child: politely, then not. Does nothing when it is gone."""
        await _end(self._process, self._stderr)


class _Tail:
    """Reads stderr all the time, so that the child never waits for a reader, and keeps the last lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._lines: deque[str] = deque(maxlen=STDERR_LINES)
        self._task = asyncio.create_task(self._read(_pipe(process.stderr)))

    async def _read(self, stderr: asyncio.StreamReader) -> None:
        while chunk := await stderr.read(1 << 16):
            self._lines.extend(chunk.decode(errors="replace").splitlines())

    async def last_line(self) -> str:
        """The last line that says something, once stderr has ended."""
        await self.close()
        return next((line.strip() for line in reversed(self._lines) if line.strip()), "")[:ERROR_CHARS]

    async def close(self) -> None:
        """Waits for the end of stderr; a grandchild may hold it open, so not for ever."""
        await asyncio.wait((self._task,), timeout=STOP_SECONDS)
        self._task.cancel()


async def _spawn(command: Sequence[str]) -> asyncio.subprocess.Process:
    root = str(Path(__file__).parents[3])  # the source root, for a checkout that is not installed
    environ = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environ.get("PYTHONPATH"))))
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=environ,
            start_new_session=True,  # Ctrl-C reaches the gateway, which still needs the model while it drains
        )
    except OSError as error:
        raise ChildError(f"the model's process cannot be started: {error.strerror}") from error


async def _greet(process: asyncio.subprocess.Process, settings: Settings) -> bytes:
    # a dead child shows as the end of its stdout
    _pipe(process.stdin).write(json.dumps(settings).encode() + b"\n")
    return await _pipe(process.stdout).readline()


async def _end(process: asyncio.subprocess.Process, stderr: _Tail) -> None:
    _pipe(process.stdin).close()  # the child leaves when its stdin ends
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    await stderr.close()


def _pipe(stream: _Stream | None) -> _Stream:
    if stream is None:  # only when it was not asked for
        raise ChildError("the model's process has no pipe to talk through")
    return stream


def _death(code: int, last_words: str = "") -> str:
    if code >= 0:
        told = f": {last_words}" if last_words else ""
        return f"the model's process ended with code {code}{told}"
    number = signal.Signals(-code)
    hint = f", {_HINTS[number]}" if number in _HINTS else ""
    return f"the model's process was killed by {number.name}{hint}"
