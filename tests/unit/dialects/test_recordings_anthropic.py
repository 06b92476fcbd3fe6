"""Every recorded exchange of `anthropic.messages`, read by the dialect and by a naive reading of the raw JSON."""

import base64
import json
import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import anthropic_count_tokens, anthropic_messages
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.estimate import estimate_tokens
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.sse import Framer
from polyroute.dialects.task import JSON, Body
from polyroute.mesh.errors import MeshError
from tests.recordings import FOLDER, body_of, cases, check, exchanges

DIALECT = anthropic_messages.DIALECT
MESSAGES = exchanges("anthropic.messages")
COUNTS = exchanges("anthropic.count_tokens")
ANSWERS = [row for row in MESSAGES if row["status"] == 200 and row["response_file"].endswith(".json")]
STREAMS = [row for row in MESSAGES if row["status"] == 200 and row["response_file"].endswith(".sse")]
FRAMES = [row for row in MESSAGES if row["status"] == 200 and row["response_file"].endswith(".eventstream")]
REFUSALS = [row for row in MESSAGES if row["status"] != 200]
REQUESTS = [row for row in MESSAGES if row["request_file"] and row["request_file"].endswith(".json")]
FIGURES = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
pytestmark = pytest.mark.skipif(not MESSAGES, reason=f"no recordings in {FOLDER}")


@dataclass
class Naive:
    """What a simple reading finds in an answer."""

    text: str = ""
    thinking: str = ""
    seals: list[str] = field(default_factory=list)
    calls: list[list[Any]] = field(default_factory=list)  # [id, name, input]
    others: list[str] = field(default_factory=list)  # types of blocks that have no part of their own
    citations: int = 0
    stop: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    error: bool = False
    done: bool = False


def note_usage(naive: Naive, usage: dict[str, Any] | None) -> None:
    """Later figures replace earlier ones."""
    naive.usage |= {name: usage[name] for name in FIGURES if (usage or {}).get(name) is not None}  # type: ignore[index]


def note_block(naive: Naive, block: dict[str, Any]) -> None:
    """Adds a whole block, or the begin of one."""
    kind = block["type"]
    if kind == "text":
        naive.text += block["text"]
        naive.citations += len(block.get("citations") or [])
    elif kind == "thinking":
        naive.thinking += block["thinking"]
        naive.seals += [block["signature"]] if block.get("signature") else []
    elif kind == "redacted_thinking":
        naive.seals.append(block["data"])
    elif kind == "tool_use":
        naive.calls.append([block["id"], block["name"], block["input"]])
    else:
        naive.others.append(kind)


def naive_answer(value: dict[str, Any]) -> Naive:
    """A naive reading of a whole answer."""
    naive = Naive(stop=value["stop_reason"], done=True)
    note_usage(naive, value["usage"])
    for block in value["content"]:
        note_block(naive, block)
    return naive


def naive_stream(values: Iterator[dict[str, Any]]) -> Naive:
    """A naive reading of the events of a stream, up to its end."""
    naive, kinds, inputs = Naive(), {}, {}
    for value in values:
        kind = value["type"]
        if kind == "error":
            naive.error = True
            break
        if kind == "message_start":
            note_usage(naive, value["message"]["usage"])
        elif kind == "content_block_start":
            block = value["content_block"]
            kinds[value["index"]] = block["type"]
            note_block(naive, block)
            if block["type"] == "tool_use":
                inputs[value["index"]] = naive.calls[-1]
        elif kind == "content_block_delta":
            note_delta(naive, value["delta"], kinds[value["index"]], inputs.get(value["index"]))
        elif kind == "message_delta":
            naive.stop = value["delta"]["stop_reason"]
            note_usage(naive, value["usage"])
        elif kind == "message_stop":
            naive.done = True
            break
    return naive


