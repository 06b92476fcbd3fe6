"""Before the commit point a failed attempt is invisible: the next deployment answers, and the record tells."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

import orjson
import pytest

from bench.script import Script
from bench.vendor import Vendor
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.gateway.v1 import gateway_pb2
from polyroute.api.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from polyroute.api.metrics.v1 import metrics_pb2
from tests.mesh.conftest import Stage
from tests.mesh.gateway import Answer, grpc_door, question, text_of
from tests.mesh.raw import EVENTS, Reply, events, json

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSALS = [
    (Script(status=500), "FAULT_SERVER", 500),
    (Script(status=503), "FAULT_SERVER", 503),
    (Script(status=529), "FAULT_SERVER", 529),
    (Script(status=408), "FAULT_SERVER", 408),
    (Script(status=429), "FAULT_RATE", 429),
    (Script(status=429, retry_after=60), "FAULT_RATE", 429),
    (Script(status=401), "FAULT_CREDENTIAL", 401),
    (Script(status=402), "FAULT_QUOTA", 402),
    (Script(status=404), "FAULT_MODEL_GONE", 404),
    (Script(drop=True), "FAULT_AMBIGUOUS", 0),
    (Script(stall=0), "FAULT_STALL", 0),
    (Script(first=2000), "FAULT_STALL", 0),
]
UNARY = [(Script(garbage=0), "FAULT_BAD_ANSWER", 0), (Script(error=0), "FAULT_SERVER", 200), (Script(cut=0), None, 0)]
STREAMED = [
    (Script(chunks=0, garbage=0), "FAULT_BAD_ANSWER", 0),
    (Script(error=0), "FAULT_SERVER", 200),
    (Script(cut=0), "FAULT_TRUNCATED", 0),
]


@pytest.mark.parametrize(
    ("script", "fault", "status", "stream"),
    [
        *((script, fault, status, stream) for script, fault, status in REFUSALS for stream in (False, True)),
        *((*case, False) for case in UNARY),
        *((*case, True) for case in STREAMED),
    ],
)
async def test_the_next_deployment_answers(
    stage: Stage, script: Script, fault: str | None, status: int, stream: bool
) -> None:
    """Whatever the first vendor does before any content, the client gets the second one's whole answer and no more."""
    stage.a.inject(script)

    answer = await stage.gateway.chat(model="pair", stream=stream)
    record = await stage.gateway.recorded(answer)

    whole(answer, stream=stream)
    assert "pair:b" == answer.headers["x-polyroute-deployment"]
    assert "2" == answer.headers["x-polyroute-attempts"]
    assert ["pair:a", "pair:b"] == [attempt.deployment for attempt in record.attempts]
    assert fault in (None, Fault.Name(record.attempts[0].fault))
    assert status in (0, record.attempts[0].upstream_status)
    assert errors_pb2.FAULT_UNSPECIFIED == record.attempts[1].fault
    assert metrics_pb2.OUTCOME_COMPLETED == record.outcome
    assert "pair:b" == record.deployment


@pytest.mark.parametrize("stream", [False, True])
async def test_nobody_listens(stage: Stage, stream: bool) -> None:
    """A refused connection costs no time worth speaking of."""
    answer = await stage.gateway.chat(model="lost", stream=stream)
    record = await stage.gateway.recorded(answer)

    whole(answer, stream=stream)
    assert "lost:b" == answer.headers["x-polyroute-deployment"]
    assert errors_pb2.FAULT_CONNECT == record.attempts[0].fault
    assert record.total_microseconds < 200_000


