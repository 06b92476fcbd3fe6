"""Every recorded exchange of `openai.responses`, read by the dialect and by a naive reading of the raw JSON."""

import json
import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat, openai_responses
from polyroute.dialects.events import assemble, take_apart
from polyroute.dialects.openai_responses import ResponsesMeter
from polyroute.dialects.sse import Framer
from polyroute.mesh.errors import MeshError
from tests.outbound import attempt, bare, check_cut, outcome, pieces_of
from tests.recordings import FOLDER, body_of, cases, check, exchanges

DIALECT = openai_responses.DIALECT
ROWS = exchanges("openai.responses")
ANSWERS = [row for row in ROWS if row["status"] == 200 and row["response_file"].endswith(".json")]
STREAMS = [row for row in ROWS if row["status"] == 200 and row["response_file"].endswith(".sse")]
REFUSALS = [row for row in ROWS if row["status"] != 200]
REQUESTS = [row for row in ROWS if row["request_file"] and row["request_file"].endswith(".json")]
ENDS = ("response.completed", "response.incomplete")
pytestmark = pytest.mark.skipif(not ROWS, reason=f"no recordings in {FOLDER}")


@dataclass
class Naive:
    """What a simple reading finds in an answer."""

    text: str = ""
    refusal: str = ""
    reasoning: list[str] = field(default_factory=list)
    calls: list[tuple[Any, ...]] = field(default_factory=list)  # id, name, arguments
    others: list[str] = field(default_factory=list)  # types of items that the contract does not model
    sealed: list[str] = field(default_factory=list)  # encrypted content
    citations: int = 0
    usage: dict[str, Any] = field(default_factory=dict)
    status: str = ""
    error: bool = False


def note_item(naive: Naive, item: dict[str, Any]) -> None:
    """Adds an item."""
    kind = item["type"]
    if kind == "message":
        for part in item["content"]:
            naive.text += part.get("text", "")
            naive.refusal += part.get("refusal", "")
            naive.citations += sum(note["type"] == "url_citation" for note in part.get("annotations") or [])
    elif kind == "reasoning":
        naive.reasoning += [entry["text"] for entry in [*(item.get("summary") or []), *(item.get("content") or [])]]
        naive.sealed += [item["encrypted_content"]] if item.get("encrypted_content") else []
    elif kind in ("function_call", "custom_tool_call"):
        naive.calls.append((item["call_id"], item["name"], item.get("arguments", item.get("input"))))
    elif kind == "shell_call" and (item.get("environment") or {}).get("type", "local") == "local":
        said = {name: value for name, value in item["action"].items() if value is not None}
        naive.calls.append((item["call_id"], "shell", json.dumps(said, separators=(",", ":"))))
    else:
        naive.others.append(kind)


def naive_answer(value: dict[str, Any]) -> Naive:
    """A naive reading of a whole answer."""
    naive = Naive(usage=value.get("usage") or {}, status=value["status"])
    if isinstance(value.get("reasoning"), str):
        naive.reasoning.append(value["reasoning"])
    for item in value["output"]:
        note_item(naive, item)
    return naive


def events_of(raw: bytes) -> list[dict[str, Any]]:
    """The events of a stream up to its end, read line by line; a few recordings hold the streams of several answers."""
    out: list[dict[str, Any]] = []
    for line in raw.decode().splitlines():
        if line.startswith("data:") and line[5:].strip() != "[DONE]":
            out.append(json.loads(line[5:]))
            if out[-1]["type"] in ENDS:
                break
    return out


def naive_stream(raw: bytes) -> Naive:
    """A naive reading of a stream: the items as they were closed."""
    naive = Naive()
    for value in events_of(raw):
        if value["type"] == "response.output_item.done":
            note_item(naive, value["item"])
        elif value["type"] in ("error", "response.failed"):
            naive.error = True
        elif value["type"] in ENDS:
            naive.usage, naive.status = value["response"].get("usage") or {}, value["response"]["status"]
    return naive


def naive_of(response: pb.ChatResponse) -> Naive:
    """The same of what was read."""
    naive = Naive()
    for part in response.choices[0].message.parts:
        state = json.loads(part.state.data) if part.HasField("state") else {}
        naive.text += part.text.text
        naive.refusal += part.refusal.text
        if part.HasField("tool_call"):
            naive.calls.append((part.tool_call.id, part.tool_call.name, part.tool_call.arguments))
        elif part.HasField("reasoning"):
            naive.reasoning += [part.reasoning.text] if part.reasoning.text else []
            kind = part.state.kind
            naive.others += [kind] if kind not in ("", "reasoning") else []
            naive.sealed += [state["encrypted_content"]] if kind == "reasoning" and "encrypted_content" in state else []
    notes = json.loads(response.choices[0].message.extensions.get("annotations", b"[]"))
    naive.citations = len(notes)
    return naive


