"""Clocks that jump by an hour and by a day, forwards and back, of each role in turn: `POLYROUTE_SCORECARD=1 pytest -s`.

libfaketime moves the wall clock of a running process; clocks that only grow are left alone, as the system leaves them.
The suite has the rules in small, with clocks of its own: tests/unit/auth/test_ledger.py, tests/unit/metrics.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from bench.script import Script, marker
from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from polyroute.auth.admin.secret import METADATA_KEY
from polyroute.cli.client import connected
from polyroute.cli.config import load as configured
from polyroute.mesh.config import DatabaseConfig
from tests.postgres import Server
from tests.process.machines import ROLES, machines, running
from tests.process.sites import SECONDS, Outcome, Site, ask, by_id, records
from tests.process.test_chaos import told
from tests.redis import RedisServer, redis_process, redis_server

__all__ = ["redis_process", "redis_server"]
pytestmark = [
    pytest.mark.skipif(not os.environ.get("POLYROUTE_SCORECARD"), reason="minutes: POLYROUTE_SCORECARD=1"),
    pytest.mark.timeout(600),
]

JUMPS: Final = ("+3600", "-3600", "+86400", "-86400", "+0")  # s against the right time
TAKEN: Final = 2.5  # s until a process has seen that its clock was moved
SETTLED: Final = 2.0  # s of calls after that
RATE: Final = 10  # requests a second; of the pair, half as many
LIMIT, BURST = 60, 10  # requests a minute
COST: Final = 5_000_000  # nano-USD of a call
AFFORDED: Final = 3  # calls a day
PRICE: Final = {"input": "0", "output": "0", "request": "5000"}  # USD per million calls
MODELS: Final = {
    "bench-model": {"deployments": [{"provider": "mock", "model": "gpt-bench", "price": PRICE}]},
    "pair": {
        "deployments": [
            {"provider": "mock", "model": "gpt-bad", "priority": 1, "price": PRICE},
            {"provider": "mock", "model": "gpt-good", "priority": 2, "price": PRICE},
        ]
    },
}
BAD: Final = marker(status=500, **{"for": "gpt-bad"})  # the first deployment of the pair fails every call
LONG: Final = marker(chunks=40, gap=100)  # four seconds: over each jump


@dataclass
class Clocks:
    """The clocks of the roles, each in a file that libfaketime reads."""

    folder: Path
    library: Path

    def environment(self, role: str) -> Mapping[str, str]:
        """Of a process whose clock can be moved."""
        self.set(role, "+0")
        return {
            "LD_PRELOAD": str(self.library),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / role),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, role: str, offset: str) -> None:
        """Moves the clock of a role, against the right time."""
        new = self.folder / f"{role}.new"
        new.write_text(f"{offset}\n")
        new.rename(self.folder / role)


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    """Clocks that can be moved; skipped without libfaketime, except in CI."""
    found = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("libfaketime is not installed")
        pytest.skip("libfaketime is not installed")
    folder = tmp_path / "clocks"
    folder.mkdir()
    return Clocks(folder, found)


@dataclass
class Office:
    """What an operator does."""

    keys: Any
    admin: Any
    metadata: tuple[tuple[str, str]]

    async def key(self) -> auth_pb2.CreateKeyResponse:
        """A new key."""
        made: auth_pb2.CreateKeyResponse = await self.keys.CreateKey(
            auth_pb2.CreateKeyRequest(name="k"), timeout=SECONDS
        )
        return made

    async def limited(self) -> str:
        """The secret of a key with a limit of requests."""
        made = await self.key()
        limit = limits_pb2.Limit(scope=made.key.id, kind=limits_pb2.LIMIT_KIND_REQUESTS, amount=LIMIT, burst=BURST)
        await self.admin.SetLimit(admin_pb2.SetLimitRequest(limit=limit), timeout=SECONDS, metadata=self.metadata)
        return str(made.secret)

    async def bounded(self) -> str:
        """The secret of a key with a hard budget for each day."""
        made = await self.key()
        budget = limits_pb2.Budget(
            scope=made.key.id, period=limits_pb2.PERIOD_DAILY, amount_nanos=AFFORDED * COST, hard=True
        )
        await self.admin.SetBudget(admin_pb2.SetBudgetRequest(budget=budget), timeout=SECONDS, metadata=self.metadata)
        return str(made.secret)

    async def audit(self) -> admin_pb2.AuditLedgerResponse:
        """Of the ledger, once nothing is held any more."""
        async with asyncio.timeout(SECONDS):
            while True:
                found: admin_pb2.AuditLedgerResponse = await self.admin.AuditLedger(
                    admin_pb2.AuditLedgerRequest(), timeout=SECONDS, metadata=self.metadata
                )
                if not found.held_nanos:
                    return found
                await asyncio.sleep(0.2)


@asynccontextmanager
async def office(where: Site) -> AsyncGenerator[Office]:
    """At the site's auth."""
    async with connected(configured(where.config, {})) as node:
        secret = (where.data / "auth.db.admin").read_text().strip()
        channel = node.channel("auth")
        yield Office(AuthServiceStub(channel), AdminServiceStub(channel), ((METADATA_KEY, secret),))


