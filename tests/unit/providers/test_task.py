"""One attempt at work other than conversation: what goes to the vendor, and what is made of what comes back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import EncodedRequest, RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1.modality_pb2 import ImageTask, RerankDocument, RerankTask, SpeechTask, Task
from polyroute.api.providers.v1.providers_pb2 import GenerateEvent, GenerateRequest
from polyroute.api.providers.v1.providers_pb2 import Target as TargetMessage
from polyroute.dialects import multipart
from polyroute.dialects.multipart import Field
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.http import Target, changed, target
from polyroute.providers.spoken import IMAGES, RERANK, SPEECH, TRANSCRIPTIONS, Spoken
from polyroute.providers.task import perform
from polyroute.providers.transport import Limits, Transport
from polyroute.providers.vendor import Vendor

NATIVE = "/api/v1/services/aigc/text2image/image-synthesis"
VOYAGE = Spoken(pb.OPERATION_RERANK, "voyage.rerank", "/rerank")
PICTURES = Spoken(pb.OPERATION_IMAGE, "dashscope.images", NATIVE)
LIMITS = Limits(connect=1, first_token=2, inter_token=3, total=100)
JSON = "application/json"
EVENTS = "text/event-stream"
RANKED = b'{"results":[{"index":0,"relevance_score":0.5}],"usage":{"total_tokens":7}}'
GOING_ON = b'{"output":{"task_status":"RUNNING","task_id":"t-1"}}'
MADE = b'{"output":{"task_status":"SUCCEEDED","results":[{"url":"https://x.test/1.png"}]},"usage":{"image_count":1}}'


@dataclass
class Answer:
    """What a vendor says: whole, or in reads; an error among them breaks it off."""

    reads: Sequence[bytes | MeshError]
    content_type: str = JSON
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: float = 1.0
    arrived: float = 1.5
    closed: bool = False
    place: int = 0

    @property
    def ok(self) -> bool:
        return self.status == 200

    async def read(self, *, first: bool, idle: int = 0) -> bytes:
        if self.place == len(self.reads):
            return b""
        self.place += 1
        data = self.reads[self.place - 1]
        if isinstance(data, MeshError):
            raise data
        return data

    async def body(self) -> bytes:
        out = b""
        while data := await self.read(first=True):
            out += data
        return out

    error_body = body

    async def rest(self) -> None:
        self.place = len(self.reads)

    def close(self) -> None:
        self.closed = True


@dataclass
class Asked:
    """A request as it left."""

    head: str
    body: bytes
    limits: Limits
    headers: Mapping[str, str] | None

    @property
    def line(self) -> str:
        return self.head.partition("\r\n")[0]

    def header(self, name: str) -> list[str]:
        lines = self.head.split("\r\n")
        return [line.partition(": ")[2] for line in lines if line.startswith(f"{name}: ")]


@dataclass
class Wire:
    """A transport that plays answers, one a request; an error stands for one that fails."""

    answers: list[Answer | MeshError]
    asked: list[Asked] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    async def post(self, at: Target, body: bytes, limits: Limits, headers: Mapping[str, str] | None = None) -> Answer:
        self.asked.append(Asked(at.head.decode(), body, limits, headers))
        answer = self.answers.pop(0)
        if isinstance(answer, MeshError):
            raise answer
        return answer

    async def get(self, at: Target, limits: Limits, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.post(changed(at, method="GET", drop=("content-type",)), b"", limits, headers)

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@dataclass
class Heard:
    """What an attempt said, and the error with which it ended."""

    events: list[GenerateEvent]
    error: MeshError | None

    @property
    def data(self) -> bytes:
        return b"".join(event.encoded.data for event in self.events)

    @property
    def usage(self) -> Usage:
        [found] = [event.usage for event in self.events if event.HasField("usage")]
        return found

    @property
    def kinds(self) -> list[str]:
        return [event.WhichOneof("event") or "" for event in self.events]

    @property
    def fault(self) -> str:
        assert self.error is not None
        return errors_pb2.Fault.Name(self.error.fault).removeprefix("FAULT_")


def account(*speaks: Spoken) -> Account:
    return Account("acme", Vendor(name="acme", speaks=speaks), base_url="https://acme.test", keys=("sk-1",))


def request(operation: Any, *, stream: bool = False, choices: int = 0, **body: Any) -> GenerateRequest:
    facts = RequestFacts(operation=operation, model="m", stream=stream, input_tokens_estimate=9, choices=choices)
    where = TargetMessage(deployment="acme/up", provider="acme", upstream_model=body.pop("model", "up"))
    return GenerateRequest(request_id="r-1", attempt=1, target=where, facts=facts, **body)


def encoded(dialect: str, **members: Any) -> EncodedRequest:
    return EncodedRequest(dialect=dialect, body=json.dumps({"model": "m", **members}).encode())


async def attempt(asked: GenerateRequest, at: Account, *answers: Answer | MeshError) -> tuple[Heard, Wire]:
    wire = Wire(list(answers))
    heard = Heard([], None)
    try:
        async for response in perform(asked, at, cast("Transport", wire), LIMITS, sleep=wire.sleep):
            heard.events += response.events
    except MeshError as error:
        heard.error = error
    assert all(answer.closed for answer in answers if isinstance(answer, Answer) and answer.place)
    return heard, wire


QUESTION = encoded("cohere.rerank", query="q", documents=["a"])


class TestWhole:
    async def test_the_same_dialect_passes(self) -> None:
        """Only the model's name changes, and the answer is the vendor's own bytes."""
        asked = request(pb.OPERATION_RERANK, encoded=QUESTION)

        heard, wire = await attempt(asked, account(RERANK), Answer([RANKED[:9], RANKED[9:]]))

        assert ["started", "encoded", "usage", "finished"] == heard.kinds
        assert (RANKED, True) == (heard.data, heard.events[0].started.passthrough)
        assert Usage(input_tokens=7) == heard.usage
        assert {"model": "up", "query": "q", "documents": ["a"]} == json.loads(wire.asked[0].body)
        assert ("POST /rerank HTTP/1.1", ["application/json"]) == (
            wire.asked[0].line,
            wire.asked[0].header("content-type"),
        )

    async def test_another_dialect_is_translated(self) -> None:
        """Both ways."""
        asked = request(pb.OPERATION_RERANK, encoded=encoded("cohere.rerank", query="q", documents=["a"], x=1))
        answer = Answer([b'{"data":[{"index":0,"relevance_score":0.5}],"usage":{"total_tokens":7}}'])

        heard, _ = await attempt(asked, account(VOYAGE), answer)

        assert json.loads(RANKED)["results"] == json.loads(heard.data)["results"]
        assert (["x"], False) == (list(heard.events[0].started.dropped), heard.events[0].started.passthrough)
        assert Usage(input_tokens=7) == heard.usage

    async def test_a_typed_task_gives_a_result(self) -> None:
        """As a message of the contract; usage that the vendor does not state is estimated."""
        task = Task(rerank=RerankTask(query="q", documents=[RerankDocument(text="a")]))

        heard, _ = await attempt(request(pb.OPERATION_RERANK, task=task), account(RERANK), Answer([b'{"results":[]}']))

        assert ["started", "result", "usage", "finished"] == heard.kinds
        assert Usage(input_tokens=9, estimated=True) == heard.usage

    async def test_parameters_that_must_not_be_left_out(self) -> None:
        """Refused before anything is sent, for another deployment to take."""
        asked = request(pb.OPERATION_RERANK, encoded=encoded("cohere.rerank", query="q", documents=["a"], x=1))
        asked.facts.require_parameters = True

        heard, wire = await attempt(asked, account(VOYAGE))

        assert ("UNSUPPORTED", []) == (heard.fault, wire.asked)

    async def test_work_that_is_not_offered(self) -> None:
        """Said without asking."""
        heard, wire = await attempt(request(pb.OPERATION_SPEECH, encoded=QUESTION), account(RERANK))

        assert ("CLIENT", []) == (heard.fault, wire.asked)

    async def test_a_refusal(self) -> None:
        """Is classed, and says where it happened."""
        answer = Answer([b'{"message":"slow down"}'], status=429, headers={"retry-after": "7"})

        heard, _ = await attempt(request(pb.OPERATION_RERANK, encoded=QUESTION), account(RERANK), answer)

        assert heard.error is not None
        assert ("RATE", 7.0, "acme/up") == (heard.fault, heard.error.retry_after, heard.error.metadata["deployment"])

    @pytest.mark.parametrize("body", [b"", b"<html></html>", b"[]", b'{"results":', b"{}"])
    async def test_no_answer(self, body: bytes) -> None:
        """Is never passed on."""
        heard, _ = await attempt(
            request(pb.OPERATION_RERANK, encoded=QUESTION), account(RERANK), Answer([body] if body else [])
        )

        assert ("BAD_ANSWER", []) == (heard.fault, heard.events)


class TestForms:
    async def test_a_form_goes_to_its_path_as_what_it_is(self) -> None:
        """One content type, that of the form; the answer's media type goes along when it is no JSON."""
        form = multipart.write([Field("model", b"m"), Field("response_format", b"text"), Field("file", b"x", "a.mp3")])
        body = EncodedRequest(dialect="openai.translations", body=form.data, content_type=form.content_type)

        heard, wire = await attempt(
            request(pb.OPERATION_TRANSCRIPTION, encoded=body), account(TRANSCRIPTIONS), Answer([b"hi\n"], "text/plain")
        )

        [sent] = wire.asked
        assert "POST /audio/translations HTTP/1.1" == sent.line
        [kind] = sent.header("content-type")
        assert kind.startswith("multipart/form-data; boundary=")
        assert ["Bearer sk-1"] == sent.header("authorization")
        assert (b"hi\n", "text/plain; charset=utf-8") == (heard.data, heard.events[1].encoded.content_type)
        assert heard.usage.estimated
        assert LIMITS.total == sent.limits.first_token

    async def test_the_same_dialect_passes(self) -> None:
        """The file untouched."""
        form = multipart.write([Field("model", b"m"), Field("prompt", b"x"), Field("image", b"\x89PNG", "a.png")])
        body = EncodedRequest(dialect="openai.images", body=form.data, content_type=form.content_type)
        answer = b'{"data":[{"url":"https://x.test/1.png"}]}'

        heard, wire = await attempt(request(pb.OPERATION_IMAGE, encoded=body), account(IMAGES), Answer([answer]))

        assert "POST /images/edits HTTP/1.1" == wire.asked[0].line
        assert form.data.replace(b"\r\nm\r\n", b"\r\nup\r\n") == wire.asked[0].body
        assert (answer, Usage(images=1)) == (heard.data, heard.usage)


