"""The `google-genai` SDK with vendors of every wire format behind the gateway."""

from collections.abc import AsyncGenerator
from typing import Any, Final

import pytest
import pytest_asyncio
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from tests.fakes.turns import Call, Turn
from tests.fakes.vendors import ALL, Vendors
from tests.fakes.works import COUNTED, PNG, vector
from tests.spoken import Stage

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning"),  # the SDK's own
]
every_vendor = pytest.mark.parametrize("vendor", ALL)

CALLS: Final = (Call("weather", '{"city":"Oslo"}', "call_a"), Call("weather", '{"city":"Rome"}', "call_b"))
SEALED: Final = frozenset({"openai.responses", "anthropic.messages", "bedrock.converse", "gemini.generate"})


class City(BaseModel):
    """A structured answer."""

    name: str


@pytest_asyncio.fixture(loop_scope="module")
async def models(spoken: Stage) -> AsyncGenerator[genai.models.AsyncModels]:
    """The asynchronous half of a client, its address changed and nothing else."""
    options = types.HttpOptions(base_url=spoken.gateway.url, timeout=10_000)
    client = genai.Client(api_key=spoken.gateway.key, http_options=options)
    yield client.aio.models
    await client.aio.aclose()
    client.close()


@pytest.fixture
def vendors(spoken: Stage) -> Vendors:
    """Who answers."""
    return spoken.vendors


@every_vendor
async def test_generate(models: genai.models.AsyncModels, vendors: Vendors, vendor: str) -> None:
    """Words, thoughts, usage."""
    vendors.say(Turn(text="hi", reasoning="hm"))
    config = types.GenerateContentConfig(system_instruction="be brief", temperature=0.5)

    answer = await models.generate_content(model=vendor, contents="hello", config=config)

    assert answer.candidates is not None
    assert answer.candidates[0].content is not None
    parts = answer.candidates[0].content.parts or []
    assert [("hm", True), ("hi", None)] == [(part.text, part.thought) for part in parts]
    assert ("hi", types.FinishReason.STOP) == (answer.text, answer.candidates[0].finish_reason)
    assert answer.usage_metadata is not None
    assert (10, 19) == (answer.usage_metadata.prompt_token_count, answer.usage_metadata.total_token_count)
    assert [("system", "be brief"), ("user", "hello")] == vendors.last.heard.texts


@every_vendor
async def test_streams(models: genai.models.AsyncModels, vendors: Vendors, vendor: str) -> None:
    """The words as they come, and the usage at the end."""
    vendors.say(Turn(text="good day to you"))

    chunks = [chunk async for chunk in await models.generate_content_stream(model=vendor, contents="hello")]

    words = [chunk.text for chunk in chunks if chunk.text]
    assert len(words) > 1
    assert "good day to you" == "".join(words)
    assert chunks[-1].usage_metadata is not None
    assert 19 == chunks[-1].usage_metadata.total_token_count


@every_vendor
async def test_functions_that_the_sdk_calls(models: genai.models.AsyncModels, vendors: Vendors, vendor: str) -> None:
    """The SDK runs a Python function for each call and asks again, all by itself."""
    vendors.say(Turn(reasoning="look", seal="c2VhbA==", calls=CALLS), Turn(text="wet"))
    asked: list[str] = []

    def weather(city: str) -> str:
        """Tells the weather of a city."""
        asked.append(city)
        return f"{city} is wet"

    config = types.GenerateContentConfig(tools=[weather])

    answer = await models.generate_content(model=vendor, contents="weather?", config=config)

    assert (["Oslo", "Rome"], "wet") == (asked, answer.text)
    heard = vendors.last.heard
    assert [call.given for call in CALLS] == [call.given for call in heard.calls]
    assert ["Oslo is wet", "Rome is wet"] == [_plain(result) for _, result in heard.results]
    assert (["c2VhbA=="] if vendor in SEALED else []) == heard.seals


def _plain(result: Any) -> str:
    """What a function returned: the SDK puts it into an object."""
    return str(result).removeprefix('{"result":"').removesuffix('"}')


