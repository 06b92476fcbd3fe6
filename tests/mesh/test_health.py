"""A vendor that fails is left out, told so in the record, and tried again by one call at a time."""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio

from bench.script import Script, marker
from bench.vendor import Vendor
from polyroute.api.router.v1.router_pb2 import HEALTH_STATE_EJECTED, ExplainRequest
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli.config import load
from polyroute.cli.roles import Process
from polyroute.mesh import lifecycle
from tests.mesh.gateway import Gateway, deployment, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
CALLS: Final = 40
SOON: Final = 15.0  # s
BODY: Final = {"model": "pair", "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Pair:
    """The model `pair` is on `a` first and on `b` after that, and so is `both`, which is asked for completions too."""

    gateway: Gateway
    a: Vendor
    b: Vendor


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pair]:
    """See `Pair`; a plan is three attempts at most, and health has its say."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(Vendor())
        b = await stack.enter_async_context(Vendor())
        models = {
            "pair": {"deployments": [deployment("a", priority=1), deployment("b", priority=2)]},
            "both": {
                "deployments": [deployment("a", "up-both", priority=1), deployment("b", "up-both", priority=2)],
                "operations": ["chat", "completion"],
            },
        }
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


async def test_a_model_that_is_missing_for_completions_is_there_for_conversations(pair: Pair) -> None:
    """A vendor answers 404 to what a model cannot do, and who asked for that takes nothing from the others."""
    completion = {"model": "both", "prompt": "hi"}
    refused = [await pair.gateway.post("/v1/completions", completion) for _ in range(3)]
    chats = [await pair.gateway.chat(model="both") for _ in range(5)]
    records = [await pair.gateway.recorded(one) for one in refused]

    assert [404] * 3 == [one.status for one in refused]
    assert [["a/up-both", "b/up-both"], [], []] == [[tried.deployment for tried in one.attempts] for one in records]
    assert [(200, "a")] * 5 == [(one.status, one.headers["x-polyroute-provider"]) for one in chats]


async def test_a_call_that_nobody_is_tried_for_says_why(tmp_path: Path) -> None:
    """To the caller, in the message; to the operator, in the record: of every deployment, with number and time."""
    async with two(tmp_path) as pair:
        pair.a.script = pair.b.script = Script(status=500)
        async with asyncio.timeout(SOON):
            while "out of order" not in (answer := await pair.gateway.chat(model="pair")).error["message"]:
                pass
        asked = ExplainRequest(request_id=answer.headers["x-request-id"])
        found = await RouterServiceStub(pair.gateway.node.channel("router")).Explain(asked, timeout=SOON)
    notes = {note.deployment: note for note in found.record.health}

    assert 503 == answer.status
    assert {"a/up-a", "b/up-b"} == notes.keys()
    for name, note in notes.items():
        assert f"{name} is ejected: {note.reason} (" in answer.error["message"]
        assert HEALTH_STATE_EJECTED == note.state
        assert note.number > 0
        assert note.until.seconds > found.record.decide_time.seconds
    assert found.record.refusal == answer.error["message"]
    assert not found.plan.attempts


@asynccontextmanager
async def two(directory: Path, **sections: Any) -> AsyncGenerator[Pair]:
    """A gateway of its own, for what spoils its health: `pair` as above, and impatient."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(Vendor())
        b = await stack.enter_async_context(Vendor())
        # a loaded machine keeps everybody waiting for a third of a second now and then, healthy vendors too
        quick = {"connect": 2, "first_token": 1, "inter_token": 1}
        deployments = [deployment(name, f"up-{name}", timeouts=quick) for name in ("a", "b")]
        more = {"router": {"health": True}, **sections}
        gateway = await stack.enter_async_context(
            running(directory, {"a": a.url, "b": b.url}, {"pair": {"deployments": deployments}}, **more)
        )
        yield Pair(gateway, a, b)


async def ask(pair: Pair, text: str = "hi") -> tuple[int, float, Mapping[str, str]]:
    """Status, seconds and headers of one call."""
    began = asyncio.get_running_loop().time()
    answer = await pair.gateway.chat(text, model="pair")
    return answer.status, asyncio.get_running_loop().time() - began, answer.headers


async def test_a_brownout_is_not_seen(tmp_path: Path) -> None:
    """One of two vendors fails half of its calls and lets a third hang: all are answered, with few more attempts."""
    chance = random.Random(4)
    async with two(tmp_path) as pair:
        statuses = []
        for _ in range(60):
            texts = []
            for _ in range(5):
                draw = chance.random()
                fault: dict[str, float] = (
                    {"status": 503} if draw < 0.5 else {"stall": 0} if draw < 0.8 else {"chunks": 4}
                )
                texts.append(marker(**fault, **{"for": "up-a"}))
            statuses += [status for status, *_ in await asyncio.gather(*(ask(pair, text) for text in texts))]
        asked = pair.a.requests + pair.b.requests

    assert [200] * len(statuses) == statuses
    assert asked <= 1.2 * len(statuses)


