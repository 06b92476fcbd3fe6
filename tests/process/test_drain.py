"""SIGTERM in mid-stream: the client gets its whole answer, the call its record, the process status 0."""

import asyncio
import signal
from pathlib import Path

import aiohttp
import orjson

from bench.script import marker
from bench.vendor import Vendor
from polyroute.api.metrics.v1 import metrics_pb2
from tests.process.sites import SECONDS, TICK, Outcome, Site, ask, by_id, ready, records, site, started


async def streaming(where: Site, vendor: Vendor, text: str, count: int = 1) -> list[asyncio.Task[Outcome]]:
    """So many streams that the vendor is answering."""
    session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS))

    async def one() -> Outcome:
        return await ask(session, where, text)

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    asyncio.gather(*tasks, return_exceptions=True).add_done_callback(lambda _: asyncio.ensure_future(session.close()))
    async with asyncio.timeout(SECONDS):
        while vendor.active < count:
            await asyncio.sleep(TICK)
    return tasks


async def test_one_process(tmp_path: Path) -> None:
    """All roles in one process: streams end as they would have, new connections are refused, all is recorded."""
    async with Vendor() as vendor:
        where = site(tmp_path, vendor.origin)
        async with started(where, ("up",)) as (gateway,):
            await ready(where)
            streams = await streaming(where, vendor, marker(chunks=20, gap=50), 5)

            gateway.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.4)
            async with aiohttp.ClientSession() as session:
                late = await ask(session, where)
            outcomes = await asyncio.gather(*streams)
            status = await gateway.ended()

    found = by_id(await records(where))
    assert 0 == status
    assert [True] * 5 == [one.whole for one in outcomes]
    assert "ClientConnectorError" in late.error
    assert {one.request_id for one in outcomes} == found.keys()
    assert {(metrics_pb2.OUTCOME_COMPLETED, 20)} == {
        (record.outcome, record.usage.output_tokens) for record in found.values()
    }


async def test_the_edge_alone(tmp_path: Path) -> None:
    """A rolling restart: the edge ends while the roles behind it go on, and hands over its records first."""
    async with Vendor() as vendor:
        where = site(tmp_path, vendor.origin)
        behind = ("serve", "auth", "metrics", "providers", "router")
        async with started(where, behind, ("serve", "edge")) as (_, edge):
            await ready(where)
            (stream,) = await streaming(where, vendor, marker(chunks=20, gap=50))
            edge.process.send_signal(signal.SIGTERM)
            outcome = await stream
            status = await edge.ended()

    found = by_id(await records(where))
    assert (0, True) == (status, outcome.whole)
    assert [outcome.request_id] == list(found)
    assert 20 == found[outcome.request_id].usage.output_tokens


async def test_a_second_signal_hurries(tmp_path: Path) -> None:
    """Who asks twice does not wait for a stream of a minute: the process ends five seconds later."""
    async with Vendor() as vendor:
        where = site(tmp_path, vendor.origin, mesh={"drain_delay": 0, "drain_grace": 60})
        async with started(where, ("up",)) as (gateway,):
            await ready(where)
            (stream,) = await streaming(where, vendor, marker(chunks=1000, gap=60))
            loop = asyncio.get_running_loop()
            gateway.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            waiting = gateway.process.returncode is None
            gateway.process.send_signal(signal.SIGTERM)
            began = loop.time()
            outcome = await stream
            await gateway.ended()

    assert waiting
    assert loop.time() - began < 6.5
    assert not outcome.whole


async def test_a_stream_longer_than_the_grace(tmp_path: Path) -> None:
    """What is still going on when the grace is over ends with an error in the stream, and on record."""
    async with Vendor() as vendor:
        where = site(tmp_path, vendor.origin, mesh={"drain_delay": 0, "drain_grace": 1})
        async with started(where, ("up",)) as (gateway,):
            await ready(where)
            (stream,) = await streaming(where, vendor, marker(chunks=1000, gap=60))
            gateway.process.send_signal(signal.SIGTERM)
            outcome = await stream
            status = await gateway.ended()

    found = by_id(await records(where))
    assert 0 == status
    assert not outcome.whole
    assert "server_draining" == orjson.loads(outcome.error[outcome.error.rindex("data: ") + 6 :])["error"]["code"]
    assert metrics_pb2.OUTCOME_COMPLETED != found[outcome.request_id].outcome
    assert found[outcome.request_id].usage.output_tokens > 5


async def test_a_second_signal_cuts_streams_in_good_order(tmp_path: Path) -> None:
    """Each gets an error inside of it that names the cause, and its record; the process ends at once, with status 0."""
    async with Vendor() as vendor:
        where = site(tmp_path, vendor.origin)
        async with started(where, ("up",)) as (gateway,):
            await ready(where)
            streams = await streaming(where, vendor, marker(chunks=500, gap=50), 3)
            gateway.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            began = asyncio.get_running_loop().time()
            gateway.process.send_signal(signal.SIGTERM)
            outcomes = await asyncio.gather(*streams)
            status = await gateway.ended()
            took = asyncio.get_running_loop().time() - began

    found = by_id(await records(where))
    assert (0, True) == (status, took < 5)
    assert all("server_draining" in one.error for one in outcomes), outcomes
    assert {one.request_id for one in outcomes} == found.keys()
