"""Every recorded exchange of `gemini.generate`, read by the dialect and by a naive reading of the raw JSON."""

import base64
import json
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import gemini_generate
from polyroute.dialects.dialect import BrokenStreamError
from polyroute.dialects.events import assemble
from polyroute.dialects.gemini.framing import ArrayWriter, JsonArrayFramer
from polyroute.mesh.errors import MeshError
from tests.recordings import FOLDER, Row, body_of, cases, check, exchanges

DIALECT = gemini_generate.DIALECT
ALL = exchanges("gemini.generateContent")
CUTS = 12  # places at which each stream is cut
pytestmark = pytest.mark.skipif(not ALL, reason=f"no recordings in {FOLDER}")


def is_stream(row: Row) -> bool:
    """Whether the answer was a stream of server-sent events."""
    return bool(row["response_file"].endswith(".sse"))


def is_array(row: Row) -> bool:
    """Whether the answer was a stream in the form of one JSON array."""
    return not is_stream(row) and body_of(row).lstrip().startswith(b"[")


def is_generation(row: Row) -> bool:
    """Whether the exchange is a conversation: caches are created and tokens counted under the same index entry."""
    if not (row["request_file"] or "").endswith(".json"):
        return False
    value = json.loads(body_of(row, "request_file"))
    return (
        "contents" in value and "countTokens" not in (row["url"] or "") and "cachedContents" not in (row["url"] or "")
    )


REQUESTS = [row for row in ALL if is_generation(row)]
OK = [row for row in ALL if row["status"] == 200]
STREAMS = [row for row in OK if is_stream(row)]


@dataclass
class Naive:
    """What a simple reading finds in an answer, the first candidate only."""

    text: str = ""
    reasoning: str = ""
    calls: list[list[Any]] = field(default_factory=list)  # [name, arguments]
    media: list[bytes] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    total: int | None = None
    blocked: str = ""
    error: bool = False
    candidates: bool = False


def naive_of(raw: bytes) -> Naive:
    """A naive reading of an answer of any form."""
    text = raw.decode()
    naive = Naive()
    try:
        value = json.loads(text)
        chunks = value if isinstance(value, list) else [value]
    except ValueError:
        lines = [line for line in text.splitlines() if line.startswith("data:")]
        chunks = [json.loads(line[5:]) for line in lines]
        naive.error = any(line.strip() and not line.startswith("data:") for line in text.splitlines())
    for chunk in chunks:
        note(naive, chunk)
    return naive


def note(naive: Naive, chunk: dict[str, Any]) -> None:
    """Adds one chunk."""
    naive.error = naive.error or bool(chunk.get("error"))
    usage = chunk.get("usageMetadata") or {}
    figures = ("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount")
    naive.total = usage.get("totalTokenCount") or sum(usage.get(name) or 0 for name in figures) or naive.total
    naive.blocked = (chunk.get("promptFeedback") or {}).get("blockReason", naive.blocked)
    for candidate in chunk.get("candidates") or []:
        naive.candidates = True
        if candidate.get("index", 0):
            continue
        if candidate.get("finishReason"):
            naive.finish.append(candidate["finishReason"])
        for part in (candidate.get("content") or {}).get("parts") or []:
            note_part(naive, part)


def note_part(naive: Naive, part: dict[str, Any]) -> None:
    """Adds one part."""
    if part.get("thoughtSignature") and not part.keys() & {"toolCall", "toolResponse", "executableCode"}:
        naive.signatures.append(part["thoughtSignature"])
    if part.get("thought"):
        naive.reasoning += part.get("text", "")
    elif "text" in part:
        naive.text += part["text"]
    if "inlineData" in part:
        naive.media.append(base64.b64decode(part["inlineData"]["data"]))
    call = part.get("functionCall")
    if call and call.get("name"):
        naive.calls.append([call["name"], call.get("args", {})])
    for piece in (call or {}).get("partialArgs", []):
        name = piece["jsonPath"].removeprefix("$.")
        arguments = naive.calls[-1][1]
        arguments[name] = arguments.get(name, "") + piece["stringValue"]


def parts_of(response: pb.ChatResponse) -> list[pb.Part]:
    """The parts of the first candidate."""
    return next((list(choice.message.parts) for choice in response.choices if choice.index == 0), [])


def read_as(response: pb.ChatResponse) -> tuple[str, str, list[list[Any]], list[str]]:
    """Text, reasoning, calls and signatures of the first candidate."""
    parts = parts_of(response)
    text = "".join(part.text.text for part in parts)
    reasoning = "".join(part.reasoning.text for part in parts)
    calls = [[p.tool_call.name, json.loads(p.tool_call.arguments)] for p in parts if p.HasField("tool_call")]
    signatures = [part.state.data.decode() for part in parts if part.state.data and part.state.kind != "part"]
    return text, reasoning, calls, signatures


