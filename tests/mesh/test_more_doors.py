"""The doors for work other than conversation, the paths that other APIs' clients use, and vendors' own APIs."""

import base64
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import grpc
import orjson
import pytest
import pytest_asyncio

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.gateway.v1 import gateway_pb2 as pb
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from polyroute.api.modality.v1 import modality_pb2
from tests.callers import GeminiCaller, MessagesCaller
from tests.fakes.turns import Turn
from tests.fakes.works import COUNTED, PNG, SOUND
from tests.mesh.gateway import SECONDS, Answer, whole
from tests.spoken import Stage, speaking

pytestmark = pytest.mark.asyncio(loop_scope="module")
CHAT = "openai.chat"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """One gateway; `pair` is on a vendor that drops a parameter, then on one that takes it."""
    deployments = [
        {"provider": "anthropic.messages", "model": "claude-sonnet-4-5", "priority": 0},
        {"provider": CHAT, "model": "up-chat", "priority": 1},
    ]
    models = {"pair": {"deployments": deployments}}
    async with speaking(tmp_path_factory.mktemp("gateway"), models, router={"max_attempts": 2}) as stage:
        yield stage


async def form(stage: Stage, path: str, fields: dict[str, str], **files: tuple[str, bytes, str]) -> Answer:
    """POSTs a form."""
    data = aiohttp.FormData()
    for name, value in fields.items():
        data.add_field(name, value)
    for name, (filename, content, kind) in files.items():
        data.add_field(name, content, filename=filename, content_type=kind)
    headers = {"authorization": f"Bearer {stage.gateway.key}"}
    async with stage.gateway.session.post(stage.gateway.url + path, data=data, headers=headers) as response:
        return await whole(response)


@pytest.mark.parametrize("vendor", ["openai.chat", "cohere.chat"])
@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
async def test_rerank(stage: Stage, vendor: str, path: str) -> None:
    """Documents in order, best first."""
    body = {"model": vendor, "query": "q", "documents": ["a", "b", {"text": "c"}], "top_n": 2}

    answer = await stage.gateway.post(path, body)

    assert 200 == answer.status, answer.body
    assert [(2, 0.9), (1, 0.8)] == [(one["index"], one["relevance_score"]) for one in answer.json["results"]]
    assert ("q", 2) == (stage.vendors.last.form.fields["query"], stage.vendors.last.form.fields["top_n"])


async def test_pictures_made(stage: Stage) -> None:
    """One picture, and its bill on record."""
    answer = await stage.gateway.post("/v1/images/generations", {"model": CHAT, "prompt": "a dot", "n": 1})

    record = await stage.gateway.recorded(answer)
    assert PNG == base64.b64decode(answer.json["data"][0]["b64_json"])
    assert {"model": "up-chat", "prompt": "a dot", "n": 1} == stage.vendors.last.json
    assert chat_pb2.OPERATION_IMAGE == record.operation


async def test_pictures_edited(stage: Stage) -> None:
    """A form with a picture and a mask; its other fields stay."""
    answer = await form(
        stage,
        "/v1/images/edits",
        {"model": CHAT, "prompt": "red", "size": "256x256"},
        image=("dot.png", PNG, "image/png"),
        mask=("mask.png", PNG[::-1], "image/png"),
    )

    seen = stage.vendors.last.form
    assert 200 == answer.status, answer.body
    assert ("up-chat", "red", "256x256") == (seen.fields["model"], seen.fields["prompt"], seen.fields["size"])
    assert {"image": ("dot.png", PNG), "mask": ("mask.png", PNG[::-1])} == seen.files


async def test_speech(stage: Stage) -> None:
    """Sound under its own type, as it comes."""
    async with stage.gateway.call("/v1/audio/speech", {"model": CHAT, "input": "good day", "voice": "x"}) as response:
        pieces = [piece async for piece in response.content.iter_any()]
        kind = response.headers["content-type"]

    assert (SOUND, "audio/mpeg") == (b"".join(pieces), kind)
    assert {"model": "up-chat", "input": "good day", "voice": "x"} == stage.vendors.last.json


