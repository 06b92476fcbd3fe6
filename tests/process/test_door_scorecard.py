"""The door under more than it can do, at full size, with real processes: `POLYROUTE_SCORECARD=1 pytest -s`.

Each prints its figures.
"""

import asyncio
import os
import random
import statistics
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import pytest
import yaml

from bench.script import Script, marker
from bench.vendor import Vendor
from tests.process.sites import Site, ready, site, started

pytestmark = [
    pytest.mark.skipif(not os.environ.get("POLYROUTE_SCORECARD"), reason="minutes: POLYROUTE_SCORECARD=1"),
    pytest.mark.timeout(300),
]

SLOW: Final = marker(first=2000, chunks=3)  # two seconds that cost nothing: what is scarce is places
DEAR: Final = marker(chunks=150, gap=5)  # three quarters of a second, and ten milliseconds of a processor
LONG: Final = marker(chunks=750, gap=100)
OVERLOAD: Final = 5
SECONDS: Final = 20.0
CLASSES: Final = (
    "critical",
    *["default"] * 5,
    *["sheddable"] * 4,
)  # a tenth is critical: half of what there is room for


@dataclass(frozen=True)
class Ended:
    """One call and how it ended; times are the loop's."""

    at: float
    seconds: float
    criticality: str
    status: int
    whole: bool


async def streamed(session: aiohttp.ClientSession, at: Site, text: str, criticality: str) -> Ended:
    """A stream, read to its end."""
    loop = asyncio.get_running_loop()
    began, status, answer = loop.time(), 0, b""
    body = {"model": "bench-model", "stream": True, "messages": [{"role": "user", "content": text}]}
    headers = {**at.headers, "x-polyroute-criticality": criticality}
    try:
        async with session.post(f"{at.url}/v1/chat/completions", data=orjson.dumps(body), headers=headers) as response:
            status = response.status
            async for piece in response.content.iter_any():
                answer = (answer + piece)[-64:]
    except (aiohttp.ClientError, TimeoutError):
        status = status or -1
    now = loop.time()
    return Ended(now, now - began, criticality, status, status == 200 and answer.endswith(b"data: [DONE]\n\n"))


async def closed(session: aiohttp.ClientSession, at: Site, text: str, callers: int, seconds: float) -> list[Ended]:
    """So many callers, each with one call after the other."""
    until = asyncio.get_running_loop().time() + seconds
    ended: list[Ended] = []

    async def one() -> None:
        while asyncio.get_running_loop().time() < until:
            ended.append(await streamed(session, at, text, "default"))

    await asyncio.gather(*(one() for _ in range(callers)))
    return ended


async def offered(
    session: aiohttp.ClientSession, at: Site, text: str, rate: float, seconds: float, chosen: Callable[[], str]
) -> list[Ended]:
    """So many calls a second, whatever becomes of them."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Ended]] = []
    began = loop.time()
    while (now := loop.time()) < began + seconds:
        for _ in range(int((now - began) * rate) + 1 - len(tasks)):
            tasks.append(asyncio.create_task(streamed(session, at, text, chosen())))
        await asyncio.sleep(0.01)
    return await asyncio.gather(*tasks)


def goodput(ended: Iterable[Ended], begin: float, end: float) -> float:
    """Whole answers a second."""
    return sum(one.whole and begin <= one.at <= end for one in ended) / (end - begin)


def p99(seconds: Iterable[float]) -> float:
    """The slowest hundredth begins here."""
    return statistics.quantiles(seconds, n=100)[98]


def told(figures: str) -> None:
    """Prints what a full run is for."""
    print(f"\n{figures}")  # noqa: T201


@pytest.fixture
async def vendor() -> AsyncGenerator[Vendor]:
    """Answers as it is told."""
    async with Vendor(script=Script(chunks=3), keep=0) as running:
        yield running


def bounded(tmp_path: Path, origin: str, **edge: Any) -> Site:
    """A gateway with these settings of its door."""
    where = site(tmp_path, origin)
    tree = yaml.safe_load(where.config.read_text())
    tree["edge"] |= edge
    where.config.write_text(yaml.safe_dump(tree))
    return where


@pytest.mark.parametrize(("bound", "text"), [(60, SLOW), ("auto", DEAR)], ids=["places", "auto"])
async def test_five_times_what_it_can_do(tmp_path: Path, vendor: Vendor, bound: int | str, text: str) -> None:
    """Nearly as many whole answers as at its best, nearly all that are critical, and no stream that ran is broken.

    With `auto` goodput is printed and not judged: the load and the vendor want the same processors as the gateway.
    """
    where = bounded(tmp_path, vendor.origin, max_calls=bound)
    chance = random.Random(19)
    timeout = aiohttp.ClientTimeout(total=120)
    async with started(where, ("up",)) as (_,):
        await ready(where)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
            loop = asyncio.get_running_loop()
            running = [asyncio.create_task(streamed(session, where, LONG, "default")) for _ in range(20)]
            peak = 0.0
            for callers in (16, 32, 64):
                begin = loop.time()
                ended = await closed(session, where, text, callers, 6)
                found = goodput(ended, begin + 1, begin + 7)
                told(f"{callers} callers: {found:.1f} a second, p99 {p99([one.seconds for one in ended]) * 1e3:.0f} ms")
                peak = max(peak, found)
            begin = loop.time()
            load = await offered(session, where, text, OVERLOAD * peak, SECONDS, lambda: chance.choice(CLASSES))
            end = begin + SECONDS
            after = await offered(session, where, text, peak / 4, 10, lambda: "default")
            recovered = [one for one in after if one.at > end + 10]
            long = await asyncio.gather(*running)
    statuses = {name: Counter(one.status for one in load if one.criticality == name) for name in set(CLASSES)}
    good = goodput(load, begin + 2, end)
    critical = [one for one in load if one.criticality == "critical"]
    served = sum(one.whole for one in critical) / len(critical)
    slow = p99([one.seconds for one in load if one.whole])
    told(f"max_calls {bound}: peak {peak:.1f}, at {OVERLOAD} times {good:.1f} ({good / peak:.0%}); {statuses}")
    told(
        f"critical {served:.2%}, p99 of what was served {slow:.2f} s,"
        f" of critical {p99([one.seconds for one in critical]):.2f}"
    )
    told(f"broken {sum(o.status == 200 and not o.whole for o in load)}, long {Counter(o.whole for o in long)}")
    told(f"after {Counter(one.status for one in after)}, from 10 s on {Counter(one.status for one in recovered)}")

    assert bound == "auto" or good >= 0.8 * peak
    assert bound == "auto" or served >= 0.99
    assert all(one.whole for one in (*long, *(one for one in load if one.status == 200), *recovered))
