"""Every recorded exchange of `bedrock.*`, read by the dialects and by a naive reading of the raw JSON.

No recorded text reaches a message: failures name the exchange and what differed.
"""

import base64
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1.modality_pb2 import CountTokensTask, Task
from polyroute.dialects import bedrock_converse, bedrock_tasks
from polyroute.dialects.bedrock.framing import EventStreamFramer, InvokeFramer
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import assemble
from polyroute.mesh.errors import MeshError
from tests.recordings import FOLDER, Row, body_of, cases, check, exchanges
from tests.unit.dialects.bedrock import typed

OUTBOUND = bedrock_converse.OUTBOUND
CONVERSE = exchanges("bedrock.converse")
COUNTS = exchanges("bedrock.count_tokens")
RERANKS = exchanges("bedrock.rerank")
INVOKED = [row for row in exchanges("anthropic.messages", "openai.chat") if row["provider"] == "bedrock"] + exchanges(
    "bedrock.invoke.amazon.nova",
    "bedrock.invoke.amazon.titan",
    "bedrock.invoke.cohere",
    "bedrock.invoke.mistral",
    "bedrock.invoke.openai",
)
GOOD = [row for row in CONVERSE if row["status"] == 200]
STREAMS = [row for row in GOOD if row["kind"] == "eventstream"]
WRAPPED = [row for row in INVOKED if row["kind"] == "eventstream"]
REFUSED = [row for row in CONVERSE + COUNTS + INVOKED if row["status"] != 200]
CUTS = 12
pytestmark = pytest.mark.skipif(not CONVERSE, reason=f"no recordings in {FOLDER}")


def naive_frames(raw: bytes) -> Iterator[tuple[int, str, Any]]:
    """(where it ends, name, value) of each message, every header taken for text and no checksum looked at."""
    place = 0
    while place < len(raw):
        total, size = struct.unpack_from(">II", raw, place)
        block = raw[place + 12 : place + 12 + size]
        name = block.split(b":event-type\x07", 1)[1]
        length = int.from_bytes(name[:2], "big")
        payload = raw[place + 12 + size : place + total - 4]
        place += total
        yield place, name[2 : 2 + length].decode(), json.loads(payload)


def naive_events(row: Row) -> list[tuple[str, Any]]:
    """The events of a stream, or of its lines."""
    raw = body_of(row)
    if row["kind"] == "ndjson":
        return [pair for line in raw.splitlines() for pair in json.loads(line).items()]
    return [(name, value) for _, name, value in naive_frames(raw)]


@dataclass
class Naive:
    """What a simple reading finds."""

    text: str = ""
    reasoning: str = ""
    seals: list[str] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)  # [name, arguments]
    ids: list[str] = field(default_factory=list)
    finish: str = ""
    total: int | None = None
    citations: int = 0
    server: int = 0


def naive_answer(value: Any) -> Naive:
    """A naive reading of a whole answer."""
    naive = Naive(finish=value["stopReason"], total=value.get("usage", {}).get("totalTokens"))
    for block in value["output"]["message"]["content"]:
        naive.text += block.get("text", "")
        reasoning = block.get("reasoningContent", {})
        told = reasoning.get("reasoningText", {})
        naive.reasoning += told.get("text", "")
        naive.seals += [seal for seal in (told.get("signature"), reasoning.get("redactedContent")) if seal]
        use = block.get("toolUse")
        if use and use.get("type") != "server_tool_use":
            naive.calls.append([use["name"], json.dumps(use["input"])])
            naive.ids.append(use["toolUseId"])
        naive.server += (use is not None and use.get("type") == "server_tool_use") + ("toolResult" in block)
        cited = block.get("citationsContent", {})
        naive.text += "".join(piece["text"] for piece in cited.get("content", []))
        naive.citations += len(cited.get("citations", []))
    return naive


def naive_stream(events: list[tuple[str, Any]]) -> Naive:
    """A naive reading of a stream."""
    naive = Naive()
    mine: dict[int, int] = {}
    for name, value in events:
        if name == "contentBlockStart":
            use = value["start"].get("toolUse")
            if use and use.get("type") != "server_tool_use":
                mine[value["contentBlockIndex"]] = len(naive.calls)
                naive.calls.append([use["name"], ""])
                naive.ids.append(use["toolUseId"])
            else:
                naive.server += 1
        elif name == "contentBlockDelta":
            delta = value["delta"]
            naive.text += delta.get("text", "")
            reasoning = delta.get("reasoningContent", {})
            naive.reasoning += reasoning.get("text", "")
            naive.seals += [reasoning[kind] for kind in ("signature", "redactedContent") if reasoning.get(kind)]
            naive.citations += "citation" in delta
            if "toolUse" in delta and value["contentBlockIndex"] in mine:
                naive.calls[mine[value["contentBlockIndex"]]][1] += delta["toolUse"]["input"]
        elif name == "messageStop":
            naive.finish = value["stopReason"]
        elif name == "metadata":
            naive.total = value["usage"]["totalTokens"]
    return naive


