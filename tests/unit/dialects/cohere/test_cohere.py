"""`cohere.chat` where a rule is sharp: what goes out comes back, nothing breaks the reader."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat
from polyroute.dialects.cohere_chat import OUTBOUND
from polyroute.dialects.events import assemble, take_apart
from polyroute.mesh.errors import MeshError
from tests.outbound import GOLDEN, VALUES, broken, check_robust

WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
CALL = {"id": "f_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ENTRY = st.builds(lambda kind, text: {"type": kind, kind: text}, st.sampled_from(["text", "thinking"]), WORDS)
ANSWER = st.fixed_dictionaries(
    {
        "id": WORDS,
        "message": st.fixed_dictionaries(
            {"role": st.just("assistant")},
            optional={
                "content": st.lists(ENTRY, max_size=4),
                "tool_plan": WORDS,
                "tool_calls": st.lists(st.just(CALL), min_size=1, max_size=2),
                "citations": st.lists(st.fixed_dictionaries({"start": st.integers(0, 9)}), min_size=1, max_size=2),
            },
        ),
        "finish_reason": st.sampled_from(["COMPLETE", "MAX_TOKENS", "TOOL_CALL", "ERROR"]),
    },
    optional={"usage": st.just({"tokens": {"input_tokens": 9, "output_tokens": 3}, "cached_tokens": 4})},
)


def events_of(answer: dict[str, Any]) -> list[tuple[str, bytes]]:
    """The stream in which the vendor would give a whole answer, two characters at a time."""
    message = answer["message"]
    out: list[dict[str, Any]] = [{"type": "message-start", "id": answer["id"], "delta": {"message": {}}}]

    def deltas(kind: str, index: int, text: str, wrap: Any) -> None:
        for start in range(0, len(text), 2):
            out.append({"type": kind, "index": index, "delta": {"message": wrap(text[start : start + 2])}})

    for index, entry in enumerate(message.get("content", [])):
        kind = entry["type"]
        out.append({"type": "content-start", "index": index, "delta": {"message": {"content": {"type": kind}}}})
        deltas("content-delta", index, entry[kind], lambda text, kind=kind: {"content": {kind: text}})
        out.append({"type": "content-end", "index": index})
    deltas("tool-plan-delta", 0, message.get("tool_plan", ""), lambda text: {"tool_plan": text})
    for index, call in enumerate(message.get("tool_calls", [])):
        out.append({"type": "tool-call-start", "index": index, "delta": {"message": {"tool_calls": call}}})
        out.append({"type": "tool-call-end", "index": index})
    for index, citation in enumerate(message.get("citations", [])):
        out.append({"type": "citation-start", "index": index, "delta": {"message": {"citations": citation}}})
    end = {"finish_reason": answer["finish_reason"], "usage": answer.get("usage")}
    out.append({"type": "message-end", "delta": end})
    return [(event["type"], json.dumps(event).encode()) for event in out]


@given(ANSWER)
def test_a_stream_is_the_answer_in_pieces(answer: dict[str, Any]) -> None:
    """The same parts, seals, citations and figures either way; a whole answer may stand in place of a stream."""
    body = json.dumps(answer).encode()
    reader, at_once = OUTBOUND.reader(), OUTBOUND.reader()

    whole = OUTBOUND.read_answer(body)

    assert whole == assemble(reader.feed(events_of(answer)) + reader.finish())
    assert whole == assemble(at_once.feed([("", body)]) + at_once.finish())
    assert whole == assemble(take_apart(whole))


@given(ANSWER)
def test_an_answer_goes_back_as_it_came(answer: dict[str, Any]) -> None:
    """Thinking, plan and calls of a turn return to the vendor that made them, through a client of another dialect."""
    response = OUTBOUND.read_answer(json.dumps(answer).encode())
    client = openai_chat.DIALECT.read_answer(
        openai_chat.DIALECT.write_answer(response, request_id="r", model="m")
    )  # what a client got and sends again
    kept = [part for part in client.choices[0].message.parts if part.WhichOneof("part") != "refusal"]
    turn = pb.ChatRequest(messages=[pb.Message(role=pb.ROLE_ASSISTANT, parts=kept)])

    [written] = json.loads(OUTBOUND.write_request(turn, model="m", stream=False, source="openai.chat")[0])["messages"]

    message = answer["message"]
    assert message.get("tool_plan", "") == written.get("tool_plan", "")
    assert message.get("tool_calls", []) == written.get("tool_calls", [])
    thoughts = [entry["thinking"] for entry in message.get("content", []) if entry["type"] == "thinking"]
    content = written.get("content", "")
    assert thoughts == [entry["thinking"] for entry in content if "thinking" in entry if isinstance(entry, dict)]


def events_in(name: str) -> list[Any]:
    """The events of a golden case."""
    lines = (GOLDEN / "cohere_chat" / name / "response.sse").read_text().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


SAMPLES = [event for name in ("plan_and_parallel_calls", "citations", "log_probabilities") for event in events_in(name)]
SAMPLES.append(json.loads((GOLDEN / "cohere_chat" / "answer" / "response.json").read_text()))


@settings(max_examples=200)
@given(st.lists(broken(SAMPLES) | VALUES | st.sampled_from(SAMPLES), max_size=6))
def test_no_event_breaks_the_reader(events: list[Any]) -> None:
    """Any JSON in any place is an answer or an error of the vendor."""
    check_robust(OUTBOUND, events, [""] * len(events))


def test_calls_without_ids_get_their_results() -> None:
    """Ids are made from the place in the conversation and given to the results that name none."""
    calls = [pb.Part(tool_call=pb.ToolCall(name=name, arguments="{}")) for name in ("f", "g")]
    results = [
        pb.Part(tool_result=pb.ToolResult(name=name, parts=[pb.Part(text=pb.TextPart(text=name))])) for name in "gf"
    ]
    turns = [pb.Message(role=pb.ROLE_ASSISTANT, parts=calls), pb.Message(role=pb.ROLE_TOOL, parts=results)]

    body = json.loads(OUTBOUND.write_request(pb.ChatRequest(messages=turns * 2), model="m", stream=False)[0])

    ids = [call["id"] for turn in body["messages"] for call in turn.get("tool_calls", [])]
    answered = [turn["tool_call_id"] for turn in body["messages"] if turn["role"] == "tool"]
    assert len(ids) == len(set(ids)) == 4
    assert [ids[1], ids[0], ids[3], ids[2]] == answered


def test_own_extensions_go_out() -> None:
    """Documents and the like of a typed caller; of a client of another dialect they are named as dropped."""
    chat = pb.ChatRequest(messages=[pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="x"))])])
    chat.extensions["documents"] = b'[{"id":"d"}]'
    chat.extensions["safety_mode"] = b'"STRICT"'

    own, dropped = OUTBOUND.write_request(chat, model="m", stream=False)
    _, left_out = OUTBOUND.write_request(chat, model="m", stream=False, source="openai.chat")

    assert ([{"id": "d"}], "STRICT") == (json.loads(own)["documents"], json.loads(own)["safety_mode"])
    assert ([], ["documents", "safety_mode"]) == (dropped, left_out)


def test_only_one_penalty_is_sent() -> None:
    """The vendor refuses both; one that is zero says nothing."""
    both = pb.ChatRequest(sampling=pb.Sampling(frequency_penalty=0.5, presence_penalty=0.5))
    zero = pb.ChatRequest(sampling=pb.Sampling(frequency_penalty=0, presence_penalty=0.5))

    written = [OUTBOUND.write_request(chat, model="m", stream=False) for chat in (both, zero)]

    assert [["presence_penalty"], []] == [dropped for _, dropped in written]
    assert [("frequency_penalty",), ("presence_penalty",)] == [
        tuple(name for name in json.loads(body) if name.endswith("penalty")) for body, _ in written
    ]


def test_a_schema_that_is_no_json_is_refused() -> None:
    """As the caller's mistake."""
    chat = pb.ChatRequest(tools=[pb.Tool(name="f", parameters=b"{")])

    with pytest.raises(MeshError) as caught:
        OUTBOUND.write_request(chat, model="m", stream=False)

    assert errors_pb2.REASON_INVALID_REQUEST == caught.value.reason


@pytest.mark.parametrize(
    ("status", "message", "fault"),
    [
        (400, "too many tokens: total number of tokens in the prompt cannot exceed 4081", errors_pb2.FAULT_CONTEXT),
        (429, "You are using a Trial key, which is limited to 1000 API calls / month.", errors_pb2.FAULT_QUOTA),
        (429, "You are using a Trial key, which is limited to 40 API calls / minute.", errors_pb2.FAULT_RATE),
        (401, "invalid api token", errors_pb2.FAULT_CREDENTIAL),
        (400, "invalid request: temperature", errors_pb2.FAULT_CLIENT),
        (404, "model 'x' not found", errors_pb2.FAULT_MODEL_GONE),
        (500, "internal server error", errors_pb2.FAULT_SERVER),
    ],
)
def test_errors_have_their_class(status: int, message: str, fault: int) -> None:
    """The words decide where the status does not."""
    error = OUTBOUND.fault_of(status, json.dumps({"id": "x", "message": message}).encode(), {})

    assert (fault, message) == (error.fault, error.message)