def check_same(expected: Naive, response: pb.ChatResponse) -> None:
    """Both readings agree."""
    found = naive_of(response)
    check("text", holds=expected.text == found.text)
    check("refusal", holds=expected.refusal == found.refusal)
    check(
        "reasoning",
        holds="".join(expected.reasoning) == "".join(found.reasoning).replace("\n\n", "")
        or "\n\n".join(expected.reasoning) == "\n\n".join(found.reasoning),
    )
    check("calls", holds=expected.calls == found.calls)
    check("other items", holds=expected.others == found.others)
    check("seals", holds=expected.sealed == found.sealed)
    check("citations", holds=expected.citations == found.citations)
    usage, told = response.usage, expected.usage
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    check("prompt", holds=told.get("input_tokens", 0) == prompt)
    check("completion", holds=told.get("output_tokens", 0) == usage.output_tokens + usage.reasoning_tokens)
    details = told.get("output_tokens_details") or {}
    check("reasoning tokens", holds=details.get("reasoning_tokens", 0) == usage.reasoning_tokens)
    check("cached", holds=(told.get("input_tokens_details") or {}).get("cached_tokens", 0) == usage.cache_read_tokens)
    finish = response.choices[0].finish_reason
    ended = pb.FINISH_REASON_TOOL_CALLS if found.calls else pb.FINISH_REASON_STOP
    check("finish", holds=finish == (ended if expected.status == "completed" else pb.FINISH_REASON_LENGTH))


def plain(request: dict[str, Any]) -> dict[str, Any]:
    """A request without what may be said in two ways: empty members, text as a list of one, types of messages."""
    out = {name: item for name, item in request.items() if name not in ("model", "stream")}
    said = out.get("input")
    said = [{"role": "user", "content": said}] if isinstance(said, str) else said
    out["input"] = [plain_item(item) for item in said or []]
    out["tools"] = [plain_tool(tool) for tool in out.get("tools") or []]
    return {name: item for name, item in out.items() if item not in (None, [], {})}


def plain_item(item: dict[str, Any]) -> dict[str, Any]:
    """An item of the input in its plainest form."""
    out = {name: value for name, value in item.items() if value is not None and value != []}
    if out.get("type") == "message":
        del out["type"]
    if item.get("type") != "reasoning" and isinstance(out.get("content"), list):
        parts = [{name: value for name, value in part.items() if value not in (None, [])} for part in out["content"]]
        alone = len(parts) == 1 and set(parts[0]) == {"type", "text"}
        out["content"] = parts[0]["text"] if alone else parts
    return out


