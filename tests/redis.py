"""A Redis of the tests' own: on a unix socket, with nothing on disk; started once, and again after it was killed."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

PROGRAMS: Final = ("redis-server", "valkey-server")
START_SECONDS: Final = 10.0


@dataclass
class RedisServer:
    """A server; `url` is what a client is given."""

    program: str
    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def path(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    @property
    def running(self) -> bool:
        """Whether it was started, and has not ended since."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when it answers."""
        command = [self.program, "--port", "0", "--unixsocket", str(self.path), "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        ends = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None
            assert time.monotonic() < ends
            time.sleep(0.005)

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.path.unlink(missing_ok=True)

    def flush(self) -> None:
        """Empties it."""
        assert self._ask(b"FLUSHALL\r\n") == b"+OK\r\n"

    def _answers(self) -> bool:
        try:
            return self._ask(b"PING\r\n") == b"+PONG\r\n"
        except OSError:
            return False

    def _ask(self, command: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(START_SECONDS)
            connection.connect(str(self.path))
            connection.sendall(command)
            return connection.recv(64)


@contextmanager
def redis_running() -> Generator[RedisServer]:
    """A server for one worker; without one the test is skipped, except in CI."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is not installed")
        pytest.skip("redis-server is not installed")
    with tempfile.TemporaryDirectory(prefix="polyroute-redis-") as folder:  # short: a socket's path is bounded
        server = RedisServer(program, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def redis_process() -> Generator[RedisServer]:
    """The worker's server."""
    with redis_running() as server:
        yield server


@pytest.fixture
def redis_server(redis_process: RedisServer) -> RedisServer:
    """The server, empty and running."""
    if not redis_process.running:
        redis_process.start()
    redis_process.flush()
    return redis_process