@every_vendor
async def test_calls_in_streams(models: genai.models.AsyncModels, vendors: Vendors, vendor: str) -> None:
    """Calls come whole."""
    vendors.say(Turn(calls=CALLS))
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    declared = types.FunctionDeclaration(name="weather", parameters_json_schema=parameters)
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])

    stream = await models.generate_content_stream(model=vendor, contents="weather?", config=config)
    calls = [call async for chunk in stream for call in chunk.function_calls or ()]

    assert [("weather", call.given) for call in CALLS] == [(call.name, call.args) for call in calls]


@every_vendor
async def test_structure_and_vision(models: genai.models.AsyncModels, vendors: Vendors, vendor: str) -> None:
    """A schema made from a model, about a picture."""
    vendors.say(Turn(text='{"name":"Oslo"}'))
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=City)
    contents: list[Any] = [types.Part.from_bytes(data=PNG, mime_type="image/png"), "where?"]

    answer = await models.generate_content(model=vendor, contents=contents, config=config)

    assert City(name="Oslo") == answer.parsed
    assert ["name"] == vendors.last.heard.schema["required"]
    assert [PNG] == vendors.last.heard.pictures


@every_vendor
async def test_errors(models: genai.models.AsyncModels, vendors: Vendors, vendor: str) -> None:
    """A refused question raises at once; a stream that breaks raises where it breaks."""
    vendors.say(Turn(status=400, says="no such parameter"), Turn(text="half of", breaks=True, says="lost my mind"))

    with pytest.raises(errors.ClientError, match="no such parameter") as refused:
        await models.generate_content(model=vendor, contents="hello")
    words = ""
    with pytest.raises(errors.APIError, match="lost my mind"):
        async for chunk in await models.generate_content_stream(model=vendor, contents="hello"):
            words += chunk.text or ""

    assert (400, "INVALID_ARGUMENT") == (refused.value.code, refused.value.status)
    assert "half of" == words


async def test_errors_of_the_gateway(models: genai.models.AsyncModels, spoken: Stage) -> None:
    """A wrong key and a model that is not there."""
    options = types.HttpOptions(base_url=spoken.gateway.url)
    with genai.Client(api_key="pr-" + "D" * 64, http_options=options) as stranger:
        with pytest.raises(errors.ClientError) as unknown:
            await stranger.aio.models.generate_content(model="openai.chat", contents="hello")
        await stranger.aio.aclose()
    with pytest.raises(errors.ClientError, match="no-such") as missing:
        await models.generate_content(model="no-such", contents="hello")

    assert (401, "UNAUTHENTICATED") == (unknown.value.code, unknown.value.status)
    assert (404, "NOT_FOUND") == (missing.value.code, missing.value.status)


@pytest.mark.parametrize("vendor", ["gemini.generate", "openai.chat"])
async def test_vectors(models: genai.models.AsyncModels, vendor: str) -> None:
    """Of two texts at once; as contents, for of models called like this one the SDK takes strings for one content."""
    contents: list[Any] = [types.Content(parts=[types.Part(text=text)]) for text in ("one", "three")]

    answer = await models.embed_content(model=vendor, contents=contents)

    assert [vector("one"), vector("three")] == [one.values for one in answer.embeddings or ()]


@every_vendor
async def test_counting(models: genai.models.AsyncModels, vendor: str) -> None:
    """By the vendor where it counts, by the gateway's own estimate elsewhere."""
    counted = await models.count_tokens(model=vendor, contents="hello")

    assert counted.total_tokens is not None
    exact = vendor in ("anthropic.messages", "gemini.generate", "bedrock.converse")
    assert counted.total_tokens == COUNTED if exact else 1 < counted.total_tokens < 100


async def test_models(models: genai.models.AsyncModels) -> None:
    """The list, and one of it."""
    names = [model.name async for model in await models.list()]
    one = await models.get(model="gemini.generate")

    assert sorted(f"models/{name}" for name in ALL) == sorted(name or "" for name in names)
    assert "models/gemini.generate" == one.name
