"""Whatever comes in, nothing but steps, messages and our own errors comes out; what is typed survives both ways."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import anthropic_count_tokens, anthropic_messages
from polyroute.dialects.dialect import Metered
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.sse import Framer
from polyroute.dialects.task import JSON, Body
from polyroute.mesh.errors import MeshError
from tests.outbound import GOLDEN, SCALARS, broken, check_robust

DIALECT = anthropic_messages.DIALECT
FOLDER: Path = GOLDEN / "anthropic_messages"


def events_of(path: Path) -> list[Any]:
    """The events of a golden stream that are JSON."""
    found = []
    for _, data in Framer().feed(path.read_bytes()):
        try:
            found.append(json.loads(data))
        except ValueError:
            continue
    return found


STREAMS = [events_of(path) for path in sorted(FOLDER.glob("*/response.sse"))]
EVENTS = [event for stream in STREAMS for event in stream]
REQUEST = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [{"type": "image", "source": {"type": "base64", "media_type": "a/b", "data": "AA=="}}],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "polyroute.v1:e30="},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
                {"type": "server_tool_use", "id": "b"},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "x"}]}],
        },
        {"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "x"}, "title": "t"}]},
    ],
    "tools": [{"name": "f", "input_schema": {}, "strict": True}, {"type": "bash_1", "name": "bash"}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    "metadata": {"user_id": "u"},
    "stop_sequences": ["x"],
}


@given(st.lists(broken(EVENTS), min_size=1, max_size=4), st.sampled_from(["", "error", "content_block_delta"]))
def test_readers_take_anything(events: list[Any], name: str) -> None:
    """Odd values in odd places are errors of the vendor."""
    check_robust(DIALECT, events, [name if number else "" for number in range(len(events))])


def reason_of(work: Callable[[], object]) -> int:
    """Why our own code refused something; 0 when it did not."""
    try:
        work()
    except MeshError as error:
        return error.reason
    return 0


@given(broken(STREAMS))
def test_meters_take_anything_and_agree(events: Any) -> None:
    """A meter raises nothing but a broken stream, and where it does not, finds the usage that a reader finds."""
    data = [("", json.dumps(event).encode()) for event in events] if isinstance(events, list) else []
    steps: list[pb.ChatEvent] = []
    metered = Metered()
    try:
        metered = DIALECT.meter(hide_usage=True).feed(data)
        reader = DIALECT.reader()
        steps += [*reader.feed(data), *reader.finish()]
    except MeshError:  # broken, or cut short
        return

    if metered.done and metered.usage:
        assert metered.usage in [step.usage for step in steps]


@given(st.binary(max_size=60))
def test_bytes_of_any_kind(raw: bytes) -> None:
    """Bodies that are no JSON, from either side."""
    for read in (DIALECT.read_answer, DIALECT.read_answer_facts):
        assert reason_of(lambda: read(raw)) in (0, errors_pb2.REASON_UPSTREAM)  # noqa: B023 - called at once
    for ask in (DIALECT.read_request, DIALECT.read_facts):
        assert reason_of(lambda: ask(raw)) in (0, errors_pb2.REASON_INVALID_REQUEST)  # noqa: B023 - called at once
    assert errors_pb2.REASON_UPSTREAM == DIALECT.fault_of(500, raw, {}).reason


@given(broken([REQUEST]))
def test_requests_of_any_shape(value: Any) -> None:
    """A client's body is read or refused; what is read can be written, or is refused by our own error."""
    body = json.dumps(value).encode()

    def at_the_door() -> None:
        facts = DIALECT.read_facts(body, default_model="m")
        assert "up" == json.loads(DIALECT.patch_request(body, facts, model="up", ask_usage=False))["model"]

    def translated() -> None:
        request = DIALECT.read_request(body)
        anthropic_count_tokens.DIALECT.read_task(Body(body))
        for source in ("", "anthropic.messages", "openai.chat"):
            DIALECT.write_request(request, model="m", stream=True, source=source)

    assert reason_of(at_the_door) in (0, errors_pb2.REASON_INVALID_REQUEST)
    assert reason_of(translated) in (0, errors_pb2.REASON_INVALID_REQUEST, errors_pb2.REASON_UPSTREAM)


