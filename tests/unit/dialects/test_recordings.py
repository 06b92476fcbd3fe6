"""Every recorded exchange of the OpenAI wire formats, read by the dialects and by a naive reading of the raw JSON.

The recordings are other projects' and no part of this one: POLYROUTE_FIXTURES names their folder, by default one beside
the project. No recorded text reaches a message: failures name the exchange and what differed.
"""

import base64
import json
import os
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat, openai_completions, openai_embeddings
from polyroute.dialects.dialect import BrokenStreamError, Dialect
from polyroute.dialects.events import assemble
from polyroute.dialects.sse import Framer
from polyroute.mesh.errors import MeshError

_DEFAULT = Path(__file__).parents[4] / "shared" / "fixtures"
FOLDER = Path(os.environ.get("POLYROUTE_FIXTURES", str(_DEFAULT)))
WIRES: dict[str, Dialect] = {"openai.chat": openai_chat.DIALECT, "openai.completions": openai_completions.DIALECT}
CUTS = 12  # places at which each stream is cut


def exchanges(*wires: str) -> list[dict[str, Any]]:
    """The index rows of these wire formats; none when the folder is absent."""
    index = FOLDER / "index.jsonl"
    if not index.exists():
        return []
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    return [row for row in rows if row["wire"] in wires and row["response_file"]]


CHAT = exchanges(*WIRES)
EMBEDDINGS = exchanges("openai.embeddings")
pytestmark = pytest.mark.skipif(not CHAT, reason=f"no recordings in {FOLDER}")


def is_stream(row: dict[str, Any]) -> bool:
    """Whether the answer was a stream."""
    return bool(row["response_file"].endswith(".sse"))


def body_of(row: dict[str, Any], which: str = "response_file") -> bytes:
    """The recorded bytes."""
    name: str = row[which]
    return (FOLDER / name).read_bytes()


def ids(rows: list[dict[str, Any]]) -> list[str]:
    """Names of test cases: the exchange, never its content."""
    return [f"{row['api']}-{row['id']}" for row in rows]


def cases(rows: list[dict[str, Any]]) -> pytest.MarkDecorator:
    """A parameter over exchanges."""
    return pytest.mark.parametrize("row", rows, ids=ids(rows))


@dataclass
class Naive:
    """What a simple reading finds in an answer, choice 0 only."""

    text: str = ""
    reasoning: str = ""
    calls: list[list[str]] = field(default_factory=list)  # [name, arguments]
    finish: list[str] = field(default_factory=list)
    usage: tuple[int, int] | None = None  # prompt and completion as told last
    error: bool = False
    choices: bool = False
    done: bool = False
    ids: list[str | None] = field(default_factory=list)  # of the calls


def text_in(content: Any) -> tuple[str, str]:
    """Text and reasoning in a `content`."""
    if isinstance(content, str):
        return content, ""
    if isinstance(content, dict):
        return json.dumps(content), ""
    text = reasoning = ""
    for part in content or []:
        if part.get("type") == "text":
            text += part["text"]
        elif part.get("type") == "thinking":
            reasoning += "".join(inner["text"] for inner in part["thinking"])
    return text, reasoning


def note_message(naive: Naive, message: dict[str, Any]) -> None:
    """Adds a message or delta."""
    text, thinking = text_in(message.get("content"))
    naive.text += text
    details = message.get("reasoning_details") or []
    told = "".join(detail.get("text") or detail.get("summary") or "" for detail in details)
    naive.reasoning += thinking or message.get("reasoning_content") or message.get("reasoning") or told
    calls = list(message.get("tool_calls") or [])
    if (message.get("function_call") or {}).get("name") and not calls:
        calls = [{"index": 0, "function": message["function_call"]}]
    for call in calls:
        function = call.get("function") or call.get("custom")
        arguments = function.get("arguments", function.get("input")) or ""
        if function.get("name") and not is_repeat(naive, call):
            naive.calls.append([function["name"], arguments])
            naive.ids.append(call.get("id"))
        else:
            naive.calls[-1][1] += arguments


def is_repeat(naive: Naive, call: dict[str, Any]) -> bool:
    """Whether a named piece belongs to the call under way: it has its id."""
    return bool(call.get("id") and naive.ids and call["id"] == naive.ids[-1])


