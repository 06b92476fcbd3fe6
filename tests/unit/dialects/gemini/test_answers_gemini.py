"""`gemini.generate` answers: media, streams for clients, framing, and whatever else a vendor may send."""

import base64
import json
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import gemini_generate
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.gemini.common import usage_from, usage_json
from polyroute.dialects.gemini.framing import ArrayWriter, GeminiFramer, JsonArrayFramer
from polyroute.mesh.errors import MeshError
from tests.outbound import attempt, broken, check_robust, outcome

DIALECT = gemini_generate.DIALECT
PIXEL = base64.b64encode(b"pixel").decode()
CHUNK: dict[str, Any] = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "Hm", "thought": True},
                    {"text": "Good", "thoughtSignature": "c2VhbA=="},
                    {"functionCall": {"name": "f", "willContinue": True}},
                    {
                        "functionCall": {
                            "partialArgs": [{"jsonPath": "$.a[0].b", "stringValue": "x", "willContinue": True}]
                        }
                    },
                    {"functionCall": {"id": "c", "name": "g", "args": {"x": [1]}}},
                    {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
                    {"executableCode": {"code": "1"}},
                ],
            },
            "finishReason": "STOP",
            "index": 0,
            "safetyRatings": [{"category": "C"}],
            "logprobsResult": {"chosenCandidates": [{"token": "x"}]},
        }
    ],
    "promptFeedback": {"safetyRatings": []},
    "usageMetadata": {
        "promptTokenCount": 5,
        "candidatesTokenCount": 2,
        "totalTokenCount": 7,
        "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 3}],
    },
    "modelVersion": "m-1",
    "responseId": "r1",
    "createTime": "2026-01-01T00:00:00Z",
}


def answer(*parts: dict[str, Any], **candidate: Any) -> bytes:
    """A whole answer."""
    return json.dumps(
        {"candidates": [{"content": {"parts": list(parts)}, "finishReason": "STOP", **candidate}]}
    ).encode()


def written(events: list[pb.ChatEvent]) -> list[dict[str, Any]]:
    """The events of a stream for a client."""
    data = DIALECT.writer(request_id="r", model="m", include_usage=True).feed(events)
    return [json.loads(payload) for _, payload in GeminiFramer().feed(data)]


def parts_in(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All parts of the first candidate."""
    return [part for chunk in chunks for part in chunk["candidates"][0].get("content", {"parts": []})["parts"]]


def test_pictures_are_read_and_written() -> None:
    """Between texts, with the signature that came with them."""
    raw = answer(
        {"text": "Here:"},
        {"inlineData": {"mimeType": "image/png", "data": PIXEL}, "thoughtSignature": "c2VhbA=="},
        {"text": "Done"},
    )

    response = DIALECT.read_answer(raw)

    kinds = [part.WhichOneof("part") for part in response.choices[0].message.parts]
    assert ["text", "image", "text"] == kinds
    assert b"pixel" == response.choices[0].message.parts[1].image.media.data
    whole = json.loads(DIALECT.write_answer(response, request_id="r", model="m"))
    streamed = written(DIALECT.reader().feed([("", raw)]))
    assert parts_in([json.loads(raw)]) == parts_in([whole]) == parts_in(streamed)


def test_sound_is_read_and_written() -> None:
    """With its type, which the contract has no member for; pieces of a stream are one sound."""
    kind = "audio/L16;codec=pcm;rate=16000"
    first, last = (
        answer({"inlineData": {"mimeType": kind, "data": base64.b64encode(data).decode()}}) for data in (b"ab", b"c")
    )
    reader = DIALECT.reader()

    events = reader.feed([("", first), ("", last)]) + reader.finish()

    response = assemble(events)
    assert b"abc" == response.choices[0].message.parts[0].audio.media.data
    whole = json.loads(DIALECT.write_answer(response, request_id="r", model="m"))
    assert [{"inlineData": {"mimeType": kind, "data": base64.b64encode(b"abc").decode()}}] == parts_in([whole])
    assert [kind, kind] == [part["inlineData"]["mimeType"] for part in parts_in(written(events))]


def test_pictures_of_thoughts_are_no_pictures_of_the_answer() -> None:
    """They stay among the parts that the contract does not know, where they were."""
    thought = {"inlineData": {"mimeType": "image/png", "data": PIXEL}, "thought": True}

    response = DIALECT.read_answer(answer(thought, {"text": "x"}))

    sealed = response.choices[0].message.parts[0]
    assert ("part", thought) == (sealed.state.kind, json.loads(sealed.state.data))
    assert not any(part.HasField("image") for part in response.choices[0].message.parts)


def test_calls_in_pieces_reach_clients_whole() -> None:
    """The pieces of other vendors' calls are held back until something else follows; broken arguments stay readable."""
    pieces = [
        pb.ToolCallDelta(index=0, id="a", name="f", arguments='{"x"', kind=pb.TOOL_KIND_FUNCTION),
        pb.ToolCallDelta(index=1, id="b", name="g", arguments="{"),
        pb.ToolCallDelta(index=0, arguments=": 1}"),
    ]
    finished = pb.ChoiceFinished(reason=pb.FINISH_REASON_TOOL_CALLS, vendor_reason="tool_calls")
    events = [pb.ChatEvent(tool_call=piece) for piece in pieces] + [pb.ChatEvent(finished=finished)]

    chunks = written(events)

    assert [
        {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}},
        {"functionCall": {"id": "b", "name": "g", "args": {"input": "{"}}},
    ] == parts_in(chunks)
    assert "STOP" == chunks[-1]["candidates"][0]["finishReason"]