@given(SCALARS | st.dictionaries(st.sampled_from(["input_tokens", "error", "x"]), SCALARS))
def test_counts_of_any_shape(value: Any) -> None:
    """A count is a number or an error of the vendor."""
    raw = json.dumps(value).encode()
    if reason_of(lambda: anthropic_count_tokens.DIALECT.read_outcome(raw, JSON)):
        return

    outcome = anthropic_count_tokens.DIALECT.read_outcome(raw, JSON)

    assert value["input_tokens"] == outcome.result.count_tokens.input_tokens


WORDS = st.text(min_size=1, max_size=5)
STATES = st.builds(
    pb.VendorState,
    dialect=st.just("anthropic.messages"),
    kind=st.just("signature"),
    data=st.text(alphabet="abc=", min_size=1, max_size=5).map(str.encode),
)
TEXTS = st.builds(lambda words: pb.Part(text=pb.TextPart(text=words)), WORDS)
CALLS = st.builds(
    lambda call_id, name, value: pb.Part(
        tool_call=pb.ToolCall(
            id=f"toolu_{call_id}",
            name=name,
            arguments=json.dumps({"x": value}, separators=(",", ":")),
            kind=pb.TOOL_KIND_FUNCTION,
        )
    ),
    st.integers(0, 99),
    st.sampled_from(["f", "g"]),
    st.integers(-5, 5),
)
THOUGHTS = st.builds(
    lambda words, state: pb.Part(reasoning=pb.ReasoningPart(text=words), state=state), st.text(max_size=5), STATES
)
RESULTS = st.builds(
    lambda call_id, parts, failed: pb.Part(
        tool_result=pb.ToolResult(tool_call_id=f"toolu_{call_id}", parts=parts, failed=failed)
    ),
    st.integers(0, 99),
    st.lists(TEXTS, max_size=2),
    st.booleans(),
)
ASKED = st.lists(TEXTS, min_size=1, max_size=3).map(lambda parts: pb.Message(role=pb.ROLE_USER, parts=parts))
SAID = st.lists(TEXTS | CALLS | THOUGHTS, min_size=1, max_size=4).map(
    lambda parts: pb.Message(role=pb.ROLE_ASSISTANT, parts=parts)
)
ANSWERED = st.lists(RESULTS, min_size=1, max_size=3).map(lambda parts: pb.Message(role=pb.ROLE_TOOL, parts=parts))
TURNS = st.lists(st.tuples(ASKED, SAID, ANSWERED), min_size=1, max_size=3).map(
    lambda rounds: [message for asked, said, answered in rounds for message in (asked, said, answered)]
)


@given(TURNS, st.integers(1, 99), st.sampled_from([None, 0.0, 0.5]), st.sampled_from(["", "low", "max"]))
def test_a_conversation_survives_both_ways(
    messages: list[pb.Message], most: int, temperature: float | None, effort: str
) -> None:
    """ChatRequest -> bytes -> ChatRequest changes nothing."""
    # two turns of a user in a row are one: what tools answered and what the user then says
    request = pb.ChatRequest(model="m", messages=messages, max_output_tokens=most)
    if temperature is not None:
        request.sampling.temperature = temperature
    if effort:
        request.reasoning.effort = effort

    body, dropped = DIALECT.write_request(request, model="m", stream=False)

    assert [] == dropped
    assert request == DIALECT.read_request(body)


@given(SAID, st.sampled_from(["end_turn", "max_tokens", "refusal", "pause_turn"]), st.integers(0, 9))
def test_an_answer_survives_both_ways(message: pb.Message, word: str, tokens: int) -> None:
    """ChatResponse -> bytes -> ChatResponse changes nothing; as a stream it is the same answer."""
    body = {"id": "msg_r", "model": "m", "stop_reason": word, "usage": {"input_tokens": 1, "output_tokens": tokens}}
    request = pb.ChatRequest(model="m", messages=[message])
    content = json.loads(DIALECT.write_request(request, model="m", stream=False)[0])["messages"][0]["content"]
    response = DIALECT.read_answer(json.dumps(body | {"content": content}).encode())
    writer = DIALECT.writer(request_id="r", model="m", include_usage=True)
    reader = DIALECT.reader()

    whole = DIALECT.read_answer(DIALECT.write_answer(response, request_id="r", model="m"))
    streamed = assemble([*reader.feed(Framer().feed(writer.feed(take_apart(response)))), *reader.finish()])

    for again in (whole, streamed):
        again.choices[0].vendor_finish_reason = response.choices[0].vendor_finish_reason
        assert response == again