def note_usage(naive: Naive, value: dict[str, Any]) -> None:
    """Remembers the latest usage that says anything."""
    usage = value.get("usage") or {}
    told = (usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
    if any(told):
        naive.usage = told


def naive_answer(value: Any) -> Naive:
    """A naive reading of a whole answer."""
    naive = Naive(error=bool(value.get("error")))
    note_usage(naive, value)
    for choice in value.get("choices") or []:
        naive.choices = True
        if choice.get("index", 0) == 0:
            note_message(naive, choice.get("message") or choice.get("delta") or {"content": choice.get("text")})
            naive.finish += [choice["finish_reason"]] if choice.get("finish_reason") else []
    return naive


def naive_stream(raw: bytes) -> Naive:
    """A naive reading of a stream, line by line."""
    naive = Naive()
    for line in raw.decode().splitlines():
        if not line.startswith("data:"):
            continue
        data = line[5:].strip()
        if data == "[DONE]":
            naive.done = True
            continue
        value = json.loads(data)
        if value.get("error"):
            naive.error = True
            return naive
        note_usage(naive, value)
        for choice in value.get("choices") or []:
            naive.choices = True
            if choice.get("index", 0) == 0:
                note_message(naive, choice.get("delta") or {"content": choice.get("text")})
                reason = choice.get("finish_reason")
                naive.finish += [reason] if reason and reason != "null" else []
    return naive


def check(what: str, *, holds: bool) -> None:
    """An assertion that says what failed and shows none of the recorded values."""
    if not holds:
        pytest.fail(what, pytrace=False)


def said(response: pb.ChatResponse) -> tuple[str, str, list[list[str]]]:
    """Text, reasoning and calls of choice 0."""
    parts: Sequence[pb.Part] = next((choice.message.parts for choice in response.choices if choice.index == 0), [])
    text = "".join(part.text.text for part in parts if part.HasField("text"))
    reasoning = "".join(part.reasoning.text for part in parts if part.HasField("reasoning"))
    return text, reasoning, [[p.tool_call.name, p.tool_call.arguments] for p in parts if p.HasField("tool_call")]


def same(expected: Naive, response: pb.ChatResponse) -> bool:
    """Whether both readings agree, without showing what they read."""
    text, reasoning, calls = said(response)
    if expected.text != text and not (text and json_equal(expected.text, text)):
        return False
    return expected.reasoning == reasoning and expected.calls == calls


def json_equal(one: str, other: str) -> bool:
    """Whether both are the same JSON value."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def told(usage: pb.Usage) -> tuple[int, int]:
    """Prompt and completion tokens."""
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return prompt, usage.output_tokens + usage.reasoning_tokens


def usage_agrees(naive: Naive, usage: pb.Usage | None) -> bool:
    """Whether usage holds at least the vendor's figures; where the total shows more, it may hold that too."""
    if naive.usage is None:
        return usage is None or not any(told(usage))
    return usage is not None and all(one <= other for one, other in zip(naive.usage, told(usage), strict=True))


def read_stream(dialect: Dialect, pieces: list[bytes]) -> list[pb.ChatEvent]:
    """All steps of a stream that arrives in these pieces."""
    framer, reader = Framer(), dialect.reader()
    events = [event for piece in pieces for event in reader.feed(framer.feed(piece))]
    return events + reader.feed(framer.flush()) + reader.finish()


def outcome(dialect: Dialect, pieces: list[bytes]) -> tuple[list[pb.ChatEvent], str]:
    """The steps of a stream and the fault that ended it, if one did."""
    framer, reader = Framer(), dialect.reader()
    events: list[pb.ChatEvent] = []
    try:
        for piece in pieces:
            events += reader.feed(framer.feed(piece))
        events += reader.feed(framer.flush())
        events += reader.finish()
    except BrokenStreamError as error:
        return events + list(error.events), errors_pb2.Fault.Name(error.fault)
    except MeshError as error:
        return events, errors_pb2.Fault.Name(error.fault)
    return events, ""


HAS_REQUEST = [row for row in CHAT if row["request_file"] and row["request_file"].endswith(".json")]
STREAMS = [row for row in CHAT if row["status"] == 200 and is_stream(row)]


@cases(HAS_REQUEST)
def test_a_recorded_request_is_read_or_refused(row: dict[str, Any]) -> None:
    """Every recorded request gives facts or is one that its vendor refused; patching changes the model alone."""
    dialect = WIRES[row["wire"]]
    body = body_of(row, "request_file")
    value = json.loads(body)
    try:
        facts = dialect.read_facts(body, default_model="assumed")
    except MeshError as error:
        check("refused as invalid", holds=error.reason == errors_pb2.REASON_INVALID_REQUEST)
        check("only what is wrong", holds=row["status"] != 200 or not (value.get("messages") or value.get("prompt")))
        return

    patched = dialect.patch_request(body, facts, model="upstream", ask_usage=False)

    check("model", holds=(value.get("model") or "assumed") == facts.model)
    check("stream", holds=bool(value.get("stream")) == facts.stream)
    check("nothing else changed", holds=json.loads(patched) == {**value, "model": "upstream"})


@cases(HAS_REQUEST)
def test_a_recorded_request_survives_the_typed_form(row: dict[str, Any]) -> None:
    """Request -> ChatRequest -> request -> ChatRequest changes nothing."""
    try:
        request = WIRES[row["wire"]].read_request(body_of(row, "request_file"))
    except MeshError as error:
        check("refused as invalid", holds=error.reason == errors_pb2.REASON_INVALID_REQUEST)
        return
    options = openai_chat.Options(
        developer_role=True,
        tool_images=True,
        reasoning_member="reasoning_content",
        accepts=frozenset({"top_k", "reasoning"}),
    )
    writers: dict[str, Dialect] = {
        "openai.chat": openai_chat.OpenAIChat(options=options),
        "openai.completions": openai_completions.OpenAICompletions(options=options),
    }

    body, dropped = writers[row["wire"]].write_request(request, model=request.model, stream=False)

    again = WIRES[row["wire"]].read_request(body)
    check("nothing dropped", holds=not dropped)
    check("same request", holds=again == completed(request, again))


def completed(request: pb.ChatRequest, again: pb.ChatRequest) -> pb.ChatRequest:
    """The request with what the writer adds where a client left it out: ids of calls, the name of a schema."""
    expected = pb.ChatRequest()
    expected.CopyFrom(request)
    if expected.response_format.type == pb.ResponseFormat.TYPE_JSON_SCHEMA and not expected.response_format.name:
        expected.response_format.name = again.response_format.name
    for message, other in zip(expected.messages, again.messages, strict=False):
        for part, its in zip(message.parts, other.parts, strict=False):
            if part.HasField("tool_call"):
                part.tool_call.id = part.tool_call.id or its.tool_call.id
            if part.HasField("tool_result"):
                part.tool_result.tool_call_id = part.tool_result.tool_call_id or its.tool_result.tool_call_id
            if part.HasField("audio"):
                part.audio.format = part.audio.format or its.audio.format
    return expected


@cases([row for row in CHAT if row["status"] == 200 and not is_stream(row)])
def test_a_recorded_answer_reads_like_its_json(row: dict[str, Any]) -> None:
    """Text, reasoning, calls, finish reason and usage are those of the raw JSON; errors in a 200 are errors."""
    dialect, raw = WIRES[row["wire"]], body_of(row)
    naive = naive_answer(json.loads(raw))
    if naive.error or not naive.choices:
        for read in (dialect.read_answer, dialect.read_answer_facts):
            with pytest.raises(MeshError) as caught:
                read(raw)
            check("a fault of the vendor", holds=caught.value.reason == errors_pb2.REASON_UPSTREAM)
        return

    response = dialect.read_answer(raw)
    usage, finish, chars = dialect.read_answer_facts(raw)
    again = dialect.read_answer(dialect.write_answer(response, request_id="r", model="m"))

    first = response.choices[0]
    check("same words", holds=same(naive, response))
    check("finish reason", holds=(naive.finish or [""])[-1] == first.vendor_finish_reason)
    check("finish reason in passing", holds=finish == first.finish_reason)
    check("usage in passing", holds=usage_agrees(naive, usage))
    check("usage", holds=usage_agrees(naive, response.usage if response.HasField("usage") else None))
    check("content in passing", holds=bool(chars) == bool(first.message.parts))
    check("same words again", holds=said(again) == said(response))
    check("same usage again", holds=told(again.usage) == told(response.usage))


@cases(STREAMS)
def test_a_recorded_stream_reads_like_its_json(row: dict[str, Any]) -> None:
    """The steps put together are what the raw events say, and what is metered in passing is the same."""
    dialect, raw = WIRES[row["wire"]], body_of(row)
    naive = naive_stream(raw)
    if naive.error or not naive.choices:
        events, fault = outcome(dialect, [raw])
        check("a fault", holds=fault not in ("", "FAULT_UNSPECIFIED"))
        check("what came before it", holds=said(assemble(events))[0] == naive.text)
        return
    framer, meter = Framer(), dialect.meter(hide_usage=False)

    response = assemble(read_stream(dialect, [raw]))
    metered = meter.feed(framer.feed(raw) + framer.flush())

    first = next(choice for choice in response.choices if choice.index == 0)
    check("same words", holds=same(naive, response))
    check("finish reason", holds=first.vendor_finish_reason in (naive.finish or [""]))
    check("finish reason in passing", holds=not naive.finish or first.finish_reason == metered.finish)
    check("usage", holds=usage_agrees(naive, response.usage if response.HasField("usage") else None))
    check("usage in passing", holds=usage_agrees(naive, metered.usage))
    check("end marker", holds=naive.done == metered.done)
    spoke = any(choice.message.parts for choice in response.choices)
    check("content in passing", holds=bool(metered.content_events) == spoke)
    passed_on = read_stream(dialect, [metered.data + b"data: [DONE]\n\n"])
    check("the same once passed on", holds=assemble(passed_on) == response)


@cases([row for row in STREAMS if "error" not in row["features"]])
def test_a_recorded_stream_is_the_same_after_writing(row: dict[str, Any]) -> None:
    """Steps -> stream -> steps keeps words, calls and usage."""
    dialect = WIRES[row["wire"]]
    events, fault = outcome(dialect, [body_of(row)])
    if fault:
        return
    writer = dialect.writer(request_id="r", model="m", include_usage=True)

    again = assemble(read_stream(dialect, [writer.feed(events) + dialect.end_marker]))

    response = assemble(events)
    check("same words", holds=said(again) == said(response))
    check("same usage", holds=told(again.usage) == told(response.usage))


@cases(STREAMS)
def test_a_recorded_stream_without_usage_for_the_client(row: dict[str, Any]) -> None:
    """With usage hidden, the words are the same and no event is there for usage alone."""
    dialect, raw = WIRES[row["wire"]], body_of(row)
    framer, meter = Framer(), dialect.meter(hide_usage=True)
    try:
        metered = meter.feed(framer.feed(raw) + framer.flush())
    except BrokenStreamError:
        return

    values = [json.loads(data) for _, data in Framer().feed(metered.data)]
    check("no empty usage", holds=not any("usage" in value and value["usage"] is None for value in values))
    check("no event for usage", holds=not any(value.get("usage") and not value.get("choices") for value in values))
    check("same words", holds=naive_stream(metered.data).text == naive_stream(raw).text)


@cases(STREAMS)
def test_cuts_of_the_network_do_not_show(row: dict[str, Any]) -> None:
    """One byte at a time, random pieces and the recorded reads give the same steps as the whole."""
    dialect, raw = WIRES[row["wire"]], body_of(row)
    whole = outcome(dialect, [raw])
    chance = random.Random(row["id"])
    places = sorted(chance.randrange(len(raw)) for _ in range(20))
    pieces = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]

    check("random pieces", holds=whole == outcome(dialect, pieces))
    if len(raw) < 20_000:
        check("single bytes", holds=whole == outcome(dialect, [raw[place : place + 1] for place in range(len(raw))]))
    if row.get("chunks_file"):
        sizes = json.loads(body_of(row, "chunks_file"))
        check("recorded reads", holds=whole == outcome(dialect, list(cut_to(raw, sizes))))


