"""`anthropic.count_tokens`: a conversation's request without what is about the answer, and a number."""

import json

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.modality.v1.modality_pb2 import CountTokensTask, RerankTask, Result, Task
from polyroute.dialects import anthropic_count_tokens, openai_chat
from polyroute.dialects.task import JSON, Body, Outcome
from polyroute.mesh.errors import MeshError
from tests.outbound import fault_name

DIALECT = anthropic_count_tokens.DIALECT
ASKED = {"model": "m", "system": "S", "messages": [{"role": "user", "content": "Hi"}], "thinking": {"type": "adaptive"}}


def test_a_request_is_passed_on_or_written() -> None:
    """The client's own bytes with another model, or the same from the typed form."""
    body = Body(json.dumps(ASKED).encode())

    facts = DIALECT.read_facts(body)
    task = DIALECT.read_task(body)
    written, dropped = DIALECT.write_task(task, model="up", source="anthropic.count_tokens")

    assert (pb.OPERATION_COUNT_TOKENS, "m") == (facts.operation, facts.model)
    assert ASKED | {"model": "up"} == json.loads(written.data) == json.loads(DIALECT.patch_task(body, model="up").data)
    assert [] == dropped


def test_parameters_of_the_answer_have_no_part_in_it() -> None:
    """Vendors refuse them here."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "stop": "x", "user": "u"}
    chat = openai_chat.DIALECT.read_request(json.dumps(asked).encode())

    written, dropped = DIALECT.write_task(
        Task(count_tokens=CountTokensTask(chat=chat)), model="up", source="openai.chat"
    )

    assert {"model": "up", "messages": asked["messages"]} == json.loads(written.data)
    assert [] == dropped


def test_an_answer_is_one_number() -> None:
    """What the vendor adds to it comes along; our own count looks the same."""
    raw = b'{"input_tokens": 7, "context_management": {"original_input_tokens": 9}}'
    task = DIALECT.read_task(Body(json.dumps(ASKED).encode()))

    outcome = DIALECT.read_outcome(raw, JSON)
    own = Result()
    own.count_tokens.input_tokens = 5
    own.count_tokens.estimated = True

    assert json.loads(raw) == json.loads(DIALECT.write_outcome(outcome, task, request_id="r", model="m").data)
    assert b'{"input_tokens":5}' == DIALECT.write_outcome(Outcome(own, None), task, request_id="r", model="m").data
    assert (None, "") == (DIALECT.read_usage(raw, JSON), DIALECT.pending(raw))


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"{}", "BAD_ANSWER"),
        (b'{"input_tokens": -1}', "BAD_ANSWER"),
        (b'{"input_tokens": true}', "BAD_ANSWER"),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "SERVER"),
        (b"<html>", "BAD_ANSWER"),
    ],
)
def test_what_is_no_count(raw: bytes, fault: str) -> None:
    """The fault inside, or nonsense."""
    with pytest.raises(MeshError) as caught:
        DIALECT.read_outcome(raw, JSON)

    assert fault == fault_name(caught.value)


def test_other_work_is_refused() -> None:
    """It only counts."""
    with pytest.raises(MeshError) as caught:
        DIALECT.write_task(Task(rerank=RerankTask(query="q")), model="m")

    assert "UNSUPPORTED" == fault_name(caught.value)