def total_of(usage: pb.Usage) -> int:
    """All tokens."""
    return (
        usage.input_tokens
        + usage.cache_read_tokens
        + usage.cache_write_tokens
        + usage.output_tokens
        + usage.reasoning_tokens
    )


def outcome(pieces: list[bytes]) -> tuple[list[pb.ChatEvent], str]:
    """The steps of a stream that arrives in these pieces, and the fault that ended it, if one did."""
    framer, reader = DIALECT.framing("text/event-stream"), DIALECT.reader()
    assert framer is not None
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


def compare(naive: Naive, response: pb.ChatResponse) -> None:
    """Both readings agree."""
    text, reasoning, calls, signatures = read_as(response)
    check("text", holds=naive.text == text)
    check("reasoning", holds=naive.reasoning == reasoning)
    check("calls", holds=naive.calls == calls)
    check("signatures", holds=naive.signatures == signatures)
    check("ids of calls", holds=all(part.tool_call.id for part in parts_of(response) if part.HasField("tool_call")))
    choice = response.choices[0]
    check("finish", holds=choice.vendor_finish_reason == (naive.finish or [naive.blocked])[-1])
    if naive.finish and naive.finish[-1] == "STOP":
        wanted = pb.FINISH_REASON_TOOL_CALLS if calls else pb.FINISH_REASON_STOP
        check("finish reason", holds=choice.finish_reason == wanted)
    check("usage", holds=(naive.total or 0) == total_of(response.usage))


@cases([row for row in OK if not is_stream(row)])
def test_a_recorded_answer_reads_like_its_json(row: Row) -> None:
    """Words, calls, signatures, finish reason and usage are those of the raw JSON; what is no answer is refused."""
    raw = body_of(row)
    naive = naive_of(raw)
    empty = not (naive.text or naive.reasoning or naive.calls or naive.media or naive.finish or naive.blocked)
    if naive.error or empty:
        for read in (DIALECT.read_answer, DIALECT.read_answer_facts):
            with pytest.raises(MeshError) as caught:
                read(raw)
            check("a fault of the vendor", holds=caught.value.reason == errors_pb2.REASON_UPSTREAM)
        return

    response = DIALECT.read_answer(raw)
    facts = DIALECT.read_answer_facts(raw)
    again = DIALECT.read_answer(DIALECT.write_answer(response, request_id="r", model="m"))

    compare(naive, response)
    check("usage in passing", holds=facts.usage == (response.usage if response.HasField("usage") else None))
    check("finish in passing", holds=facts.finish == response.choices[0].finish_reason)
    check(
        "content in passing",
        holds=bool(facts.text_chars) == bool(naive.text or naive.reasoning or naive.calls or naive.media),
    )
    check("same once written", holds=read_as(again) == read_as(response))
    check("same usage once written", holds=total_of(again.usage) == total_of(response.usage))
    check("same members once written", holds=again.extensions == response.extensions)
    for one, other in zip(response.choices, again.choices, strict=True):
        check("same members of choices", holds=one.extensions == other.extensions)
        check("same members of messages", holds=one.message.extensions == other.message.extensions)


@cases(STREAMS)
def test_a_recorded_stream_reads_like_its_json(row: Row) -> None:
    """The steps put together are what the raw events say, and what is metered in passing is the same."""
    raw = body_of(row)
    naive = naive_of(raw)
    events, fault = outcome([raw])
    response = assemble(events)
    if naive.error or not (naive.finish or naive.blocked):
        check("a fault", holds=fault not in ("", "FAULT_UNSPECIFIED", "FAULT_BAD_ANSWER"))
        check("what came before it", holds=read_as(response)[0] == naive.text)
        return
    framer, meter = DIALECT.framing("text/event-stream"), DIALECT.meter(hide_usage=True)
    assert framer is not None

    metered = meter.feed(framer.feed(raw) + framer.flush())

    check("no fault", holds=not fault)
    compare(naive, response)
    check("finish in passing", holds=metered.finish == response.choices[0].finish_reason)
    check("usage in passing", holds=metered.usage == (response.usage if response.HasField("usage") else None))
    check("content in passing", holds=bool(metered.content_events) == bool(metered.text_chars))
    check("canonical", holds=b"\r" not in metered.data)
    check("the same once passed on", holds=outcome([metered.data]) == (events, ""))
    media = [
        event.image.media.data or event.audio.data
        for event in events
        if event.HasField("image") or event.HasField("audio")
    ]
    check("media", holds=naive.media == media)


