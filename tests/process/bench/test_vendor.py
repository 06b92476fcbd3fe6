"""The mock vendor and the load over real sockets."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from bench.load import Load, run
from bench.script import Script
from bench.vendor import Vendor

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
async def vendor() -> AsyncGenerator[Vendor]:
    async with Vendor() as running:
        yield running


@pytest.fixture
async def client() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


def body(prompt: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": prompt}], **fields}


def load(vendor: Vendor, prompt: str, **fields: Any) -> Load:
    stream = bool(fields.get("stream"))
    data = orjson.dumps(body(prompt, stream=stream))
    return Load(url=f"{vendor.url}/chat/completions", body=data, seconds=5, timeout=5, **fields)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not true():
            await asyncio.sleep(0.001)


async def test_load_of_whole_answers(vendor: Vendor) -> None:
    """Every answer is right, counted on both sides, and its delay is known."""
    unary = await run(load(vendor, "hi", concurrency=4, requests=40))
    fast = await run(load(vendor, "[[chunks=700]]", stream=True, chunks=700, concurrency=2, requests=6))
    paced = await run(load(vendor, "[[chunks=5 first=4 gap=2]]", stream=True, chunks=5, concurrency=3, requests=6))

    assert [(40, 0, 40), (6, 0, 4200), (6, 0, 30)] == [(r.ok, r.failed, r.chunks) for r in (unary, fast, paced)]
    assert paced.first.p50 >= 4
    assert paced.latency.p50 >= 12
    assert 0 <= paced.delay.p50 < 1000
    assert (52, 0, 0) == (vendor.requests, vendor.cancelled, vendor.active)


@pytest.mark.parametrize(
    ("prompt", "failure"),
    [
        ("[[status=503]]", "status 503"),
        ("[[chunks=4]]", "4 of 5 chunks"),
        ("[[chunks=5 cut=2]]", "connection lost after 2 of 5 chunks"),
        ("[[drop=1]]", "connection lost after 0 of 5 chunks"),
        ("[[chunks=9 error=5]]", "no [DONE]"),
    ],
)
async def test_load_finds_faults(vendor: Vendor, prompt: str, failure: str) -> None:
    """What is wrong with an answer is a failure with its reason, and the load goes on to its end."""
    report = await run(load(vendor, prompt, stream=True, chunks=5, requests=3))

    assert (0, 3) == (report.ok, report.failed)
    assert all(kind.startswith(failure) for kind in report.failures)
    assert (3, 0) == (vendor.requests, vendor.cancelled)


async def test_load_ends_at_its_timeout(vendor: Vendor) -> None:
    """A vendor that stalls fails what is under way, and knows that its clients left."""
    asked = load(vendor, "[[chunks=5 stall=2]]", stream=True, chunks=5, concurrency=2)
    report = await run(Load(**{name: getattr(asked, name) for name in Load.__slots__} | {"timeout": 0.1}))
    await until(lambda: vendor.active == 0)

    assert (0, 2) == (report.ok, report.failed)
    assert report.failures == {"timeout after 2 of 5 chunks": 2}
    assert vendor.cancelled == 2


async def test_load_on_a_closed_port() -> None:
    """Refused connections are failures, so many as there would have been requests."""
    async with Vendor() as gone:
        asked = load(gone, "hi", requests=2)
    report = await run(asked)

    assert (0, 2) == (report.ok, report.failed)
    assert next(iter(report.failures)).startswith("cannot connect")


async def test_client_that_leaves(vendor: Vendor, client: aiohttp.ClientSession) -> None:
    """A client that leaves in mid-stream is counted, and nothing more is sent."""
    async with client.post(f"{vendor.url}/chat/completions", json=body("[[chunks=9 gap=50]]", stream=True)) as answer:
        await answer.content.readany()
        answer.close()
    await until(lambda: vendor.active == 0)

    assert (1, 1) == (vendor.requests, vendor.cancelled)


async def test_refusal_says_when_to_return(vendor: Vendor, client: aiohttp.ClientSession) -> None:
    """429 comes with Retry-After and an error body, and the connection stays usable."""
    vendor.inject(Script(status=429, retry_after=3))
    async with client.post(f"{vendor.url}/chat/completions", json=body()) as refused:
        told = (refused.status, refused.headers["retry-after"], (await refused.json())["error"]["type"])
    async with client.post(f"{vendor.url}/chat/completions", json=body()) as answered:
        status = answered.status

    assert (429, "3", "rate_limit_error") == told
    assert status == 200
    assert len(vendor.connections) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_cut_answer(vendor: Vendor, client: aiohttp.ClientSession, *, stream: bool) -> None:
    """A cut answer is one that a client can tell from a whole one."""
    async with client.post(f"{vendor.url}/chat/completions", json=body("[[cut=1]]", stream=stream)) as answer:
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_slow_reader_is_not_buffered_for(vendor: Vendor) -> None:
    """A long stream waits for its reader and then arrives whole."""
    reader, writer = await asyncio.open_connection(vendor.host, vendor.port)
    asked = orjson.dumps(body("[[chunks=100000]]", stream=True))
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(asked))
    writer.write(asked)
    await reader.readexactly(1)
    await asyncio.sleep(0.02)
    waiting = vendor.active
    stamps = 0
    while data := await reader.read(1 << 20):
        stamps += data.count(b"@")
    writer.close()

    assert waiting == 1
    assert stamps == 100_000
    assert (0, 0) == (vendor.active, vendor.cancelled)


async def test_what_was_seen(vendor: Vendor, client: aiohttp.ClientSession) -> None:
    """A test can read what reached the vendor: address, headers, body."""
    async with client.post(
        f"{vendor.url}/embeddings", json={"model": "e", "input": ["a", "b"]}, headers={"Authorization": "Bearer k"}
    ) as answer:
        vectors = (await answer.json())["data"]
    async with client.get(f"{vendor.url}/models") as listed:
        names = [model["id"] for model in (await listed.json())["data"]]

    assert len(vectors) == 2
    assert names == ["gpt-bench"]
    embed, models = vendor.seen
    assert ("POST", "/v1/embeddings", "Bearer k") == (embed.method, embed.path, embed.headers["authorization"])
    assert orjson.loads(embed.body)["input"] == ["a", "b"]
    assert models.path == "/v1/models"


async def test_control_over_http(vendor: Vendor, client: aiohttp.ClientSession) -> None:
    """A vendor in another process is told what to do, and asked what it did, by HTTP."""
    statuses = []
    for address, told in (("/__script", b"status=503"), ("/__inject", b"status=401"), ("/__script", b"")):
        async with client.post(vendor.origin + address, data=told) as accepted:
            assert accepted.status == 200
        async with client.post(f"{vendor.url}/chat/completions", json=body()) as answer:
            statuses.append(answer.status)
    async with client.get(f"{vendor.origin}/__stats") as answer:
        stats = await answer.json()

    assert [503, 401, 200] == statuses
    assert (3, 0, 0) == (stats["requests"], stats["cancelled"], stats["active"])


@pytest.mark.parametrize(
    ("method", "path", "data", "status"),
    [
        ("GET", "/v1/nothing", b"", 404),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"[]", 400),
        ("POST", "/v1/chat/completions", orjson.dumps(body("[[chunk=1]]")), 400),
        ("POST", "/__script", b"nonsense", 400),
    ],
)
async def test_bad_request(
    vendor: Vendor, client: aiohttp.ClientSession, method: str, path: str, data: bytes, status: int
) -> None:
    """What the vendor cannot understand is refused, and the next request is answered."""
    async with client.request(method, vendor.origin + path, data=data) as answer:
        refused = answer.status
    async with client.post(f"{vendor.url}/chat/completions", json=body()) as answer:
        after = answer.status

    assert (status, 200) == (refused, after)


def test_bench_measures_and_prints(tmp_path: Path) -> None:
    """The command starts a vendor and a load as processes, prints a table and writes its figures."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "--targets", "direct", "--tests", "unary", "--seconds", "0.2"]
    printed = subprocess.run(
        [*command, "--repeat", "1", "--json", str(figures)], cwd=ROOT, capture_output=True, text=True, check=True
    )

    (found,) = orjson.loads(figures.read_bytes())["measurements"]
    assert "| direct | - |" in printed.stdout
    assert found["report"]["failed"] == 0
    assert found["vendor_requests"] == found["report"]["ok"] > 0
