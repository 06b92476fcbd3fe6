"""A 200 that turns out to be an error, or no answer at all: the caller gets the status that the error deserves."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pytest
import pytest_asyncio

from polyroute.api.errors.v1 import errors_pb2
from tests.callers import CALLERS, Caller
from tests.mesh.gateway import Answer, Gateway, Tree, keys_of, running
from tests.mesh.raw import EVENTS, RawVendor, Reply
from tests.spoken import PLACES, more_vendors
from tests.unit.dialects.bedrock import eventstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
BY_DIALECT: Final = {caller.dialect: caller for caller in CALLERS}
# What OpenAI's clients see -> what those of the others expect in its place.
STATUSES: Final = {"anthropic.messages": {503: 529}}


@dataclass
class Stage:
    """A gateway before one vendor that says what it is told; each model is named as the dialect it is asked in."""

    gateway: Gateway
    vendor: RawVendor

    async def ask(self, caller: Caller, model: str, *, stream: bool) -> Answer:
        """The gateway's answer to a question."""
        body = caller.question(model, "hello", stream=stream)
        answer: Answer = await self.gateway.post(caller.path(model, stream=stream), body)
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Stage]:
    """See `Stage`; no call is tried twice."""
    async with RawVendor() as vendor:
        root = vendor.url.removesuffix("/v1")
        providers: Tree = {
            name: {"vendor": spoken, "base_url": root + end, "keys": keys_of(name)}
            for name, (spoken, end, _) in PLACES.items()
        }
        models: Tree = {
            name: {"deployments": [{"provider": name, "model": model}]} for name, (_, _, model) in PLACES.items()
        }
        directory = tmp_path_factory.mktemp("gateway")
        with more_vendors():
            async with running(directory, providers, models, router={"max_attempts": 1}) as gateway:
                yield Stage(gateway, vendor)


def anthropic(kind: str) -> bytes:
    """An error as Anthropic says it, whole and in streams."""
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": "words"}})


def openai(**members: Any) -> bytes:
    """An error in OpenAI's envelope."""
    return orjson.dumps({"error": {"message": "words", **members}})


def failed(code: str) -> bytes:
    """A response that failed before it said anything."""
    response = {"id": "resp_1", "object": "response", "status": "failed", "error": {"code": code, "message": "words"}}
    return orjson.dumps({"type": "response.failed", "sequence_number": 0, "response": {**response, "output": []}})


# How the vendor is asked, its first event, and the status that a client of OpenAI's gets.
FIRST: Final = [
    ("anthropic.messages", "error", anthropic("overloaded_error"), 503),
    ("anthropic.messages", "error", anthropic("rate_limit_error"), 429),
    ("anthropic.messages", "error", anthropic("invalid_request_error"), 400),
    ("anthropic.messages", "error", anthropic("request_too_large"), 413),
    ("anthropic.messages", "error", anthropic("not_found_error"), 404),
    ("anthropic.messages", "error", anthropic("authentication_error"), 502),
    ("anthropic.messages", "error", anthropic("api_error"), 502),
    ("openai.chat", "", openai(type="server_error"), 502),
    ("openai.chat", "", openai(type="engine_overloaded_error"), 503),
    ("openai.chat", "", openai(code=503), 503),
    ("openai.chat", "", openai(code="rate_limit_exceeded"), 429),
    ("openai.chat", "", openai(code="context_length_exceeded"), 400),
    ("openai.chat", "", b'{"object":"error","message":"words","type":"BadRequestError","code":400}', 400),
    ("openai.responses", "error", openai(type="error", code="server_is_overloaded"), 503),
    ("openai.responses", "error", b'{"type":"error","code":"rate_limit_exceeded","message":"words"}', 429),
    ("openai.responses", "response.failed", failed("server_error"), 502),
    ("openai.responses", "response.failed", failed("server_is_overloaded"), 503),
    ("openai.responses", "response.failed", failed("rate_limit_exceeded"), 429),
    ("gemini.generate", "", b'{"error":{"code":503,"message":"words","status":"UNAVAILABLE"}}', 503),
    ("gemini.generate", "", b'{"error":{"message":"words","status":"UNAVAILABLE"}}', 503),
    ("gemini.generate", "", b'[{"error":{"code":429,"message":"words","status":"RESOURCE_EXHAUSTED"}}]', 429),
    ("cohere.chat", "", b'{"message":"too many tokens: 9 over 5"}', 400),
    ("dashscope.generation", "error", b'{"code":"Throttling.RateQuota","message":"words","request_id":"r"}', 429),
    ("dashscope.generation", "error", b'{"code":"ServiceUnavailable","message":"words","request_id":"r"}', 503),
]