def cut_to(raw: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The bytes in reads of these sizes."""
    place = 0
    for size in sizes:
        yield raw[place : place + size]
        place += size
    yield raw[place:]


@cases(STREAMS)
def test_a_cut_stream_is_never_complete(row: dict[str, Any]) -> None:
    """Cut before its first finish reason, a stream ends with a fault; whatever was read is a prefix of the whole."""
    dialect, raw = WIRES[row["wire"]], body_of(row)
    chance = random.Random(row["id"])
    whole, _ = outcome(dialect, [raw])
    for place in [chance.randrange(len(raw)) for _ in range(CUTS)]:
        events, fault = outcome(dialect, [raw[:place]])
        naive = naive_stream(whole_lines(raw[:place]))
        check(f"complete when cut at {place}", holds=bool(fault or naive.finish or naive.done))
        steps = [event for event in events if event.WhichOneof("event") not in ("finished", "usage")]
        prefix = all(plain(one) == plain(other) for one, other in zip(steps, whole, strict=False))
        check(f"a prefix when cut at {place}", holds=prefix and len(steps) <= len(whole))


def plain(event: pb.ChatEvent) -> pb.ChatEvent:
    """A step without the members that travel with it."""
    copy = pb.ChatEvent()
    copy.CopyFrom(event)
    copy.extensions.clear()
    return copy


def whole_lines(raw: bytes) -> bytes:
    """A cut stream without the line that the cut broke."""
    lines = raw.split(b"\n")
    data = lines[-1].removeprefix(b"data:").strip()
    if data != b"[DONE]" and not json_equal(data.decode(errors="replace"), data.decode(errors="replace")):
        lines.pop()
    return b"\n".join(lines)


@cases([row for row in [*CHAT, *EMBEDDINGS] if row["status"] != 200])
def test_a_recorded_error_has_a_class(row: dict[str, Any]) -> None:
    """Every recorded error is classed, and its class fits its status."""
    error = openai_chat.DIALECT.fault_of(row["status"], body_of(row), {})

    check("a fault of the vendor", holds=error.reason == errors_pb2.REASON_UPSTREAM)
    check("a class", holds=error.fault not in (errors_pb2.FAULT_UNSPECIFIED, errors_pb2.FAULT_BAD_ANSWER))
    check("words", holds=0 < len(error.message) <= 500)
    check("status", holds=error.metadata["upstream_status"] == str(row["status"]))
    if row["status"] in (401, 403):
        check("credential", holds=error.fault in (errors_pb2.FAULT_CREDENTIAL, errors_pb2.FAULT_FILTER))
    if row["status"] in (408, 503):
        check("server", holds=error.fault == errors_pb2.FAULT_SERVER)


@cases([row for row in EMBEDDINGS if row["status"] == 200])
def test_recorded_vectors_read_like_their_json(row: dict[str, Any]) -> None:
    """Vectors, usage and count are those of the raw JSON, in either encoding."""
    raw = body_of(row)
    value = json.loads(raw)
    first = value["data"][0]["embedding"]
    packed = isinstance(first, str)

    body, usage, count = openai_embeddings.fix_encoding(raw, base64=packed)

    check("as it came", holds=body == raw)
    check("count", holds=count == len(value["data"]))
    check("usage", holds=told(usage)[0] == (value.get("usage") or {}).get("prompt_tokens", 0))
    try:
        vectors, _, model = openai_embeddings.read_answer(raw)
    except MeshError as error:  # an encoding of the vendor's own
        check("not readable", holds=packed and error.fault == errors_pb2.FAULT_BAD_ANSWER)
        return
    data = base64.b64decode(first) if packed else b""
    check("model", holds=model == (value.get("model") or ""))
    check("vector", holds=vectors[0] == (list(struct.unpack(f"<{len(data) // 4}f", data)) if packed else first))


@cases([row for row in EMBEDDINGS if row["request_file"]])
def test_a_recorded_embedding_request_is_read(row: dict[str, Any]) -> None:
    """Every recorded request for vectors gives facts and is patched in one place."""
    body = body_of(row, "request_file")
    value = json.loads(body)
    try:
        facts = openai_embeddings.read_facts(body, default_model="assumed")
    except MeshError as error:
        check("refused as invalid", holds=error.reason == errors_pb2.REASON_INVALID_REQUEST and row["status"] != 200)
        return

    patched = openai_embeddings.patch_request(body, facts, "upstream")

    check("operation", holds=facts.operation == pb.OPERATION_EMBEDDING)
    check("nothing else changed", holds=json.loads(patched) == {**value, "model": "upstream"})
