"""What routing needs to know of a typed request."""

from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.edge.facts import BYTES_PER_TOKEN, IMAGE_TOKENS, facts_of, tokens_in

IMAGE = {"image": {"media": {"url": "https://example.org/a.png"}}}
AUDIO = {"audio": {"format": "wav"}}
FILE = {"file": {"media": {"file_id": "f1"}}}


def asked(*parts: dict[str, Any], **members: Any) -> pb.RequestFacts:
    request = {"model": "m", "messages": [{"role": "ROLE_USER", "parts": list(parts)}], **members}
    return facts_of(json_format.ParseDict(request, pb.ChatRequest()))


@pytest.mark.parametrize(
    ("parts", "members", "needs"),
    [
        ([{"text": {"text": "hi"}}], {}, []),
        ([IMAGE], {}, [pb.CAPABILITY_VISION]),
        ([AUDIO], {}, [pb.CAPABILITY_AUDIO_INPUT]),
        ([FILE], {}, [pb.CAPABILITY_FILES]),
        ([], {"tools": [{"name": "f"}]}, [pb.CAPABILITY_TOOLS]),
        ([], {"response_format": {"type": "TYPE_JSON_OBJECT"}}, [pb.CAPABILITY_JSON_OBJECT]),
        ([], {"response_format": {"type": "TYPE_JSON_SCHEMA"}}, [pb.CAPABILITY_JSON_SCHEMA]),
        ([], {"response_format": {"type": "TYPE_TEXT"}}, []),
        ([], {"sampling": {"logprobs": True}}, [pb.CAPABILITY_LOGPROBS]),
        ([], {"sampling": {"logprobs": False}}, []),
        ([IMAGE, IMAGE], {"tools": [{"name": "f"}]}, [pb.CAPABILITY_TOOLS, pb.CAPABILITY_VISION]),
    ],
)
def test_needs(parts: list[dict[str, Any]], members: dict[str, Any], needs: list[int]) -> None:
    """Each thing that not every deployment can do, once."""
    assert needs == list(asked(*parts, **members).needs)


def test_conversation_is_streamed_with_its_usage() -> None:
    """That is what the gRPC door gives."""
    facts = asked(max_output_tokens=5, choices=2)

    assert (pb.OPERATION_CHAT, "m", True, True, 5, 2) == (
        facts.operation,
        facts.model,
        facts.stream,
        facts.stream_usage,
        facts.max_output_tokens,
        facts.choices,
    )


def test_no_bound_is_no_bound() -> None:
    """Unset differs from 0."""
    assert not asked().HasField("max_output_tokens")
    assert asked(max_output_tokens=0).HasField("max_output_tokens")


def test_estimate_counts_every_part() -> None:
    """Text by its bytes, media by the least that vendors charge."""
    assert (
        3 + 1 + IMAGE_TOKENS == asked({"text": {"text": "x" * 12}}, {"text": {"text": ""}}, IMAGE).input_tokens_estimate
    )


@given(st.text())
def test_text_always_counts(text: str) -> None:
    """About one token in four bytes, and never none."""
    assert max(1, len(text.encode()) // BYTES_PER_TOKEN) == tokens_in(text)