NONE: Final = [
    json(b"<html>sorry</html>", kind="text/html"),
    json(b""),
    json(b'{"error":{"message":"overloaded","type":"overloaded_error"}}'),
    json(b'{"choices":[]}'),
    json(b"[1,2]"),
    json(b'{"choices":', cut=True),
    Reply((b"<html>moved</html>",), status=302, headers={"location": "http://127.0.0.1:9/"}),
    Reply((b"<html>broken gateway</html>",), status=502, kind="text/html"),
    events(b'{"error":{"message":"slow down","code":"rate_limit_exceeded"}}'),
    events(b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}', b'{"error":{"message":"x"}}'),
    events(b"not json"),
    events(),
    events(b"[DONE]"),
    events(b'{"choices":[{"index":0,"delta":{"role":"assistant"}}]}', b"[DONE]"),
    Reply((b": ping\n\n", b": ping\n\n"), kind=EVENTS),
    Reply((b": ping\n\n",), kind=EVENTS, hold=True),
    Reply((b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n',), kind=EVENTS, cut=True),
]


@pytest.mark.parametrize("reply", NONE)
async def test_an_answer_that_is_none(stage: Stage, reply: Reply) -> None:
    """A 200 that holds an error, a page, nothing, or only an opening, is a failed attempt like any other."""
    stage.raw.queue(reply)

    answer = await stage.gateway.chat(model="raw-pair", stream=True)

    whole(answer, stream=True)
    assert "raw-pair:b" == answer.headers["x-polyroute-deployment"]


@pytest.mark.parametrize("reply", NONE)
async def test_an_answer_that_is_none_to_a_client_of_another_dialect(stage: Stage, reply: Reply) -> None:
    """What is translated as well."""
    stage.raw.queue(reply)
    asked = {**question(model="raw-pair"), "max_tokens": 9, "stream": True}

    answer = await stage.gateway.post("/v1/messages", asked)

    assert (200, "raw-pair:b") == (answer.status, answer.headers.get("x-polyroute-deployment"))
    assert b"message_stop" in answer.body


@pytest.mark.parametrize("reply", NONE)
async def test_an_answer_that_is_none_to_a_stub(stage: Stage, reply: Reply) -> None:
    """And what is told in the contract's own words."""
    stage.raw.queue(reply)
    message = chat_pb2.Message(role=chat_pb2.ROLE_USER, parts=[chat_pb2.Part(text=chat_pb2.TextPart(text="hi"))])
    request = gateway_pb2.ChatRequest(chat=chat_pb2.ChatRequest(model="raw-pair", messages=[message]))
    async with grpc_door(stage.gateway) as channel:
        call = GatewayServiceStub(channel).Chat(
            request, timeout=20, metadata=(("authorization", f"Bearer {stage.gateway.key}"),)
        )
        said = "".join([step.event.text.text async for response in call for step in response.steps])

    assert said


async def test_the_second_vendor_gets_the_same_question(stage: Stage) -> None:
    """Only the model's name differs between attempts."""
    stage.a.inject(Script(status=500))

    await stage.gateway.chat("same", model="pair", spice=[1.0])

    first, second = stage.a.seen[-1].body, stage.b.seen[-1].body
    assert first.replace(b'"up-a"', b'"up-b"') == second


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 413, 422])
async def test_the_callers_own_fault_is_not_tried_again(stage: Stage, status: int, stream: bool) -> None:
    """A vendor's 400 goes to the client with its status and words; no other vendor is bothered."""
    before = stage.b.requests
    stage.a.inject(Script(status=status))

    answer = await stage.gateway.chat(model="pair", stream=stream)

    assert status == answer.status
    assert "refused on request" == answer.error["message"]
    assert "pair:a" == answer.headers["x-polyroute-deployment"]
    assert before == stage.b.requests


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"error":{"message":"maximum context length is 8192 tokens"}}', "context_length_exceeded"),
        (b'{"error":{"message":"no","code":"content_filter"}}', "content_filter"),
    ],
)
async def test_faults_of_the_question_keep_their_code(stage: Stage, body: bytes, code: str) -> None:
    """Clients branch on these codes."""
    stage.raw.queue(json(body, status=400))

    answer = await stage.gateway.chat(model="raw-pair")

    assert (400, code) == (answer.status, answer.error["code"])


