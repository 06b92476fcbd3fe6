"""Real gateways of real processes on the loopback interface: started, killed, restarted and asked things."""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import psutil
import yaml

from bench.gateways import ROLES, configuration, fetch, free_port, log_tail
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord, ListCallsRequest
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.mesh.config import DatabaseConfig, MeshConfig
from polyroute.mesh.node import Node
from polyroute.metrics import wiring as metrics
from polyroute.metrics.config import MetricsConfig
from tests.databases import environment_of

SECONDS: Final = 20.0  # bound of everything here that waits
TICK: Final = 0.02
PROGRAM: Final = (sys.executable, "-m", "polyroute.cli")
ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True)
class Site:
    """Where a gateway is configured; nothing runs yet."""

    directory: Path
    config: Path
    port: int
    door: int
    key: str

    @property
    def url(self) -> str:
        """The HTTP door, without a version."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        """What a request needs."""
        return {"authorization": f"Bearer {self.key}", "content-type": "application/json"}

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.directory / "data"


def site(directory: Path, origin: str, *, tcp: bool = False, **sections: Any) -> Site:
    """Writes a configuration: the model `bench-model` on the vendor at `origin`; roles by TCP or by unix sockets."""
    port, door, key = free_port(), free_port(), f"pr-{secrets.token_hex(32)}"
    listen = {role: f"127.0.0.1:{free_port()}" for role in ROLES if role != "edge"} if tcp else None
    tree = configuration(origin, directory, port, key, listen)
    tree["edge"]["grpc"]["listen"] = f"127.0.0.1:{door}"
    path = directory / "polyroute.yaml"
    path.write_text(yaml.safe_dump({**tree, **sections}, sort_keys=False))
    return Site(directory, path, port, door, key)


def environment(directory: Path, **more: str) -> dict[str, str]:
    """Of every process here: the caller's could hold keys of vendors, which would add vendors."""
    kept = {name: value for name in ("PATH", "LANG") if (value := os.environ.get(name))}
    sources = os.pathsep.join(str(ROOT / folder) for folder in ("services", "gen"))
    return {**kept, "PYTHONPATH": sources, "HOME": str(directory), "COLUMNS": "200"} | {
        **environment_of(directory / "data"),
        **more,
    }


class Running:
    """One process, its output in a log file."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def children(self) -> list[psutil.Process]:
        """The processes it has started, and theirs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.pid).children(recursive=True)
        return []

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()

    async def stop(self) -> None:
        """Ends it and everything that it started."""
        family = self.children()
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SECONDS / 2):
                    await self.process.wait()
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


async def start(where: Site, *command: str, name: str = "", **more: str) -> Running:
    """Starts `polyroute COMMAND` with the site's configuration."""
    log = where.directory / f"{name or '-'.join(command)}.log"
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *PROGRAM,
            *command,
            "--config",
            str(where.config),
            cwd=where.directory,
            env=environment(where.directory, **more),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Running(process, log)


@asynccontextmanager
async def started(where: Site, *commands: Sequence[str]) -> AsyncGenerator[list[Running]]:
    """Runs these commands, in this order, until the body ends; those with a door are stopped before the others."""
    running: list[Running] = []
    doors: list[Running] = []
    try:
        for command in commands:
            running.append(await start(where, *command))
            if "edge" in command or "up" in command:
                doors.append(running[-1])
        yield running
    finally:
        await asyncio.gather(*(one.stop() for one in doors))
        await asyncio.gather(*(one.stop() for one in running))


async def ready(where: Site, seconds: float = SECONDS) -> None:
    """Returns when the gateway says that it is ready; fails with the ends of the logs when it does not."""
    deadline = time.monotonic() + seconds
    while await asyncio.to_thread(fetch, f"{where.url}/health/ready") is None:
        assert time.monotonic() < deadline, f"not ready{log_tail(where.directory)}"
        await asyncio.sleep(TICK)