def test_every_event_has_a_candidate() -> None:
    """Usage comes with the last event of its batch, or with an event of its own that says the end again."""
    text, end = (
        pb.ChatEvent(text=pb.TextDelta(text="x")),
        pb.ChatEvent(finished=pb.ChoiceFinished(reason=pb.FINISH_REASON_LENGTH)),
    )
    usage = pb.ChatEvent(usage=pb.Usage(input_tokens=1, output_tokens=2))
    together, apart = (DIALECT.writer(request_id="r", model="m", include_usage=True) for _ in range(2))

    one = together.feed([text, end, usage])
    two = apart.feed([text, end]) + apart.feed([usage])

    for data, count in ((one, 2), (two, 3)):
        chunks = [json.loads(payload) for _, payload in GeminiFramer().feed(data)]
        assert count == len(chunks)
        assert all(chunk["candidates"] for chunk in chunks)
        assert ("MAX_TOKENS", 3) == (
            chunks[-1]["candidates"][0]["finishReason"],
            chunks[-1]["usageMetadata"]["totalTokenCount"],
        )


def test_usage_that_nobody_asked_for() -> None:
    """Stays out."""
    writer = DIALECT.writer(request_id="r", model="m", include_usage=False)

    assert b"" == writer.feed([pb.ChatEvent(usage=pb.Usage(input_tokens=1))])


def test_the_answer_of_another_vendor() -> None:
    """Names the model asked for and our id; states of others travel as signatures, other probabilities do not."""
    state = pb.VendorState(dialect="anthropic.messages", kind="signature", data=b"seal")
    response = pb.ChatResponse(id="theirs", model="theirs", create_time=1767225600)
    choice = response.choices.add(
        finish_reason=pb.FINISH_REASON_STOP, vendor_finish_reason="end_turn", logprobs=b'{"content":[]}'
    )
    choice.message.parts.add(state=state).reasoning.text = "Hm"
    choice.message.parts.add().text.text = "Hello"

    value = json.loads(DIALECT.write_answer(response, request_id="r", model="m"))

    [candidate] = value["candidates"]
    assert ("m", "r", "2026-01-01T00:00:00Z") == (value["modelVersion"], value["responseId"], value["createTime"])
    assert ("STOP", False) == (candidate["finishReason"], "logprobsResult" in candidate)
    thought, text = candidate["content"]["parts"]
    assert ({"text": "Hello"}, "Hm", True) == (text, thought["text"], thought["thought"])
    request = DIALECT.read_request(json.dumps({"contents": [{"role": "model", "parts": [thought]}]}).encode())
    assert state == request.messages[0].parts[0].state


def test_an_array_for_clients_without_events() -> None:
    """The events of a stream as one JSON array, closed when the stream was complete."""
    array, empty = ArrayWriter(), ArrayWriter()

    data = array.feed(b'data: {"a":1}\n\ndata: {"b":2}\n\n') + array.feed(b"") + array.feed(b'data: {"c":3}\n\n')

    assert [{"a": 1}, {"b": 2}, {"c": 3}] == json.loads(data + array.close())
    assert b"[]" == empty.feed(b"") + empty.close()


VALUES = st.dictionaries(
    st.text(max_size=5), st.text(max_size=8) | st.lists(st.text('[]{}"\\,', max_size=4)), min_size=1
)


@given(st.lists(VALUES, max_size=4), st.lists(st.integers(0, 400), max_size=6), st.booleans())
def test_an_array_is_cut_anywhere(values: list[Any], cuts: list[int], indented: bool) -> None:
    """The entries are those of the array, whatever brackets and quotes stand in their texts."""
    raw = json.dumps(values, indent=2 if indented else None).encode()
    places = [0, *sorted(place for place in cuts if place < len(raw)), len(raw)]
    framer = JsonArrayFramer()

    events = [event for start, end in pairwise(places) for event in framer.feed(raw[start:end])]

    assert values == [json.loads(data) for _, data in events]
    assert (0, []) == (framer.pending, framer.flush())