@pytest.mark.parametrize(("wanted", "kind"), [("json", "application/json"), ("text", "text/plain; charset=utf-8")])
async def test_transcription(stage: Stage, wanted: str, kind: str) -> None:
    """A form with sound; the answer in the form that was asked for."""
    answer = await form(
        stage,
        "/v1/audio/transcriptions",
        {"model": CHAT, "language": "en", "response_format": wanted},
        file=("talk.mp3", SOUND, "audio/mpeg"),
    )

    text = f"talk.mp3: {len(SOUND)} bytes"
    assert 200 == answer.status, answer.body
    assert kind == answer.headers["content-type"]
    assert text == (answer.json["text"] if wanted == "json" else answer.body.decode().strip())
    assert "en" == stage.vendors.last.form.fields["language"]


async def test_checks(stage: Stage) -> None:
    """What is bad is flagged, item by item."""
    answer = await stage.gateway.post("/v1/moderations", {"model": CHAT, "input": ["so bad", "fine"]})

    assert [True, False] == [result["flagged"] for result in answer.json["results"]]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"model": CHAT, "documents": ["a"]}),
        ("/v1/images/generations", {"model": CHAT}),
        ("/v1/audio/speech", {"model": CHAT, "voice": "x"}),
        ("/v1/audio/transcriptions", {"model": CHAT}),
        ("/v1/moderations", {"model": CHAT}),
        ("/v1/rerank", [1]),
        ("/v1/rerank", {"query": "q", "documents": ["a"]}),
    ],
)
async def test_work_that_makes_no_sense(stage: Stage, path: str, body: Any) -> None:
    """Is refused before a vendor hears of it, with the name of what is missing."""
    before = len(stage.vendors.seen)

    answer = await stage.gateway.post(path, body)

    assert (400, "invalid_request_error") == (answer.status, answer.error["type"])
    assert before == len(stage.vendors.seen)


async def test_work_that_nobody_there_does(stage: Stage) -> None:
    """A vendor without such work is not asked for it."""
    answer = await stage.gateway.post("/v1/images/generations", {"model": "cohere.chat", "prompt": "a dot"})

    assert 400 == answer.status, answer.body


async def test_typed_work(stage: Stage) -> None:
    """The same by the gRPC door."""
    credentials = (("authorization", f"Bearer {stage.gateway.key}"),)
    told: dict[str, Any] = {"timeout": SECONDS, "metadata": credentials}
    documents = [modality_pb2.RerankDocument(text=text) for text in ("a", "b")]
    part = chat_pb2.Part(text=chat_pb2.TextPart(text="so bad"))
    chat = chat_pb2.ChatRequest(
        model="anthropic.messages", messages=[chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[part])]
    )
    async with grpc.aio.insecure_channel(stage.gateway.door) as channel:
        stub: Any = GatewayServiceStub(channel)
        ranked = await stub.Rerank(
            pb.RerankRequest(model=CHAT, task=modality_pb2.RerankTask(query="q", documents=documents)), **told
        )
        made = await stub.GenerateImage(
            pb.GenerateImageRequest(model=CHAT, task=modality_pb2.ImageTask(prompt="dot")), **told
        )
        speech = pb.SpeechRequest(model=CHAT, task=modality_pb2.SpeechTask(text="good day", voice="x"))
        spoken = [piece async for piece in stub.Speech(speech, **told)]
        sound = modality_pb2.TranscriptionTask(data=SOUND, filename="talk.mp3", media_type="audio/mpeg")
        written = await stub.Transcribe(pb.TranscribeRequest(model=CHAT, task=sound), **told)
        checked = await stub.Moderate(
            pb.ModerateRequest(
                model=CHAT, task=modality_pb2.ModerationTask(inputs=[modality_pb2.ModerationInput(parts=[part])])
            ),
            **told,
        )
        counted = await stub.CountTokens(pb.CountTokensRequest(chat=chat), **told)

    assert [1, 0] == [one.index for one in ranked.result.results]
    assert PNG == made.result.images[0].media.data
    assert SOUND == b"".join(piece.result.data for piece in spoken)
    assert "openai.chat/up-chat" == spoken[0].served.deployment
    assert spoken[-1].HasField("completed")
    assert f"talk.mp3: {len(SOUND)} bytes" == written.result.text
    assert [True] == [verdict.flagged for verdict in checked.result.verdicts]
    assert (COUNTED, False) == (counted.result.input_tokens, counted.result.estimated)


