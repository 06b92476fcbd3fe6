"""One gateway for all tests of a module, with vendors of every temper behind it."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio
import uvloop

from bench.vendor import Vendor
from tests.mesh.gateway import Gateway, deployment, running
from tests.mesh.raw import RawVendor

QUICK = {"connect": 1, "first_token": 0.3, "inter_token": 0.3}


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that a gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Stage:
    """The gateway and the vendors behind it.

    Attributes:
        gateway: Model `m` is on vendor `a`, `pair` on `a` then `b`, `three` on `a` then `b` then `c`, `raw` on the raw
            vendor, `raw-pair` on the raw vendor then `b`, `lost` on an address where nobody listens, then `b`,
            `growing` on the raw vendor with a short context, then on `b` with a long one. All but `m` are impatient.
    """

    gateway: Gateway
    a: Vendor
    b: Vendor
    c: Vendor
    raw: RawVendor


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(_elsewhere: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`. Limits are small: bodies of 100 kB, 200 kB when opened, headers of 8 kB, a ping every 500 ms."""
    with socket.socket() as taken:  # bound, and nobody listens: connecting to it is refused
        taken.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        async with AsyncExitStack() as stack:
            a, b, c = [await stack.enter_async_context(Vendor()) for _ in range(3)]
            raw = await stack.enter_async_context(RawVendor())
            urls = {"a": a.url, "b": b.url, "c": c.url, "raw": raw.url, "nobody": nobody}
            http = {"max_body_bytes": 100_000, "max_decompressed_bytes": 200_000, "max_header_bytes": 8192}
            gateway = await stack.enter_async_context(
                running(
                    tmp_path_factory.mktemp("gateway"),
                    urls,
                    {
                        "m": {"deployments": [deployment("a")], "operations": ["chat", "embedding"]},
                        "pair": _walk("pair", "a", "b"),
                        "patient": {"deployments": [deployment("a", priority=0), deployment("b", priority=1)]},
                        "unpriced": {"deployments": ["a/unpriced"]},
                        "three": _walk("three", "a", "b", "c"),
                        "raw": _walk("raw", "raw"),
                        "raw-pair": _walk("raw-pair", "raw", "b"),
                        "lost": _walk("lost", "nobody", "b"),
                        "nowhere": _walk("nowhere", "nobody"),
                        "growing": {
                            "deployments": [
                                deployment("raw", "up-raw", context=8_000, priority=0, timeouts=QUICK),
                                deployment("b", "up-b", context=200_000, priority=1, timeouts=QUICK),
                            ]
                        },
                    },
                    aliases={"nick": "m"},
                    edge={"http": {**http, "ping_seconds": 0.5}},
                )
            )
            yield Stage(gateway, a, b, c, raw)


def _walk(model: str, *providers: str) -> dict[str, object]:
    """A model whose deployments, `MODEL:PROVIDER`, are tried in this order."""
    deployments = [
        deployment(name, f"up-{name}", name=f"{model}:{name}", priority=place, timeouts=QUICK)
        for place, name in enumerate(providers)
    ]
    return {"deployments": deployments, "operations": ["chat", "completion", "embedding"]}