@pytest.mark.parametrize("stream", [False, True])
async def test_three_attempts_and_no_more(stage: Stage, stream: bool) -> None:
    """One attempt each at three deployments, then the error of the last."""
    before = stage.a.requests + stage.b.requests + stage.c.requests
    for vendor, status in ((stage.a, 500), (stage.b, 502), (stage.c, 500)):
        vendor.inject(Script(status=status))

    answer = await stage.gateway.chat(model="three", stream=stream)
    record = await stage.gateway.recorded(answer)

    assert (502, "upstream_error") == (answer.status, answer.error["code"])
    assert before + 3 == stage.a.requests + stage.b.requests + stage.c.requests
    assert ["a", "b", "c"] == [attempt.provider for attempt in record.attempts]
    assert metrics_pb2.OUTCOME_FAILED == record.outcome
    assert errors_pb2.REASON_UPSTREAM == record.reason
    assert (0, 502) == (record.cost_nanos, record.http_status)


async def test_one_deployment_is_tried_again_after_a_pause(stage: Stage) -> None:
    """With nowhere else to go, a failure of the server is tried again there."""
    stage.raw.queue(json(b"", status=500), json(b"", status=500), json(b'{"choices":[{"message":{"content":"x"}}]}'))

    answer = await stage.gateway.chat(model="raw")

    assert (200, "3") == (answer.status, answer.headers["x-polyroute-attempts"])


@pytest.mark.parametrize(
    ("script", "status", "code", "headers"),
    [
        (Script(status=500), 502, "upstream_error", {}),
        (Script(status=503, retry_after=7), 503, "upstream_error", {"retry-after": "7", "retry-after-ms": "7000"}),
        (Script(status=429, retry_after=30), 429, "rate_limit_exceeded", {"retry-after": "30"}),
        (Script(status=401), 502, "upstream_credentials", {"x-should-retry": "false"}),
        (Script(status=402), 502, "upstream_quota", {"x-should-retry": "false"}),
        (Script(status=404), 404, "model_not_found", {}),
        (Script(drop=True), 504, "upstream_timeout", {}),
        (Script(stall=0), 504, "upstream_timeout", {}),
    ],
)
async def test_every_attempt_fails(
    stage: Stage, script: Script, status: int, code: str, headers: dict[str, str]
) -> None:
    """The client is told by status and code; our credentials at the vendor are not its business."""
    with said(script, stage.a, stage.b):
        answer = await stage.gateway.chat(model="pair")

    assert (status, code) == (answer.status, answer.error["code"])
    assert headers.items() <= answer.headers.items()
    assert "sk-a" not in str(answer)


async def test_the_soonest_way_back_is_told(stage: Stage) -> None:
    """After two rate limits the client waits for the shorter one."""
    with said(Script(status=429, retry_after=9), stage.a), said(Script(status=429, retry_after=40), stage.b):
        answer = await stage.gateway.chat(model="pair")

    assert (429, "9") == (answer.status, answer.headers["retry-after"])


async def test_nowhere_to_go(stage: Stage) -> None:
    """An address where nobody listens, and no other deployment."""
    answer = await stage.gateway.chat(model="nowhere")

    assert (502, "upstream_unreachable") == (answer.status, answer.error["code"])


async def test_a_callers_own_bound(stage: Stage) -> None:
    """`x-polyroute-timeout` ends a call that a slow vendor would have drawn out, and leaves time for the second one."""
    stage.a.inject(Script(first=3000))
    patient = await stage.gateway.chat(model="m", headers=stage.gateway.headers(**{"x-polyroute-timeout": "0.2"}))
    stage.a.inject(Script(first=3000))
    shared = await stage.gateway.chat(model="pair", headers=stage.gateway.headers(**{"x-polyroute-timeout": "0.5"}))

    assert 504 == patient.status
    assert (200, "pair:b") == (shared.status, shared.headers["x-polyroute-deployment"])


