"""The other doors: embeddings, completions, models, health, figures, the description; each with and without /v1."""

import asyncio
import base64
import re
import struct
from typing import Any, Final

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bench.script import Script
from tests.mesh.conftest import Stage
from tests.mesh.gateway import SECONDS
from tests.mesh.raw import events, json

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMPLETED = (
    b'{"id":"c","choices":[{"index":0,"text":"\\u00e9 b","finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4},"odd":1.0}'
)


@pytest.mark.parametrize("prefix", ["/v1", ""])
async def test_every_path_with_and_without_v1(stage: Stage, prefix: str) -> None:
    """Clients add the version or do not."""
    stage.raw.queue(json(COMPLETED))
    posted = [
        await stage.gateway.post(f"{prefix}/chat/completions", {"model": "m", "messages": [_user("x")]}),
        await stage.gateway.post(f"{prefix}/completions", {"model": "raw", "prompt": "x"}),
        await stage.gateway.post(f"{prefix}/embeddings", {"model": "m", "input": "x"}),
    ]
    got = [await stage.gateway.get(f"{prefix}{path}") for path in ("/models", "/models/m", "/models/nick")]

    assert [200] * 3 == [answer.status for answer in posted]
    assert [200] * 3 == [answer.status for answer in got]
    assert ["m", "nick"] == [answer.json["id"] for answer in got[1:]]


async def test_models(stage: Stage) -> None:
    """The list has the form that OpenAI's clients read; aliases are in it."""
    listed = await stage.gateway.get("/v1/models")
    missing = await stage.gateway.get("/v1/models/no/such")

    assert "list" == listed.json["object"]
    models = {model["id"]: model for model in listed.json["data"]}
    assert {"object": "model", "owned_by": "a"}.items() <= models["m"].items()
    assert "a,b" == models["pair"]["owned_by"]
    assert ["m"] == models["nick"]["alias_of"]
    assert all(isinstance(model["created"], int) for model in models.values())
    assert (404, "model_not_found") == (missing.status, missing.error["code"])


async def test_a_completion_passes(stage: Stage) -> None:
    """The older form is passed through as chat is."""
    stage.raw.queue(json(COMPLETED))
    body = b'{"prompt":["\\u00e9"],"model":"raw","odd":1e0}'

    answer = await stage.gateway.post("/v1/completions", body)
    record = await stage.gateway.recorded(answer)

    assert COMPLETED == answer.body
    assert "/v1/completions" == stage.raw.seen[-1].path
    assert body.replace(b'"raw"', b'"up-raw"') == stage.raw.seen[-1].body
    assert (2, 2) == (record.usage.input_tokens, record.usage.output_tokens)


async def test_a_completion_streams(stage: Stage) -> None:
    """Events of the older form, its usage hidden from a client that did not ask."""
    said = (b'{"choices":[{"index":0,"text":"a"}]}', b'{"choices":[{"index":0,"text":"b","finish_reason":"stop"}]}')
    counted = b'{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}'
    stage.raw.queue(events(*said, counted, b"[DONE]"))

    answer = await stage.gateway.post("/v1/completions", {"model": "raw", "prompt": "x", "stream": True})

    assert [*said, b"[DONE]"] == answer.events


@pytest.mark.parametrize("encoding", ["float", "base64", None])
async def test_embeddings(stage: Stage, encoding: str | None) -> None:
    """Vectors as numbers or as base64 of little-endian floats, as the client asked."""
    body: dict[str, Any] = {"model": "m", "input": ["a", "bb", "ccc"], "dimensions": 5}
    if encoding:
        body["encoding_format"] = encoding

    answer = await stage.gateway.post("/v1/embeddings", body)
    record = await stage.gateway.recorded(answer)

    assert [0, 1, 2] == [entry["index"] for entry in answer.json["data"]]
    assert [1, 2, 3] == [_vector(entry["embedding"]).index(1.0) for entry in answer.json["data"]]
    assert {encoding == "base64"} == {isinstance(entry["embedding"], str) for entry in answer.json["data"]}
    assert (3, 3 * 1500) == (record.usage.input_tokens, record.cost_nanos)


@pytest.mark.parametrize(("asked", "sent"), [("base64", [0.5, -1.5]), ("float", "AAAAPwAAwL8=")])
async def test_a_vendor_that_knows_one_encoding(stage: Stage, asked: str, sent: object) -> None:
    """The client gets the encoding that it asked for, whatever the vendor sends."""
    data = [{"object": "embedding", "index": 0, "embedding": sent}]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    stage.raw.queue(json(orjson.dumps({"object": "list", "data": data, "model": "x", "usage": usage})))

    answer = await stage.gateway.post("/v1/embeddings", {"model": "raw", "input": "x", "encoding_format": asked})

    (entry,) = answer.json["data"]
    assert [0.5, -1.5] == _vector(entry["embedding"])
    assert (asked == "base64") == isinstance(entry["embedding"], str)


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2], [3]], "text", ["t"]])
async def test_inputs_of_every_form(stage: Stage, given: object) -> None:
    """Texts and token ids go to the vendor as they are."""
    answer = await stage.gateway.post("/v1/embeddings", {"model": "m", "input": given})

    assert 200 == answer.status
    assert given == orjson.loads(stage.a.seen[-1].body)["input"]