@dataclass
class Seen:
    """What callers saw."""

    calls: list[Outcome] = field(default_factory=list)
    pair: list[Outcome] = field(default_factory=list)
    limited: list[Outcome] = field(default_factory=list)
    bounded: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0


async def jumping(where: Site, clocks: Clocks, limited: str, bounded: str) -> Seen:
    """Moves the clock of each role to and fro under load."""
    seen, stopped, loop = Seen(), asyncio.Event(), asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        steady = asyncio.create_task(calling(session, where, stopped, RATE))
        pair = asyncio.create_task(calling(session, where, stopped, RATE / 2, BAD, model="pair"))
        await asyncio.sleep(TAKEN)
        began = loop.time()
        spent = [await ask(session, replace(where, key=bounded)) for _ in range(AFFORDED)]
        assert [] == [one for one in spent if not one.whole]
        for role in ROLES:
            for jump in JUMPS:
                long = asyncio.create_task(ask(session, where, LONG))
                clocks.set(role, jump)
                await asyncio.sleep(TAKEN)
                at_once = [ask(session, replace(where, key=limited)) for _ in range(2 * BURST)]
                seen.limited += await asyncio.gather(*at_once)
                seen.bounded.append(await ask(session, replace(where, key=bounded)))
                await asyncio.sleep(SETTLED)
                seen.calls.append(await long)
        seen.seconds = loop.time() - began
        stopped.set()
        seen.calls += await steady
        seen.pair += await pair
    return seen


async def calling(
    session: aiohttp.ClientSession, where: Site, until: asyncio.Event, rate: float, text: str = "hello", **more: Any
) -> list[Outcome]:
    """Calls at a steady pace."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    asked: list[asyncio.Task[Outcome]] = []
    while not until.is_set():
        asked.append(asyncio.create_task(ask(session, where, text, stream=len(asked) % 10 < 7, **more)))
        await asyncio.sleep(max(0.0, began + len(asked) / rate - loop.time()))
    return list(await asyncio.gather(*asked))


async def test_clocks_jump(tmp_path: Path, postgres: Server, redis_server: RedisServer, clocks: Clocks) -> None:
    """No call fails, none waits, limits and budgets hold, and no record says what cannot be."""
    database = postgres.database()
    async with Vendor(script=Script(chunks=3), keep=0) as vendor:
        sites = machines(tmp_path, vendor.origin, database, redis_server.url, names=("a",), models=MODELS)
        where = sites["a"]
        async with running(sites, database, clocks.environment) as pair, office(where) as desk:
            limited, bounded = await desk.limited(), await desk.bounded()
            seen = await jumping(where, clocks, limited, bounded)
            audit = await desk.audit()
            alone = (where.directory / "serve-auth.log").read_text().count("limits are counted alone")
            starts = {role: one.starts for (role, _), one in pair.kept.items()}
        # what no budget pays for is charged after the answer, and by the time that its edge has stopped at the latest
        interrupted = pair.rows("SELECT count(*) FROM polyroute_auth.ledger WHERE rule LIKE 'interrupted%'")[0][0]
        charges = pair.charges()
        found = by_id(await records(where, DatabaseConfig.model_validate(database)))
    failed = [one for one in seen.calls if not one.whole]
    admitted = sum(one.whole for one in seen.limited)
    most = (2 + alone) * BURST + LIMIT * seen.seconds / 60  # what Redis does not answer in time is another matter
    tries = Counter(attempt.deployment for record in found.values() for attempt in record.attempts)
    slowest = max(one.ended - one.began for one in seen.calls if one.whole)
    impossible = [record for record in found.values() if not possible(record)]
    told(
        f"{len(ROLES) * len(JUMPS)} jumps in {seen.seconds:.0f} s, {len(seen.calls)} calls: {len(failed)} failed, "
        f"slowest {slowest:.1f} s; {len(seen.pair)} of the pair; {len(found)} records; limit: {admitted} admitted of "
        f"{len(seen.limited)}, at most {most:.0f}, counted alone {alone} times; budget: "
        f"{Counter(one.status for one in seen.bounded)}; tries {dict(tries)}; {len(impossible)} impossible records; "
        f"{interrupted} charged as interrupted; ledger: {list(audit.findings)}"
    )

    assert {1} == set(starts.values())
    assert [] == failed
    assert slowest < SECONDS / 2
    assert admitted <= most
    assert {429, 503} >= {one.status for one in seen.bounded}
    assert tries["mock/gpt-bad"] <= len(seen.pair) / 5
    assert [] == impossible
    assert {one.request_id for one in seen.calls} <= charges.keys()
    assert ({1}, 0, []) == (set(charges.values()), interrupted, list(audit.findings))


def possible(record: CallRecord) -> bool:
    """Whether what a record says of times can be true of calls that last four seconds at most."""
    times = [record.total_microseconds, record.first_token_microseconds, record.overhead_microseconds]
    for attempt in record.attempts:
        times += [attempt.total_microseconds, attempt.first_token_microseconds]
    return all(0 <= one <= SECONDS * 1e6 for one in times)
