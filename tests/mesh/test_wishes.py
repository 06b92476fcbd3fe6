"""What callers may say of vendors, by the openai client; three vendors that differ in price, speed and region."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any, Final

import openai
import pytest
import pytest_asyncio

from bench.script import Script, marker
from bench.vendor import Vendor
from polyroute.api.router.v1.router_pb2 import DecisionRecord, ExplainRequest
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from tests.mesh.gateway import Gateway, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
SOON: Final = 60.0  # s until live figures of the calls before are known to the router
# name: milliseconds to the first word, milliseconds between words, USD per million in and out, region, longest prompt
VENDORS: Final = {
    "cheap": (450, 20.0, "1", "2", "cn-beijing", 8_000),
    "quick": (5, 20.0, "3", "9", "us", 128_000),
    "fluent": (400, 2.0, "3", "8", "eu", 128_000),
}  # far apart: a machine that is busy adds to all of them
WARM: Final = 6
QUICK: Final = 250.0  # ms; of six calls one that met a busy moment would be the 90th percentile


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Gateway]:
    """Model `DeepSeek-R1` on all three, whose live figures are known."""
    async with AsyncExitStack() as stack:
        urls, deployments = {}, []
        for name, (first, gap, price_in, price_out, region, longest) in VENDORS.items():
            vendor = await stack.enter_async_context(Vendor(script=Script(first=first, gap=gap, chunks=10)))
            urls[name] = vendor.url
            deployments.append(
                {
                    "provider": name,
                    "model": "r1",
                    "region": region,
                    "context": longest,
                    "price": {"input": price_in, "output": price_out},
                }
            )
        models = {"DeepSeek-R1": {"deployments": deployments}, "other": {"deployments": ["quick/other"]}}
        gateway = await stack.enter_async_context(
            running(tmp_path_factory.mktemp("gateway"), urls, models, router={"health": True})
        )
        await warmed(gateway)
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(gateway: Gateway) -> AsyncGenerator[openai.AsyncOpenAI]:
    """The real one."""
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


async def warmed(gateway: Gateway) -> None:
    """Asks each vendor until the router has live figures of all three, the vendors' and not this machine's."""
    async with asyncio.timeout(SOON):
        while True:
            for _ in range(WARM):
                await asyncio.gather(
                    *(gateway.chat(model="DeepSeek-R1", stream=True, provider={"only": [name]}) for name in VENDORS)
                )
            await asyncio.sleep(0.5)
            _, record = await asked(gateway, gateway.chat(model="DeepSeek-R1"))
            figures = {one.facts.provider: one.figures for one in record.candidates}
            known = all(one.HasField("latency_milliseconds") for one in figures.values())
            if known and figures["quick"].latency_milliseconds.p90 < QUICK:
                return


async def asked(gateway: Gateway, call: Any) -> tuple[str, DecisionRecord]:
    """The provider that answered a call, and the record that explains it."""
    answer = await call
    router = RouterServiceStub(gateway.node.channel("router"))
    why = await router.Explain(ExplainRequest(request_id=answer.headers["x-request-id"]), timeout=5)
    return answer.headers["x-polyroute-provider"], why.record


async def served(client: openai.AsyncOpenAI, model: str = "DeepSeek-R1", **extra: Any) -> str:
    """Who answers."""
    answer = await client.chat.completions.with_raw_response.create(
        model=model, messages=[{"role": "user", "content": "hi"}], extra_body=extra
    )
    assert answer.parse().choices[0].message.content
    return answer.headers["x-polyroute-provider"]


async def every(client: openai.AsyncOpenAI, count: int = 3, **extra: Any) -> set[str]:
    """Who answers some calls."""
    return set(await asyncio.gather(*(served(client, **extra) for _ in range(count))))


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        ({"only": ["cheap"]}, {"cheap"}),
        ({"ignore": ["cheap", "fluent"]}, {"quick"}),
        ({"order": ["fluent", "quick"]}, {"fluent"}),
        ({"sort": "input_price"}, {"cheap"}),
        ({"sort": ["input_price", "output_price"], "ignore": ["cheap"]}, {"fluent"}),
        ({"sort": ["output_price", "input_price"]}, {"cheap"}),
        ({"sort": "latency"}, {"quick"}),
        ({"sort": ["latency", "throughput"]}, {"quick"}),
        ({"sort": "throughput"}, {"fluent"}),
        ({"order": ["throughput"]}, {"fluent"}),
        ({"input_price_range": [0, 2]}, {"cheap"}),
        ({"output_price_range": [8.5, 10]}, {"quick"}),
        ({"latency_range": [0, 0.3]}, {"quick"}),
        ({"throughput_range": [80, 100000]}, {"fluent"}),
        ({"input_length_range": [100000, 200000], "sort": "output_price"}, {"fluent"}),
        ({"sort": {"by": "price", "partition": "none"}}, {"cheap"}),
        ({"max_price": {"prompt": 2}}, {"cheap"}),
        ({"preferred_max_latency": {"p90": 0.3}}, {"quick"}),
        ({"region": "eu"}, {"fluent"}),
        ({"max_latency_ms": 300}, {"quick"}),
    ],
    ids=str,
)
async def test_provider_object(client: openai.AsyncOpenAI, provider: dict[str, Any], expected: set[str]) -> None:
    """Every field leads where it says, in every call."""
    outside = {name: provider.pop(name) for name in ("region", "max_latency_ms") if name in provider}

    assert expected == await every(client, provider=provider, **outside)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("DeepSeek-R1:latency", "quick"),
        ("DeepSeek-R1:throughput", "fluent"),
        ("DeepSeek-R1:throughput:latency<300", "quick"),
        ("DeepSeek-R1:throughput:input_price<2.0", "cheap"),
        ("DeepSeek-R1::provider=quick", "quick"),
        ("DeepSeek-R1::only=fluent", "fluent"),
        ("DeepSeek-R1:input_price:ignore=cheap|quick", "fluent"),
        ("DeepSeek-R1:floor", "cheap"),
        ("DeepSeek-R1:nitro", "fluent"),
        ("quick/r1", "quick"),
    ],
)
async def test_forms_of_a_name(client: openai.AsyncOpenAI, model: str, expected: str) -> None:
    """What a client without extra fields can say, in the name alone."""
    assert expected == await served(client, model)


async def test_models_are_a_list_to_fall_back_on(client: openai.AsyncOpenAI) -> None:
    """When the first one's vendors fail, the next one answers."""
    answer = await client.chat.completions.with_raw_response.create(
        model="DeepSeek-R1",
        messages=[{"role": "user", "content": marker(status=503, **{"for": "r1"})}],
        extra_body={"models": ["DeepSeek-R1", "other"], "provider": {"only": ["quick"]}},
    )

    assert "quick/other" == answer.headers["x-polyroute-deployment"]


