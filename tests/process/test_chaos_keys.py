"""How long a revoked key still works: `POLYROUTE_SCORECARD=1 pytest -s`, with the settings that nobody has changed.

Each prints its figures. The suite has the same in small: tests/mesh/test_keys.py, tests/unit/edge/test_authorizer.py,
tests/rpc/auth/test_neighbours.py.
"""

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest
import yaml

from bench.gateways import free_port
from bench.script import Script
from bench.vendor import Vendor
from polyroute.api.auth.v1 import auth_pb2
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.auth.config import AuthConfig
from polyroute.cli.client import connected
from polyroute.cli.config import load as configured
from tests.postgres import Server
from tests.process.machines import MACHINES, machines, running
from tests.process.relay import Relay, relayed
from tests.process.sites import SECONDS, Outcome, Running, Site, ask, ready, site, start
from tests.process.test_chaos import told

pytestmark = [
    pytest.mark.skipif(not os.environ.get("POLYROUTE_SCORECARD"), reason="minutes: POLYROUTE_SCORECARD=1"),
    pytest.mark.timeout(600),
]

RATE: Final = 50  # requests a second, of the key that is revoked and of one that is not
PUSHED: Final = 1.0  # s
FRESH: Final = AuthConfig().fresh_for
USABLE: Final = AuthConfig().usable_for
SETTLED: Final = 2.0  # s of nothing but refusals, after which no success is expected any more


@dataclass
class Stage:
    """A gateway whose edge reaches auth through a relay."""

    where: Site
    auth: Running
    relay: Relay
    keys: Any

    async def key(self) -> auth_pb2.CreateKeyResponse:
        """A new key."""
        made: auth_pb2.CreateKeyResponse = await self.keys.CreateKey(
            auth_pb2.CreateKeyRequest(name="k"), timeout=SECONDS
        )
        return made

    async def revoke(self, key_id: str) -> float:
        """The moment of the reply."""
        await self.keys.RevokeKey(auth_pb2.RevokeKeyRequest(key=key_id), timeout=SECONDS)
        return asyncio.get_running_loop().time()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncGenerator[Stage]:
    """As above; the roles are processes of their own."""
    port = free_port()
    async with Vendor(script=Script(chunks=3), keep=0) as vendor:
        where = site(tmp_path, vendor.origin, tcp=True)
        tree = yaml.safe_load(where.config.read_text())
        behind = where.directory / "behind.yaml"
        behind.write_text(where.config.read_text())
        tree["mesh"]["peers"] = {"auth": f"127.0.0.1:{port}"}
        where.config.write_text(yaml.safe_dump(tree))
        started: list[Running] = []
        try:
            started.append(auth := await start(where, "serve", "auth"))
            started.append(await start(where, "serve", "metrics", "providers", "router"))
            async with relayed(tree["mesh"]["listen"]["auth"], port) as relay:
                started.append(await start(where, "serve", "edge"))
                await ready(where)
                async with connected(configured(behind, {})) as node:
                    yield Stage(where, auth, relay, AuthServiceStub(node.channel("auth")))
        finally:
            for one in reversed(started):
                await one.stop()


async def calling(where: Site, until: asyncio.Event, rate: float) -> list[Outcome]:
    """So many requests a second."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    asked: list[asyncio.Task[Outcome]] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        while not until.is_set():
            asked.append(asyncio.create_task(ask(session, where, stream=len(asked) % 10 < 7)))
            await asyncio.sleep(max(0.0, began + len(asked) / rate - loop.time()))
        return list(await asyncio.gather(*asked))


async def revoked(stage: Stage, wait: float, *, kill: bool = False) -> tuple[float, list[Outcome]]:
    """Seconds from the reply of the revocation to the last call that was let in, and how the calls of another key went.

    Args:
        stage: The gateway, as it is spoilt.
        wait: The most that it may be.
        kill: Auth dies right after its reply.
    """
    made = await stage.key()
    until = asyncio.Event()
    victim = asyncio.create_task(calling(replace(stage.where, key=made.secret), until, RATE / 2))
    other = asyncio.create_task(calling(stage.where, until, RATE / 2))
    await asyncio.sleep(2)
    moment = await stage.revoke(made.key.id)
    if kill:
        stage.auth.process.kill()
    await asyncio.sleep(wait + SETTLED)
    until.set()
    outcomes, others = await victim, await other
    last = max(one.began for one in outcomes if one.status == 200)
    assert {401, 503} >= {one.status for one in outcomes if one.status != 200}
    assert any(one.status != 200 for one in outcomes)
    return last - moment, others


async def test_pushed(stage: Stage) -> None:
    """With everything in order: within a second."""
    last, others = await revoked(stage, PUSHED)
    told(f"pushed: last success {last * 1e3:.0f} ms after the reply; another key: {failures(others)}")

    assert last <= PUSHED
    assert all(one.whole for one in others)


@pytest.mark.parametrize("how", ["swallowed", "refused"])
async def test_the_push_is_cut(stage: Stage, how: str) -> None:
    """Nothing is heard of revocations, noticed or not: when the verdict is renewed."""
    getattr(stage.relay, how).add("WatchRevocations")
    last, others = await revoked(stage, FRESH)
    told(f"push {how}: last success {last:.1f} s after the reply; another key: {failures(others)}")

    assert last <= FRESH
    assert all(one.whole for one in others)


async def test_auth_dies_before_it_has_pushed(stage: Stage) -> None:
    """Nobody can say what became of the key: when the verdict may not be used any longer."""
    stage.relay.swallowed.add("WatchRevocations")
    last, _ = await revoked(stage, USABLE, kill=True)
    told(f"auth dead: last success {last:.1f} s after the reply")

    assert last <= USABLE <= 300


async def test_revoked_at_the_other_auth(tmp_path: Path, postgres: Server) -> None:
    """Two auth roles on one database, and each one's edges: within a second at both doors."""
    database = postgres.database()
    async with Vendor(script=Script(chunks=3), keep=0) as vendor:
        sites = machines(tmp_path, vendor.origin, database)
        async with running(sites, database):
            lasts = []
            for at in MACHINES:
                tree = yaml.safe_load(sites[at].config.read_text())
                tree["mesh"]["peers"] = {}
                alone = sites[at].directory / "alone.yaml"
                alone.write_text(yaml.safe_dump(tree))
                async with connected(configured(alone, {})) as node:
                    keys = AuthServiceStub(node.channel("auth"))
                    made = await keys.CreateKey(auth_pb2.CreateKeyRequest(name="k"), timeout=SECONDS)
                    until = asyncio.Event()
                    callers = [
                        asyncio.create_task(calling(replace(where, key=made.secret), until, RATE / 2))
                        for where in sites.values()
                    ]
                    await asyncio.sleep(2)
                    await keys.RevokeKey(auth_pb2.RevokeKeyRequest(key=made.key.id), timeout=SECONDS)
                    moment = asyncio.get_running_loop().time()
                    await asyncio.sleep(PUSHED + SETTLED)
                    until.set()
                    for outcomes in await asyncio.gather(*callers):
                        lasts.append(max(one.began for one in outcomes if one.whole) - moment)
                        assert {200, 401} == {one.status for one in outcomes}
    told(f"two auth roles: last success {max(lasts) * 1e3:.0f} ms after the reply")

    assert max(lasts) <= PUSHED


def failures(outcomes: list[Outcome]) -> str:
    """How many calls failed."""
    return f"{sum(not one.whole for one in outcomes)} of {len(outcomes)} failed"
