"""Models that clouds offer in their makers' own formats, at the clouds' own paths."""

import asyncio
import base64
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast
from unittest.mock import patch

import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from polyroute.providers.credentials import HeaderKey
from polyroute.providers.registry import all_vendors
from polyroute.providers.vendor import Vendor
from tests.fakes.own_formats import frame
from tests.mesh.gateway import Gateway, running

pytestmark = pytest.mark.asyncio(loop_scope="module")
CLAUDE: Final = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
MESSAGE: Final = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 7, "output_tokens": 5},
}
ASKED: Final = {"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
VECTORS: Final[dict[str, Any]] = {
    "amazon.titan-embed-text-v2:0": {"embedding": [0.5, -2], "inputTextTokenCount": 3},
    "cohere.embed-english-v3": {"id": "1", "embeddings": {"float": [[0.5, -2], [1, 2]]}, "texts": ["a", "b"]},
    "gemini-embedding-2-preview": {"embedding": {"values": [0.5, -2]}, "usageMetadata": {"promptTokenCount": 3}},
    "text-embedding-005": {
        "predictions": [{"embeddings": {"values": [0.5, -2], "statistics": {"token_count": 3, "truncated": False}}}]
    },
}


def chunk(event: dict[str, Any]) -> bytes:
    """An event of a model's own stream, as InvokeModelWithResponseStream wraps it."""
    return frame("event", "chunk", {"bytes": base64.b64encode(orjson.dumps(event)).decode(), "p": "abcd"})


def streamed() -> list[bytes]:
    """`MESSAGE` as a stream."""
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    usage = {"input_tokens": 7, "output_tokens": 1}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}}
    return [
        chunk({"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": usage}}),
        chunk(block),
        chunk({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}}),
        chunk({"type": "content_block_stop", "index": 0}),
        chunk(end),
        chunk({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 7}}),
    ]