class TestWorkThatGoesOn:
    ASKED = request(pb.OPERATION_IMAGE, model="wanx-v1", encoded=encoded("openai.images", prompt="cat"))

    async def test_it_is_asked_for_until_it_is_done(self) -> None:
        """With longer and longer waits, at its own place, without a body."""
        answers = [Answer([GOING_ON]) for _ in range(6)]

        heard, wire = await attempt(self.ASKED, account(PICTURES), *answers, Answer([MADE]))

        assert [{"url": "https://x.test/1.png"}] == json.loads(heard.data)["data"]
        assert Usage(images=1) == heard.usage
        first, *others = wire.asked
        assert (f"POST {NATIVE} HTTP/1.1", ["enable"]) == (first.line, first.header("x-dashscope-async"))
        for one in others:
            assert "GET /api/v1/tasks/t-1 HTTP/1.1" == one.line
            assert (["Bearer sk-1"], [], [], b"") == (
                one.header("authorization"),
                one.header("content-type"),
                one.header("x-dashscope-async"),
                one.body,
            )
        assert [0.5, 0.75, 1.125] == wire.waits[:3]
        assert 3.0 == max(wire.waits)

    async def test_it_fails(self) -> None:
        """With the fault that the vendor names."""
        failed = b'{"output":{"task_status":"FAILED","code":"DataInspectionFailed","message":"no"}}'

        heard, _ = await attempt(self.ASKED, account(PICTURES), Answer([GOING_ON]), Answer([failed]))

        assert "FILTER" == heard.fault

    async def test_a_question_that_fails_is_asked_again(self) -> None:
        """The work goes on all the same; it is paid for."""
        reset = MeshError.upstream(errors_pb2.FAULT_CONNECT, "gone")

        heard, wire = await attempt(
            self.ASKED,
            account(PICTURES),
            Answer([GOING_ON]),
            Answer([b"oops"], status=503),
            reset,
            Answer([GOING_ON]),
            Answer([MADE]),
        )

        assert (None, 4) == (heard.error, len(wire.waits))

    async def test_too_many_questions_fail(self) -> None:
        """Then the work is lost."""
        answers = [Answer([b"oops"], status=503) for _ in range(4)]

        heard, _ = await attempt(self.ASKED, account(PICTURES), Answer([GOING_ON]), *answers)

        assert "SERVER" == heard.fault

    async def test_it_takes_too_long(self) -> None:
        """The attempt's whole time bounds it."""
        wire = Wire([Answer([GOING_ON]), Answer([GOING_ON])])
        short = replace(LIMITS, total=0.4)

        with pytest.raises(MeshError) as caught:
            async for _ in perform(self.ASKED, account(PICTURES), cast("Transport", wire), short, sleep=wire.sleep):
                pass

        assert (errors_pb2.FAULT_STALL, []) == (caught.value.fault, wire.waits)

    async def test_a_handle_that_leads_elsewhere(self) -> None:
        """Is no handle."""
        evil = Answer([b'{"output":{"task_status":"RUNNING","task_id":"../../keys"}}'])

        heard, wire = await attempt(self.ASKED, account(PICTURES), evil)

        assert ("BAD_ANSWER", 1) == (heard.fault, len(wire.asked))