async def test_an_outage_of_everybody(tmp_path: Path) -> None:
    """Callers hear at once that nobody can serve, and when to come back; vendors are not stormed; it ends by itself."""
    async with two(tmp_path) as pair:
        for _ in range(20):
            await ask(pair)
        before = pair.a.requests + pair.b.requests
        pair.a.script = pair.b.script = Script(status=503)
        out = [await ask(pair) for _ in range(150)]
        stormed = pair.a.requests + pair.b.requests - before
        pair.a.script = pair.b.script = Script()
        served = 0  # in a row: the first calls after an outage are let through one by one
        async with asyncio.timeout(60):
            while served < 10:
                served = served + 1 if (await ask(pair))[0] == 200 else 0
                await asyncio.sleep(0 if served else 0.1)
        back = [status for status, *_ in [await ask(pair) for _ in range(100)]]

    assert {503} == {status for status, *_ in out[-50:]}
    assert all("retry-after" in headers for *_, headers in out[-50:])
    assert sorted(seconds for _, seconds, _ in out[-50:])[-3] < 1  # some are tried again, after a wait
    assert stormed <= 1.2 * len(out)
    assert back.count(200) >= 99


async def test_a_new_key_is_tried_at_once(tmp_path: Path) -> None:
    """A key that a vendor refuses rests for minutes; once the operator has put another in its place, nothing does."""
    async with Vendor() as vendor:
        account = {"vendor": "openai_compatible", "base_url": vendor.url, "keys": ["sk-old"]}
        async with running(tmp_path, {"v": account}, router={"health": True}) as gateway:
            vendor.script = Script(status=401)
            refused = [(await gateway.chat(model="m")).status for _ in range(5)]
            before = vendor.requests
            vendor.script = Script()
            resting = (await gateway.chat(model="m")).status
            unasked = vendor.requests - before
            gateway.rewrite(providers={"v": {**account, "keys": ["sk-new"]}})
            async with asyncio.timeout(SOON):
                while (await gateway.chat(model="m")).status != 200:
                    await asyncio.sleep(0.1)

    assert 200 not in refused
    assert (True, 0) == (resting != 200, unasked)


async def test_long_streams_of_a_quiet_edge_are_no_silence(tmp_path: Path) -> None:
    """The router hears that they have content though their edge asks nothing more, and lets other edges' calls pass."""
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(Vendor())
        b = await stack.enter_async_context(Vendor())
        models = {"m": {"deployments": [deployment("a", priority=1), deployment("b", priority=2)]}}
        gateway = await stack.enter_async_context(
            running(tmp_path, {"a": a.url, "b": b.url}, models, router={"health": True})
        )
        edge = Process(load(gateway.config), gateway.config, {}, frozenset({"edge"}), "second", lambda _: None)
        node = edge.node()
        stack.push_async_callback(node.close)
        await stack.enter_async_context(lifecycle.running(edge.table(node)))
        for _ in range(60):  # the router learns how soon this vendor begins
            await gateway.chat(model="m", stream=True)
        slow = marker(chunks=12, gap=500)
        streams = [asyncio.create_task(gateway.chat(slow, model="m", stream=True)) for _ in range(12)]
        await asyncio.sleep(4)
        other = replace(gateway, node=node)
        calls = []
        for _ in range(20):  # most while no answer to another has come
            calls.append(asyncio.create_task(other.chat(marker(first=1800), model="m")))
            await asyncio.sleep(0.1)
        meanwhile = [await call for call in calls]
        ends = [await stream for stream in streams]

    assert [(200, "a")] * 20 == [(answer.status, answer.headers["x-polyroute-provider"]) for answer in meanwhile]
    assert [b"[DONE]"] * 12 == [answer.events[-1] for answer in ends]


async def test_a_late_first_token_is_hedged(tmp_path: Path) -> None:
    """Where the policy says so: the other vendor answers, the late one is given up, and both are on record."""
    text = marker(first=2500, **{"for": "up-a"})
    async with two(tmp_path, policies={"default": {"hedge": True, "order": ["a"]}}) as pair:
        patient = {"connect": 1, "first_token": 10, "inter_token": 10}
        models = {"pair": {"deployments": [deployment(name, f"up-{name}", timeouts=patient) for name in ("a", "b")]}}
        pair.gateway.rewrite(models=models)
        for _ in range(150):  # each pays for a fiftieth of a hedge
            await ask(pair)
        before = pair.b.requests
        began = asyncio.get_running_loop().time()
        answer = await pair.gateway.chat(text, model="pair", stream=True)
        took = asyncio.get_running_loop().time() - began
        record = await pair.gateway.recorded(answer)

    assert 0.25 < took < 1.5
    assert b"[DONE]" == answer.events[-1]
    assert 1 == pair.b.requests - before
    assert [("a/up-a", True, False), ("b/up-b", False, True)] == [
        (one.deployment, one.cancelled, one.hedged) for one in record.attempts
    ]
