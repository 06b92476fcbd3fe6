"""The `openai` SDK, as people use it, with nothing changed but the base URL and the key."""

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Any

import openai
import orjson
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from bench.script import Script, marker
from polyroute.api.auth.v1.auth_pb2 import CreateKeyRequest
from tests.clients.conftest import Stage
from tests.mesh.gateway import SECONDS
from tests.mesh.raw import events, json

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "tells it",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = '{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\\"city\\":\\"Oslo\\"}"}}'


@pytest_asyncio.fixture(loop_scope="module")
async def client(stage: Stage) -> AsyncGenerator[AsyncOpenAI]:
    """A client with the SDK's own defaults, two retries included."""
    async with AsyncOpenAI(base_url=f"{stage.gateway.url}/v1", api_key=stage.gateway.key, timeout=SECONDS) as client:
        yield client


def said(text: str = "hello") -> list[ChatCompletionMessageParam]:
    """A conversation."""
    return [{"role": "user", "content": text}]


async def test_chat(client: AsyncOpenAI) -> None:
    """A whole answer, its usage, and the id for support."""
    answer = await client.chat.completions.create(model="m", messages=said(marker(chunks=3)))

    assert (answer.choices[0].message.content or "").endswith("0 1 2")
    assert "stop" == answer.choices[0].finish_reason
    assert answer.usage is not None
    assert 3 == answer.usage.completion_tokens
    assert answer._request_id


async def test_stream(client: AsyncOpenAI) -> None:
    """Every token once, no empty choices for a client that indexes the first."""
    stream = await client.chat.completions.create(model="m", messages=said(marker(chunks=5)), stream=True)

    chunks = [chunk async for chunk in stream]

    assert all(chunk.choices for chunk in chunks)
    assert 5 == "".join(chunk.choices[0].delta.content or "" for chunk in chunks).count("@")
    assert "stop" == chunks[-1].choices[0].finish_reason
    assert [None] * len(chunks) == [chunk.usage for chunk in chunks]


async def test_stream_with_usage(client: AsyncOpenAI) -> None:
    """The last chunk has the usage and no choices."""
    stream = await client.chat.completions.create(
        model="m", messages=said(marker(chunks=5)), stream=True, stream_options={"include_usage": True}
    )

    chunks = [chunk async for chunk in stream]

    assert [] == chunks[-1].choices
    assert chunks[-1].usage is not None
    assert 5 == chunks[-1].usage.completion_tokens


async def test_a_forced_tool_call(stage: Stage, client: AsyncOpenAI) -> None:
    """The call comes back with its id and arguments, and its result goes out as the SDK writes it."""
    message = f'{{"role":"assistant","content":null,"tool_calls":[{CALL}]}}'
    stage.raw.queue(json(f'{{"choices":[{{"index":0,"message":{message},"finish_reason":"tool_calls"}}]}}'.encode()))
    first = await client.chat.completions.create(
        model="raw",
        messages=said("weather?"),
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        parallel_tool_calls=False,
    )
    asked = orjson.loads(stage.raw.seen[-1].body)
    answer = first.choices[0].message
    stage.raw.queue(
        json(b'{"choices":[{"index":0,"message":{"role":"assistant","content":"rain"},"finish_reason":"stop"}]}')
    )
    assert answer.tool_calls is not None
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": answer.tool_calls[0].id, "content": "rain"}
    earlier: Any = answer.to_dict()
    second = await client.chat.completions.create(
        model="raw", messages=[*said("weather?"), earlier, result], tools=[WEATHER]
    )

    call = answer.tool_calls[0]
    assert call.type == "function"
    assert ("call_1", "weather", '{"city":"Oslo"}') == (call.id, call.function.name, call.function.arguments)
    assert "tool_calls" == first.choices[0].finish_reason
    assert [WEATHER] == asked["tools"]
    assert {"type": "function", "function": {"name": "weather"}} == asked["tool_choice"]
    assert "rain" == second.choices[0].message.content
    roles = [one["role"] for one in orjson.loads(stage.raw.seen[-1].body)["messages"]]
    assert ["user", "assistant", "tool"] == roles