@cases(STREAMS)
def test_a_recorded_stream_is_the_same_after_writing(row: Row) -> None:
    """Steps -> stream -> steps keeps words, calls, signatures, members and usage, as events and as an array."""
    events, fault = outcome([body_of(row)])
    if fault:
        return
    writer, array = DIALECT.writer(request_id="r", model="m", include_usage=True), ArrayWriter()

    data = writer.feed(events)
    again = assemble(outcome([data])[0])
    listed = DIALECT.read_answer(array.feed(data) + array.close())

    response = assemble(events)
    check("as an array", holds=listed == again)
    check("same words", holds=read_as(again) == read_as(response))
    check("same usage", holds=again.usage == response.usage)
    check("same members", holds=again.extensions == response.extensions)
    for one, other in zip(response.choices, again.choices, strict=True):
        check("same members of choices", holds=one.extensions == other.extensions)
        check("same members of messages", holds=one.message.extensions == other.message.extensions)
        check("same end", holds=one.finish_reason == other.finish_reason)


@cases([row for row in OK if is_array(row)])
def test_a_recorded_array_is_cut_into_its_entries(row: Row) -> None:
    """Wherever the network cuts it, an array gives the same entries, which read like the whole."""
    raw = body_of(row)
    values = json.loads(raw)
    chance = random.Random(row["id"])
    places = sorted(chance.randrange(len(raw)) for _ in range(20))
    pieces = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]

    for cut in ([raw], pieces, [raw[place : place + 1] for place in range(len(raw))]):
        framer = JsonArrayFramer()
        entries = [entry for piece in cut for entry in framer.feed(piece)]
        check("entries", holds=[json.loads(data) for _, data in entries] == values)
        check("nothing left", holds=framer.pending == 0 and framer.flush() == [])
    reader = DIALECT.reader()
    check("like the whole", holds=assemble(reader.feed(entries) + reader.finish()) == DIALECT.read_answer(raw))


@cases(STREAMS)
def test_cuts_of_the_network_do_not_show(row: Row) -> None:
    """One byte at a time, random pieces and the recorded reads give the same steps as the whole."""
    raw = body_of(row)
    whole = outcome([raw])
    chance = random.Random(row["id"])
    places = sorted(chance.randrange(len(raw)) for _ in range(20))
    pieces = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]

    check("random pieces", holds=whole == outcome(pieces))
    if len(raw) < 20_000:
        check("single bytes", holds=whole == outcome([raw[place : place + 1] for place in range(len(raw))]))


@cases(STREAMS)
def test_a_cut_stream_is_never_complete(row: Row) -> None:
    """Cut before its last finish reason, a stream ends with a fault; whatever was read is a prefix of the whole."""
    raw = body_of(row)
    chance = random.Random(row["id"])
    whole, _ = outcome([raw])
    first = min(
        (place for word in (b'"finishReason"', b'"blockReason"') if (place := raw.find(word)) >= 0), default=len(raw)
    )
    for place in [chance.randrange(len(raw)) for _ in range(CUTS)]:
        events, fault = outcome([raw[:place]])
        check(f"complete when cut at {place}", holds=bool(fault) or place > first)
        steps = [event for event in events if event.WhichOneof("event") not in ("finished", "usage")]
        prefix = all(plain(one) == plain(other) for one, other in zip(steps, whole, strict=False))
        check(f"a prefix when cut at {place}", holds=prefix or not steps)


def plain(event: pb.ChatEvent) -> pb.ChatEvent:
    """A step without the members that travel with it."""
    copy = pb.ChatEvent()
    copy.CopyFrom(event)
    copy.extensions.clear()
    return copy


@cases(REQUESTS)
def test_a_recorded_request_is_read_at_the_door(row: Row) -> None:
    """Every recorded request gives facts, and passes on byte for byte."""
    body = body_of(row, "request_file")
    value = json.loads(body)

    facts = DIALECT.read_facts(body, default_model="models/m")
    patched = DIALECT.patch_request(body, facts, model="upstream", ask_usage=True)

    config = value.get("generationConfig") or {}
    tools = bool(value.get("tools"))  # of functions, or such as Google runs
    check("model", holds=facts.model == "m")
    check("bound", holds=facts.max_output_tokens == config.get("maxOutputTokens", 0))
    check("tools", holds=tools == (pb.CAPABILITY_TOOLS in facts.needs))
    check("nothing changed", holds=patched == body or "model" in value)


@cases(REQUESTS)
def test_a_recorded_request_survives_the_typed_form(row: Row) -> None:
    """Request -> ChatRequest -> request says the same."""
    body = body_of(row, "request_file")

    request = DIALECT.read_request(body)
    written, dropped = DIALECT.write_request(request, model="m", stream=True, source="gemini.generate")

    check("nothing dropped", holds=not dropped)
    check("same request", holds=normal(json.loads(written)) == normal(json.loads(body)))
    check("same conversation", holds=DIALECT.read_request(written) == request)


