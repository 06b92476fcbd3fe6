"""kill -9 of an edge in the middle of calls that name a key: each is made again once at most, and answered alike."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Final

import aiohttp
import orjson
import yaml

from bench.gateways import ROLES, free_port
from bench.script import marker
from bench.vendor import Vendor
from tests.process.sites import SECONDS, TICK, Site, ready, site, started

KEYS: Final = 6
LEASE: Final = 1.0


def _two_doors(directory: Path, origin: str) -> tuple[Site, Site]:
    """One installation with two edges, and where each of them answers."""
    where = site(directory, origin)
    tree = yaml.safe_load(where.config.read_text())
    tree["edge"] |= {"idempotency_lease": LEASE, "grpc": {"listen": "127.0.0.1:0"}}
    where.config.write_text(yaml.safe_dump(tree, sort_keys=False))
    return where, Site(where.directory, where.config, free_port(), 0, where.key)


async def _insist(session: aiohttp.ClientSession, doors: tuple[Site, Site], key: str) -> tuple[bytes, bool]:
    """The answer to the request with a key, from the next door when one is gone; whether it is a replay."""
    text = f"{key} {marker(first=900)}"
    body = orjson.dumps({"model": "bench-model", "messages": [{"role": "user", "content": text}]})
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                headers = doors[0].headers | {"idempotency-key": key}
                async with session.post(f"{doors[0].url}/v1/chat/completions", data=body, headers=headers) as response:
                    if response.status == 200:
                        return await response.read(), "idempotent-replayed" in response.headers
            except aiohttp.ClientError:
                doors = doors[1], doors[0]
            await asyncio.sleep(0.1)


async def test_an_edge_that_is_killed_gives_its_keys_to_the_other(tmp_path: Path) -> None:
    """What was under way in it is made once more; what the other one made is not; nobody hears two answers."""
    async with Vendor() as vendor:
        other, doomed = _two_doors(tmp_path, vendor.origin)
        second = ("serve", "edge", "--instance", "second", "--listen", f"127.0.0.1:{doomed.port}")
        async with started(other, ("serve", *ROLES), second) as (_, edge):
            await asyncio.gather(ready(doomed), ready(other))
            async with aiohttp.ClientSession() as session:
                ways = ((doomed, other), (other, doomed))
                keys = range(KEYS)
                first = [asyncio.create_task(_insist(session, ways[key % 2], f"key-{key}")) for key in keys]
                while vendor.requests < KEYS:
                    await asyncio.sleep(TICK)
                more = [asyncio.create_task(_insist(session, ways[n % 2], f"key-{n // 4}")) for n in range(KEYS * 4)]
                await asyncio.sleep(TICK)
                os.kill(edge.pid, signal.SIGKILL)
                answers = await asyncio.gather(*first, *more)

    calls = Counter(str(orjson.loads(seen.body)["messages"][0]["content"]).split()[0] for seen in vendor.seen)
    assert KEYS < calls.total()
    for key in keys:
        same = [answers[key], *answers[KEYS + 4 * key : KEYS + 4 * (key + 1)]]
        assert calls[f"key-{key}"] in ((1,) if key % 2 else (1, 2))
        assert 1 == len({body for body, _ in same})
        assert 4 <= sum(replayed for _, replayed in same)