async def test_tool_calls_in_a_stream(stage: Stage, client: AsyncOpenAI) -> None:
    """Two calls at once, in pieces, put together by the SDK's own accumulator."""
    pieces = (
        '{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}',
        '{"index":0,"function":{"arguments":"{\\"city\\":\\"Oslo\\"}"}}',
        '{"index":1,"id":"call_2","type":"function","function":{"name":"weather","arguments":"{\\"city\\":"}}',
        '{"index":1,"function":{"arguments":"\\"Rome\\"}"}}',
    )
    head = '{"id":"x","object":"chat.completion.chunk","created":1,"model":"u","choices":[{"index":0,'
    chunk = head + '"delta":%s,"finish_reason":%s}]}'
    deltas = [chunk % (f'{{"tool_calls":[{piece}]}}', "null") for piece in pieces]
    stage.raw.queue(events(*(one.encode() for one in (*deltas, chunk % ("{}", '"tool_calls"'))), b"[DONE]"))

    async with client.chat.completions.stream(model="raw", messages=said(), tools=[WEATHER]) as stream:
        answer = await stream.get_final_completion()

    calls: Any = answer.choices[0].message.tool_calls
    assert [("call_1", '{"city":"Oslo"}'), ("call_2", '{"city":"Rome"}')] == [
        (call.id, call.function.arguments) for call in calls
    ]


async def test_a_structured_answer(stage: Stage, client: AsyncOpenAI) -> None:
    """A JSON schema goes out whole, and the answer is parsed by it."""

    class City(BaseModel):
        name: str

    body = {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": '{"name":"Oslo"}'}, "finish_reason": "stop"}
        ]
    }
    stage.raw.queue(json(orjson.dumps(body)))

    answer = await client.chat.completions.parse(model="raw", messages=said(), response_format=City)

    assert City(name="Oslo") == answer.choices[0].message.parsed
    assert "json_schema" == orjson.loads(stage.raw.seen[-1].body)["response_format"]["type"]


async def test_a_stream_that_breaks_raises(stage: Stage, client: AsyncOpenAI) -> None:
    """The SDK takes a bare end for success: the error in the stream is what tells it."""
    stage.vendor.inject(Script(cut=3))
    stream = await client.chat.completions.create(model="m", messages=said(), stream=True)

    text = ""
    with pytest.raises(openai.APIError, match="broke off") as broken:
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""

    assert 3 == text.count("@")
    assert "upstream_truncated" == broken.value.code


@pytest.mark.parametrize(
    ("script", "kind", "status", "code", "tries"),
    [
        (Script(status=400), openai.BadRequestError, 400, None, 1),
        (Script(status=422), openai.UnprocessableEntityError, 422, None, 1),
        (Script(status=404), openai.NotFoundError, 404, "model_not_found", 1),
        (Script(status=401), openai.InternalServerError, 502, "upstream_credentials", 1),  # x-should-retry: false
        (Script(status=402), openai.InternalServerError, 502, "upstream_quota", 1),
        (Script(status=500), openai.InternalServerError, 502, "upstream_error", 3),
        (Script(status=429, retry_after=0.01), openai.RateLimitError, 429, "rate_limit_exceeded", 3),
    ],
)
async def test_errors_of_a_vendor(
    stage: Stage,
    client: AsyncOpenAI,
    script: Script,
    kind: type[openai.APIStatusError],
    status: int,
    code: str | None,
    tries: int,
) -> None:
    """Each becomes the SDK's class, and is retried by it as often as makes sense."""
    before = stage.vendor.requests
    stage.vendor.script = script
    try:
        with pytest.raises(kind) as raised:
            await client.chat.completions.create(model="m", messages=said())
    finally:
        stage.vendor.script = Script()

    assert (status, code) == (raised.value.status_code, raised.value.code)
    assert before + tries == stage.vendor.requests
    assert raised.value.request_id
    assert raised.value.message