class Kept:
    """A process that is started again whenever it ends, as an operator's supervisor does it."""

    def __init__(self, where: Site, *command: str, **more: str) -> None:
        self._where = where
        self._command = command
        self._more = more
        self._stopping = False
        self._keeper: asyncio.Task[None] | None = None
        self.running: Running | None = None
        self.starts = 0

    async def __aenter__(self) -> "Kept":
        await self._start()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping = True
        if self.running is not None:
            await self.running.stop()
        if self._keeper is not None:
            await self._keeper

    async def _start(self) -> None:
        self.running = await start(self._where, *self._command, **self._more)
        self.starts += 1

    async def _keep(self) -> None:
        while self.running is not None:
            await self.running.process.wait()
            if self._stopping:
                return
            await self._start()

    def kill(self) -> None:
        """SIGKILL."""
        assert self.running is not None
        self.running.process.kill()


@dataclass
class Outcome:
    """What a client saw of one request; times are the loop's."""

    began: float
    stream: bool
    ended: float = 0.0
    tokens: int = 0
    status: int = 0
    request_id: str = ""
    whole: bool = False
    error: str = ""


async def ask(
    session: aiohttp.ClientSession, where: Site, text: str = "hello", *, stream: bool = True, model: str = "bench-model"
) -> Outcome:
    """One request, and how it went."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}
    outcome = Outcome(asyncio.get_running_loop().time(), stream)
    try:
        async with session.post(
            f"{where.url}/v1/chat/completions", data=orjson.dumps(body), headers=where.headers
        ) as response:
            outcome.status = response.status
            outcome.request_id = response.headers.get("x-request-id", "")
            answer = await response.read()
    except (aiohttp.ClientError, TimeoutError) as error:
        outcome.error = f"{type(error).__name__}: {error}"
        return outcome
    outcome.ended = asyncio.get_running_loop().time()
    outcome.tokens = answer.count(b"@")
    ended = answer.endswith(b"data: [DONE]\n\n") if stream else b'"finish_reason":"stop"' in answer
    outcome.whole = outcome.status == 200 and ended
    if not outcome.whole:
        outcome.error = answer[-200:].decode(errors="replace")
    return outcome


async def load(where: Site, text: str, stopped: asyncio.Event, *, rate: float, most: int = 2000) -> list[Outcome]:
    """So many requests a second, seven of ten streamed, until `stopped`; a slow answer delays no other."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        asked: list[asyncio.Task[Outcome]] = []
        while not stopped.is_set() and len(asked) < most:
            asked.append(asyncio.create_task(ask(session, where, text, stream=len(asked) % 10 < 7)))
            await asyncio.sleep(max(0.0, began + len(asked) / rate - loop.time()))
        return await asyncio.gather(*asked)


async def records(where: Site, database: DatabaseConfig | None = None) -> list[CallRecord]:
    """Every record of a gateway that has stopped, newest first; in files unless a database is named."""
    node = Node(MeshConfig(drain_delay=0), frozenset({"metrics"}), where.directory / "look")
    found: list[CallRecord] = []
    try:
        async with metrics.role(node, MetricsConfig(), data_dir=where.data, database=database):
            stub = MetricsServiceStub(node.channel("metrics"))
            page = await stub.ListCalls(ListCallsRequest(page_size=1000), timeout=SECONDS)
            found += page.records
            while page.next_page_token:
                request = ListCallsRequest(page_size=1000, page_token=page.next_page_token)
                page = await stub.ListCalls(request, timeout=SECONDS)
                found += page.records
    finally:
        await node.close()
    return found


def by_id(found: Sequence[CallRecord]) -> Mapping[str, CallRecord]:
    """Records by call; fails when one call has two."""
    mapping = {record.request_id: record for record in found}
    assert len(mapping) == len(found)
    return mapping


async def command(where: Site, *arguments: str, config: bool = True, **more: str) -> tuple[int, str, str]:
    """Runs `polyroute ARGUMENTS` to its end: status, output, errors."""
    said = (*PROGRAM, *arguments, *(("--config", str(where.config)) if config else ()))
    process = await asyncio.create_subprocess_exec(
        *said,
        cwd=where.directory,
        env=environment(where.directory, **more),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            out, problems = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, out.decode(), problems.decode()