def seals_of(response: pb.ChatResponse) -> list[str]:
    """The seals as they stood on the wire."""
    out = []
    for part in response.choices[0].message.parts:
        if part.HasField("state"):
            redacted = part.state.kind == "redactedContent"
            out.append(base64.b64encode(part.state.data).decode() if redacted else part.state.data.decode())
    return out


def agrees(naive: Naive, response: pb.ChatResponse) -> None:
    """Fails where the two readings differ."""
    choice = response.choices[0]
    parts = choice.message.parts
    calls = [part.tool_call for part in parts if part.HasField("tool_call")]
    held = json.loads(choice.message.extensions.get("contentBlocks", b"[]"))
    usage = response.usage
    buckets = (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens, usage.output_tokens)
    check("text", holds=naive.text == "".join(part.text.text for part in parts))
    check("reasoning", holds=naive.reasoning == "".join(part.reasoning.text for part in parts))
    check("seals", holds=naive.seals == seals_of(response))
    check("names of calls", holds=[name for name, _ in naive.calls] == [call.name for call in calls])
    check("ids of calls", holds=naive.ids == [call.id for call in calls])
    said = [json.loads(arguments or "{}") for _, arguments in naive.calls]
    check("arguments", holds=said == [json.loads(call.arguments or "{}") for call in calls])
    check("finish reason", holds=naive.finish == choice.vendor_finish_reason and choice.finish_reason != 0)
    check("known finish reason", holds=choice.finish_reason != pb.FINISH_REASON_OTHER)
    check("usage", holds=(naive.total is None) or naive.total == sum(buckets))
    cited = sum(len(entry.get("citationsContent", {}).get("citations", [])) for entry in held)
    check("citations", holds=naive.citations == cited)
    check("the vendor's tools", holds=naive.server == sum("toolUse" in e or "toolResult" in e for e in held))


def request_json(row: Row) -> Any:
    """The recorded request."""
    return json.loads(body_of(row, "request_file"))


@cases([row for row in CONVERSE if row["request_file"]])
def test_a_recorded_request_can_be_said(row: Row) -> None:
    """What the recorded client sent is written from a conversation that says the same, and nothing is dropped."""
    expected = request_json(row)

    body, dropped = OUTBOUND.write_request(typed.request_of(expected), model=row["model"] or "m", stream=False)

    check("nothing dropped", holds=not dropped)
    check("same request", holds=typed.normal(expected) == typed.normal(json.loads(body)))


@cases([row for row in COUNTS if row["request_file"] and "converse" in request_json(row)["input"]])
def test_a_recorded_question_for_a_count_can_be_said(row: Row) -> None:
    """The conversation to be counted is written as the recorded client wrote it."""
    expected = request_json(row)
    task = Task(count_tokens=CountTokensTask(chat=typed.request_of(expected["input"]["converse"])))

    body, dropped = bedrock_tasks.COUNT_TOKENS.write_task(task, model="m")

    check("nothing dropped", holds=not dropped)
    check("same request", holds=typed.normal(expected) == typed.normal(json.loads(body.data)))


def read_events(row: Row, pieces: list[bytes]) -> tuple[list[pb.ChatEvent], str]:
    """The steps of a stream, and the fault that ended it, if one did."""
    framer, reader = EventStreamFramer(), OUTBOUND.reader()
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


@cases([row for row in GOOD if row["kind"] == "json"])
def test_a_recorded_answer_reads_like_its_json(row: Row) -> None:
    """Words, reasoning with its seals, calls, citations, finish reason and usage are those of the raw JSON."""
    raw = body_of(row)

    response = OUTBOUND.read_answer(raw)

    agrees(naive_answer(json.loads(raw)), response)
    extensions = {name: json.loads(value) for name, value in response.extensions.items()}
    rest = {name: value for name, value in json.loads(raw).items() if name not in ("output", "stopReason", "usage")}
    check("nothing else lost", holds=extensions == rest)


