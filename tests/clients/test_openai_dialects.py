"""The `openai` SDK with vendors of every wire format behind the gateway: nothing in it knows that they differ."""

import base64
from collections.abc import AsyncGenerator
from typing import Any, Final

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.responses import FunctionToolParam, ParsedResponse
from pydantic import BaseModel

from tests.fakes.turns import Call, Turn
from tests.fakes.vendors import ALL, Vendors
from tests.fakes.works import PNG, SOUND, vector
from tests.mesh.gateway import SECONDS
from tests.spoken import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")
every_vendor = pytest.mark.parametrize("vendor", ALL)
TEXT_VENDOR: Final = "openai.chat"

PARAMETERS: dict[str, object] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "weather", "description": "tells it", "parameters": PARAMETERS},
}
FUNCTION: FunctionToolParam = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}
CALLS: Final = (Call("weather", '{"city":"Oslo"}', "call_a"), Call("weather", '{"city":"Rome"}', "call_b"))
PICTURE: Final = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


class City(BaseModel):
    """A structured answer."""

    name: str


@pytest_asyncio.fixture(loop_scope="module")
async def client(spoken: Stage) -> AsyncGenerator[AsyncOpenAI]:
    """A client with the SDK's own defaults."""
    gateway = spoken.gateway
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, timeout=SECONDS) as client:
        yield client


@pytest.fixture
def vendors(spoken: Stage) -> Vendors:
    """Who answers."""
    return spoken.vendors


def user(content: Any) -> list[ChatCompletionMessageParam]:
    """A conversation."""
    return [{"role": "user", "content": content}]


@every_vendor
async def test_chat(client: AsyncOpenAI, vendors: Vendors, vendor: str) -> None:
    """Words, thoughts, usage."""
    vendors.say(Turn(text="hi", reasoning="hm"))

    answer = await client.chat.completions.create(model=vendor, messages=user("hello"))

    message = answer.choices[0].message
    assert ("hi", "hm") == (message.content, (message.model_extra or {})["reasoning_content"])
    assert answer.usage is not None
    assert (10, 9, 19) == (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)
    assert ("assistant", "stop") == (message.role, answer.choices[0].finish_reason)


@every_vendor
async def test_tools_in_streams(client: AsyncOpenAI, vendors: Vendors, vendor: str) -> None:
    """The SDK's accumulator puts two calls together; what it dumps goes back, and the loop ends."""
    vendors.say(Turn(reasoning="look", seal="c2VhbA", calls=CALLS), Turn(text="wet"))
    messages = user("weather?")

    async with client.chat.completions.stream(model=vendor, messages=messages, tools=[TOOL]) as stream:
        first = (await stream.get_final_completion()).choices[0]
    calls: Any = first.message.tool_calls
    assistant: Any = first.message.to_dict()
    results: list[ChatCompletionMessageParam] = [
        {"role": "tool", "tool_call_id": call.id, "content": f"{call.function.arguments} is wet"} for call in calls
    ]
    second = await client.chat.completions.create(model=vendor, messages=[*messages, assistant, *results], tools=[TOOL])

    heard = vendors.last.heard
    assert "tool_calls" == first.finish_reason
    assert [call.given for call in CALLS] == [call.given for call in heard.calls]
    assert ['{"city":"Oslo"} is wet', '{"city":"Rome"} is wet'] == [result for _, result in heard.results]
    assert "wet" == second.choices[0].message.content


@every_vendor
async def test_structure(client: AsyncOpenAI, vendors: Vendors, vendor: str) -> None:
    """`parse` with a model, whole and streamed."""
    vendors.say(Turn(text='{"name":"Oslo"}'), Turn(text='{"name":"Rome"}'))

    whole = await client.chat.completions.parse(model=vendor, messages=user("where?"), response_format=City)
    async with client.chat.completions.stream(model=vendor, messages=user("where?"), response_format=City) as stream:
        streamed = await stream.get_final_completion()

    assert City(name="Oslo") == whole.choices[0].message.parsed
    assert City(name="Rome") == streamed.choices[0].message.parsed
    assert ["name"] == vendors.last.heard.schema["required"]


@every_vendor
async def test_vision(client: AsyncOpenAI, vendors: Vendors, vendor: str) -> None:
    """A picture in a message."""
    vendors.say(Turn(text="a dot"))
    content = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]

    answer = await client.chat.completions.create(model=vendor, messages=user(content))

    assert "a dot" == answer.choices[0].message.content
    assert [PNG] == vendors.last.heard.pictures


@every_vendor
async def test_responses(client: AsyncOpenAI, vendors: Vendors, vendor: str) -> None:
    """The newer API: words, thoughts, usage."""
    vendors.say(Turn(text="hi", reasoning="hm"))

    answer = await client.responses.create(model=vendor, input="hello", instructions="be brief", store=False)

    assert ("hi", "completed") == (answer.output_text, answer.status)
    assert ["reasoning", "message"] == [item.type for item in answer.output]
    assert answer.usage is not None
    assert (10, 9, 19) == (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens)
    assert [("system", "be brief"), ("user", "hello")] == vendors.last.heard.texts


