"""Starting and stopping what is measured, all of it on the loopback interface.

Each target is a context manager that takes the vendor's origin and an empty directory, starts its processes there in
sessions of their own, waits until they answer, and on exit ends those processes and nothing else.
"""

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from bench.cpu import Tree

ROOT: Final = Path(__file__).resolve().parent.parent  # where `python -m bench.vendor` finds its module
ROLES: Final = ("auth", "metrics", "providers", "router", "edge")  # in the order in which they start
READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
LOG_LINES: Final = 15
PORTS: Final = range(20_000, 32_000)  # below those that systems give to connections of clients
MODEL: Final = "gpt-bench"  # the vendor's name for it, in either form
PRICE: Final[Mapping[str, str]] = {"input": "1", "output": "2"}
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever the environment says

NGINX: Final = """\
daemon off;
worker_processes 1;
worker_rlimit_nofile 16384;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_max_body_size 64m;
  client_body_buffer_size 2m;
  keepalive_requests 1000000;
  upstream vendor {{ server {vendor}; keepalive 4096; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://vendor;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


class UnavailableError(Exception):
    """A target cannot be measured here; the text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that answers chat requests.

    Attributes:
        url: Its base URL, with the version.
        model: The model's name there.
        translated: The name of a model there whose vendor speaks Messages.
        headers: What a request needs beside its body.
        tree: Its processes; None for the vendor itself, whose cost is not the question.
    """

    url: str
    model: str
    translated: str
    headers: dict[str, str] = field(default_factory=dict)
    tree: Tree | None = None


Starter = Callable[[str, Path], AbstractContextManager[Target]]


@contextmanager
def direct(origin: str, _directory: Path) -> Generator[Target]:
    """The vendor without anything in front of it: what latency is compared with."""
    yield Target(f"{origin}/v1", MODEL, MODEL)


@contextmanager
def nginx(origin: str, directory: Path) -> Generator[Target]:
    """A plain reverse proxy with one worker: what processor time is compared with."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise UnavailableError("nginx is not installed")
    port = free_port()
    config = directory / "nginx.conf"
    vendor = origin.removeprefix("http://")
    config.write_text(NGINX.format(directory=directory, port=port, vendor=vendor))
    with process([program, "-p", str(directory), "-c", str(config), "-e", "stderr"], directory, "nginx") as started:
        wait_ready(f"http://127.0.0.1:{port}/v1/models", [started], directory)
        yield Target(f"http://127.0.0.1:{port}/v1", MODEL, MODEL, tree=Tree(started.pid))


@contextmanager
def bare(origin: str, directory: Path) -> Generator[Target]:
    """A Python server that passes on and does nothing else: what the language itself costs."""
    port = free_port()
    command = [sys.executable, "-m", "bench.passthrough", "--port", str(port), "--vendor", origin]
    with process(command, directory, "bare", cwd=ROOT) as started:
        wait_ready(f"http://127.0.0.1:{port}/v1/models", [started], directory)
        yield Target(f"http://127.0.0.1:{port}/v1", MODEL, MODEL, tree=Tree(started.pid))


@contextmanager
def up(origin: str, directory: Path) -> Generator[Target]:
    """All roles in one process."""
    with _polyroute(origin, directory, [("up", ["up"])]) as target:
        yield target


@contextmanager
def workers(origin: str, directory: Path) -> Generator[Target]:
    """Two data-plane processes that share the port, and one control process."""
    with _polyroute(origin, directory, [("up", ["up", "--workers", "2"])]) as target:
        yield target


@contextmanager
def roles(origin: str, directory: Path) -> Generator[Target]:
    """One process per role; every hop is gRPC over TCP."""
    listen = {role: f"127.0.0.1:{free_port()}" for role in ROLES if role != "edge"}
    with _polyroute(origin, directory, [(role, ["serve", role]) for role in ROLES], listen) as target:
        yield target


TARGETS: Final[Mapping[str, Starter]] = {
    "direct": direct,
    "nginx": nginx,
    "bare": bare,
    "up": up,
    "workers": workers,
    "roles": roles,
}