async def test_a_slow_whole_answer_is_not_asked_for_twice(stage: Stage) -> None:
    """Without a bound of the operator's it has all the time of the call: half of it would be paid for nothing."""
    stage.a.inject(Script(first=600))
    answer = await stage.gateway.chat(model="patient", headers=stage.gateway.headers(**{"x-polyroute-timeout": "1"}))

    assert (200, "1") == (answer.status, answer.headers["x-polyroute-attempts"])


async def test_a_prompt_that_is_too_long_goes_to_a_longer_context(stage: Stage) -> None:
    """Once; the vendor's word on that is final where nothing longer follows."""
    long = Reply((orjson.dumps({"error": {"code": "context_length_exceeded", "message": "too long"}}),), status=400)
    stage.raw.queue(long, long)
    hopped, stayed = [await stage.gateway.chat(model=model) for model in ("growing", "raw-pair")]

    assert (200, "2") == (hopped.status, hopped.headers["x-polyroute-attempts"])
    assert (400, "context_length_exceeded") == (stayed.status, stayed.error["code"])


async def test_a_vendors_word_on_another_try_is_obeyed(stage: Stage) -> None:
    """A refusal that it wants tried again is, elsewhere; a failure that it does not want again is not, with it."""
    body = (b'{"error":{"message":"no"}}',)
    stage.raw.queue(Reply(body, status=400, headers={"x-should-retry": "true"}))
    elsewhere = await stage.gateway.chat(model="raw-pair")
    asked = len(stage.raw.seen)
    stage.raw.queue(Reply(body, status=500, headers={"x-should-retry": "false"}))
    nowhere = await stage.gateway.chat(model="raw")

    assert (200, "2") == (elsewhere.status, elsewhere.headers["x-polyroute-attempts"])
    assert (502, asked + 1) == (nowhere.status, len(stage.raw.seen))


@pytest.mark.parametrize(("members", "status"), [({}, 200), ({"store": True}, 504), ({"background": True}, 504)])
async def test_what_a_vendor_keeps_is_not_sent_twice(stage: Stage, members: dict[str, bool], status: int) -> None:
    """After a connection that broke nobody knows whether it has the request."""
    stage.a.inject(Script(drop=True))
    answer = await stage.gateway.post("/v1/responses", {"model": "pair", "input": "hello", **members})

    assert status == answer.status


async def test_sealed_reasoning_stays_with_its_vendor(stage: Stage) -> None:
    """No other account can read it; its own is tried again."""
    stage.a.inject(Script(status=500))
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    said = {"role": "user", "content": "hello"}
    answer = await stage.gateway.post("/v1/responses", {"model": "pair", "input": [sealed, said]})
    record = await stage.gateway.recorded(answer)

    assert [(200, "pair:a"), (200, "pair:a")] == [(answer.status, one.deployment) for one in record.attempts]


async def test_embeddings_fail_over_too(stage: Stage) -> None:
    """A unary RPC walks the plan as a stream does."""
    answer = await stage.gateway.post("/v1/embeddings", {"model": "lost", "input": "x"})
    record = await stage.gateway.recorded(answer)

    assert (200, "lost:b") == (answer.status, answer.headers["x-polyroute-deployment"])
    assert [errors_pb2.FAULT_CONNECT, 0] == [attempt.fault for attempt in record.attempts]


@contextmanager
def said(script: Script, *vendors: Vendor) -> Generator[None]:
    """These vendors answer everything by `script`."""
    for vendor in vendors:
        vendor.script = script
    try:
        yield
    finally:
        for vendor in vendors:
            vendor.script = Script()


def whole(answer: Answer, *, stream: bool) -> None:
    """The answer is complete and all of one piece."""
    assert 200 == answer.status
    if not stream:
        assert "15" == answer.json["choices"][0]["message"]["content"].split()[-1]
        return
    assert 1 == answer.body.count(b"[DONE]")
    assert [b"[DONE]"] == answer.events[-1:]
    assert b"error" not in answer.body
    assert 16 == text_of(answer.events).count("@")
    assert 1 == len({orjson.loads(event)["id"] for event in answer.events[:-1]})