@dataclass
class Clouds:
    """Both clouds, and the gateway before them; `bodies` are the requests by their path, the newest last."""

    gateway: Gateway
    bodies: list[tuple[str, Any]] = field(default_factory=list)

    async def vectors(self, model: str, *texts: str, **members: Any) -> Any:
        """The vectors of some texts, by OpenAI's format."""
        answer = await self.gateway.post("/v1/embeddings", {"model": model, "input": list(texts), **members})
        assert 200 == answer.status, answer.body
        return [entry["embedding"] for entry in answer.json["data"]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clouds(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Clouds]:
    """See `Clouds`."""
    bodies: list[tuple[str, Any]] = []

    async def serve(request: web.Request) -> web.StreamResponse:
        bodies.append((request.path, await request.json()))
        if request.path.endswith("/invoke-with-response-stream"):
            answer = web.StreamResponse(headers={"content-type": "application/vnd.amazon.eventstream"})
            await answer.prepare(request)
            for piece in streamed():
                await answer.write(piece)
            return answer
        body = bodies[-1][1]
        if body.get("inputText") == "refused":
            return web.json_response({"message": "no"}, status=400)
        if body.get("inputText", "").isdecimal():  # its vector is itself, the first takes longest
            await asyncio.sleep(0.002 * (9 - int(body["inputText"])))
            return web.json_response({"embedding": [float(body["inputText"])], "inputTextTokenCount": 2})
        found = next((vectors for model, vectors in VECTORS.items() if model in request.path), MESSAGE)
        return web.json_response(found, headers={"X-Amzn-Bedrock-Input-Token-Count": "4"})

    app = web.Application()
    app.router.add_post("/{path:.*}", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    known = all_vendors()
    keyed = {"vertex_keyed": replace(known["vertex"], name="vertex_keyed", credential=HeaderKey(), key_env=())}
    providers: dict[str, Any] = {
        "aws": {"vendor": "bedrock_invoke", "base_url": url, "keys": ["ABSK-test"]},
        "google": {"vendor": "vertex_keyed", "base_url": url, "keys": ["token"], "settings": {"project": "acme"}},
    }
    models: dict[str, Any] = {"claude": {"deployments": [{"provider": "aws", "model": CLAUDE}]}}
    for name in VECTORS:
        provider = "aws" if name.startswith(("amazon", "cohere")) else "google"
        models[name.partition(":")[0]] = {
            "deployments": [{"provider": provider, "model": name}],
            "operations": ["embedding"],
        }
    try:
        with patch.dict(cast("dict[str, Vendor]", known), keyed):
            async with running(tmp_path_factory.mktemp("gateway"), providers, models) as gateway:
                yield Clouds(gateway, bodies)
    finally:
        await runner.cleanup()


async def test_anthropics_clients_reach_claude_untranslated(clouds: Clouds) -> None:
    """The model stands in the path, the version in the body; the answer passes as it is."""
    answer = await clouds.gateway.post("/v1/messages", {"model": "claude", **ASKED})

    assert (200, MESSAGE) == (answer.status, answer.json)
    assert (f"/model/{CLAUDE}/invoke", {"anthropic_version": "bedrock-2023-05-31", **ASKED}) == clouds.bodies[-1]


async def test_streams_are_unwrapped(clouds: Clouds) -> None:
    """The events that the cloud's messages hold, under their names, and what was used."""
    answer = await clouds.gateway.post("/v1/messages", {"model": "claude", "stream": True, **ASKED})

    path, body = clouds.bodies[-1]
    assert f"/model/{CLAUDE}/invoke-with-response-stream" == path
    assert "stream" not in body
    events = [line for line in answer.body.decode().split("\n") if line.startswith("event: ")]
    assert ["event: message_start", "event: message_stop"] == [events[0], events[-1]]
    record = await clouds.gateway.record(answer.headers["request-id"])
    assert (7, 5) == (record.usage.input_tokens, record.usage.output_tokens)


async def test_other_clients_reach_claude_too(clouds: Clouds) -> None:
    """Translated, whole and as a stream."""
    body = {"model": "claude", "messages": [{"role": "user", "content": "hi"}]}

    whole = await clouds.gateway.post(body=body)
    stream = await clouds.gateway.post(body={**body, "stream": True})

    assert "hello" == whole.json["choices"][0]["message"]["content"]
    assert b"hello" in stream.body
    assert stream.body.endswith(b"data: [DONE]\n\n")


async def test_vectors_of_one_text(clouds: Clouds) -> None:
    """In the form that knows no lists."""
    assert [[0.5, -2]] == await clouds.vectors("amazon.titan-embed-text-v2", "a", dimensions=256)
    assert ("/model/amazon.titan-embed-text-v2:0/invoke", {"inputText": "a", "dimensions": 256}) == clouds.bodies[-1]


async def test_lists_for_models_that_know_none(clouds: Clouds) -> None:
    """A request a text, the vectors in the order of the texts, what they used in one sum."""
    texts = [str(number) for number in range(9)]
    before = len(clouds.bodies)

    answer = await clouds.gateway.post("/v1/embeddings", {"model": "amazon.titan-embed-text-v2", "input": texts})

    assert [[float(text)] for text in texts] == [entry["embedding"] for entry in answer.json["data"]]
    assert 18 == answer.json["usage"]["total_tokens"]
    assert sorted(texts) == sorted(body["inputText"] for _, body in clouds.bodies[before:])
    assert [[0.5, -2]] * 3 == await clouds.vectors("gemini-embedding-2-preview", "a", "b", "c")


async def test_one_text_that_fails_fails_the_list(clouds: Clouds) -> None:
    """There is no answer with holes."""
    texts = {"model": "amazon.titan-embed-text-v2", "input": ["1", "refused", "2"]}

    answer = await clouds.gateway.post("/v1/embeddings", texts)

    assert (400, "invalid_request_error") == (answer.status, answer.error["type"])


async def test_tokens_that_only_a_header_tells(clouds: Clouds) -> None:
    """They are in the answer and in the record."""
    model = {"model": "cohere.embed-english-v3", "input": ["a", "b"]}

    answer = await clouds.gateway.post("/v1/embeddings", model)

    assert 4 == answer.json["usage"]["prompt_tokens"]
    record = await clouds.gateway.record(answer.headers["x-request-id"])
    assert (4, False) == (record.usage.input_tokens, record.usage.estimated)


async def test_features_in_trial_are_named_in_the_body(clouds: Clouds) -> None:
    """Those that this cloud knows; one that it does not would fail the request, and is told as left out."""
    headers = clouds.gateway.headers(**{"anthropic-beta": "claude-code-20250219, effort-2025-11-24"})
    body = {"model": "claude", "anthropic_beta": ["context-1m-2025-08-07"], **ASKED}

    answer = await clouds.gateway.post("/v1/messages", body, headers=headers)

    assert 200 == answer.status, answer.body
    assert ["context-1m-2025-08-07", "effort-2025-11-24"] == clouds.bodies[-1][1]["anthropic_beta"]
    assert "anthropic-beta" == answer.headers["x-polyroute-dropped"]


async def test_vectors_of_several_texts(clouds: Clouds) -> None:
    """In the maker's form, without the model, which stands in the path."""
    assert [[0.5, -2], [1, 2]] == await clouds.vectors("cohere.embed-english-v3", "a", "b")

    path, body = clouds.bodies[-1]
    assert "/model/cohere.embed-english-v3/invoke" == path
    assert {"texts": ["a", "b"], "input_type": "search_document", "embedding_types": ["float"]} == body


async def test_newer_and_older_models_of_one_cloud(clouds: Clouds) -> None:
    """The newer are asked for the vector of a content, the older for a prediction."""
    place = "/v1/projects/acme/locations/global/publishers/google/models"

    assert [[0.5, -2]] == await clouds.vectors("gemini-embedding-2-preview", "a", dimensions=256)
    assert (
        f"{place}/gemini-embedding-2-preview:embedContent",
        {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 256},
    ) == clouds.bodies[-1]
    assert [[0.5, -2]] == await clouds.vectors("text-embedding-005", "a")
    assert (f"{place}/text-embedding-005:predict", {"instances": [{"content": "a"}]}) == clouds.bodies[-1]