def configuration(
    origin: str, directory: Path, port: int, key: str, listen: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The gateway's configuration: one model, one deployment, one key. Roles not in `listen` use unix sockets."""
    deployment = {"provider": "mock", "model": MODEL, "price": dict(PRICE)}
    return {
        "data_dir": str(directory / "data"),
        "log": {"level": "warning"},
        "mesh": {"drain_delay": 0, "drain_grace": 5, "listen": dict(listen or {})},  # nothing balances in front of it
        "auth": {"bootstrap_key": key},
        "edge": {"http": {"listen": f"127.0.0.1:{port}"}, "grpc": {"listen": "127.0.0.1:0"}},
        "providers": {"mock": {"vendor": "openai_compatible", "base_url": f"{origin}/v1", "keys": ["sk-bench"]}},
        "models": {"bench-model": {"deployments": [deployment]}},
    }


def translating(tree: dict[str, Any], origin: str) -> dict[str, Any]:
    """That configuration with one more model, which the same vendor serves as Messages."""
    provider = {"vendor": "anthropic", "base_url": origin, "keys": ["sk-bench"]}
    model = {"deployments": [{"provider": "messages", "model": MODEL, "price": dict(PRICE)}]}
    return {
        **tree,
        "providers": {**tree["providers"], "messages": provider},
        "models": {**tree["models"], "translated-model": model},
    }


@contextmanager
def _polyroute(
    origin: str, directory: Path, commands: Sequence[tuple[str, list[str]]], listen: Mapping[str, str] | None = None
) -> Generator[Target]:
    program = Path(sys.executable).with_name("polyroute")
    if not program.exists():
        raise UnavailableError(f"{program} is not there: install the project")
    port, key = free_port(), f"pr-{secrets.token_hex(32)}"
    config = directory / "polyroute.yaml"
    settings = translating(configuration(origin, directory, port, key, listen), origin)
    config.write_text(yaml.safe_dump(settings, sort_keys=False))
    with ExitStack() as stack:
        started = [
            stack.enter_context(process([str(program), *command, "--config", str(config)], directory, name))
            for name, command in commands
        ]
        wait_ready(f"http://127.0.0.1:{port}/health/ready", started, directory)
        tree = Tree(*(one.pid for one in started))
        headers = {"authorization": f"Bearer {key}"}
        yield Target(f"http://127.0.0.1:{port}/v1", "bench-model", "translated-model", headers, tree)


@contextmanager
def process(
    command: Sequence[str], directory: Path, name: str, cwd: Path | None = None
) -> Generator[subprocess.Popen[bytes]]:
    """A process in its own session, its output in `directory/NAME.log`; ended with all of its session."""
    # not the caller's environment: a vendor key found there would add vendors
    environment = {name: value for name in ("PATH", "LANG", "PYTHONPATH") if (value := os.environ.get(name))}
    with (directory / f"{name}.log").open("ab") as log:
        started = subprocess.Popen(
            command,
            cwd=cwd or directory,
            env=environment | {"HOME": str(directory)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        stop(started)


def stop(started: subprocess.Popen[bytes]) -> None:
    """Ask the process to stop, then make sure that nothing of its session is left."""
    started.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(STOP_SECONDS)
    deadline = time.monotonic() + STOP_SECONDS
    while (left := Tree(started.pid).pids()) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started.poll()
        time.sleep(0.01)


def wait_ready(url: str, started: Sequence[subprocess.Popen[bytes]], directory: Path) -> None:
    """Wait until the address answers 200. UnavailableError, with the end of the logs, when it does not."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if any(one.poll() is not None for one in started):
            raise UnavailableError(f"a process ended by itself{log_tail(directory)}")
        if fetch(url) is not None:
            return
        time.sleep(0.05)
    raise UnavailableError(f"not ready after {READY_SECONDS:.0f} s{log_tail(directory)}")


def fetch(url: str) -> bytes | None:
    """The body of a 200 answer, else None."""
    try:
        with _OPENER.open(url, timeout=2) as response:
            return bytes(response.read()) if response.status == 200 else None
    except (urllib.error.URLError, OSError):
        return None


def log_tail(directory: Path) -> str:
    """The last lines of every log, to say why something did not come up."""
    lines = []
    for path in sorted(directory.glob("*.log")):
        lines += [f"\n  {path.stem}: {line}" for line in path.read_text(errors="replace").splitlines()[-LOG_LINES:]]
    return "".join(lines)


def free_port() -> int:
    """A port of the loopback interface on which nothing listens now, and which no connection of a client will take."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def vendor_process(directory: Path) -> Generator[str]:
    """A mock vendor as a process; yields its origin."""
    port = free_port()
    command = [sys.executable, "-m", "bench.vendor", "--port", str(port)]
    with process(command, directory, "vendor", cwd=ROOT) as started:
        origin = f"http://127.0.0.1:{port}"
        wait_ready(f"{origin}/__stats", [started], directory)
        yield origin


def vendor_stats(origin: str) -> dict[str, float]:
    """The vendor's counts."""
    body = fetch(f"{origin}/__stats")
    if body is None:
        raise UnavailableError("the mock vendor does not answer")
    stats: dict[str, float] = orjson.loads(body)
    return stats
