"""`polyroute up --workers N`: data-plane processes that share the HTTP port, one control process, and their keeper."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final

import structlog
import uvloop

from polyroute.cli.config import Config
from polyroute.cli.welcome import Welcome
from polyroute.mesh import lifecycle, logs
from polyroute.mesh.node import Node

CONTROL: Final = ("auth", "metrics")
DATA: Final = ("providers", "router", "edge")
OVERRIDES: Final = "POLYROUTE_WORKER_OVERRIDES"  # environment variable of a child
FIRST_WAIT: Final = 0.2  # s before the first restart
LONGEST_WAIT: Final = 10.0
HEALTHY_AFTER: Final = 30.0

_log = structlog.get_logger("supervisor")


class Child:
    """One process of the gateway, started again whenever it ends by itself.

    Args:
        name: Its instance name.
        command: What to run.
        overrides: What the supervisor's command line said, JSON. Not for the child's own one, which everybody on
            the machine may read: it may hold a password.
    """

    def __init__(self, name: str, command: Sequence[str], overrides: str) -> None:
        self._name = name
        self._environment = {**os.environ, OVERRIDES: overrides}
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def run(self) -> None:
        """Keeps it running until `stop`."""
        wait = FIRST_WAIT
        while not self._stopping:
            began = monotonic()
            # a session of its own: a terminal's Ctrl-C reaches the supervisor only, which stops them in order
            self._process = await asyncio.create_subprocess_exec(
                *self._command, start_new_session=True, env=self._environment
            )
            status = await self._process.wait()
            if self._ended_as_asked():
                return
            wait = FIRST_WAIT if monotonic() - began > HEALTHY_AFTER else min(wait * 2, LONGEST_WAIT)
            _log.warning("process ended", instance=self._name, status=status, restart_in=wait)
            await asyncio.sleep(wait)

    def _ended_as_asked(self) -> bool:
        return self._stopping

    async def stop(self) -> None:
        """Asks it to stop, and waits until it has."""
        self._stopping = True
        self.hurry()
        if self._process is not None:
            await self._process.wait()

    def hurry(self) -> None:
        """Asks it to stop, or once more, to be quick about it."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)


def supervise(path: Path | None, overrides: Mapping[str, Any], config: Config, workers: int, welcome: Welcome) -> None:
    """Runs the gateway as several processes; returns after an orderly stop.

    Args:
        path: The configuration file.
        overrides: What the command line says on top of it.
        config: Both together.
        workers: Data-plane processes.
        welcome: Tells the person how it goes.
    """
    logs.configure(config.log, service="supervisor")
    uvloop.run(_supervise(path, overrides, config, workers, welcome))


async def _supervise(
    path: Path | None, overrides: Mapping[str, Any], config: Config, workers: int, welcome: Welcome
) -> None:
    hurry = asyncio.Event()
    stopped = asyncio.create_task(lifecycle.signalled(hurry))
    # the only one of its kind: its sockets lie where every other process, and the command line, looks for them
    said = json.dumps(dict(overrides))
    control = Child("control", _command(path, "", CONTROL), said)
    data = [Child(f"worker-{number}", _command(path, f"worker-{number}", DATA), said) for number in range(workers)]
    running = [asyncio.create_task(child.run()) for child in (control, *data)]
    greeting = asyncio.create_task(_greet(config, welcome))
    await stopped
    greeting.cancel()
    hurrying = asyncio.create_task(_hurry(hurry, data))
    await asyncio.gather(*(child.stop() for child in data))  # the doors first: their records need metrics
    await control.stop()
    hurrying.cancel()
    for task in (*running, greeting):
        task.cancel()
    await asyncio.wait([*running, greeting])


async def _hurry(hurry: asyncio.Event, children: Sequence[Child]) -> None:
    """Passes a second signal on."""
    await hurry.wait()
    for child in children:
        child.hurry()


def _command(path: Path | None, instance: str, roles: Sequence[str]) -> list[str]:
    command = [sys.executable, "-m", "polyroute.cli.worker", instance, ",".join(roles)]
    return [*command, str(path)] if path is not None else command


async def _greet(config: Config, welcome: Welcome) -> None:
    """Speaks for the workers, by way of the first one's sockets."""
    run = config.data_dir / "run"
    node = Node(config.mesh, frozenset(), run / "worker-0", peer_run_dir=run / "worker-0")
    node.bound = {"http": f"http://{config.edge.http.listen}", "edge": config.edge.grpc.listen}
    try:
        while not await node.healthy("router"):  # noqa: ASYNC110 - another process, which can only be asked
            await asyncio.sleep(0.1)
        await welcome.greet(node)
    finally:
        await node.close()
