"""Every recorded exchange of `cohere.chat`, read by the dialect and by a naive reading of the raw JSON."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import openai_chat
from polyroute.dialects.cohere_chat import OUTBOUND
from tests.outbound import check_cut, outcome, pieces_of, read
from tests.recordings import FOLDER, Row, body_of, cases, check, exchanges

ROWS = exchanges("cohere.chat_v2")
ANSWERS = [row for row in ROWS if row["status"] == 200]
STREAMS = [row for row in ANSWERS if row["response_file"].endswith(".sse")]
pytestmark = pytest.mark.skipif(not ROWS, reason=f"no recordings in {FOLDER}")


@dataclass
class Naive:
    """What a simple reading finds."""

    text: str = ""
    thinking: str = ""
    plan: str = ""
    calls: list[list[str]] = field(default_factory=list)
    citations: list[Any] = field(default_factory=list)
    finish: str = ""
    usage: dict[str, Any] = field(default_factory=dict)


def naive_answer(value: dict[str, Any]) -> Naive:
    """Of a whole answer."""
    message = value["message"]
    content = message.get("content") or []
    return Naive(
        text="".join(entry.get("text", "") for entry in content),
        thinking="".join(entry.get("thinking", "") for entry in content),
        plan=message.get("tool_plan", ""),
        calls=[
            [call["id"], call["function"]["name"], call["function"]["arguments"]]
            for call in message.get("tool_calls") or []
        ],
        citations=message.get("citations") or [],
        finish=value["finish_reason"],
        usage=value["usage"],
    )


def naive_stream(raw: bytes) -> Naive:
    """Of a stream, line by line."""
    naive = Naive()
    for line in raw.decode().splitlines():
        if not line.startswith("data: {"):
            continue
        value = json.loads(line[6:])
        delta = value.get("delta") or {}
        message = delta.get("message") or {}
        match value["type"]:
            case "content-delta":
                naive.text += message["content"].get("text", "")
                naive.thinking += message["content"].get("thinking", "")
            case "tool-plan-delta":
                naive.plan += message["tool_plan"]
            case "tool-call-start":
                call = message["tool_calls"]
                naive.calls.append([call["id"], call["function"]["name"], call["function"]["arguments"]])
            case "tool-call-delta":
                naive.calls[-1][2] += message["tool_calls"]["function"]["arguments"]
            case "citation-start":
                naive.citations.append(message["citations"])
            case "message-end":
                naive.finish, naive.usage = delta["finish_reason"], delta["usage"]
    return naive


def found(response: pb.ChatResponse) -> Naive:
    """The same of what the dialect read."""
    choice = response.choices[0]
    parts = choice.message.parts
    thoughts = {
        kind: "".join(part.reasoning.text for part in parts if part.state.kind == kind)
        for kind in ("thinking", "tool_plan")
    }
    return Naive(
        text="".join(part.text.text for part in parts),
        thinking=thoughts["thinking"],
        plan=thoughts["tool_plan"],
        calls=[
            [part.tool_call.id, part.tool_call.name, part.tool_call.arguments]
            for part in parts
            if part.HasField("tool_call")
        ],
        citations=json.loads(choice.message.extensions.get("citations", b"[]")),
        finish=choice.vendor_finish_reason,
    )


@cases(ANSWERS)
def test_a_recorded_answer_reads_like_its_json(row: Row) -> None:
    """Words, calls, citations, finish reason and the sum of usage are those of the raw JSON."""
    raw, kind = body_of(row), Path(row["response_file"]).suffix
    naive = naive_stream(raw) if kind == ".sse" else naive_answer(json.loads(raw))

    response, fault = read(OUTBOUND, raw, kind)

    check("complete", holds=not fault)
    tokens = naive.usage["tokens"]
    usage = response.usage
    prompt = usage.input_tokens + usage.cache_read_tokens
    check("prompt", holds=tokens["input_tokens"] + tokens.get("image_tokens", 0) == prompt)
    check("completion", holds=tokens["output_tokens"] == usage.output_tokens + usage.reasoning_tokens)
    check("cached", holds=naive.usage.get("cached_tokens", 0) == usage.cache_read_tokens)
    check("billed", holds=naive.usage["billed_units"]["output_tokens"] == usage.other["billed_output_tokens"])
    naive.usage = {}
    check("same answer", holds=naive == found(response))
    check("a finish reason", holds=response.choices[0].finish_reason not in (0, pb.FINISH_REASON_OTHER))


@cases(STREAMS)
def test_cuts_of_the_network_do_not_show(row: Row) -> None:
    """Random pieces give the same steps; what is cut is never complete."""
    raw = body_of(row)

    check("same steps", holds=outcome(OUTBOUND, [raw], ".sse") == outcome(OUTBOUND, pieces_of(raw, row["id"]), ".sse"))
    check_cut(OUTBOUND, raw, ".sse", lambda cut: b'"finish_reason"' in cut, row["id"])


@cases([row for row in ROWS if row["status"] != 200])
def test_a_recorded_error_has_a_class(row: Row) -> None:
    """It fits the status and the words."""
    error = OUTBOUND.fault_of(row["status"], body_of(row), {})

    fitting = (errors_pb2.FAULT_MODEL_GONE,) if row["status"] == 404 else (errors_pb2.FAULT_CONTEXT,)
    check("class", holds=error.fault in fitting)


@cases([row for row in ROWS if row["request_file"]])
def test_a_recorded_request_can_be_asked(row: Row) -> None:
    """Its conversation, read in the format from which this one took its messages, is written as it was sent."""
    sent = json.loads(body_of(row, "request_file"))
    if any(isinstance(turn["content"], list) for turn in sent["messages"] if turn["role"] == "tool"):
        pytest.skip("a tool's result in the form of documents, which no other format has")
    chat = openai_chat.DIALECT.read_request(json.dumps(sent).encode())

    body, dropped = OUTBOUND.write_request(chat, model=sent["model"], stream=sent.get("stream", False))

    written = json.loads(body)
    check("same members", holds=set(sent) | {"stream"} == set(written))
    check(
        "same conversation", holds=[plain(turn) for turn in sent["messages"]] == [plain(m) for m in written["messages"]]
    )
    for tool in sent.get("tools", []):
        if not tool["function"]["description"]:  # which says nothing
            del tool["function"]["description"]
    check("same tools", holds=sent.get("tools") == written.get("tools"))
    check("nothing lost", holds=not dropped)


def plain(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn with the forms of a content that say the same made one."""
    content = turn.get("content") or ""
    if isinstance(content, list) and all(entry["type"] == "text" for entry in content):
        content = "".join(entry["text"] for entry in content)
        content = content if turn["role"] != "user" or len(turn["content"]) < 2 else turn["content"]
    return {name: item for name, item in {**turn, "content": content}.items() if item}
