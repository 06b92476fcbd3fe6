"""The `anthropic` SDK with vendors of every wire format behind the gateway."""

import base64
from collections.abc import AsyncGenerator
from typing import Any, Final

import anthropic
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic
from anthropic.types import MessageParam, ToolParam
from pydantic import BaseModel

from tests.fakes.turns import Call, Turn
from tests.fakes.vendors import ALL, Vendors
from tests.fakes.works import COUNTED, PNG
from tests.mesh.gateway import SECONDS
from tests.spoken import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
every_vendor = pytest.mark.parametrize("vendor", ALL)

TOOL: ToolParam = {
    "name": "weather",
    "description": "tells it",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALLS: Final = (Call("weather", '{"city":"Oslo"}', "call_a"), Call("weather", '{"city":"Rome"}', "call_b"))
SEALED: Final = frozenset({"openai.responses", "anthropic.messages", "bedrock.converse", "gemini.generate"})


class City(BaseModel):
    """A structured answer."""

    name: str


@pytest_asyncio.fixture(loop_scope="module")
async def client(spoken: Stage) -> AsyncGenerator[AsyncAnthropic]:
    """A client with the SDK's own defaults; the base URL has no version, as its documentation says."""
    gateway = spoken.gateway
    async with AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, timeout=SECONDS) as client:
        yield client


@pytest.fixture
def vendors(spoken: Stage) -> Vendors:
    """Who answers."""
    return spoken.vendors


def user(content: Any) -> MessageParam:
    """One turn."""
    return {"role": "user", "content": content}


@every_vendor
async def test_create(client: AsyncAnthropic, vendors: Vendors, vendor: str) -> None:
    """Words, thoughts, usage, and the id for support."""
    vendors.say(Turn(text="hi", reasoning="hm", seal="c2VhbA"))

    answer = await client.messages.create(model=vendor, max_tokens=5000, system="be brief", messages=[user("hello")])

    shown = [block.type for block in answer.content if block.type != "redacted_thinking"]
    assert ["thinking", "text"] == shown
    assert "end_turn" == answer.stop_reason
    assert 10 == answer.usage.input_tokens + (answer.usage.cache_read_input_tokens or 0)
    assert 9 == answer.usage.output_tokens
    assert answer._request_id
    assert [("system", "be brief"), ("user", "hello")] == vendors.last.heard.texts


@every_vendor
async def test_tools_in_streams(client: AsyncAnthropic, vendors: Vendors, vendor: str) -> None:
    """The SDK's accumulator puts thoughts and calls together; they go back, and the seal of the thoughts with them."""
    vendors.say(Turn(reasoning="look", seal="c2VhbA", calls=CALLS), Turn(text="wet"))
    options: Any = {
        "model": vendor,
        "max_tokens": 5000,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "tools": [TOOL],
    }

    async with client.messages.stream(messages=[user("weather?")], **options) as stream:
        kinds = {event.type async for event in stream}
        first = await stream.get_final_message()
    calls = [block for block in first.content if block.type == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": f"{call.input} wet"} for call in calls]
    turns: list[MessageParam] = [user("weather?"), {"role": "assistant", "content": first.content}, user(results)]
    second = await client.messages.create(messages=turns, **options)

    assert {"thinking", "input_json", "message_stop"} < kinds
    assert ("tool_use", [call.given for call in CALLS]) == (first.stop_reason, [call.input for call in calls])
    heard = vendors.last.heard
    assert [call.given for call in CALLS] == [call.given for call in heard.calls]
    assert ["{'city': 'Oslo'} wet", "{'city': 'Rome'} wet"] == [result for _, result in heard.results]
    assert (["c2VhbA"] if vendor in SEALED else []) == heard.seals
    assert "wet" == second.content[0].text


@every_vendor
async def test_text_streams(client: AsyncAnthropic, vendors: Vendors, vendor: str) -> None:
    """The words as they come."""
    vendors.say(Turn(text="good day to you"))

    async with client.messages.stream(model=vendor, max_tokens=50, messages=[user("hello")]) as stream:
        pieces = [piece async for piece in stream.text_stream]
        answer = await stream.get_final_message()

    assert len(pieces) > 1
    assert "good day to you" == "".join(pieces)
    assert (9, "end_turn") == (answer.usage.output_tokens, answer.stop_reason)


@every_vendor
async def test_structure_and_vision(client: AsyncAnthropic, vendors: Vendors, vendor: str) -> None:
    """`parse` with a model, about a picture."""
    vendors.say(Turn(text='{"name":"Oslo"}'))
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PNG).decode()}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "where?"}]

    answer = await client.messages.parse(model=vendor, max_tokens=50, messages=[user(content)], output_format=City)

    assert City(name="Oslo") == answer.parsed_output
    assert ["name"] == vendors.last.heard.schema["required"]
    assert [PNG] == vendors.last.heard.pictures


