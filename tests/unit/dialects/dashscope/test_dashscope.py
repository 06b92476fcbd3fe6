"""`dashscope.generation` where a rule is sharp."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.dashscope_generation import OUTBOUND, DashScopeGeneration, Options
from polyroute.dialects.events import assemble
from tests.outbound import GOLDEN, VALUES, broken, check_robust


@given(st.text(), st.text(), st.sampled_from(["stop", "length", "tool_calls"]))
def test_a_stream_is_the_answer_in_pieces(content: str, thought: str, finish: str) -> None:
    """Words one by one give what the whole gives."""
    usage = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}

    def event(finish: str, **message: str) -> bytes:
        choice = {"message": {"role": "assistant", **message}, "finish_reason": finish}
        return json.dumps({"output": {"choices": [choice]}, "usage": usage, "request_id": "r"}).encode()

    pieces = [event("null", content="", reasoning_content=letter) for letter in thought]
    pieces += [event("null", content=letter) for letter in content] + [event(finish, content="")]
    reader = OUTBOUND.reader()

    whole = OUTBOUND.read_answer(event(finish, content=content, reasoning_content=thought))

    assert whole == assemble(reader.feed([("result", piece) for piece in pieces]) + reader.finish())


def samples() -> list[Any]:
    """Events of the golden cases."""
    paths = (GOLDEN / "dashscope_generation").glob("*/response.sse")
    lines = [line for path in paths for line in path.read_text().splitlines()]
    return [json.loads(line[5:]) for line in lines if line.startswith("data:{")]


@settings(max_examples=200)
@given(st.lists(broken(samples()) | VALUES, max_size=5), st.sampled_from(["", "result", "error"]))
def test_no_event_breaks_the_reader(events: list[Any], name: str) -> None:
    """Any JSON in any place is an answer or an error of the vendor."""
    check_robust(OUTBOUND, events, [name] * len(events))


def test_contents_are_lists_where_models_see() -> None:
    """At the other address text is an entry of a list too."""
    parts = [pb.Part(text=pb.TextPart(text="x"))]
    result = pb.Part(tool_result=pb.ToolResult(tool_call_id="c", parts=parts))
    chat = pb.ChatRequest(
        messages=[pb.Message(role=pb.ROLE_USER, parts=parts), pb.Message(role=pb.ROLE_TOOL, parts=[result])]
    )
    seeing = DashScopeGeneration(options=Options(lists=True))

    contents = [
        [
            turn["content"]
            for turn in json.loads(dialect.write_request(chat, model="m", stream=True)[0])["input"]["messages"]
        ]
        for dialect in (OUTBOUND, seeing)
    ]

    assert [["x", "x"], [[{"text": "x"}], [{"text": "x"}]]] == contents


def test_own_extensions_are_parameters() -> None:
    """Search and the like of a typed caller."""
    chat = pb.ChatRequest()
    chat.extensions["enable_search"] = b"true"

    assert json.loads(OUTBOUND.write_request(chat, model="m", stream=False)[0])["parameters"]["enable_search"] is True


@pytest.mark.parametrize(
    ("status", "code", "message", "fault"),
    [
        (400, "InvalidParameter", "x", errors_pb2.FAULT_CLIENT),
        (400, "InvalidParameter", "Range of input length should be [1, 30720]", errors_pb2.FAULT_CONTEXT),
        (400, "DataInspectionFailed", "x", errors_pb2.FAULT_FILTER),
        (400, "Arrearage", "x", errors_pb2.FAULT_QUOTA),
        (401, "InvalidApiKey", "x", errors_pb2.FAULT_CREDENTIAL),
        (404, "ModelNotFound", "x", errors_pb2.FAULT_MODEL_GONE),
        (429, "Throttling.RateQuota", "x", errors_pb2.FAULT_RATE),
        (429, "Throttling.AllocationQuota", "Free allocated quota exceeded.", errors_pb2.FAULT_QUOTA),
        (500, "InternalError.Timeout", "x", errors_pb2.FAULT_SERVER),
        (200, "Throttling", "x", errors_pb2.FAULT_RATE),
        (200, "InternalError.Algo", "x", errors_pb2.FAULT_SERVER),
        (200, "InvalidApiKey", "x", errors_pb2.FAULT_CREDENTIAL),
        (200, "Unheard", "x", errors_pb2.FAULT_BAD_ANSWER),
    ],
)
def test_errors_have_their_class(status: int, code: str, message: str, fault: int) -> None:
    """By code where there is no status, as inside a stream."""
    body = json.dumps({"code": code, "message": message, "request_id": "r"}).encode()

    assert fault == OUTBOUND.fault_of(status, body, {}).fault