@pytest.mark.parametrize(("vendor", "name", "data", "status"), FIRST)
@pytest.mark.parametrize("own", [True, False], ids=["passed", "translated"])
async def test_a_stream_that_begins_with_an_error(
    stage: Stage, vendor: str, name: str, data: bytes, status: int, *, own: bool
) -> None:
    """The class inside the error decides, whether the vendor's bytes would have been passed on or translated."""
    caller = BY_DIALECT[vendor if own and vendor in BY_DIALECT else _another(vendor)]
    event = (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"
    stage.vendor.queue(Reply((event,), kind=EVENTS))

    answer = await stage.ask(caller, vendor, stream=True)

    _check(answer, caller, status)


@pytest.mark.parametrize(("vendor", "name", "data", "status"), [case for case in FIRST if case[1] != "response.failed"])
@both_ways
async def test_an_error_in_place_of_a_whole_answer(
    stage: Stage, vendor: str, name: str, data: bytes, status: int, *, stream: bool
) -> None:
    """The same errors as a JSON body, to calls that asked for one and to calls that asked for a stream."""
    caller = BY_DIALECT.get(vendor) or BY_DIALECT[_another(vendor)]
    stage.vendor.queue(Reply((data,)))

    answer = await stage.ask(caller, vendor, stream=stream)

    _check(answer, caller, status)


@pytest.mark.parametrize(
    ("kind", "status"),
    [("throttlingException", 429), ("serviceUnavailableException", 503), ("validationException", 400)],
)
async def test_an_exception_before_any_message(stage: Stage, kind: str, status: int) -> None:
    """Bedrock's streams name the exception in the header of a frame."""
    stage.vendor.queue(
        Reply(
            (eventstream.event(kind, {"message": "words"}, kind="exception"),),
            kind="application/vnd.amazon.eventstream",
        )
    )

    answer = await stage.ask(BY_DIALECT["openai.chat"], "bedrock.converse", stream=True)

    _check(answer, BY_DIALECT["openai.chat"], status)


async def test_an_overloaded_anthropic_is_told_in_its_words(stage: Stage) -> None:
    """What its SDKs branch on: 529 and the type."""
    caller = BY_DIALECT["anthropic.messages"]
    stage.vendor.queue(Reply((b"event: error\ndata: " + anthropic("overloaded_error") + b"\n\n",), kind=EVENTS))

    answer = await stage.ask(caller, "anthropic.messages", stream=True)

    assert (529, "overloaded_error") == (answer.status, answer.error["type"])
    assert "1" == answer.headers["retry-after"]


CHUNKS: Final = (
    b'data: {"id":"x","choices":[{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":null}]}\n\n',
    b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
)
WHOLE: Final = (
    b'{"id":"x","object":"chat.completion","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
)
KINDS: Final = ("application/json", "text/plain", "text/html", "application/octet-stream")
PAGE: Final = b"<!doctype html><html><body>sign in</body></html>"
readers = pytest.mark.parametrize("caller", [BY_DIALECT["openai.chat"], BY_DIALECT["anthropic.messages"]])


@readers
@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_under_another_name(stage: Stage, caller: Caller, kind: str) -> None:
    """Events that were asked for are read as such, whatever the vendor says that they are."""
    stage.vendor.queue(Reply(CHUNKS, kind=kind))

    answer = await stage.ask(caller, "openai.chat", stream=True)

    assert 200 == answer.status, answer.body
    assert "hi" == caller.streamed(answer.body).text


@readers
@pytest.mark.parametrize(
    ("kind", "stream"),
    [(EVENTS, True), *((kind, stream) for kind in KINDS for stream in (False, True))],
)
async def test_a_whole_answer_under_any_name(stage: Stage, caller: Caller, kind: str, *, stream: bool) -> None:
    """One that can be read is one; to a call for a stream it is told as a stream."""
    stage.vendor.queue(Reply((WHOLE[:20], WHOLE[20:]), kind=kind))

    answer = await stage.ask(caller, "openai.chat", stream=stream)

    assert 200 == answer.status, answer.body
    assert "hi" == (caller.streamed if stream else caller.whole)(answer.body).text


async def test_an_error_under_the_name_of_a_stream(stage: Stage) -> None:
    """As gateways send them that have promised events already: the class inside it decides."""
    caller = BY_DIALECT["anthropic.messages"]
    stage.vendor.queue(Reply((anthropic("overloaded_error"),), kind=EVENTS))

    answer = await stage.ask(caller, "anthropic.messages", stream=True)

    assert (529, "overloaded_error") == (answer.status, answer.error["type"])


@readers
@pytest.mark.parametrize(
    ("body", "kind", "stream"),
    [
        ((PAGE,), "text/html", False),
        ((PAGE,), "text/html", True),
        ((PAGE,), "application/json", True),
        ((PAGE + b"\n",), EVENTS, True),
        ((b"",), "text/html", True),
        (CHUNKS, EVENTS, False),
        (CHUNKS, "application/json", False),
    ],
)
async def test_what_cannot_be_read_is_a_bad_answer(
    stage: Stage, caller: Caller, body: tuple[bytes, ...], kind: str, *, stream: bool
) -> None:
    """Pages, nothing at all, and streams that nobody asked for."""
    stage.vendor.queue(Reply(body, kind=kind))

    answer = await stage.ask(caller, "openai.chat", stream=stream)
    record = await stage.gateway.record(answer.headers.get("x-request-id") or answer.headers["request-id"])

    assert 502 == answer.status
    assert [errors_pb2.FAULT_BAD_ANSWER] == [attempt.fault for attempt in record.attempts]


def _another(vendor: str) -> str:
    return "openai.chat" if vendor != "openai.chat" else "anthropic.messages"


def _check(answer: Answer, caller: Caller, status: int) -> None:
    """One refusal: the status of its class, in the caller's own words."""
    expected = STATUSES.get(caller.dialect, {}).get(status, status)

    assert expected == answer.status, answer.body
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.error["message"]
