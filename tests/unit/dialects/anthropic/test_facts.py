"""What routing learns of an `anthropic.messages` request, and what is refused at the door."""

import json
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import anthropic_messages
from polyroute.mesh.errors import MeshError

DIALECT = anthropic_messages.DIALECT


def body(**members: Any) -> bytes:
    """A request."""
    return json.dumps(
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]} | members
    ).encode()


def test_facts_of_a_plain_request() -> None:
    """Model, bound and an estimate; every stream tells usage."""
    facts = DIALECT.read_facts(body(stream=True, system="x" * 400))

    assert (pb.OPERATION_CHAT, "m", True, True, 9) == (
        facts.operation,
        facts.model,
        facts.stream,
        facts.stream_usage,
        facts.max_output_tokens,
    )
    assert 100 <= facts.input_tokens_estimate <= 110
    assert [] == facts.needs


@pytest.mark.parametrize(
    ("members", "need"),
    [
        ({"tools": [{"name": "f", "input_schema": {}}]}, pb.CAPABILITY_TOOLS),
        ({"thinking": {"type": "adaptive"}}, pb.CAPABILITY_REASONING),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, pb.CAPABILITY_REASONING),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, pb.CAPABILITY_JSON_SCHEMA),
        ({"output_format": {"type": "json_schema", "schema": {}}}, pb.CAPABILITY_JSON_SCHEMA),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, pb.CAPABILITY_VISION),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, pb.CAPABILITY_FILES),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image", "source": {}}]}]}
                ]
            },
            pb.CAPABILITY_VISION,
        ),
    ],
)
def test_what_a_deployment_must_be_able_to_do(members: dict[str, Any], need: int) -> None:
    """Each kind of work is told."""
    assert [need] == DIALECT.read_facts(body(**members)).needs


def test_neither_disabled_thinking_nor_effort_is_a_need() -> None:
    """A model that cannot think can serve both."""
    facts = DIALECT.read_facts(body(thinking={"type": "disabled"}, output_config={"effort": "low"}))

    assert [] == facts.needs


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"", ""),
        (b"[]", ""),
        (b'{"model":', ""),
        (body(messages=[]), "messages"),
        (body(messages=None), "messages"),
        (body(messages="Hi"), "messages"),
        (body(messages=[{"role": "user"}]), "messages[0]"),
        (body(messages=[{"role": "tool", "content": "x"}]), "messages[0].role"),
        (body(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
        (body(model=None), "model"),
        (body(model="m" * 300), "model"),
        (body(max_tokens=-1), "max_tokens"),
        (body(max_tokens="many"), "max_tokens"),
        (body(stop_sequences=["x"] * 100), "stop_sequences"),
        (body()[:-1] + b',"model":"other"}', "model"),
        (body(tools=[{"name": "f", "input_schema": json.loads("[" * 70 + "]" * 70)}]), ""),
        (body(model="\xff").replace(b"\\u00ff", b"\xff"), ""),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(raw: bytes, param: str) -> None:
    """A refusal of the caller's request, with the member where one is to blame."""
    with pytest.raises(MeshError) as caught:
        DIALECT.read_facts(raw)

    assert errors_pb2.REASON_INVALID_REQUEST == caught.value.reason
    assert param == caught.value.metadata.get("param", "")