async def test_pages_may_call(stage: Stage) -> None:
    """A browser asks first, and is shown the answer and its headers."""
    asked = {
        "origin": "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
    }
    async with stage.gateway.session.options(stage.gateway.url + "/v1/chat/completions", headers=asked) as response:
        allowed = dict(response.headers)
        assert 204 == response.status
    headers = stage.gateway.headers(origin="https://chat.example")
    answer = await stage.gateway.chat("hi", model=CHAT, headers=headers)
    refused = await stage.gateway.chat("hi", model="no-such", headers=headers)

    assert "*" == allowed["Access-Control-Allow-Origin"]
    assert "POST" in allowed["Access-Control-Allow-Methods"]
    assert "authorization,content-type,x-stainless-lang" == allowed["Access-Control-Allow-Headers"]
    assert "*" == answer.headers["access-control-allow-origin"] == refused.headers["access-control-allow-origin"]
    assert "*" == answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/gemini.generate/chat/completions?api-version=2024-10-21",
        "/openai/v1/chat/completions?api-version=preview",
    ],
)
async def test_azures_paths(stage: Stage, path: str) -> None:
    """The deployment in the path is the model; the key stands in a header of its own."""
    stage.vendors.say(Turn(text="hi"))
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
    if "deployments" not in path:
        body["model"] = "gemini.generate"

    answer = await stage.gateway.post(path, body, headers={"api-key": stage.gateway.key})

    assert "hi" == answer.json["choices"][0]["message"]["content"]
    assert "gemini.generate" == stage.vendors.last.dialect


async def test_azures_vectors(stage: Stage) -> None:
    """The same for embeddings."""
    answer = await stage.gateway.post(
        f"/openai/deployments/{CHAT}/embeddings?api-version=2024-10-21",
        {"input": "one"},
        headers={"api-key": stage.gateway.key},
    )

    assert 3.0 == answer.json["data"][0]["embedding"][0]


async def test_azures_other_work(stage: Stage) -> None:
    """Pictures and sound by the deployment in the path; what has no deployment there names its model in the body."""
    headers = {"api-key": stage.gateway.key}
    under, version = f"/openai/deployments/{CHAT}", "?api-version=2025-04-01-preview"
    stage.vendors.say(Turn(text="hi"))

    drawn = await stage.gateway.post(f"{under}/images/generations{version}", {"prompt": "a dot"}, headers=headers)
    spoken = await stage.gateway.post(
        f"{under}/audio/speech{version}", {"input": "good day", "voice": "x"}, headers=headers
    )
    told = await stage.gateway.post(f"/openai/responses{version}", {"model": CHAT, "input": "hello"}, headers=headers)
    listed = await stage.gateway.get(f"/openai/models{version}", headers=headers)

    assert "a dot" == drawn.json["data"][0]["revised_prompt"]
    assert SOUND == spoken.body
    assert "hi" == told.json["output"][-1]["content"][0]["text"]
    assert CHAT in {model["id"] for model in listed.json["data"]}


@pytest.mark.parametrize("vendor", ["gemini.generate", "anthropic.messages"])
async def test_a_stream_as_one_array(stage: Stage, vendor: str) -> None:
    """What Gemini's clients get who do not ask for events."""
    stage.vendors.say(Turn(text="good day"))
    body = GeminiCaller().question(vendor, "hello")

    answer = await stage.gateway.post(f"/v1beta/models/{vendor}:streamGenerateContent", body)

    chunks = answer.json
    contents = [chunk["candidates"][0].get("content", {}) for chunk in chunks]
    words = [part.get("text", "") for content in contents for part in content.get("parts", ())]
    assert "application/json" == answer.headers["content-type"]
    assert len(chunks) > 1
    assert "good day" == "".join(words)
    assert "STOP" == chunks[-1]["candidates"][0]["finishReason"]


async def test_a_key_in_the_address(stage: Stage) -> None:
    """Gemini's clients may put it there."""
    stage.vendors.say(Turn(text="hi"))
    path = f"/v1beta/models/{CHAT}:generateContent?key={stage.gateway.key}"

    answer = await stage.gateway.post(path, GeminiCaller().question(CHAT, "hello"), headers={})

    assert 200 == answer.status, answer.body
    assert stage.gateway.key not in stage.vendors.last.path