class TestSound:
    ASKED = encoded("openai.speech", input="hello", voice="v", response_format="pcm")

    async def test_it_comes_in_pieces(self) -> None:
        """As the vendor makes it; its type with the first; characters and length are counted."""
        answer = Answer([b"\0" * 24_000, b"\1" * 24_000], "audio/pcm")

        heard, _ = await attempt(request(pb.OPERATION_SPEECH, encoded=self.ASKED), account(SPEECH), answer)

        assert ["started", "encoded", "encoded", "usage", "finished"] == heard.kinds
        assert ["audio/pcm", ""] == [event.encoded.content_type for event in heard.events[1:3]]
        assert (
            Usage(input_tokens=9, audio_milliseconds=1000, estimated=True, other={"input_characters": 5}) == heard.usage
        )

    async def test_typed(self) -> None:
        """As results."""
        task = Task(speech=SpeechTask(text="hello"))
        answer = Answer([b"ID3", b"x"], "audio/mpeg")

        heard, _ = await attempt(request(pb.OPERATION_SPEECH, task=task), account(SPEECH), answer)

        pieces = [event.result.speech for event in heard.events if event.HasField("result")]
        assert [(b"ID3", "audio/mpeg"), (b"x", "")] == [(piece.data, piece.media_type) for piece in pieces]

    async def test_it_breaks_off(self) -> None:
        """After what came, with the fault."""
        broken = MeshError.upstream(errors_pb2.FAULT_TRUNCATED, "gone")

        heard, _ = await attempt(
            request(pb.OPERATION_SPEECH, encoded=self.ASKED), account(SPEECH), Answer([b"ID3", broken], "audio/mpeg")
        )

        assert (b"ID3", "TRUNCATED") == (heard.data, heard.fault)

    @pytest.mark.parametrize(
        "answer", [Answer([], "audio/mpeg"), Answer([b"{}"]), Answer([b'{"error":{"message":"x"}}'])]
    )
    async def test_no_sound(self, answer: Answer) -> None:
        """Is no answer."""
        heard, _ = await attempt(request(pb.OPERATION_SPEECH, encoded=self.ASKED), account(SPEECH), answer)

        assert "BAD_ANSWER" == heard.fault


