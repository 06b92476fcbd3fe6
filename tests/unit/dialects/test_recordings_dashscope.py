"""Every recorded exchange of `dashscope.generation`, read by the dialect and by a naive reading of the raw JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.dashscope_generation import OUTBOUND
from tests.outbound import check_cut, outcome, pieces_of, read
from tests.recordings import FOLDER, Row, body_of, cases, check, exchanges

ROWS = exchanges("dashscope.text_generation", "dashscope.multimodal_generation")
ANSWERS = [row for row in ROWS if row["status"] == 200]
STREAMS = [row for row in ANSWERS if row["response_file"].endswith(".sse")]
pytestmark = pytest.mark.skipif(not ROWS, reason=f"no recordings in {FOLDER}")


def events_in(raw: bytes, kind: str) -> list[Any]:
    """The JSON of each event, or of the whole answer."""
    if kind != ".sse":
        return [json.loads(raw)]
    return [json.loads(line[5:]) for line in raw.decode().splitlines() if line.startswith("data:")]


def messages_in(events: list[Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """What is said, and the finish reasons."""
    messages, finish = [], []
    for output in (event["output"] for event in events):
        choice = (output.get("choices") or [None])[0]
        messages.append(choice["message"] if choice else output.get("message") or {"content": output["text"]})
        word = choice["finish_reason"] if choice else output.get("finish_reason") or output.get("fininshed_reason")
        finish += [word] if word and word != "null" else []
    return messages, finish


def text_in(message: dict[str, Any]) -> str:
    """Its text."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(entry.get("text", "") for entry in content)


def calls_in(messages: list[dict[str, Any]]) -> list[list[str]]:
    """Id, name and arguments of the calls."""
    calls: dict[int, list[str]] = {}
    for call in (call for message in messages for call in message.get("tool_calls") or []):
        known = calls.setdefault(call["index"], ["", "", ""])
        known[0] = known[0] or call["id"]
        known[1] = known[1] or call["function"].get("name", "")
        known[2] += call["function"].get("arguments") or ""
    return list(calls.values())


@cases(ANSWERS)
def test_a_recorded_answer_reads_like_its_json(row: Row) -> None:
    """Words, calls, finish reason and the sum of usage are those of the raw JSON."""
    raw, kind = body_of(row), Path(row["response_file"]).suffix
    events = events_in(raw, kind)
    messages, finish = messages_in(events)

    response, fault = read(OUTBOUND, raw, kind)

    parts = response.choices[0].message.parts if response.choices else []
    told = [[p.tool_call.id, p.tool_call.name, p.tool_call.arguments] for p in parts if p.HasField("tool_call")]
    reasoning = "".join(message.get("reasoning_content") or "" for message in messages)
    check("complete when its vendor says so", holds=bool(finish) == (not fault))
    check("text", holds="".join(map(text_in, messages)) == "".join(part.text.text for part in parts))
    check("reasoning", holds=reasoning == "".join(part.reasoning.text for part in parts))
    check("calls", holds=calls_in(messages) == told)
    if fault:
        return
    usage, last = response.usage, events[-1]["usage"]
    check("finish", holds=finish[-1] == response.choices[0].vendor_finish_reason)
    check(
        "prompt", holds=last["input_tokens"] == usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    )
    check("completion", holds=last["output_tokens"] == usage.output_tokens + usage.reasoning_tokens)
    check("id", holds=events[0]["request_id"] == response.id)


@cases(STREAMS)
def test_cuts_of_the_network_do_not_show(row: Row) -> None:
    """Random pieces give the same steps; what is cut is never complete."""
    raw = body_of(row)
    whole = outcome(OUTBOUND, [raw], ".sse")

    check("same steps", holds=whole == outcome(OUTBOUND, pieces_of(raw, row["id"]), ".sse"))
    check_cut(OUTBOUND, raw, ".sse", lambda cut: bool(messages_in(events_in(whole_lines(cut), ".sse"))[1]), row["id"])


def whole_lines(raw: bytes) -> bytes:
    """A cut stream without a line that the cut broke."""
    lines = raw.split(b"\n")
    try:
        json.loads(lines[-1].removeprefix(b"data:"))
    except ValueError:
        lines.pop()
    return b"\n".join(lines)


@cases([row for row in ROWS if row["status"] != 200])
def test_a_recorded_error_has_a_class(row: Row) -> None:
    """It fits the status."""
    error = OUTBOUND.fault_of(row["status"], body_of(row), {})

    expected = errors_pb2.FAULT_CREDENTIAL if row["status"] == 401 else errors_pb2.FAULT_CLIENT
    check("class", holds=expected == error.fault)
    check("code", holds=bool(error.metadata["vendor_code"]))