def plain_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A tool in its flat form."""
    inner = tool.get("function")
    flat = {**(inner if isinstance(inner, dict) else {}), **tool}
    return {name: value for name, value in flat.items() if value not in (None, "") and name != "function"}


@cases(REQUESTS)
def test_a_recorded_request_is_read_or_refused(row: dict[str, Any]) -> None:
    """Every request gives facts or is one that its vendor refused; patching changes the model alone."""
    body = body_of(row, "request_file")
    value = json.loads(body)

    facts = DIALECT.read_facts(body, default_model="assumed")
    patched = DIALECT.patch_request(body, facts, model="upstream", ask_usage=True)

    check("model", holds=(value.get("model") or "assumed") == facts.model)
    check("stream", holds=bool(value.get("stream")) == facts.stream == facts.stream_usage)
    check("tools", holds=bool(value.get("tools")) == (pb.CAPABILITY_TOOLS in facts.needs))
    check("pictures", holds=(b'"input_image"' in body) == (pb.CAPABILITY_VISION in facts.needs))
    check("nothing else changed", holds=json.loads(patched) == {**value, "model": "upstream"})


@cases(REQUESTS)
def test_a_recorded_request_survives_the_typed_form(row: dict[str, Any]) -> None:
    """Request -> ChatRequest -> request is the same JSON, every id and seal in place."""
    body = body_of(row, "request_file")
    request, error = attempt(lambda: DIALECT.read_request(body))
    if request is None:
        check("refused as invalid", holds=error is not None and error.reason == errors_pb2.REASON_INVALID_REQUEST)
        check("by the vendor as well", holds=row["status"] != 200)
        return

    written, dropped = DIALECT.write_request(request, model=request.model, stream=False, source=DIALECT.name)

    check("nothing dropped", holds=not dropped)
    check("the same request", holds=plain(json.loads(body)) == plain(json.loads(written)))
    check("the same conversation", holds=DIALECT.read_request(written) == request)


@cases(REQUESTS)
def test_a_recorded_request_can_be_asked_of_others(row: dict[str, Any]) -> None:
    """Every request can be written for a vendor of the sibling dialect, and from there back into this one."""
    request, _ = attempt(lambda: DIALECT.read_request(body_of(row, "request_file")))
    if request is None:
        return

    chat, error = attempt(
        lambda: openai_chat.DIALECT.write_request(request, model="m", stream=False, source=DIALECT.name)
    )
    if chat is None:  # content that only a file at its own vendor or an address holds
        check("says why", holds=error is not None and bool(error.message))
        return
    back = openai_chat.DIALECT.read_request(chat[0])
    written, _ = DIALECT.write_request(back, model="m", stream=False, source="openai.chat")

    given = [item for item in json.loads(written)["input"] if item.get("type", "").startswith("function_call")]
    said = json.loads(body_of(row, "request_file")).get("input")
    calls = (
        [item for item in said if item.get("type", "").startswith("function_call")] if isinstance(said, list) else []
    )
    check("calls", holds=[item["call_id"] for item in given] == [item["call_id"] for item in calls])


@cases(ANSWERS)
def test_a_recorded_answer_reads_like_its_json(row: dict[str, Any]) -> None:
    """Text, reasoning, calls, seals, finish reason and usage are those of the raw JSON, and stay when written."""
    raw = body_of(row)

    response = DIALECT.read_answer(raw)
    usage, finish, chars = DIALECT.read_answer_facts(raw)
    again = DIALECT.read_answer(DIALECT.write_answer(response, request_id="", model=response.model))

    check_same(naive_answer(json.loads(raw)), response)
    check("usage in passing", holds=(usage or pb.Usage()) == response.usage)
    check("finish in passing", holds=finish == response.choices[0].finish_reason)
    check("content in passing", holds=bool(chars) == any(spoken(part) for part in response.choices[0].message.parts))
    check("id", holds=response.id == again.id)
    check("usage again", holds=again.usage == response.usage)
    check("words again", holds=naive_of(again) == naive_of(response))


def spoken(part: pb.Part) -> bool:
    """Whether a part is content."""
    said = part.text.text or part.refusal.text or part.reasoning.text
    return bool(said or part.HasField("tool_call") or part.HasField("image"))


@cases(STREAMS)
def test_a_recorded_stream_reads_like_its_json(row: dict[str, Any]) -> None:
    """The steps put together are what the raw events say, and what is metered in passing is the same."""
    raw = body_of(row)
    naive = naive_stream(raw)
    events, fault = outcome(DIALECT, [raw], ".sse")
    if naive.error:
        check("a fault", holds=fault not in ("", "UNSPECIFIED", "TRUNCATED"))
        return
    framer, meter = Framer(), ResponsesMeter()

    response = assemble(events)
    metered = meter.feed(framer.feed(raw) + framer.flush())

    check("complete", holds=not fault and metered.done)
    check_same(naive, response)
    check("usage in passing", holds=(metered.usage or pb.Usage()) == response.usage)
    check("finish in passing", holds=metered.finish == response.choices[0].finish_reason)
    spoke = any(spoken(part) for part in response.choices[0].message.parts)
    check("content in passing", holds=bool(metered.content_events) >= spoke)  # tools of the vendor say something too
    check("the same once passed on", holds=assemble(outcome(DIALECT, [metered.data], ".sse")[0]) == response)


@cases(STREAMS)
def test_a_recorded_stream_is_passed_on_as_it_came(row: dict[str, Any]) -> None:
    """What a client gets are the vendor's own events, in order, under the names of their types."""
    raw = body_of(row)
    came = events_of(raw)
    framer = Framer()
    metered, _ = attempt(lambda: ResponsesMeter().feed(framer.feed(raw) + framer.flush()))
    if metered is None:
        return

    passed = Framer().feed(metered.data)

    check("events", holds=[json.loads(data) for _, data in passed] == came)
    check("names", holds=[name for name, _ in passed] == [event["type"] for event in came])


@cases(STREAMS)
def test_the_end_of_a_stream_is_the_answer(row: dict[str, Any]) -> None:
    """A stream and the whole answer in its last event are read as the same, where that answer is whole."""
    raw = body_of(row)
    last = events_of(raw)[-1]
    if last["type"] not in ENDS or "error" in row["features"]:
        return
    events, _ = outcome(DIALECT, [raw], ".sse")

    streamed, whole = assemble(events), DIALECT.read_answer(json.dumps(last["response"]).encode())

    if len(naive_answer(last["response"]).others) == len(naive_stream(raw).others) and last["response"]["output"]:
        check("text", holds=naive_of(streamed).text == naive_of(whole).text)
        check("usage", holds=streamed.usage == whole.usage)
        check("citations", holds=naive_of(streamed).citations == naive_of(whole).citations)