class TestEvents:
    DELTA = b'data: {"type":"speech.audio.delta","audio":"SUQz"}\r\n\r\n'
    DONE = b'data: {"type":"speech.audio.done","usage":{"input_tokens":4,"output_tokens":8,"total_tokens":12}}\n\n'
    ASKED = request(
        pb.OPERATION_SPEECH, stream=True, encoded=encoded("openai.speech", input="hi", voice="v", stream_format="sse")
    )

    async def test_they_pass_as_they_come(self) -> None:
        """Canonical, without the end marker; usage is read in passing."""
        answer = Answer([self.DELTA[:20], self.DELTA[20:] + self.DONE, b"data: [DONE]\n\n", b"never read"], EVENTS)

        heard, _ = await attempt(self.ASKED, account(SPEECH), answer)

        assert self.DELTA.replace(b"\r", b"") + self.DONE == heard.data
        assert Usage(input_tokens=4, output_tokens=8) == heard.usage

    async def test_the_end_marker_may_be_missing(self) -> None:
        """The last event says that it is complete, however the connection ends after it."""
        broken = MeshError.upstream(errors_pb2.FAULT_TRUNCATED, "gone")

        heard, _ = await attempt(self.ASKED, account(SPEECH), Answer([self.DELTA, self.DONE, broken], EVENTS))

        assert (None, "finished") == (heard.error, heard.kinds[-1])

    async def test_they_break_off(self) -> None:
        """An end that nothing announced is none."""
        heard, _ = await attempt(self.ASKED, account(SPEECH), Answer([self.DELTA], EVENTS))

        assert (self.DELTA.replace(b"\r", b""), "TRUNCATED") == (heard.data, heard.fault)

    async def test_an_error_among_them(self) -> None:
        """Ends the attempt with its class, after what came before it."""
        error = b'event: error\ndata: {"error":{"message":"slow","code":"rate_limit_exceeded"}}\n\n'

        heard, _ = await attempt(self.ASKED, account(SPEECH), Answer([self.DELTA + error], EVENTS))

        assert (self.DELTA.replace(b"\r", b""), "RATE") == (heard.data, heard.fault)

    async def test_a_whole_answer_where_events_were_asked_for(self) -> None:
        """Becomes events."""
        heard, _ = await attempt(self.ASKED, account(SPEECH), Answer([b"ID3"], "audio/mpeg"))

        assert self.DELTA.replace(b"\r", b"") + b'data: {"type":"speech.audio.done"}\n\n' == heard.data

    async def test_events_that_nobody_asked_for(self) -> None:
        """Are no answer to a client who cannot read them; a typed caller gets their sum."""
        plain = request(pb.OPERATION_IMAGE, encoded=encoded("openai.images", prompt="x"))
        typed = request(pb.OPERATION_IMAGE, task=Task(image=ImageTask(prompt="x")))
        event = b'data: {"type":"image_generation.completed","b64_json":"aGk="}\n\n'

        refused, _ = await attempt(plain, account(IMAGES), Answer([event], EVENTS))
        heard, _ = await attempt(typed, account(IMAGES), Answer([event], EVENTS))

        assert "BAD_ANSWER" == refused.fault
        assert b"hi" == heard.events[1].result.image.images[0].media.data