@every_vendor
async def test_tools_in_response_streams(client: AsyncOpenAI, vendors: Vendors, vendor: str) -> None:
    """The events satisfy the SDK's accumulator; its items go back as input, thoughts included."""
    vendors.say(Turn(reasoning="look", seal="c2VhbA", calls=CALLS), Turn(text="wet"))
    asked: list[Any] = [{"role": "user", "content": "weather?"}]
    options: dict[str, Any] = {"model": vendor, "tools": [FUNCTION], "include": ["reasoning.encrypted_content"]}

    async with client.responses.stream(input=asked, **options) as stream:
        kinds = [event.type async for event in stream]
        first: ParsedResponse[Any] = await stream.get_final_response()
    calls = [item for item in first.output if item.type == "function_call"]
    results: list[Any] = [{"type": "function_call_output", "call_id": call.call_id, "output": "wet"} for call in calls]
    given: list[Any] = [item.to_dict() for item in first.output]
    second = await client.responses.create(input=[*asked, *given, *results], **options)

    assert ("response.created", "response.completed") == (kinds[0], kinds[-1])
    assert ['{"city":"Oslo"}', '{"city":"Rome"}'] == [call.arguments for call in calls]
    heard = vendors.last.heard
    assert [call.given for call in CALLS] == [call.given for call in heard.calls]
    assert ["wet", "wet"] == [result for _, result in heard.results]
    assert "wet" == second.output_text


@every_vendor
async def test_structured_responses(client: AsyncOpenAI, vendors: Vendors, vendor: str) -> None:
    """`parse` in the newer API."""
    vendors.say(Turn(text='{"name":"Oslo"}'))

    answer = await client.responses.parse(model=vendor, input="where?", text_format=City)

    assert City(name="Oslo") == answer.output_parsed


@every_vendor
async def test_errors(client: AsyncOpenAI, vendors: Vendors, vendor: str) -> None:
    """A refused question raises at once; a stream that breaks raises where it breaks, in both APIs."""
    vendors.say(
        Turn(status=400, says="no such parameter"),
        Turn(text="half of", breaks=True, says="lost my mind"),
        Turn(text="half of", breaks=True, says="lost my mind"),
    )

    with pytest.raises(openai.BadRequestError, match="no such parameter"):
        await client.chat.completions.create(model=vendor, messages=user("hello"))
    words = ""
    with pytest.raises(openai.APIError, match="lost my mind"):
        async for chunk in await client.chat.completions.create(model=vendor, messages=user("hello"), stream=True):
            words += chunk.choices[0].delta.content or ""
    with pytest.raises(openai.APIError, match="lost my mind"):
        async for event in await client.responses.create(model=vendor, input="hello", stream=True):
            words += event.delta if event.type == "response.output_text.delta" else ""

    assert "half ofhalf of" == words


@pytest.mark.parametrize("vendor", [TEXT_VENDOR, "gemini.generate"])
async def test_embeddings(client: AsyncOpenAI, vendor: str) -> None:
    """Vectors of two texts, packed and plain."""
    packed = await client.embeddings.create(model=vendor, input=["one", "three"])
    plain = await client.embeddings.create(model=vendor, input="one", encoding_format="float")

    assert [vector("one"), vector("three")] == [entry.embedding for entry in packed.data]
    assert vector("one") == plain.data[0].embedding


async def test_pictures(client: AsyncOpenAI, vendors: Vendors) -> None:
    """Made and edited."""
    made = await client.images.generate(model=TEXT_VENDOR, prompt="a dot", size="1024x1024")
    edited = await client.images.edit(model=TEXT_VENDOR, prompt="red", image=("dot.png", PNG, "image/png"))

    assert made.data is not None
    assert edited.data is not None
    assert PNG == base64.b64decode(made.data[0].b64_json or "")
    assert "red" == edited.data[0].revised_prompt
    assert ("dot.png", PNG) == vendors.last.form.files["image"]


async def test_sound(client: AsyncOpenAI, vendors: Vendors) -> None:
    """Spoken as it comes, and written down."""
    async with client.audio.speech.with_streaming_response.create(
        model=TEXT_VENDOR, voice="alloy", input="good day"
    ) as spoken:
        sound = b"".join([piece async for piece in spoken.iter_bytes()])
    written = await client.audio.transcriptions.create(model=TEXT_VENDOR, file=("a.mp3", sound, "audio/mpeg"))

    assert SOUND == sound
    assert "audio/mpeg" == spoken.headers["content-type"]
    assert f"a.mp3: {len(SOUND)} bytes" == written.text


async def test_moderations(client: AsyncOpenAI) -> None:
    """What is bad is flagged."""
    answer = await client.moderations.create(model=TEXT_VENDOR, input=["bad", "good"])

    assert [True, False] == [result.flagged for result in answer.results]


async def test_files(client: AsyncOpenAI, vendors: Vendors) -> None:
    """A file goes to the vendor that is named."""
    made = await client.files.create(
        file=("q.jsonl", b"{}", "application/jsonl"),
        purpose="batch",
        extra_headers={"x-polyroute-provider": TEXT_VENDOR},
    )

    assert made.id.startswith(f"file-1@{TEXT_VENDOR}~")
    assert "q.jsonl" == made.filename
    assert ("/v1/files", "Bearer key-of-openai_compatible") == (
        vendors.last.path,
        vendors.last.headers["authorization"],
    )