def note_delta(naive: Naive, delta: dict[str, Any], kind: str, call: list[Any] | None) -> None:
    """Adds a piece of a block."""
    if delta["type"] == "text_delta":
        naive.text += delta["text"]
    elif delta["type"] == "thinking_delta":
        naive.thinking += delta["thinking"]
    elif delta["type"] == "signature_delta":
        naive.seals.append(delta["signature"])
    elif delta["type"] == "citations_delta":
        naive.citations += 1
    elif delta["type"] == "input_json_delta" and kind == "tool_use" and call is not None and delta["partial_json"]:
        call[2] = (call[2] if isinstance(call[2], str) else "") + delta["partial_json"]


def values_of(raw: bytes) -> Iterator[dict[str, Any]]:
    """The JSON of the events, line by line."""
    for line in raw.decode().splitlines():
        if line.startswith("data:"):
            yield json.loads(line[5:])


def seen(response: pb.ChatResponse) -> Naive:
    """The dialect's reading in the same terms."""
    [choice] = response.choices
    out = Naive(stop=choice.vendor_finish_reason, done=True)
    for part in choice.message.parts:
        kind = part.state.kind if part.HasField("state") else ""
        if part.HasField("text"):
            out.text += part.text.text
            out.citations += len(json.loads(part.state.data or b"[]")) if kind == "citations" else 0
        elif part.HasField("tool_call"):
            out.calls.append([part.tool_call.id, part.tool_call.name, part.tool_call.arguments])
        elif kind == "content_block":
            out.others.append(json.loads(part.state.data)["type"])
        else:
            out.thinking += part.reasoning.text
            out.seals += [part.state.data.decode()] if part.state.data else []
    return out


def same(naive: Naive, response: pb.ChatResponse) -> None:
    """Both readings agree; says only what differs."""
    read = seen(response)
    for name in ("text", "thinking", "seals", "others", "citations", "stop"):
        check(name, holds=getattr(naive, name) == getattr(read, name))
    check("calls", holds=[plain(call) for call in naive.calls] == [plain(call) for call in read.calls])
    check("usage", holds=sum(naive.usage.values()) == total(response.usage))
    check("cached", holds=naive.usage.get("cache_read_input_tokens", 0) == response.usage.cache_read_tokens)
    check("input", holds=naive.usage.get("input_tokens", 0) == response.usage.input_tokens)


def plain(call: list[Any]) -> list[Any]:
    """A call with its input as a value, where it is whole."""
    try:
        return [*call[:2], json.loads(call[2]) if isinstance(call[2], str) else call[2]]
    except ValueError:
        return call


def total(usage: pb.Usage) -> int:
    """All tokens."""
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return prompt + usage.output_tokens + usage.reasoning_tokens


def outcome(pieces: list[bytes]) -> tuple[list[pb.ChatEvent], str]:
    """The steps of a stream and the fault that ended it, if one did."""
    framer, reader = Framer(), DIALECT.reader()
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


def told(value: Any) -> Any:
    """JSON without what says nothing."""
    if isinstance(value, dict):
        return {
            name: told(item) for name, item in value.items() if item is not None and (name, item) != ("citations", [])
        }
    return [told(item) for item in value] if isinstance(value, list) else value


def normal(request: dict[str, Any]) -> dict[str, Any]:
    """A request in one of its equal forms: blocks for texts, one turn for neighbours, no defaults."""
    out: dict[str, Any] = told(request)
    turns: list[dict[str, Any]] = []
    for message in out["messages"]:
        blocks = as_blocks(message["content"])
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": message["role"], "content": blocks})
    out["messages"] = turns
    if "system" in out:
        out["system"] = as_blocks(out["system"])
    for tool in out.get("tools", ()):
        if not tool.get("description"):
            tool.pop("description", None)
    if not out.get("tool_choice", {}).get("disable_parallel_tool_use", True):
        del out["tool_choice"]["disable_parallel_tool_use"]
    out.setdefault("max_tokens", anthropic_messages.DEFAULT_MAX_TOKENS)
    return {name: item for name, item in out.items() if name != "model" and item not in (False, [])}


