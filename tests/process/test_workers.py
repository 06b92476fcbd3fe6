"""`polyroute up --workers 2`: two processes share the door, their keeper restarts what dies, the command line asks."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import aiohttp
import orjson
import psutil
import pytest
import pytest_asyncio

from bench.script import Script
from bench.vendor import Vendor
from tests.process.sites import SECONDS, TICK, Running, Site, ask, command, load, ready, site, started

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONTROL = ""


@dataclass
class Gateway:
    """The gateway, its keeper, and the vendor behind it."""

    where: Site
    keeper: Running
    vendor: Vendor

    def instances(self) -> Mapping[str, psutil.Process]:
        """Its processes by name; the one that plays auth and metrics has none."""
        found = {}
        for child in self.keeper.children():
            with contextlib.suppress(psutil.NoSuchProcess):  # dead, and not buried yet
                line = child.cmdline()
                if "polyroute.cli.worker" in line:
                    found[line[line.index("polyroute.cli.worker") + 1]] = child
        return found

    async def restarted(self, name: str, before: int) -> psutil.Process:
        """The process that took the place of `before`."""
        async with asyncio.timeout(SECONDS):
            while True:
                child = self.instances().get(name)
                if child is not None and child.pid != before:
                    return child
                await asyncio.sleep(TICK)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Gateway]:
    """A running gateway; ends in order, with status 0."""
    async with Vendor(script=Script(chunks=3), keep=0) as vendor:
        where = site(tmp_path_factory.mktemp("workers"), vendor.origin)
        async with started(where, ("up", "--workers", "2")) as (keeper,):
            await ready(where)
            async with asyncio.timeout(SECONDS):
                while "ready" not in keeper.log.read_text():
                    await asyncio.sleep(TICK)
            yield Gateway(where, keeper, vendor)
            keeper.process.send_signal(signal.SIGTERM)
            assert 0 == await keeper.ended()
            assert {} == Gateway(where, keeper, vendor).instances()


async def served(gateway: Gateway, count: int) -> set[int]:
    """The processes at the door that answered so many calls on connections of their own."""
    pids: set[int] = set()
    for _ in range(count):
        async with aiohttp.ClientSession() as session:
            assert (await ask(session, gateway.where)).whole
            for name, child in gateway.instances().items():
                peers = [one for one in child.net_connections("tcp") if one.status == psutil.CONN_ESTABLISHED]
                if name.startswith("worker") and any(one.laddr.port == gateway.where.port for one in peers):
                    pids.add(child.pid)
    return pids


async def test_both_workers_serve(gateway: Gateway) -> None:
    """The kernel spreads connections over the processes that share the port."""
    workers = {child.pid for name, child in gateway.instances().items() if name.startswith("worker")}

    assert 2 == len(workers)
    assert workers == await served(gateway, 40)


async def test_a_killed_worker_is_restarted(gateway: Gateway) -> None:
    """Calls go on at the other one meanwhile; those that failed had connections to the dead one."""
    before = gateway.instances()["worker-0"].pid
    stopped = asyncio.Event()
    loading = asyncio.create_task(load(gateway.where, "hello", stopped, rate=30))
    await asyncio.sleep(0.5)

    os.kill(before, signal.SIGKILL)
    child = await gateway.restarted("worker-0", before)
    await asyncio.sleep(2.5)
    stopped.set()
    outcomes = await loading

    failed = [one for one in outcomes if not one.whole]
    assert child.is_running()
    assert len(failed) <= 3, failed
    assert 2 == len([name for name in gateway.instances() if name.startswith("worker")])


async def test_a_killed_control_is_restarted(gateway: Gateway) -> None:
    """Auth and metrics come back by themselves; the workers serve on from what they know."""
    before = gateway.instances()[CONTROL].pid
    stopped = asyncio.Event()
    loading = asyncio.create_task(load(gateway.where, "hello", stopped, rate=30))
    await asyncio.sleep(0.5)

    os.kill(before, signal.SIGKILL)
    await gateway.restarted(CONTROL, before)
    await ready(gateway.where)
    stopped.set()
    outcomes = await loading

    assert [] == [one for one in outcomes if not one.whole]
    async with asyncio.timeout(SECONDS):
        while await calls(gateway) < len(outcomes):  # every one of them reaches metrics
            await asyncio.sleep(0.2)


async def calls(gateway: Gateway) -> int:
    """How many calls `polyroute usage` counts."""
    status, out, problems = await command(gateway.where, "usage", "--json", "--by", "model")
    assert 0 == status, problems
    return sum(row["calls"] for row in orjson.loads(out))


async def test_health(gateway: Gateway) -> None:
    """Status 0 and a line for each role."""
    status, out, problems = await command(gateway.where, "health")

    assert 0 == status, problems
    assert ["serving"] * 5 == [line.split(maxsplit=1)[1] for line in out.splitlines()]


async def test_models(gateway: Gateway) -> None:
    """The models, who serves them, what they cost."""
    status, out, problems = await command(gateway.where, "models")

    assert 0 == status, problems
    (line,) = [line for line in out.splitlines() if "bench-model" in line]
    assert {"mock", "chat,", "1"} <= set(line.split())


async def test_chat_and_usage(gateway: Gateway) -> None:
    """A question from the terminal is answered there and counted."""
    before = await calls(gateway)

    status, out, problems = await command(gateway.where, "chat", "hello", POLYROUTE_KEY=gateway.where.key)

    assert (0, 3) == (status, out.count("@")), problems
    async with asyncio.timeout(SECONDS):
        while await calls(gateway) != before + 1:
            await asyncio.sleep(0.2)


async def test_a_keys_life(gateway: Gateway) -> None:
    """Created, used, listed, revoked, refused within a second at both workers."""
    status, secret, problems = await command(gateway.where, "keys", "create", "--name", "mine")
    assert 0 == status, problems
    headers = {"authorization": f"Bearer {secret.strip()}"}
    (_, listed, _), used = await asyncio.gather(command(gateway.where, "keys", "list"), statuses(gateway, headers, 20))
    (key_id,) = [line.split()[0] for line in listed.splitlines() if " mine " in line]

    revoked, _, _ = await command(gateway.where, "keys", "revoke", key_id)
    await asyncio.sleep(1)
    refused = await statuses(gateway, headers, 20)

    assert secret.strip() not in listed
    assert (0, {200}, {401}) == (revoked, used, refused)


async def statuses(gateway: Gateway, headers: Mapping[str, str], count: int) -> set[int]:
    """What so many calls, each on a connection of its own, are answered."""
    body = {"model": "bench-model", "messages": [{"role": "user", "content": "x"}]}
    seen: set[int] = set()
    for _ in range(count):
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{gateway.where.url}/v1/chat/completions", json=body, headers=headers) as response,
        ):
            seen.add(response.status)
    return seen