@cases(REQUESTS)
def test_a_recorded_request_reaches_other_vendors(row: Row) -> None:
    """A conversation read from a client of this format has an id for every call and a call for every result."""
    request = DIALECT.read_request(body_of(row, "request_file"))

    parts = [part for message in request.messages for part in message.parts]
    calls = {part.tool_call.id: part.tool_call.name for part in parts if part.HasField("tool_call")}
    results = [part.tool_result for part in parts if part.HasField("tool_result")]
    check("ids are unique", holds=len(calls) == sum(part.HasField("tool_call") for part in parts) and "" not in calls)
    check("results have calls", holds=all(calls.get(result.tool_call_id) == result.name for result in results))


def normal(value: Any, name: str = "") -> Any:
    """A request with what says nothing left out and what may be said in two ways said in one."""
    if name in ("args", "response"):
        return value
    if name in ("parts", "contents"):
        return [normal(item, name[:-1]) for item in (value if isinstance(value, list) else [value])]
    if name == "tools":
        tools = [{to_camel(key): item for key, item in tool.items() if item is not None} for tool in value]
        functions = [normal_function(item) for tool in tools for item in tool.pop("functionDeclarations", [])]
        return [functions, [tool for tool in tools if tool]]
    if name == "systemInstruction":
        value = {key: item for key, item in value.items() if key != "role"}
    if isinstance(value, dict):
        out = {to_camel(key): item for key, item in value.items() if item is not None}
        if name == "thinkingConfig" and "thinkingLevel" in out:
            out["thinkingLevel"] = out["thinkingLevel"].upper()
        if name == "inlineData":
            out["data"] = base64.b64decode(out["data"].translate(str.maketrans("-_", "+/")) + "==")
        if name == "part" and not out.get("thought", True):
            del out["thought"]
        if name == "part" and not out.keys() - {"thought", "thoughtSignature"}:
            out["text"] = ""
        if "responseSchema" in out:
            out["responseJsonSchema"] = out.pop("responseSchema")
        if "responseJsonSchema" in out:
            out["responseJsonSchema"] = normal_schema(out["responseJsonSchema"])
        if name == "content":
            out.setdefault("role", "user")
        out = {key: item if key == "responseJsonSchema" else normal(item, key) for key, item in out.items()}
        if "contents" in out:
            out["contents"] = merged(out["contents"])
        return {key: item for key, item in out.items() if item != {} or key not in ("generationConfig", "toolConfig")}
    if isinstance(value, list):
        return [normal(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def to_camel(name: str) -> str:
    """A member's name in camelCase."""
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


def merged(contents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Contents of the same speaker in a row as one."""
    out: list[dict[str, Any]] = []
    for content in contents:
        if out and out[-1]["role"] == content["role"]:
            out[-1]["parts"] += content["parts"]
        else:
            out.append(content)
    return out


def normal_function(value: dict[str, Any]) -> dict[str, Any]:
    """A function with its parameters in JSON Schema."""
    out = {to_camel(key): item for key, item in value.items() if item not in (None, "")}
    schema = out.pop("parametersJsonSchema", out.pop("parameters", None))
    return out | ({} if schema is None else {"parameters": normal_schema(schema)})


def normal_schema(value: Any, *, named: bool = False) -> Any:
    """A schema with its types in small letters and without the order of its members."""
    if isinstance(value, list):
        return [normal_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    if named:
        return {key: normal_schema(item) for key, item in value.items()}
    out = {}
    for key, item in value.items():
        plain_item = normal_schema(item, named=key in ("properties", "$defs"))
        out[to_camel(key) if "_" in key else key] = (
            item.lower() if key == "type" and isinstance(item, str) else plain_item
        )
    out.pop("propertyOrdering", None)
    if out.pop("nullable", False) and isinstance(out.get("type"), str):
        out["type"] = [out["type"], "null"]
    return out


@cases([row for row in ALL if row["status"] != 200])
def test_a_recorded_error_has_a_class(row: Row) -> None:
    """Every recorded error is classed, and its class fits its status."""
    error = DIALECT.fault_of(row["status"], body_of(row), {})

    check("a fault of the vendor", holds=error.reason == errors_pb2.REASON_UPSTREAM)
    check("words", holds=0 < len(error.message) <= 500)
    fitting = {
        400: {"FAULT_CLIENT", "FAULT_CREDENTIAL", "FAULT_CONTEXT"},
        403: {"FAULT_CREDENTIAL"},
        404: {"FAULT_MODEL_GONE"},
        429: {"FAULT_RATE", "FAULT_QUOTA"},
        503: {"FAULT_SERVER"},
    }
    check("a class", holds=errors_pb2.Fault.Name(error.fault) in fitting[row["status"]])
