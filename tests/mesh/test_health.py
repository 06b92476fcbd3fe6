"""A vendor that fails is left out, told so in the record, and tried again by one call at a time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_asyncio

from bench.script import Script
from bench.vendor import Vendor
from tests.mesh.gateway import Gateway, deployment, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
CALLS: Final = 40
SOON: Final = 15.0  # s
BODY: Final = {"model": "pair", "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Pair:
    """The model `pair` is on `a` first and on `b` after that."""

    gateway: Gateway
    a: Vendor
    b: Vendor


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pair]:
    """See `Pair`; a plan is three attempts at most, and health has its say."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(Vendor())
        b = await stack.enter_async_context(Vendor())
        models = {"pair": {"deployments": [deployment("a", priority=1), deployment("b", priority=2)]}}
        gateway = await stack.enter_async_context(
            running(tmp_path_factory.mktemp("gateway"), {"a": a.url, "b": b.url}, models, router={"health": True})
        )
        yield Pair(gateway, a, b)


async def test_a_vendor_that_fails_is_left_out_and_comes_back(pair: Pair) -> None:
    """Every call is answered; after a few failures nobody waits for the bad vendor any more; then it serves again."""
    pair.a.script = Script(status=500)
    asked = [(await pair.gateway.chat(model="pair")).status for _ in range(CALLS)]
    failed = pair.a.requests

    why = await pair.gateway.post(body=BODY, headers=pair.gateway.headers(**{"x-polyroute-explain": "true"}))
    candidates = {one["deployment"]: one for one in why.json["polyroute"]["decision"]["candidates"]}
    pair.a.script = Script()

    assert [200] * CALLS == asked
    assert failed < CALLS / 2
    assert "ejected" in str(candidates["a/up"]["verdicts"])

    async with asyncio.timeout(SOON):
        while (await pair.gateway.chat(model="pair")).headers["x-polyroute-provider"] != "a":
            await asyncio.sleep(0.1)
