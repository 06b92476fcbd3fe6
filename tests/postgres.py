"""A real PostgreSQL for tests: a private server on a unix socket, one per worker, thrown away at the end."""

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest
from sqlalchemy import make_url

START_SECONDS = 20.0
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # the machine does not lose power during a test
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "100",
    "autovacuum": "off",
    "log_min_messages": "fatal",
    "timezone": "UTC",
}


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL on this machine; Debian keeps it off the PATH."""
    found = shutil.which("postgres")
    if found is not None:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


class Server:
    """A server of its own.

    Args:
        programs: Where `initdb` and `postgres` are.
        home: An empty folder, for its data and its socket.
    """

    def __init__(self, programs: Path, home: Path) -> None:
        self._programs = programs
        self._home = home
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL does not run as root
            self._as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=INT"]
            shutil.chown(home, "postgres", "postgres")

    def create(self) -> None:
        """Makes the files of the server, and starts it."""
        arguments = ["-D", str(self._home / "data"), "-U", "polyroute", "-A", "trust", "--no-sync", "-E", "UTF8"]
        command = [*self._as_user, str(self._programs / "initdb"), *arguments, "--locale=C"]
        subprocess.run(command, cwd=self._home, check=True, capture_output=True, timeout=60)
        self.start()

    def start(self) -> None:
        """Starts it; returns when it answers. It ends with the thread that this is called in, should that be killed."""
        settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
        command = [*self._as_user, str(self._programs / "postgres"), "-D", str(self._home / "data")]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "-k", str(self._home), *settings], cwd=self._home, stdout=log, stderr=log
            )
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends it as a machine does that is restarted: whoever is connected is cut off."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=START_SECONDS)
            self._process = None

    @contextmanager
    def frozen(self) -> Generator[None]:
        """Has none of its processes move: whoever asks it something waits."""
        assert self._process is not None
        first = psutil.Process(self._process.pid)
        first.suspend()  # nothing new is begun
        family = [first, *first.children(recursive=True)]
        for process in family[1:]:
            process.suspend()
        try:
            yield
        finally:
            for process in family:
                process.resume()

    def url(self, database: str) -> str:
        """How a database of this server is reached."""
        return f"postgresql://polyroute@/{database}?host={self._home}"

    def database(self, template: str = "template1") -> str:
        """The URL of a new database, with what is in a template."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.url(name)

    def drop(self, url: str) -> None:
        """Takes a database away, from under whoever still uses it."""
        name = make_url(url).database
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def postgres() -> Generator[Server]:
    """The worker's server."""
    programs = binaries()
    if programs is None:
        if os.environ.get("CI") == "true":
            pytest.fail("PostgreSQL is not installed, and CI runs every test")
        pytest.skip("PostgreSQL is not installed")
    home = Path(tempfile.mkdtemp(prefix="polyroute-postgres-"))
    server = Server(programs, home)
    try:
        server.create()
        yield server
    finally:
        server.stop(signal.SIGQUIT)  # nothing of it is needed again
        shutil.rmtree(home, ignore_errors=True)