async def test_errors_of_the_gateway(stage: Stage, client: AsyncOpenAI) -> None:
    """A wrong key, a model that is not there or not allowed, a question that is none."""
    limited = await stage.gateway.auth().CreateKey(CreateKeyRequest(models=["raw"]), timeout=SECONDS)
    cases: list[tuple[AsyncOpenAI, dict[str, Any], type[openai.APIStatusError], str]] = [
        (client.with_options(api_key="pr-" + "D" * 43), {}, openai.AuthenticationError, "invalid_api_key"),
        (client.with_options(api_key=limited.secret), {}, openai.PermissionDeniedError, "not_permitted"),
        (client, {"model": "no-such"}, openai.NotFoundError, "model_not_found"),
        (client, {"messages": []}, openai.BadRequestError, "invalid_request"),
    ]
    for one, members, kind, code in cases:
        with pytest.raises(kind) as raised:
            await one.chat.completions.create(**{"model": "m", "messages": said(), **members})
        assert code == raised.value.code


async def test_a_retry_that_helps(stage: Stage, client: AsyncOpenAI) -> None:
    """The SDK's own retries work through the gateway."""
    stage.vendor.inject(Script(status=503, retry_after=0.01), Script(status=500))

    answer = await client.chat.completions.create(model="m", messages=said())

    assert "stop" == answer.choices[0].finish_reason


async def test_embeddings(client: AsyncOpenAI) -> None:
    """By default the SDK asks for base64 and decodes it; floats when asked for."""
    packed = await client.embeddings.create(model="m", input=["a", "bb"])
    plain = await client.embeddings.create(model="m", input="a", encoding_format="float", dimensions=4)

    assert [1, 2] == [entry.embedding.index(1.0) for entry in packed.data]
    assert [0.0, 1.0, 0.0, 0.0] == plain.data[0].embedding
    assert math.isclose(1.0, sum(value * value for value in packed.data[0].embedding))


async def test_completions(stage: Stage, client: AsyncOpenAI) -> None:
    """The older form."""
    stage.raw.queue(
        json(b'{"id":"c","object":"text_completion","choices":[{"index":0,"text":"b","finish_reason":"stop"}]}')
    )

    answer = await client.completions.create(model="raw", prompt="a", max_tokens=5)

    assert "b" == answer.choices[0].text


async def test_models(client: AsyncOpenAI) -> None:
    """The list, and one of it."""
    names = [model.id async for model in client.models.list()]
    one = await client.models.retrieve("m")

    assert ["m", "raw"] == names
    assert ("m", "model", "v") == (one.id, one.object, one.owned_by)


async def test_raw_headers(client: AsyncOpenAI) -> None:
    """Who served, at which attempt, and what Polyroute added, for those who look."""
    raw = await client.chat.completions.with_raw_response.create(
        model="m", messages=said(), extra_headers={"X-Client-Request-Id": "mine-1"}
    )

    assert ("v/up", "1") == (raw.headers["x-polyroute-deployment"], raw.headers["x-polyroute-attempts"])
    assert "mine-1" == raw.headers["x-client-request-id"]
    assert float(raw.headers["x-polyroute-overhead-ms"]) > 0
    assert raw.parse().choices


async def test_unknown_members_reach_the_vendor(stage: Stage, client: AsyncOpenAI) -> None:
    """What the SDK and the gateway do not know of goes through."""
    stage.raw.queue(json(b'{"choices":[{"index":0,"message":{"content":"x"}}],"spice":{"hot":true}}'))

    answer = await client.chat.completions.create(model="raw", messages=said(), extra_body={"top_k": 5, "new": [1]})

    sent = orjson.loads(stage.raw.seen[-1].body)
    assert (5, [1]) == (sent["top_k"], sent["new"])
    assert {"hot": True} == (answer.model_extra or {})["spice"]


async def test_leaving_a_stream_ends_the_vendors_work(stage: Stage, client: AsyncOpenAI) -> None:
    """Closing the SDK's stream is a disconnect."""
    before = stage.vendor.cancelled
    stream = await client.chat.completions.create(model="m", messages=said(marker(chunks=1000, gap=20)), stream=True)
    await anext(aiter(stream))

    await stream.close()

    async with asyncio.timeout(0.5):
        while stage.vendor.cancelled == before:
            await asyncio.sleep(0.005)


async def test_a_base_url_without_v1(stage: Stage) -> None:
    """Both forms of the address work."""
    async with AsyncOpenAI(base_url=stage.gateway.url, api_key=stage.gateway.key) as client:
        answer = await client.chat.completions.create(model="m", messages=said())

    assert answer.choices