@pytest.mark.parametrize("raw", [b"<html>", b"[1, 2]", b'[{"a": 1}, "x"]', b"null"])
def test_what_is_no_array_of_objects(raw: bytes) -> None:
    """Is refused."""
    with pytest.raises(MeshError) as caught:
        JsonArrayFramer().feed(raw)

    assert errors_pb2.FAULT_BAD_ANSWER == caught.value.fault


def test_entries_have_a_bound() -> None:
    """One that goes on for ever is refused."""
    framer = JsonArrayFramer(max_event_bytes=100)

    with pytest.raises(MeshError, match="more than 100 bytes"):
        for _ in range(20):
            framer.feed(b'[{"a": "xxxxxxxxxxxxxxx')


def test_an_array_that_was_cut() -> None:
    """Has an entry pending and gives nothing more."""
    framer = JsonArrayFramer()

    assert [("", b'{"a":1}')] == framer.feed(b'[{"a":1},\r\n{"b"')
    assert (4, []) == (framer.pending, framer.flush())


@given(
    st.builds(
        pb.Usage,
        input_tokens=st.integers(0, 1 << 40),
        cache_read_tokens=st.integers(0, 1 << 40),
        output_tokens=st.integers(0, 1 << 40),
        reasoning_tokens=st.integers(0, 1 << 40),
    )
)
def test_usage_survives(usage: pb.Usage) -> None:
    """Buckets -> figures -> buckets; their sum is the total."""
    figures = usage_json(usage)

    buckets = usage.input_tokens + usage.cache_read_tokens + usage.output_tokens + usage.reasoning_tokens
    assert buckets == figures["totalTokenCount"]
    assert (usage if buckets else None) == usage_from(figures)


@pytest.mark.parametrize(
    ("figures", "buckets"),
    [
        (
            {"promptTokenCount": 10, "candidatesTokenCount": 9, "thoughtsTokenCount": 4, "totalTokenCount": 19},
            (10, 0, 5, 4),
        ),
        (
            {"promptTokenCount": 10, "toolUsePromptTokenCount": 6, "candidatesTokenCount": 9, "totalTokenCount": 19},
            (10, 0, 9, 0),
        ),
        (
            {"promptTokenCount": 10, "toolUsePromptTokenCount": 6, "candidatesTokenCount": 9, "totalTokenCount": 25},
            (16, 0, 9, 0),
        ),
        ({"promptTokenCount": 10, "cachedContentTokenCount": 12, "totalTokenCount": 10}, (0, 10, 0, 0)),
        ({"promptTokenCount": "10", "candidatesTokenCount": "2"}, (10, 0, 2, 0)),
        ({"totalTokenCount": 7}, (0, 0, 0, 7)),
    ],
)
def test_totals_are_believed(figures: dict[str, Any], buckets: tuple[int, ...]) -> None:
    """Where figures may stand inside or beside each other, the total says which."""
    usage = usage_from(figures)

    assert usage is not None
    assert buckets == (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens, usage.reasoning_tokens)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
STATES = st.none() | st.builds(
    pb.VendorState, dialect=st.just("gemini.generate"), kind=st.just("thoughtSignature"), data=st.just(b"c2VhbA==")
)
ARGUMENTS = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=4), max_size=3)


@st.composite
def responses(draw: st.DrawFn) -> pb.ChatResponse:
    """Answers that this format can say whole."""
    response = pb.ChatResponse(id="r", model="m")
    choice = response.choices.add(finish_reason=pb.FINISH_REASON_LENGTH, vendor_finish_reason="MAX_TOKENS")
    choice.message.role = pb.ROLE_ASSISTANT
    kind = ""
    for number in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from([name for name in ("text", "reasoning", "tool_call", "image") if name != kind]))
        part = choice.message.parts.add(state=draw(STATES) if kind != "image" else None)
        match kind:
            case "text":
                part.text.text = draw(TEXTS)
            case "reasoning":
                part.reasoning.CopyFrom(pb.ReasoningPart(text=draw(TEXTS), summary=True))
            case "tool_call":
                arguments = json.dumps(draw(ARGUMENTS), separators=(",", ":"), ensure_ascii=False)
                part.tool_call.CopyFrom(
                    pb.ToolCall(id=f"c{number}", name=draw(TEXTS), arguments=arguments, kind=pb.TOOL_KIND_FUNCTION)
                )
            case _:
                part.image.media.CopyFrom(pb.Media(data=b"pixel", media_type="image/png"))
    if draw(st.booleans()):
        response.usage.CopyFrom(pb.Usage(input_tokens=3, output_tokens=2, reasoning_tokens=1))
    return response