async def test_filters_that_leave_nobody(client: openai.AsyncOpenAI) -> None:
    """Filters on live figures are lifted unless the caller says that nothing may be."""
    assert await served(client, provider={"throughput_range": [1e6, 1e7]})
    with pytest.raises(openai.APIStatusError) as caught:
        await served(client, provider={"throughput_range": [1e6, 1e7], "allow_fallbacks": False})

    assert "throughput" in caught.value.message


async def test_what_cannot_be_meant(client: openai.AsyncOpenAI) -> None:
    """A name on both lists is 422; a field that there is not is 400, with the one that was meant."""
    with pytest.raises(openai.UnprocessableEntityError):
        await served(client, provider={"only": ["quick"], "ignore": ["quick"]})
    with pytest.raises(openai.BadRequestError, match="latency_range"):
        await served(client, provider={"latency_rang": [0, 1]})


async def test_the_explanation(gateway: Gateway) -> None:
    """Each candidate, each filter's verdict with its number, and the terms; in the answer and from the router alike."""
    provider = {"latency_range": [0, 0.3], "sort": "throughput"}
    answer = await gateway.chat(
        model="DeepSeek-R1", provider=provider, headers=gateway.headers(**{"x-polyroute-explain": "true"})
    )
    told = answer.json["polyroute"]["decision"]
    router = RouterServiceStub(gateway.node.channel("router"))
    why = await router.Explain(ExplainRequest(request_id=answer.headers["x-request-id"]), timeout=5)
    latency = {
        one.deployment: (verdict.passed, verdict.observed)
        for one in why.record.candidates
        for verdict in one.verdicts
        if verdict.filter == "latency"
    }

    assert {"cheap/r1": False, "fluent/r1": False, "quick/r1": True} == {
        name: passed for name, (passed, _) in sorted(latency.items())
    }
    assert all(any(digit.isdigit() for digit in observed) for _, observed in latency.values())
    assert [one.deployment for one in why.record.candidates] == [one["deployment"] for one in told["candidates"]]
    assert why.record.catalog_version == told["catalog_version"] == answer.headers["x-polyroute-catalog"]


async def test_default_shares_by_price(client: openai.AsyncOpenAI) -> None:
    """Nothing said: the cheapest gets most, though it is slow; the others get their share."""
    found = Counter(await asyncio.gather(*(served(client) for _ in range(150))))

    assert "cheap" == found.most_common(1)[0][0]
    assert set(VENDORS) == found.keys()
