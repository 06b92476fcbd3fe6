"""Every recorded exchange of `ollama.chat`, read by the dialect and by a naive reading of the raw JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.dialects import openai_chat
from polyroute.dialects.ollama_chat import OUTBOUND
from tests.outbound import check_cut, outcome, pieces_of, read
from tests.recordings import FOLDER, Row, body_of, cases, check, exchanges

ROWS = exchanges("ollama.chat")
STREAMS = [row for row in ROWS if row["response_file"].endswith(".ndjson")]
pytestmark = pytest.mark.skipif(not ROWS, reason=f"no recordings in {FOLDER}")


@cases(ROWS)
def test_a_recorded_answer_reads_like_its_json(row: Row) -> None:
    """Words, calls, finish reason, usage and durations are those of the raw JSON."""
    raw = body_of(row)
    kind = Path(row["response_file"]).suffix
    lines = [json.loads(line) for line in raw.decode().splitlines()] if kind == ".ndjson" else [json.loads(raw)]
    messages = [line["message"] for line in lines]

    response, fault = read(OUTBOUND, raw, kind)

    parts = response.choices[0].message.parts
    calls = [call for message in messages for call in message.get("tool_calls") or []]
    told = [part.tool_call for part in parts if part.HasField("tool_call")]
    last = lines[-1]
    check("complete", holds=not fault)
    check("text", holds="".join(m["content"] for m in messages) == "".join(p.text.text for p in parts))
    check(
        "thinking", holds="".join(m.get("thinking", "") for m in messages) == "".join(p.reasoning.text for p in parts)
    )
    check("names", holds=[call["function"]["name"] for call in calls] == [call.name for call in told])
    check("arguments", holds=[c["function"]["arguments"] for c in calls] == [json.loads(c.arguments) for c in told])
    check("ids", holds=all(call.get("id", one.id) == one.id for call, one in zip(calls, told, strict=True)))
    check("an id each", holds=len({call.id for call in told}) == len(told) and all(call.id for call in told))
    check("finish", holds=last["done_reason"] == response.choices[0].vendor_finish_reason)
    check("waits for tools", holds=bool(told) == (response.choices[0].finish_reason == pb.FINISH_REASON_TOOL_CALLS))
    check("prompt", holds=last["prompt_eval_count"] == response.usage.input_tokens)
    check("completion", holds=last["eval_count"] == response.usage.output_tokens)
    check("duration", holds=last["total_duration"] == json.loads(response.extensions["total_duration"]))
    check("model", holds=lines[0]["model"] == response.model)


@cases(STREAMS)
def test_cuts_of_the_network_do_not_show(row: Row) -> None:
    """Random pieces give the same steps; what is cut is never complete."""
    raw = body_of(row)
    whole = outcome(OUTBOUND, [raw], ".ndjson")

    check("same steps", holds=whole == outcome(OUTBOUND, pieces_of(raw, row["id"]), ".ndjson"))
    check_cut(OUTBOUND, raw, ".ndjson", lambda cut: b'"done":true' in cut.replace(b" ", b""), row["id"])


@cases([row for row in ROWS if row["request_file"]])
def test_a_recorded_request_can_be_asked(row: Row) -> None:
    """Its conversation, put into the typed form, is written as it was sent."""
    sent = json.loads(body_of(row, "request_file"))
    chat = openai_chat.DIALECT.read_request(json.dumps({"model": "m", "messages": typed(sent["messages"])}).encode())
    for tool in sent.get("tools", []):
        function = tool["function"]
        parameters = json.dumps(function["parameters"]).encode()
        chat.tools.append(pb.Tool(name=function["name"], description=function["description"], parameters=parameters))

    body, dropped = OUTBOUND.write_request(chat, model=sent["model"], stream=sent.get("stream", True))

    written = json.loads(body)
    check("same tools", holds=sent.get("tools", []) == written.get("tools", []))
    check(
        "same conversation",
        holds=[plain(one) for one in sent["messages"]] == [plain(one) for one in written["messages"]],
    )
    check("nothing lost", holds=not dropped)


def typed(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns as `openai.chat` has them: arguments as text, results with the ids of their calls."""
    out = []
    waiting: list[str] = []
    for turn in messages:
        copy = {name: item for name, item in turn.items() if name in ("role", "content")}
        if turn.get("tool_calls"):
            calls = [(call.get("id", f"c{n}"), call["function"]) for n, call in enumerate(turn["tool_calls"])]
            waiting += [call_id for call_id, _ in calls]
            copy["tool_calls"] = [
                {"id": i, "type": "function", "function": {"name": f["name"], "arguments": json.dumps(f["arguments"])}}
                for i, f in calls
            ]
        if turn["role"] == "tool":
            copy |= {"tool_call_id": waiting.pop(0), "name": turn.get("tool_name") or turn.get("name") or ""}
        out.append(copy)
    return out


def plain(turn: dict[str, Any]) -> dict[str, Any]:
    """What a turn says, without ids."""
    calls = [[call["function"]["name"], call["function"]["arguments"]] for call in turn.get("tool_calls") or []]
    return {"role": turn["role"], "content": turn.get("content", ""), "calls": calls}