@given(responses())
def test_answers_survive(response: pb.ChatResponse) -> None:
    """Answer -> bytes -> answer changes nothing, streamed or whole."""
    stream = DIALECT.writer(request_id="r", model="m", include_usage=True).feed(take_apart(response))

    whole = DIALECT.read_answer(DIALECT.write_answer(response, request_id="r", model="m"))

    assert response == whole
    assert response == assemble(outcome(DIALECT, [stream], ".sse")[0])


@given(st.lists(broken([CHUNK]), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_whatever_a_vendor_sends_is_read_or_refused(events: list[Any]) -> None:
    """Steps or a fault of the vendor, never another exception; so in passing, and so once it is written."""
    check_robust(DIALECT, events, [""] * len(events))
    for value in events:
        data = json.dumps(value).encode()
        reads = (partial(DIALECT.read_answer_facts, data), partial(DIALECT.meter(hide_usage=True).feed, [("", data)]))
        faults = [attempt(read)[1] for read in reads]
        assert all(fault.reason == errors_pb2.REASON_UPSTREAM for fault in faults if fault)
        response, _ = attempt(partial(DIALECT.read_answer, data))
        if response:
            DIALECT.write_answer(response, request_id="r", model="m")
            written(take_apart(response))


@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"data: ", b"\n", b"\r\n\r\n", b"{", b"}", b'{"error":{}}']),
        max_size=6,
    )
)
def test_any_bytes_of_a_stream(pieces: list[bytes]) -> None:
    """Give steps or a fault, and no end that nobody announced."""
    events, fault = outcome(DIALECT, pieces, ".sse")

    assert fault
    assert not any(event.HasField("finished") for event in events)
    for piece in pieces:
        _, error = attempt(partial(JsonArrayFramer().feed, piece))
        assert error is None or error.fault == errors_pb2.FAULT_BAD_ANSWER


def status(code: int, word: str, message: str, *details: dict[str, Any]) -> bytes:
    """An error of the vendor."""
    return json.dumps({"error": {"code": code, "message": message, "status": word, "details": list(details)}}).encode()


INFO = {"@type": "type.googleapis.com/google.rpc.ErrorInfo"}
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "43.5s"}
PER_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}


@pytest.mark.parametrize(
    ("body", "fault", "code", "retry_after"),
    [
        (
            status(400, "INVALID_ARGUMENT", "API key not valid.", INFO | {"reason": "API_KEY_INVALID"}),
            "CREDENTIAL",
            "API_KEY_INVALID",
            None,
        ),
        (status(400, "INVALID_ARGUMENT", "API key expired."), "CREDENTIAL", "INVALID_ARGUMENT", None),
        (status(400, "INVALID_ARGUMENT", "Bad thing"), "CLIENT", "INVALID_ARGUMENT", None),
        (
            status(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum"),
            "CONTEXT",
            "INVALID_ARGUMENT",
            None,
        ),
        (
            status(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
            "UNSUPPORTED",
            "FAILED_PRECONDITION",
            None,
        ),
        (
            status(403, "PERMISSION_DENIED", "Disabled", INFO | {"reason": "SERVICE_DISABLED"}),
            "CREDENTIAL",
            "SERVICE_DISABLED",
            None,
        ),
        (status(404, "NOT_FOUND", "models/x is not found"), "MODEL_GONE", "NOT_FOUND", None),
        (status(429, "RESOURCE_EXHAUSTED", "Quota exceeded", RETRY), "RATE", "RESOURCE_EXHAUSTED", 43.5),
        (status(429, "RESOURCE_EXHAUSTED", "Quota exceeded", RETRY, PER_DAY), "QUOTA", "RESOURCE_EXHAUSTED", None),
        (
            status(429, "RESOURCE_EXHAUSTED", "Zero", {"metadata": {"quota_limit_value": "0"}}),
            "QUOTA",
            "RESOURCE_EXHAUSTED",
            None,
        ),
        (status(500, "INTERNAL", "Broke"), "SERVER", "INTERNAL", None),
        (status(503, "UNAVAILABLE", "Overloaded", RETRY), "SERVER", "UNAVAILABLE", 43.5),
        (b"<html>", "SERVER", None, None),
    ],
)
def test_the_class_of_an_error(body: bytes, fault: str, code: str | None, retry_after: float | None) -> None:
    """By its details, then by its words, then by its status."""
    number = json.loads(body)["error"]["code"] if body.startswith(b"{") else 502

    error = DIALECT.fault_of(number, body, {})

    name = errors_pb2.Fault.Name(error.fault).removeprefix("FAULT_")
    assert (fault, code, retry_after) == (name, error.metadata.get("vendor_code"), error.retry_after)
    assert str(number) == error.metadata["upstream_status"]
