"""What callers notice when processes die under load: `POLYROUTE_SCORECARD=1 pytest -s`.

Each prints its figures. The suite has the same in small in tests/process/test_roles.py, and what two auth roles tell
each other in tests/rpc/auth/test_neighbours.py.
"""

import asyncio
import itertools
import os
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from bench.script import Script
from bench.vendor import Vendor
from tests.postgres import Server
from tests.process.machines import INNER, MACHINES, Pair, Sent, load, machines, running
from tests.process.sites import by_id, ready, records, site, start, started
from tests.process.sites import load as load_one
from tests.redis import RedisServer, redis_process, redis_server

__all__ = ["redis_process", "redis_server"]
pytestmark = [
    pytest.mark.skipif(not os.environ.get("POLYROUTE_SCORECARD"), reason="minutes: POLYROUTE_SCORECARD=1"),
    pytest.mark.timeout(600),
]

ORDER: Final = ("edge", *INNER, "auth")
EVERY: Final = 10.0  # s between two kills
RATE: Final = 50  # requests a second
ALLOWED: Final = 1000  # one call in so many may fail
AWAY: Final = 60.0  # s
CALM: Final = 5.0  # s before and after
UNKNOWN: Final = f"pr-{'x' * 64}"
LATE: Final = 0.1  # s until nobody gets a connection to a process that was killed


async def test_two_of_each_role_are_killed_in_turn(tmp_path: Path, postgres: Server, redis_server: RedisServer) -> None:
    """At most one call in a thousand fails, streams break with their own process, nothing is lost or there twice.

    A call under way at a door that is killed cannot be saved; no other may fail.
    """
    database = postgres.database()
    async with Vendor(script=Script(chunks=5, gap=10), keep=0) as vendor:
        sites = machines(tmp_path, vendor.origin, database, redis_server.url)
        async with running(sites, database) as pair:
            stopped = asyncio.Event()
            loading = asyncio.create_task(load(sites, "hello", stopped, rate=RATE))
            deaths = []
            for role, at in zip(ORDER, itertools.cycle(MACHINES), strict=False):
                await asyncio.sleep(EVERY)
                deaths.append((role, at, await pair.killed(role, at)))
            await asyncio.sleep(EVERY)
            stopped.set()
            sent = await loading
            whole = {one.outcome.request_id for one in sent if one.outcome.whole}
            calls, charges = await on_record(pair, whole)
    failed = [one for one in sent if not one.outcome.whole and one.outcome.status != 200]
    broken = [one for one in sent if not one.outcome.whole and one.outcome.status == 200]
    told(
        f"{len(deaths)} kills, {len(sent)} calls: {len(failed)} failed before their first byte, {len(broken)} broken; "
        f"lost: {len(whole - calls.keys())} records, {len(whole - charges.keys())} charges; "
        f"doubled: {doubled(calls)} records, {doubled(charges)} charges"
    )

    assert all(died_meanwhile(one, deaths) for one in failed), failed
    assert len(failed) <= len(sent) / ALLOWED, failed  # as many are under way at a door as its first bytes take time
    assert all(died_meanwhile(one, deaths, "providers") for one in broken), broken
    assert (set(), set()) == (whole - calls.keys(), whole - charges.keys())
    assert (0, 0) == (doubled(calls), doubled(charges))


@pytest.mark.parametrize("role", ["auth", "router", "metrics"])
async def test_a_role_is_away_for_a_minute(tmp_path: Path, role: str) -> None:
    """Whoever called before goes on, a key that nobody knows is let in by nobody, and the records come later."""
    async with Vendor(script=Script(chunks=5, gap=10), keep=0) as vendor, AsyncExitStack() as stack:
        where = site(tmp_path, vendor.origin, tcp=True)
        others = (*(one for one in INNER if one != role), "edge")
        away = await start(where, "serve", role)
        stack.push_async_callback(away.stop)
        async with started(where, *(("serve", one) for one in others)):
            await ready(where)
            stopped = asyncio.Event()
            loading = asyncio.create_task(load_one(where, "hello", stopped, rate=RATE, most=10_000))
            await asyncio.sleep(CALM)
            unknown = asyncio.create_task(load_one(replace(where, key=UNKNOWN), "hello", stopped, rate=2))
            away.process.kill()
            died = asyncio.get_running_loop().time()
            await asyncio.sleep(AWAY)
            back = await start(where, "serve", role)
            stack.push_async_callback(back.stop)
            await asyncio.sleep(CALM)
            stopped.set()
            sent, strangers = await loading, await unknown
    found = by_id(await records(where))
    failed = [one for one in sent if not one.whole]
    missing = [one for one in sent if one.whole and one.request_id not in found]
    slowest = max(one.ended - one.began for one in sent if one.whole and one.began > died)
    told(
        f"{role} away for {AWAY:.0f} s: {len(failed)} of {len(sent)} calls failed, slowest {slowest:.2f} s, "
        f"{len(missing)} records lost; unknown key: {Counter(one.status for one in strangers)}"
    )

    assert len(failed) <= len(sent) / ALLOWED, failed
    assert [] == missing
    assert {401, 503} >= {one.status for one in strangers}


def died_meanwhile(one: Sent, deaths: list[tuple[str, str, float]], *others: str) -> bool:
    """Whether the door of a call was killed while it ran, or one of the others through which it may have gone."""
    ended = one.outcome.ended or one.outcome.began + 1
    return any(
        one.outcome.began - LATE <= moment <= ended and (role in others or (role == "edge" and at == one.at))
        for role, at, moment in deaths
    )


def doubled(counted: Counter[str]) -> int:
    """How many are there more than once."""
    return sum(count > 1 for count in counted.values())


async def on_record(pair: Pair, ids: set[str]) -> tuple[Counter[str], Counter[str]]:
    """The calls on record and those charged, once these are among them, or after ten seconds as they are."""
    for _ in range(100):
        calls, charges = Counter(pair.calls()), pair.charges()
        if ids <= calls.keys() and ids <= charges.keys():
            break
        await asyncio.sleep(0.1)
    return calls, charges


def told(figures: str) -> None:
    """Prints what a full run is for."""
    print(f"\n{figures}")  # noqa: T201