@cases([row for row in GOOD if row["kind"] != "json"])
def test_a_recorded_stream_reads_like_its_events(row: Row) -> None:
    """The steps put together are what the raw events say."""
    if row["kind"] == "ndjson":
        reader = OUTBOUND.reader()
        lines: list[SseEvent] = [("", line) for line in body_of(row).splitlines()]
        response = assemble([*reader.feed(lines), *reader.finish()])
    else:
        events, fault = read_events(row, [body_of(row)])
        check("whole", holds=not fault)
        response = assemble(events)

    agrees(naive_stream(naive_events(row)), response)


@cases(STREAMS)
def test_cuts_of_the_network_do_not_show(row: Row) -> None:
    """One byte at a time and random pieces give the same steps as the whole."""
    raw = body_of(row)
    whole = read_events(row, [raw])
    chance = random.Random(row["id"])
    places = sorted(chance.randrange(len(raw)) for _ in range(20))
    pieces = [raw[start:end] for start, end in zip([0, *places], [*places, len(raw)], strict=True)]

    check("random pieces", holds=whole == read_events(row, pieces))
    check("single bytes", holds=whole == read_events(row, [raw[i : i + 1] for i in range(len(raw))]))


@cases(STREAMS)
def test_a_cut_stream_is_never_complete(row: Row) -> None:
    """Cut before its end is said, a stream ends with a fault, and what was read is a prefix of the whole."""
    raw = body_of(row)
    whole, _ = read_events(row, [raw])
    ends = [end for end, name, _ in naive_frames(raw) if name == "messageStop"]
    chance = random.Random(row["id"])
    for place in [chance.randrange(len(raw)) for _ in range(CUTS)]:
        events, fault = read_events(row, [raw[:place]])
        check(f"complete when cut at {place}", holds=bool(fault) == (place < ends[0]))
        steps = [event for event in events if event.WhichOneof("event") not in ("finished", "usage")]
        check(f"a prefix when cut at {place}", holds=steps == list(whole[: len(steps)]))


@cases(WRAPPED)
def test_a_wrapped_stream_gives_the_events_of_the_models_own_format(row: Row) -> None:
    """Chunks of InvokeModelWithResponseStream come out as the JSON they hold, however they are cut."""
    raw = body_of(row)
    expected = [base64.b64decode(value["bytes"]) for _, _, value in naive_frames(raw)]

    framer = InvokeFramer()
    events = [event for i in range(0, len(raw), 7) for event in framer.feed(raw[i : i + 7])]

    check("events", holds=[("", data) for data in expected] == events and not framer.pending)


@cases(REFUSED)
def test_a_recorded_error_has_a_class(row: Row) -> None:
    """Every recorded error is classed, and its class fits what was wrong."""
    error = OUTBOUND.fault_of(row["status"], body_of(row), {})

    words = json.loads(body_of(row))["message"]
    check("a class", holds=error.fault not in (errors_pb2.FAULT_UNSPECIFIED, errors_pb2.FAULT_BAD_ANSWER))
    check("status", holds=error.metadata["upstream_status"] == str(row["status"]))
    expected = {
        "identifier is invalid": errors_pb2.FAULT_MODEL_GONE,
        "access to the model": errors_pb2.FAULT_MODEL_GONE,
        "Input is too long": errors_pb2.FAULT_CONTEXT,
        "Too many requests": errors_pb2.FAULT_RATE,
        "Signature expired": errors_pb2.FAULT_CREDENTIAL,
        "security token": errors_pb2.FAULT_CREDENTIAL,
        "Malformed input": errors_pb2.FAULT_CLIENT,
    }
    for sign, fault in expected.items():
        check(sign, holds=sign not in words or error.fault == fault)
    check("server", holds=row["status"] < 500 or error.fault == errors_pb2.FAULT_SERVER)


@cases([row for row in COUNTS if row["status"] == 200])
def test_a_recorded_count_is_read(row: Row) -> None:
    """The number of tokens is that of the raw JSON."""
    outcome = bedrock_tasks.COUNT_TOKENS.read_outcome(body_of(row), "application/json")

    check("count", holds=json.loads(body_of(row))["inputTokens"] == outcome.result.count_tokens.input_tokens)


@cases(RERANKS)
def test_a_recorded_order_is_read(row: Row) -> None:
    """Places and scores are those of the raw JSON."""
    results = bedrock_tasks.RERANK.read_outcome(body_of(row), "application/json").result.rerank.results

    said = [(item["index"], item["relevanceScore"]) for item in json.loads(body_of(row))["results"]]
    check("order", holds=said == [(item.index, item.score) for item in results])