@cases(STREAMS)
def test_a_recorded_stream_is_the_same_after_writing(row: dict[str, Any]) -> None:
    """Steps -> stream -> steps keeps words, calls, seals and usage, in one batch and in single steps."""
    events, fault = outcome(DIALECT, [body_of(row)], ".sse")
    if fault:
        return
    ends = next(number for number, event in enumerate(events) if event.HasField("finished"))

    for batches in ([events], [*([event] for event in events[:ends]), events[ends:]]):
        writer = DIALECT.writer(request_id="", model="m", include_usage=True)
        written = b"".join(writer.feed(batch) for batch in batches)
        again, broken = outcome(DIALECT, [written], ".sse")

        check("complete", holds=not broken)
        first, second = naive_of(assemble(events)), naive_of(assemble(again))
        check(
            "same words", holds=(first.text, first.refusal, first.calls) == (second.text, second.refusal, second.calls)
        )
        check("same reasoning", holds=first.reasoning == second.reasoning)
        check("same seals", holds=first.sealed == second.sealed and first.others == second.others)
        check("same usage", holds=assemble(again).usage == assemble(events).usage)


@cases(STREAMS)
def test_cuts_of_the_network_do_not_show(row: dict[str, Any]) -> None:
    """One byte at a time, random pieces and the recorded reads give the same steps as the whole."""
    raw = body_of(row)
    whole = outcome(DIALECT, [raw], ".sse")

    check("random pieces", holds=whole == outcome(DIALECT, pieces_of(raw, row["id"]), ".sse"))
    if len(raw) < 20_000:
        single = [raw[place : place + 1] for place in range(len(raw))]
        check("single bytes", holds=whole == outcome(DIALECT, single, ".sse"))


@cases([row for row in STREAMS if "error" not in row["features"]])
def test_a_cut_stream_is_never_complete(row: dict[str, Any]) -> None:
    """Cut before its last event, a stream ends with a fault; whatever was read is a prefix of the whole."""
    check_cut(DIALECT, body_of(row), ".sse", lambda cut: any(f'"{end}"'.encode() in cut for end in ENDS), row["id"])


@cases(REFUSALS)
def test_a_recorded_refusal_has_a_fault(row: dict[str, Any]) -> None:
    """Every refusal is classified, and says what its vendor said."""
    error = DIALECT.fault_of(row["status"], body_of(row), {})

    check("a fault", holds=error.fault != errors_pb2.FAULT_UNSPECIFIED)
    check("its status", holds=error.metadata["upstream_status"] == str(row["status"]))


def test_a_streamed_event_is_cheap() -> None:
    """Reading, writing and metering an event each stay far below what a paced stream may cost."""
    row = max(STREAMS, key=lambda row: row["bytes"] if "reasoning" in row["features"] else 0)
    framer = Framer()
    events = framer.feed(body_of(row)) + framer.flush()

    def read() -> list[pb.ChatEvent]:
        reader = DIALECT.reader()
        return [step for event in events for step in reader.feed([event])]

    def write() -> None:
        writer = DIALECT.writer(request_id="r", model="m", include_usage=True)
        for step in steps:
            writer.feed([step])

    def meter() -> None:
        metering = ResponsesMeter()
        for event in events:
            metering.feed([event])

    steps = read()
    for work in (read, write, meter):
        check("cheap", holds=cost(work) / len(events) < 60e-6)


def cost(work: Any) -> float:
    """Seconds of processor time, the median of a few."""
    times = []
    for _ in range(5):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times)


@cases(ANSWERS)
def test_a_recorded_answer_comes_apart(row: dict[str, Any]) -> None:
    """An answer that came whole where a stream was asked for gives the steps of the same answer."""
    raw = body_of(row)
    reader = DIALECT.reader()

    steps = [*reader.feed([("", raw)]), *reader.finish()]

    check("same", holds=[bare(step) for step in steps] == [bare(step) for step in take_apart(DIALECT.read_answer(raw))])


def test_the_refused_are_few() -> None:
    """All but one of the recorded requests can be read; that one its vendor refused."""
    refused = 0
    for row in REQUESTS:
        try:
            DIALECT.read_request(body_of(row, "request_file"))
        except MeshError:
            refused += 1

    assert refused <= 1