@every_vendor
async def test_errors(client: AsyncAnthropic, vendors: Vendors, vendor: str) -> None:
    """A refused question raises at once; a stream that breaks raises where it breaks."""
    vendors.say(Turn(status=400, says="no such parameter"), Turn(text="half of", breaks=True, says="lost my mind"))

    with pytest.raises(anthropic.BadRequestError, match="no such parameter") as refused:
        await client.messages.create(model=vendor, max_tokens=50, messages=[user("hello")])
    words = ""
    with pytest.raises(anthropic.APIStatusError, match="lost my mind"):
        async with client.messages.stream(model=vendor, max_tokens=50, messages=[user("hello")]) as stream:
            async for piece in stream.text_stream:
                words += piece

    assert "half of" == words
    assert refused.value.request_id
    assert "invalid_request_error" == refused.value.body["error"]["type"]  # type: ignore[index] # an object


@pytest.mark.parametrize(
    ("turn", "kind", "word"),
    [
        (Turn(status=429, says="slow down", retry_after=0.001), anthropic.RateLimitError, "rate_limit_error"),
        (Turn(status=503), anthropic._exceptions.OverloadedError, "overloaded_error"),
    ],
)
async def test_errors_that_pass(
    client: AsyncAnthropic, vendors: Vendors, turn: Turn, kind: type[anthropic.APIStatusError], word: str
) -> None:
    """Each has the class that the SDK has for it."""
    vendors.say(turn)

    with pytest.raises(kind) as raised:
        await client.with_options(max_retries=0).messages.create(
            model="openai.chat", max_tokens=50, messages=[user("hello")]
        )

    assert word == raised.value.body["error"]["type"]  # type: ignore[index] # an object


async def test_errors_of_the_gateway(client: AsyncAnthropic) -> None:
    """A wrong key and a model that is not there, in the SDK's own classes."""
    with pytest.raises(anthropic.AuthenticationError):
        await client.with_options(api_key="pr-" + "D" * 64).messages.create(
            model="openai.chat", max_tokens=5, messages=[user("hello")]
        )
    with pytest.raises(anthropic.NotFoundError, match="no-such"):
        await client.messages.create(model="no-such", max_tokens=5, messages=[user("hello")])


async def test_a_bearer_token(spoken: Stage) -> None:
    """The key as `ANTHROPIC_AUTH_TOKEN` presents it."""
    gateway = spoken.gateway
    async with AsyncAnthropic(base_url=gateway.url, auth_token=gateway.key) as client:
        answer = await client.messages.create(model="openai.chat", max_tokens=5, messages=[user("hello")])

    assert answer.content


@every_vendor
async def test_counting(client: AsyncAnthropic, vendor: str) -> None:
    """By the vendor where it counts, by the gateway's own estimate elsewhere."""
    counted = await client.messages.count_tokens(model=vendor, messages=[user("hello")], tools=[TOOL])

    exact = vendor in ("anthropic.messages", "gemini.generate", "bedrock.converse")
    assert counted.input_tokens == COUNTED if exact else 3 < counted.input_tokens < 200


async def test_models(client: AsyncAnthropic) -> None:
    """The list in this API's form, and one of it."""
    names = [model.id async for model in await client.models.list()]
    one = await client.models.retrieve("gemini.generate")

    assert sorted(ALL) == sorted(names)
    assert ("gemini.generate", "model") == (one.id, one.type)