def as_blocks(content: Any) -> list[dict[str, Any]]:
    """Content as blocks, tool results included."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    for block in content:
        if block["type"] == "tool_result":
            block["content"] = as_blocks(block.get("content") or "")
            block.setdefault("is_error", False)
    return list(content)


@cases(REQUESTS)
def test_a_recorded_request_gives_facts(row: dict[str, Any]) -> None:
    """Facts are those of the raw JSON; patching changes the model alone."""
    body = body_of(row, "request_file")
    value = json.loads(body)

    facts = DIALECT.read_facts(body, default_model="assumed")
    patched = DIALECT.patch_request(body, facts, model="upstream", ask_usage=True)

    check("model", holds=value.get("model", "assumed") == facts.model)
    check("stream", holds=bool(value.get("stream")) == facts.stream)
    check("bound", holds=value.get("max_tokens", 0) == facts.max_output_tokens)
    check("tools", holds=bool(value.get("tools")) == (pb.CAPABILITY_TOOLS in facts.needs))
    check("nothing else changed", holds=json.loads(patched) == {**value, "model": "upstream"})


@cases(REQUESTS)
def test_a_recorded_request_survives_the_typed_form(row: dict[str, Any]) -> None:
    """Request -> ChatRequest -> request is the same JSON, but for equal ways to say the same."""
    body = body_of(row, "request_file")
    value = json.loads(body)

    for source in ("", "anthropic.messages"):
        written, dropped = DIALECT.write_request(
            DIALECT.read_request(body), model="m", stream=bool(value.get("stream")), source=source
        )
        check("nothing dropped", holds=not dropped)
        check("same request", holds=normal(json.loads(written)) == normal(value))


@cases(ANSWERS)
def test_a_recorded_answer_reads_like_its_json(row: dict[str, Any]) -> None:
    """Words, calls, seals, stop reason and usage are those of the raw JSON, and come back when written."""
    raw = body_of(row)
    value = json.loads(raw)

    response = DIALECT.read_answer(raw)
    usage, finish, chars = DIALECT.read_answer_facts(raw)
    written = json.loads(DIALECT.write_answer(response, request_id="r", model=value["model"]))

    same(naive_answer(value), response)
    check("usage in passing", holds=usage == response.usage)
    check("finish in passing", holds=finish == response.choices[0].finish_reason)
    check("content in passing", holds=bool(chars) == bool(value["content"]))
    zeros = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    expected = told({**value, "id": "msg_r", "usage": zeros | value["usage"]})
    check("the same JSON again", holds=expected == told(written))


@cases(ANSWERS)
def test_a_recorded_answer_is_the_same_as_a_stream(row: dict[str, Any]) -> None:
    """Answer -> steps -> stream -> steps -> answer changes nothing."""
    response = DIALECT.read_answer(body_of(row))
    writer = DIALECT.writer(request_id="r", model=response.model, include_usage=True)

    events, fault = outcome([writer.feed(take_apart(response))])
    again = assemble(events)

    again.id = response.id
    check("complete", holds=not fault)
    check("the same", holds=again == response)


@cases(STREAMS)
def test_a_recorded_stream_reads_like_its_json(row: dict[str, Any]) -> None:
    """The steps put together are what the raw events say, and what is metered in passing is the same."""
    raw = body_of(row)
    naive = naive_stream(values_of(raw))
    events, fault = outcome([raw])
    response = assemble(events)
    if naive.error:
        check("a fault of the vendor", holds=fault == "FAULT_SERVER")
        check("what came before it", holds=not response.choices or seen(response).text == naive.text)
        return
    framer, meter = Framer(), DIALECT.meter(hide_usage=True)
    vendor = framer.feed(raw) + framer.flush()
    metered = meter.feed(vendor)

    check("no fault", holds=not fault)
    same(naive, response)
    check("usage in passing", holds=metered.usage == response.usage)
    check("finish in passing", holds=metered.finish == response.choices[0].finish_reason)
    check("end", holds=metered.done)
    check("content in passing", holds=bool(metered.content_events) == bool(metered.text_chars) == spoke(naive))
    check("the same once passed on", holds=outcome([metered.data])[0] == events)
    passed = [data for _, data in Framer().feed(metered.data)]
    check("the vendor's bytes", holds=passed == [data for _, data in vendor][: len(passed)])


@cases(STREAMS)
def test_a_recorded_stream_is_the_same_after_writing(row: dict[str, Any]) -> None:
    """Steps -> stream -> steps keeps everything; so does the unary form, but for white space in arguments."""
    events, fault = outcome([body_of(row)])
    if fault:
        return
    response = assemble(events)
    writer = DIALECT.writer(request_id="r", model=response.model, include_usage=True)

    again = assemble(outcome([writer.feed(events)])[0])
    whole = DIALECT.read_answer(DIALECT.write_answer(response, request_id="r", model="m"))

    check("parts", holds=again.choices == response.choices)
    check("usage", holds=again.usage == response.usage)
    check("members", holds=again.extensions == response.extensions)
    one, other = seen(response), seen(whole)
    check("words of the whole", holds=(one.text, one.thinking, one.seals) == (other.text, other.thinking, other.seals))
    whole_calls = [call for call in one.calls if plain(call) != call]
    check("calls of the whole", holds=all(plain(call) in map(plain, other.calls) for call in whole_calls))


@cases(STREAMS)
def test_cuts_of_the_network_do_not_show(row: dict[str, Any]) -> None:
    """Single bytes and random pieces give the same steps as the whole, and so does each event in a batch of its own."""
    raw = body_of(row)
    whole = outcome([raw])
    chance = random.Random(row["id"])
    places = sorted(chance.randrange(len(raw)) for _ in range(20))
    pieces = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]

    check("random pieces", holds=whole == outcome(pieces))
    check("events", holds=whole == outcome([event + b"\n\n" for event in raw.split(b"\n\n") if event.strip()]))
    if len(raw) < 20_000:
        check("single bytes", holds=whole == outcome([raw[place : place + 1] for place in range(len(raw))]))


@cases(STREAMS)
def test_a_cut_stream_is_never_complete(row: dict[str, Any]) -> None:
    """Cut before its stop reason, a stream ends with a fault; whatever was read is a prefix of the whole."""
    raw = body_of(row)
    chance = random.Random(row["id"])
    whole, _ = outcome([raw])
    for place in [chance.randrange(len(raw)) for _ in range(16)]:
        events, fault = outcome([raw[:place]])
        check(
            f"complete when cut at {place}", holds=bool(fault) or b'"stop_reason":"' in raw[:place].replace(b" ", b"")
        )
        steps = [event for event in events if event.WhichOneof("event") not in ("finished", "usage")]
        check(f"a prefix when cut at {place}", holds=steps == whole[: len(steps)])


def frames_of(raw: bytes) -> list[SseEvent]:
    """The events in binary frames (length, headers' length, checksum, headers, payload, checksum), without names."""
    found, place = [], 0
    while place < len(raw):
        size, headers = (int.from_bytes(raw[place + at : place + at + 4], "big") for at in (0, 4))
        payload = json.loads(raw[place + 12 + headers : place + size - 4])
        found.append(("", base64.b64decode(payload["bytes"])))
        place += size
    return found


@cases(FRAMES)
def test_a_recorded_stream_in_another_framing_reads_the_same(row: dict[str, Any]) -> None:
    """Events without names, as some hosts frame them, are told by what they hold."""
    events = frames_of(body_of(row))
    reader, meter = DIALECT.reader(), DIALECT.meter(hide_usage=False)

    steps = [*reader.feed(events), *reader.finish()]
    metered = meter.feed(events)

    same(naive_stream(json.loads(data) for _, data in events), assemble(steps))
    check("in passing", holds=metered.done and metered.usage == assemble(steps).usage)
    check("the same once passed on", holds=outcome([metered.data])[0] == steps)


@cases(REFUSALS)
def test_a_recorded_error_has_a_class(row: dict[str, Any]) -> None:
    """Every recorded error is classed, and its class fits its status."""
    error = DIALECT.fault_of(row["status"], body_of(row), {})

    fitting = {
        400: (errors_pb2.FAULT_CLIENT, errors_pb2.FAULT_CONTEXT, errors_pb2.FAULT_QUOTA),
        401: (errors_pb2.FAULT_CREDENTIAL,),
        403: (errors_pb2.FAULT_CREDENTIAL,),
        404: (errors_pb2.FAULT_MODEL_GONE,),
        422: (errors_pb2.FAULT_CLIENT, errors_pb2.FAULT_MODEL_GONE),
        429: (errors_pb2.FAULT_RATE,),
    }
    check("a class", holds=error.fault in fitting.get(row["status"], (errors_pb2.FAULT_SERVER,)))
    check("words", holds=0 < len(error.message) <= 500)
    check("status", holds=error.metadata["upstream_status"] == str(row["status"]))


@cases([row for row in COUNTS if row["status"] == 200])
def test_a_recorded_count_is_read_and_written(row: dict[str, Any]) -> None:
    """Request and answer survive the typed form."""
    dialect = anthropic_count_tokens.DIALECT
    body = Body(body_of(row, "request_file"))
    value = json.loads(body.data)

    written, dropped = dialect.write_task(dialect.read_task(body), model=value["model"], source=dialect.name)
    result = dialect.read_outcome(body_of(row), JSON)
    answer = dialect.write_outcome(result, dialect.read_task(body), request_id="r", model="m")

    ignored = ("max_tokens", "model")
    expected, found = normal(value), normal(json.loads(written.data))
    check("nothing dropped", holds=not dropped)
    check("same request", holds=all(expected.get(name) == found.get(name) for name in expected if name not in ignored))
    check("nothing about the answer", holds="max_tokens" not in json.loads(written.data))
    check("same answer", holds=json.loads(answer.data) == json.loads(body_of(row)))
    check("facts", holds=dialect.read_facts(body).operation == pb.OPERATION_COUNT_TOKENS)


def spoke(naive: Naive) -> bool:
    """Whether an answer holds anything."""
    return bool(naive.text or naive.thinking or naive.seals or naive.calls or naive.others)


def prompt_of(row: dict[str, Any]) -> int:
    """Tokens of the prompt as the vendor counted them; 0 when it did not."""
    raw = body_of(row)
    if row["response_file"].endswith(".sse"):
        usage = naive_stream(values_of(raw)).usage
    else:
        usage = json.loads(raw).get("usage") or {}
    return sum(usage.get(name) or 0 for name in FIGURES[:3])


def test_estimates_are_near_what_was_charged() -> None:
    """Half of the prompts are told within 15 %, where all that counts is in the request.

    It is not where the vendor's own tools add their words, where a file lies with the vendor, and where the recorder
    replaced what was sent.
    """
    errors = []
    for row in [row for row in [*ANSWERS, *STREAMS] if row in REQUESTS]:
        request = DIALECT.read_request(body_of(row, "request_file"))
        charged = prompt_of(row)
        seen_all = all(part.WhichOneof("part") in WORDS for message in request.messages for part in message.parts)
        if seen_all and charged and "tools" not in request.extensions and "claude" in (row["model"] or ""):
            errors.append(abs(estimate_tokens(request, anthropic_count_tokens.FRAME) / charged - 1))

    check(f"median error {statistics.median(errors):.3f} of {len(errors)}", holds=statistics.median(errors) <= 0.15)
    check("most within a third", holds=sum(error < 1 / 3 for error in errors) > 0.7 * len(errors))


WORDS = ("text", "tool_call", "tool_result", "reasoning")