async def test_balances(stage: Stage) -> None:
    """The old paths by which chat apps show what is left and what was used."""
    for prefix in ("", "/v1"):
        limit = await stage.gateway.get(f"{prefix}/dashboard/billing/subscription")
        used = await stage.gateway.get(f"{prefix}/dashboard/billing/usage?start_date=2026-01-01&end_date=2027-01-31")
        stranger = await stage.gateway.get(f"{prefix}/dashboard/billing/usage", headers={})

        assert limit.json["hard_limit_usd"] > 0
        assert (200, True) == (used.status, used.json["total_usage"] >= 0)
        assert 401 == stranger.status


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_a_vendors_own_api(stage: Stage, method: str) -> None:
    """Any path below a provider: its credentials instead of the caller's, and nothing of the body is touched."""
    data = b'{"x": 1}' if method == "POST" else None
    headers = stage.gateway.headers(**{"anthropic-beta": "files-api-2025-04-14", "cookie": "secret=1"})
    url = f"{stage.gateway.url}/passthrough/anthropic.messages/v1/organizations/b-1?limit=2"
    async with stage.gateway.session.request(method, url, data=data, headers=headers) as response:
        answer = await whole(response)

    seen = stage.vendors.last
    assert (method, "/v1/organizations/b-1?limit=2", data or b"") == (seen.method, seen.path, seen.body)
    assert ("key-of-anthropic", "2023-06-01") == (seen.headers["x-api-key"], seen.headers["anthropic-version"])
    assert "files-api-2025-04-14" == seen.headers["anthropic-beta"]
    assert not {"authorization", "cookie"} & seen.headers.keys()
    assert (200 if method != "POST" else 404) == answer.status


async def test_a_vendors_own_stream(stage: Stage) -> None:
    """A stream passes as it is, and what it used is on record."""
    stage.vendors.say(Turn(text="good day"))
    body = MessagesCaller().question("claude-sonnet-4-5", "hello", stream=True)

    answer = await stage.gateway.post("/passthrough/anthropic.messages/v1/messages", body)

    said = MessagesCaller().streamed(answer.body)
    record = await stage.gateway.recorded(answer)
    assert ("good day", True) == (said.text, said.ended)
    assert orjson.dumps(body) == stage.vendors.last.body
    assert (7, 3, 9) == (record.usage.input_tokens, record.usage.cache_read_tokens, record.usage.output_tokens)
    assert chat_pb2.OPERATION_RELAY == record.operation


async def test_a_vendor_that_is_not_there(stage: Stage) -> None:
    """No provider, no path, or one that climbs."""
    for path, status in (("/passthrough/nobody/v1/x", 404), ("/passthrough/openai.chat", 404)):
        assert status == (await stage.gateway.get(path)).status
    stranger = await stage.gateway.get("/passthrough/anthropic.messages/v1/models", headers={})
    assert 401 == stranger.status


async def test_files(stage: Stage) -> None:
    """A file goes to the provider that the caller names; unnamed it is nobody's."""
    data = aiohttp.FormData()
    data.add_field("purpose", "batch")
    data.add_field("file", b"{}", filename="q.jsonl", content_type="application/jsonl")
    headers = {"authorization": f"Bearer {stage.gateway.key}", "x-polyroute-provider": CHAT}
    async with stage.gateway.session.post(stage.gateway.url + "/v1/files", data=data, headers=headers) as response:
        made = await whole(response)
    unnamed = await stage.gateway.get("/v1/files")

    assert made.json["id"].startswith(f"file-1@{CHAT}~")
    assert "q.jsonl" == made.json["filename"]
    assert "Bearer key-of-openai_compatible" == stage.vendors.last.headers["authorization"]
    assert (400, "x-polyroute-provider") == (unnamed.status, unnamed.error["param"])


async def test_what_was_left_out_is_named(stage: Stage) -> None:
    """A parameter that the vendor's format has no word for."""
    stage.vendors.say(Turn(text="hi"))

    answer = await stage.gateway.chat("hello", model="anthropic.messages", seed=7, logit_bias={"1": 2})

    assert 200 == answer.status
    assert {"seed", "logit_bias"} == set(answer.headers["x-polyroute-dropped"].split(","))


async def test_nothing_may_be_left_out(stage: Stage) -> None:
    """`require_parameters` goes on to the deployment that takes it all, and refuses when there is none."""
    stage.vendors.say(Turn(text="hi"))
    wishes = {"require_parameters": True}

    served = await stage.gateway.chat("hello", model="pair", seed=7, provider=wishes)
    refused = await stage.gateway.chat("hello", model="anthropic.messages", seed=7, provider=wishes)

    assert (200, CHAT) == (served.status, served.headers["x-polyroute-provider"])
    assert 7 == next(seen for seen in reversed(stage.vendors.seen) if seen.dialect == CHAT).json["seed"]
    assert 400 == refused.status
    assert "seed" in refused.error["message"]