class TestChangedTargets:
    GIVEN = target("https://acme.test/a/b/c?v=1", {"content-type": "x", "authorization": "Bearer k"})

    def test_headers_take_the_place_of_others(self) -> None:
        """No header stands twice."""
        head = changed(self.GIVEN, headers=[("content-type", "y")], drop=("authorization",)).head

        assert b"POST /a/b/c?v=1 HTTP/1.1\r\nhost: acme.test\r\ncontent-type: y\r\n" == head

    @pytest.mark.parametrize(
        ("path", "expected"),
        [("d", "/a/b/d?v=1"), ("../d/e", "/a/d/e?v=1"), ("/d", "/d?v=1")],
    )
    def test_paths_are_relative(self, path: str, expected: str) -> None:
        """As RFC 3986 has it; the query stays."""
        assert (
            f"GET {expected} HTTP/1.1".encode() == changed(self.GIVEN, method="GET", path=path).head.split(b"\r\n")[0]
        )

    @pytest.mark.parametrize("path", ["../../../../d", "https://evil.test/x", "//evil.test/x", "a b", "a\r\nx: y"])
    def test_no_path_leaves_the_address(self, path: str) -> None:
        """Nor the request line."""
        with pytest.raises(ValueError, match=r"."):
            changed(self.GIVEN, path=path)