async def test_headers_of_an_answer(stage: Stage) -> None:
    """Which call it was, who served it, what Polyroute added; the vendor's rate limits pass."""
    limits = {"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-tokens": "6m0s"}
    others = {"set-cookie": "a=b", "x-internal": "no", "openai-organization": "acme"}
    body = b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}'
    stage.raw.queue(
        json(body, headers={**limits, **others}), events(body.replace(b"message", b"delta"), headers=limits)
    )
    unary = await stage.gateway.chat(model="raw")
    streamed = await stage.gateway.chat(model="raw", stream=True)

    for answer in (unary, streamed):
        headers = answer.headers
        assert limits.items() <= headers.items()
        assert not {"set-cookie", "x-internal", "openai-organization", "server"} & headers.keys()
        assert ("raw:raw", "raw", "raw", "1") == tuple(
            headers[f"x-polyroute-{name}"] for name in ("deployment", "provider", "model", "attempts")
        )
        assert 0 < float(headers["x-polyroute-overhead-ms"]) < 1000
        assert int(headers["openai-processing-ms"]) >= 0
        assert "2020-10-01" == headers["openai-version"]
    assert unary.headers["x-request-id"] != streamed.headers["x-request-id"]
    assert "no-cache" == streamed.headers["cache-control"]


async def test_health(stage: Stage) -> None:
    """Live while it runs; ready while every role that a call needs is."""
    live = await stage.gateway.get("/health/live", headers={})
    ready = await stage.gateway.get("/health/ready", headers={})
    stage.gateway.node.set_serving("router", serving=False)
    missing = await stage.gateway.get("/health/ready", headers={})
    stage.gateway.node.set_serving("router", serving=True)

    assert (200, {"status": "live"}) == (live.status, live.json)
    assert (200, "ready") == (ready.status, ready.json["status"])
    assert (503, False) == (missing.status, missing.json["roles"]["router"])


async def test_figures(stage: Stage) -> None:
    """`/metrics` is Prometheus' text format, each metric once, and counts what happened."""
    stage.a.inject(Script(status=400))
    answers = [await stage.gateway.chat(), await stage.gateway.chat(stream=True)]
    for answer in answers:
        await stage.gateway.recorded(answer)

    async with asyncio.timeout(SECONDS):
        page = await stage.gateway.get("/metrics", headers={})
    families = list(text_string_to_metric_families(page.body.decode()))

    assert page.headers["content-type"].startswith("text/plain; version=")
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    samples = [sample for family in families for sample in family.samples]
    assert any("polyroute" in sample.name and sample.value > 0 for sample in samples)
    assert any("a/up" in sample.labels.values() for sample in samples)
    assert stage.gateway.key not in page.body.decode()


async def test_the_description(stage: Stage) -> None:
    """Every path and reference of the OpenAPI document leads somewhere."""
    document = (await stage.gateway.get("/openapi.json", headers={})).json

    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    assert {reference.rpartition("/")[2] for reference in _references(document)} == schemas.keys()
    for template, operations in document["paths"].items():
        path = re.sub(r"\{\w+\}", "m", template)
        for method, operation in operations.items():
            if method == "parameters" or "default" in operation["responses"]:  # a vendor's own API: nothing is promised
                continue
            answer = await (stage.gateway.post(path, {}) if method == "post" else stage.gateway.get(path))
            assert str(answer.status) in operation["responses"], path
            assert (answer.status == 400) == (method == "post"), path


async def test_the_front_page_says_what_this_is(stage: Stage) -> None:
    """`HEAD /` is how some clients look whether anybody is there."""
    page = await stage.gateway.get("/", headers={})
    async with stage.gateway.session.head(stage.gateway.url) as probe:
        status = probe.status

    assert ("polyroute", 200) == (page.json["name"], status)


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def _vector(value: str | list[float]) -> list[float]:
    if isinstance(value, list):
        return value
    data = base64.b64decode(value)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []


TOOL: Final = {
    "type": "function",
    "name": "send",
    "parameters": {"type": "object", "properties": {"messages": {"type": "string"}, "input": {"type": "string"}}},
}


@pytest.mark.parametrize("tools", [{}, {"tools": [TOOL]}], ids=["bare", "tools"])
async def test_a_response_at_the_door_of_chats(stage: Stage, tools: dict[str, Any]) -> None:
    """Some editors send `/v1/responses`'s body here: the answer is a chat's, with no chunk that nobody asked for."""
    asked = {"model": "m", "input": "hi", "stream": True, **tools}
    answer = await stage.gateway.post("/v1/chat/completions", asked)
    chunks = [orjson.loads(event) for event in answer.events[:-1]]

    assert (200, b"[DONE]") == (answer.status, answer.events[-1])
    assert all(chunk["choices"] for chunk in chunks)


async def test_a_chat_that_speaks_of_input_is_a_chat(stage: Stage) -> None:
    """Words of the other format may stand in tools."""
    chat_tool = {"type": "function", "function": {"name": "send", "parameters": TOOL["parameters"]}}
    answer = await stage.gateway.chat(tools=[chat_tool])

    assert (200, 1) == (answer.status, len(orjson.loads(stage.a.seen[-1].body)["tools"]))


async def test_lists_of_models_in_the_manner_of_each_api(stage: Stage) -> None:
    """Gemini's key may stand in the query, Anthropic's header of the id is another one, and a slash names no model."""
    gemini = await stage.gateway.get(f"/v1beta/models?key={stage.gateway.key}", headers={})
    anthropic = await stage.gateway.get("/v1/models", headers={"x-api-key": stage.gateway.key})
    slash = await stage.gateway.get("/v1/models/")

    assert (200, True) == (gemini.status, bool(gemini.json["models"]))
    assert (200, True) == (anthropic.status, "request-id" in anthropic.headers)
    assert (200, "list") == (slash.status, slash.json["object"])
