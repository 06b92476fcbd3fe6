"""What vendors will add to their formats tomorrow, and what networks do to bytes, loses nothing of an answer.

Each vendor's stream and whole answer, as the fakes write them, is changed in ways that its documentation allows or that
some server of the kind is known for; what is read must stay the same: text, reasoning, calls, refusal, usage, end.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import grpc_frames
from polyroute.dialects.dialect import Dialect, Outbound, SseEvent
from polyroute.dialects.events import assemble
from polyroute.dialects.registry import DIALECTS, OUTBOUND
from tests.fakes.formats import FORMATS
from tests.fakes.own_formats import OWN_FORMATS, frame
from tests.fakes.turns import Call, Format, Turn
from tests.outbound import attempt
from tests.thorough import examples
from tests.unit.dialects.xai.calls import bytes_of, chunk, whole
from xai.api.v1.chat_pb2 import GetChatCompletionChunk

Case = TypeVar("Case")
ALL: Final = (*FORMATS, *OWN_FORMATS)
OWN_JSON: Final = frozenset({"input", "args", "arguments"})  # written by models, not by vendors
VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    0,
    7,
    -1,
    1.5,
    "",
    "text",
    [],
    {},
    [1, "a"],
    {"type": "text", "text": "x"},
)
NAMES: Final = ("x_new", "zeta", "aaNewThing", "obfuscation", "debugInfo", "latency_checkpoint")
TURNS: Final = (
    Turn(text="The sky is blue.", reasoning="Think of it.", seal="c2VhbA=="),
    Turn(text="Let me look.", calls=(Call("look", '{"at":"a b","n":[1,{}]}', "call_1"), Call("see", "{}", "call_2"))),
    Turn(reasoning="Hm.", seal="c2VhbA==", calls=(Call("look", '{"at":"ü"}', "call_1"),)),
    Turn(text="It goes on and", cut_short=True),
)


@dataclass(frozen=True)
class Stream:
    """A stream as events, to be put together again."""

    format: Format
    events: tuple[tuple[str, Any], ...]  # JSON, or the text of what is none

    def rewritten(self, change: Callable[[Any], Any]) -> "Stream":
        """The same with each event changed."""
        return Stream(self.format, tuple((name, change(value)) for name, value in self.events))

    def written(self, end: str = "\n", before: bytes = b"") -> bytes:
        """Its bytes."""
        return before + b"".join(_written(self.format, name, value, end) for name, value in self.events)


def _written(form: Format, name: str, value: Any, end: str) -> bytes:
    if form.name == "bedrock.converse":
        return frame("event", name, value)
    text = value if isinstance(value, str) else json.dumps(value)
    if form.kind == "application/x-ndjson":
        return f"{text}{end}".encode()
    return "".join([f"event: {name}{end}" if name else "", f"data: {text}{end}{end}"]).encode()


def stream_of(form: Format, turn: Turn) -> Stream:
    """What a fake vendor streams."""
    raw = b"".join([*form.stream(turn), *form.end(turn)])
    framer = OUTBOUND[form.name].framing(form.kind)
    assert framer is not None
    return Stream(form, tuple((name, _value(data)) for name, data in framer.feed(raw)))


def _value(data: bytes) -> Any:
    return json.loads(data) if data.startswith(b"{") else data.decode()


def pieces_read(dialect: Outbound, form: Format, pieces: list[bytes]) -> pb.ChatResponse:
    """The answer in a stream that arrives like this."""
    framer, reader = dialect.framing(form.kind), dialect.reader()
    assert framer is not None
    steps = [step for piece in pieces for step in reader.feed(framer.feed(piece))]
    steps += reader.feed(framer.flush())
    return assemble([*steps, *reader.finish()])


def seen(response: pb.ChatResponse) -> dict[str, Any]:
    """What must never be lost."""
    [choice] = response.choices
    found: dict[str, Any] = {"text": "", "reasoning": "", "refusal": "", "calls": []}
    for part in choice.message.parts:
        kind = part.WhichOneof("part") or ""
        if kind == "tool_call":
            found["calls"].append((part.tool_call.name, json.loads(part.tool_call.arguments)))
        elif kind in found:
            found[kind] += getattr(part, kind).text
    usage = response.usage
    found["usage"] = [usage.input_tokens, usage.cache_read_tokens, usage.output_tokens, usage.reasoning_tokens]
    return found | {"finish": pb.FinishReason.Name(choice.finish_reason)}


def streamed(stream: Stream, **form: Any) -> dict[str, Any]:
    """What is read of a stream, and what a meter reads of it in passing, which must be the same."""
    raw = stream.written(**form)
    found = seen(pieces_read(OUTBOUND[stream.format.name], stream.format, [raw]))
    inbound = DIALECTS.get(stream.format.name)
    if inbound is not None:
        assert metered(inbound, stream.format, raw) == {name: found[name] for name in ("usage", "finish")}
    return found


def metered(dialect: Dialect, form: Format, raw: bytes) -> dict[str, Any]:
    """Usage and end as a meter sees them; everything but the end marker passes."""
    framer, meter = dialect.framing(form.kind), dialect.meter(hide_usage=False)
    assert framer is not None
    usage, finish, content = pb.Usage(), 0, 0
    events: list[SseEvent] = [*framer.feed(raw), *framer.flush()]
    for event in events:
        told = meter.feed([event])
        usage = told.usage or usage
        finish = told.finish or finish
        content += told.content_events
    assert content
    figures = [usage.input_tokens, usage.cache_read_tokens, usage.output_tokens, usage.reasoning_tokens]
    return {"usage": figures, "finish": pb.FinishReason.Name(finish)}  # type: ignore[arg-type]


def strewn(value: Any, chance: random.Random) -> Any:
    """A JSON value with unknown members in its objects, and the members in another order."""
    if isinstance(value, list):
        return [strewn(item, chance) for item in value]
    if not isinstance(value, dict):
        return value
    members = [(name, item if name in OWN_JSON else strewn(item, chance)) for name, item in value.items()]
    added = chance.sample(NAMES, chance.randint(0, 2))
    members += [(name, chance.choice(VALUES)) for name in added if name not in value]
    chance.shuffle(members)
    return dict(members)


def each(*formats: str) -> pytest.MarkDecorator:
    """A parameter over formats; all when none is named."""
    chosen = [form for form in ALL if not formats or form.name in formats]
    return pytest.mark.parametrize("form", chosen, ids=[form.name for form in chosen])


def share(cases: Sequence[Case], turn: Turn) -> Sequence[Case]:
    """The cases that are tried on a turn: a part of them on each, and all on all of them in a thorough run."""
    return cases[examples(TURNS.index(turn), 0) :: examples(len(TURNS), 1)]


turns = pytest.mark.parametrize("turn", TURNS, ids=["reasoning", "calls", "thoughts and a call", "cut short"])


@each()
@settings(max_examples=examples(3, 800))
@given(turn=st.sampled_from(TURNS), seed=st.integers(0, 1 << 32))
def test_unknown_members(form: Format, turn: Turn, seed: int) -> None:
    """Members that nobody knows, in whatever order, change nothing of a stream or of a whole answer."""
    chance = random.Random(seed)
    plain = stream_of(form, turn)
    changed = plain.rewritten(lambda value: strewn(value, chance))
    whole = json.dumps(strewn(form.whole(turn), chance)).encode()

    expected = streamed(plain)
    assert streamed(changed) == expected
    assert seen(OUTBOUND[form.name].read_answer(whole)) == expected


# An event of a kind that is not known yet, in the manner of each format.
UNKNOWN: Final[dict[str, tuple[tuple[str, Any], ...]]] = {
    "openai.chat": (
        ("", {"id": "c-1", "object": "chat.completion.chunk.meta", "choices": []}),
        ("", {"object": "trace", "step": 1}),
        ("", {"id": "c-1", "choices": None, "usage": None}),
        ("", {"id": "c-1", "choices": [{"index": 0, "delta": None, "finish_reason": None}]}),
        ("", {"id": "c-1", "choices": [{"index": 0, "delta": {}, "finish_reason": ""}]}),
        ("", {"type": "ping", "cost": "0"}),
        ("new.event", {"type": "new.event", "content": "x"}),
    ),
    "openai.responses": (
        ("response.thing.delta", {"type": "response.thing.delta", "delta": "x", "output_index": 0}),
        ("keepalive", {"type": "keepalive", "sequence_number": 3}),
        ("codex.rate_limits", {"type": "codex.rate_limits", "rate_limits": {"primary": {"used_percent": 1}}}),
        ("response.sound.delta", {"type": "response.sound.delta", "delta": "AAAA"}),
    ),
    "anthropic.messages": (
        ("ping", {"type": "ping"}),
        ("new_event", {"type": "new_event", "content": "x", "index": 0}),
        ("content_block_progress", {"type": "content_block_progress", "content": []}),
        ("vendor", {"type": "vendor", "message": "m", "usage": {"input_tokens": 99}}),
    ),
    "gemini.generate": (
        ("", {"responseId": "r1"}),
        ("", {"candidates": []}),
        ("", {"candidates": [{"index": 0, "content": {"role": "model"}}]}),
        ("", {"candidates": [{"content": {"parts": []}, "groundingMetadata": {"webSearchQueries": ["q"]}}]}),
        ("", {"serverContent": {"x": 1}}),
    ),
    "bedrock.converse": (("newEvent", {"something": 1}), ("contentBlockNew", {"contentBlockIndex": 0, "new": {}})),
    "cohere.chat": (
        ("debug", {"type": "debug", "prompt": "x"}),
        ("new-event", {"type": "new-event", "index": 0, "delta": {"message": {"content": {"text": "x"}}}}),
    ),
    "ollama.chat": (
        ("", {"model": "m", "done": False}),
        ("", {"status": "loading model", "completed": 1, "total": 2}),
        ("", {"model": "m", "message": {"role": "assistant", "content": ""}, "done": False}),
    ),
    "dashscope.generation": (
        ("heartbeat", {"request_id": "q-1"}),
        ("result", {"output": {}, "request_id": "q-1"}),
        ("result", {"output": {"choices": []}, "usage": None, "request_id": "q-1"}),
    ),
}


@each()
@settings(max_examples=examples(3, 800))
@given(turn=st.sampled_from(TURNS), seed=st.integers(0, 1 << 32))
def test_unknown_events(form: Format, turn: Turn, seed: int) -> None:
    """Events that nobody knows, anywhere behind the first, are nothing of the answer and no end of it."""
    chance = random.Random(seed)
    plain = stream_of(form, turn)
    events = list(plain.events)
    for _ in range(chance.randint(1, 4)):
        events.insert(chance.randint(1, len(events) - 1), chance.choice(UNKNOWN[form.name]))

    assert streamed(Stream(form, tuple(events))) == streamed(plain)


@each()
@turns
def test_any_cut(form: Format, turn: Turn) -> None:
    """Where the network cuts the bytes does not show: in two at every place, and one by one."""
    plain = stream_of(form, turn)
    raw, dialect = plain.written(), OUTBOUND[form.name]
    expected = seen(pieces_read(dialect, form, [raw]))

    assert expected == seen(pieces_read(dialect, form, [raw[at : at + 1] for at in range(len(raw))]))
    for at in range(1, len(raw), examples(389, 1)):
        assert expected == seen(pieces_read(dialect, form, [raw[:at], raw[at:]]))


BEFORE: Final = (b"\xef\xbb\xbf", b": keep-alive\n\n", b":\n\n:\n\n", b"\n\n", b"retry: 3000\n\n", b"id: 0\n: x\n\n")


@each(*(form.name for form in ALL if form.kind.startswith("text/event-stream")))
@turns
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_forms_of_server_sent_events(form: Format, turn: Turn, end: str) -> None:
    """Any line end, a byte order mark, comments, `id`, `retry`, and no space after `data:` are as the standard says."""
    plain = stream_of(form, turn)
    dialect = OUTBOUND[form.name]
    raw = plain.written(end)
    busy = raw.replace(f"{end}{end}".encode(), f"{end}{end}: busy{end}{end}id: 7{end}".encode())
    tight = raw.replace(b"data: ", b"data:").replace(b"event: ", b"event:")
    expected = seen(pieces_read(dialect, form, [plain.written()]))

    for written in share([busy, tight, *(before + raw for before in BEFORE)], turn):
        for size in (97, len(written))[: examples(1, 2)]:
            pieces = [written[at : at + size] for at in range(0, len(written), size)]
            assert expected == seen(pieces_read(dialect, form, pieces))


def without(value: Any, names: frozenset[str]) -> Any:
    """A JSON value without some members, wherever they stand."""
    if isinstance(value, list):
        return [without(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: item if name in OWN_JSON else without(item, names) for name, item in value.items() if name not in names
    }


def emptied(value: Any, names: frozenset[str]) -> Any:
    """A JSON value with null for some members, wherever they stand."""
    if isinstance(value, list):
        return [emptied(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: None if name in names else item if name in OWN_JSON else emptied(item, names)
        for name, item in value.items()
    }


# Members that some server of the kind leaves out, or sends as null, without meaning anything by it.
OPTIONAL: Final[dict[str, tuple[str, ...]]] = {
    "openai.chat": ("id", "object", "created", "model", "index", "role", "logprobs", "type", "total_tokens"),
    "openai.responses": (
        "sequence_number",
        "output_index",
        "item_id",
        "content_index",
        "summary_index",
        "created_at",
        "object",
        "model",
        "status",
        "annotations",
        "logprobs",
        "total_tokens",
        "id",
    ),
    "anthropic.messages": ("index", "id", "model", "role", "stop_sequence", "cache_creation_input_tokens"),
    "gemini.generate": ("index", "role", "responseId", "modelVersion", "totalTokenCount"),
    "bedrock.converse": ("role", "totalTokens", "metrics", "cacheWriteInputTokens"),
    "cohere.chat": ("id", "index", "role", "billed_units"),
    "ollama.chat": ("model", "created_at", "role", "total_duration"),
    "dashscope.generation": ("request_id", "role", "total_tokens", "index"),
}


@each()
@turns
@pytest.mark.parametrize("change", [without, emptied])
def test_members_that_are_left_out(form: Format, turn: Turn, change: Callable[..., Any]) -> None:
    """Without what it may go without, or with null there, an answer is the same."""
    plain = stream_of(form, turn)
    dialect = OUTBOUND[form.name]

    expected = streamed(plain)
    for name in share(OPTIONAL[form.name], turn):
        names = frozenset({name})
        changed = plain.rewritten(partial(change, names=names))
        whole = json.dumps(change(form.whole(turn), names=names)).encode()
        assert (name, streamed(changed)) == (name, expected)
        assert (name, seen(dialect.read_answer(whole))) == (name, expected)


@each()
@turns
def test_a_cut_stream_invents_no_end(form: Format, turn: Turn) -> None:
    """Cut anywhere, a stream is refused as cut off, or it is the whole answer."""
    plain = stream_of(form, turn)
    raw, dialect = plain.written(), OUTBOUND[form.name]
    expected = seen(pieces_read(dialect, form, [raw]))

    for at in range(0, len(raw), examples(211, 1)):
        found, error = attempt(partial(pieces_read, dialect, form, [raw[:at]]))
        if error is not None:
            assert errors_pb2.FAULT_TRUNCATED == error.fault, f"cut at {at}"
        if found is not None:
            told = {name: value for name, value in seen(found).items() if name != "usage"}
            assert told == {name: expected[name] for name in told}, f"cut at {at}"


# The same for the format whose events are no JSON.
XAI: Final = OUTBOUND["xai.grpc"]
OK: Final = {"grpc-status": "0"}
NEW_FIELD: Final = b"\xc2\x3e\x01x"  # number 1000, of one byte


def chunks_of(turn: Turn) -> list[GetChatCompletionChunk]:
    """A turn as the vendor streams it."""
    deltas: list[dict[str, Any]] = [{"reasoning_content": turn.reasoning}, {"encrypted_content": turn.seal}]
    deltas += [{"content": turn.text[:5]}, {"content": turn.text[5:]}]
    calls = [{"id": call.id, "function": {"name": call.name, "arguments": call.arguments}} for call in turn.calls]
    deltas.append({"tool_calls": calls})
    said = [{"role": "ROLE_ASSISTANT", **delta} for delta in deltas if any(delta.values())]
    finish = "REASON_MAX_LEN" if turn.cut_short else "REASON_TOOL_CALLS" if turn.calls else "REASON_STOP"
    told = {"prompt_tokens": turn.asked, "cached_prompt_text_tokens": turn.cached, "completion_tokens": turn.spoken}
    told |= {"reasoning_tokens": turn.thought, "total_tokens": turn.asked + turn.answered}
    head = {"id": "r1", "model": "m", "created": "2026-01-01T00:00:00Z", "system_fingerprint": "f"}
    out = [chunk(**head, outputs=[{"index": 0, "delta": delta}]) for delta in said]
    return [*out, chunk(**head, outputs=[{"index": 0, "finish_reason": finish}], usage=told)]


def framed_read(pieces: list[bytes]) -> dict[str, Any]:
    """What a stream of frames says that arrives like this."""
    framer, reader = XAI.framing(grpc_frames.STREAM), XAI.reader()
    assert framer is not None
    steps = [step for piece in pieces for step in reader.feed(framer.feed(piece))]
    return seen(assemble([*steps, *reader.feed(framer.flush()), *reader.finish()]))


@settings(max_examples=examples(5, 800))
@given(turn=st.sampled_from(TURNS), seed=st.integers(0, 1 << 32))
def test_unknown_fields(turn: Turn, seed: int) -> None:
    """Fields of numbers that nobody knows, pieces that say nothing and trailers of any name change nothing."""
    chance = random.Random(seed)
    plain = chunks_of(turn)
    expected = framed_read([bytes_of(plain, OK)])
    for one in plain:
        for place in (one, *one.outputs, *(output.delta for output in one.outputs)):
            if chance.random() < 0.5:
                place.MergeFromString(NEW_FIELD)
    body = whole(plain)
    for _ in range(chance.randint(1, 3)):
        plain.insert(chance.randint(1, len(plain)), chunk(id="r1"))

    assert expected == framed_read([bytes_of(plain, OK | {"x-new": "1"})])
    assert expected == seen(XAI.read_answer(body))


@turns
@pytest.mark.parametrize("name", ["id", "model", "created", "system_fingerprint", "role", "index"])
def test_fields_that_are_left_out(turn: Turn, name: str) -> None:
    """Without what it may go without, an answer is the same."""
    plain = chunks_of(turn)
    expected = framed_read([bytes_of(plain, OK)])
    for one in plain:
        for place in (one, *one.outputs, *(output.delta for output in one.outputs)):
            if name in place.DESCRIPTOR.fields_by_name:
                place.ClearField(name)

    assert expected == framed_read([bytes_of(plain, OK)])


@turns
def test_frames_cut_anywhere(turn: Turn) -> None:
    """Where the network cuts them does not show, and a stream that ends early is the whole answer or refused."""
    raw = bytes_of(chunks_of(turn), OK)
    expected = framed_read([raw])

    assert expected == framed_read([raw[at : at + 1] for at in range(len(raw))])
    for at in range(1, len(raw), examples(41, 1)):
        assert expected == framed_read([raw[:at], raw[at:]])
        found, error = attempt(partial(framed_read, [raw[:at]]))
        assert found == expected if error is None else errors_pb2.FAULT_TRUNCATED == error.fault, f"cut at {at}"
