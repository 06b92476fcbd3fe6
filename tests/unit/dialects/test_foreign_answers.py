"""What of one vendor's answer means nothing to a client of another format, and is left out."""

import json
from typing import Any

import pytest

from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.dialects import anthropic_messages, gemini_generate, openai_chat, openai_responses
from polyroute.dialects.custom_tools import CustomTools
from polyroute.dialects.dialect import Dialect, Outbound
from polyroute.dialects.registry import DIALECTS, OUTBOUND
from polyroute.mesh.errors import MeshError
from polyroute.providers.rendering import Passthrough, Translated

CHAT = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "up",
    "x_groq": {"id": "req_1"},
    "provider": "somebody",
    "service_tier": "default",
    "system_fingerprint": "fp_1",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "hi", "reasoning_notes": [1]},
            "finish_reason": "stop",
            "native_finish_reason": "STOP",
        }
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
LEAKS = ("x_groq", "somebody", "reasoning_notes", "native_finish_reason")


def chunks() -> list[tuple[str, bytes]]:
    """The same as a stream."""
    base = {name: item for name, item in CHAT.items() if name not in ("choices", "usage")}
    delta = {"role": "assistant", "content": "hi", "reasoning_notes": [1]}
    first = {**base, "choices": [{"index": 0, "delta": delta, "native_finish_reason": None}]}
    last = {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "native_finish_reason": "STOP"}]}
    return [("", json.dumps(event).encode()) for event in (first, last)] + [("", b"[DONE]")]


def translated(source: Outbound, target: Dialect, given: Any, *, stream: bool) -> str:
    """What a client of `target` reads of a vendor's answer in `source`."""
    rendering = Translated(source, target, RequestFacts(model="m", stream=stream), "r1")
    steps = [*rendering.feed(given), *rendering.end()] if stream else rendering.whole(given)
    return b"".join(step.encoded.data for step in steps).decode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    "target", [anthropic_messages.DIALECT, gemini_generate.DIALECT, openai_responses.DIALECT], ids=lambda one: one.name
)
def test_unknown_members_do_not_leak(target: Dialect, *, stream: bool) -> None:
    """Of the vendor's own members nothing is said in another format, but what has a place there."""
    given = chunks() if stream else json.dumps(CHAT).encode()

    said = translated(openai_chat.DIALECT, target, given, stream=stream)

    assert "hi" in said
    assert not [leak for leak in LEAKS if leak in said]
    assert ("service_tier" in said) == (target.name == "openai.responses")


def test_same_format_keeps_everything() -> None:
    """Bytes pass as they are."""
    body = json.dumps(CHAT).encode()
    steps = Passthrough(openai_chat.DIALECT, RequestFacts(model="m")).whole(body)

    assert body == steps[0].encoded.data


RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "up",
    "output": [
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "id": "msg_1",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hi", "annotations": []}],
        },
        {"type": "function_call", "id": "fc_1", "status": "completed", "call_id": "c1", "name": "f", "arguments": "{}"},
    ],
    "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_item_ids_need_no_blocks(*, stream: bool) -> None:
    """A client of `anthropic.messages` gets a text and a call, and no redacted thinking beside them."""
    body = json.dumps(RESPONSE).encode()

    said = translated(
        openai_responses.DIALECT, anthropic_messages.DIALECT, [("", body)] if stream else body, stream=stream
    )

    assert "redacted_thinking" not in said
    if not stream:
        assert ["text", "tool_use"] == [block["type"] for block in json.loads(said)["content"]]
    else:
        assert 2 == said.count("event: content_block_start")


def test_sealed_reasoning_still_travels() -> None:
    """What a vendor must have back is carried, ids beside it or not."""
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VhbGVk"}
    body = json.dumps({**RESPONSE, "output": [sealed, *RESPONSE["output"][1:]]}).encode()  # type: ignore[index]

    said = translated(openai_responses.DIALECT, anthropic_messages.DIALECT, body, stream=False)

    first = json.loads(said)["content"][0]
    request = {"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [first]}]}
    chat = anthropic_messages.DIALECT.read_request(json.dumps(request).encode())
    back, _ = openai_responses.DIALECT.write_request(chat, model="up", stream=False, source="anthropic.messages")
    assert "c2VhbGVk" in back.decode()


def events(*names: str) -> list[tuple[str, bytes]]:
    """A stream of `anthropic.messages` up to these."""
    start = {"message": {"id": "m", "content": [], "usage": {"input_tokens": 1}}}
    every: dict[str, dict[str, Any]] = {
        "message_start": start,
        "content_block_start": {"index": 0, "content_block": {"type": "text", "text": ""}},
        "content_block_delta": {"index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        "content_block_stop": {"index": 0},
        "message_delta": {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        "message_stop": {},
    }
    return [(name, json.dumps({"type": name, **every[name]}).encode()) for name in names]


WHOLE = (
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
)


def passed(*names: str) -> str:
    """What a client of the same format reads."""
    rendering = Passthrough(anthropic_messages.DIALECT, RequestFacts(model="m", stream=True, stream_usage=True))
    steps = [*rendering.feed(events(*names)), *rendering.end()]
    return b"".join(step.encoded.data for step in steps).decode()


def test_last_event_is_added_when_the_vendor_forgets_it() -> None:
    """A stream that said why it stops is complete; its clients wait for the event that closes it."""
    assert passed(*WHOLE).replace(": ", ":") == passed(*WHOLE[:-1]).replace(": ", ":")
    assert passed(*WHOLE[:-1]).endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')


def test_stream_without_a_reason_to_stop_is_cut_off() -> None:
    """Nothing is added to it."""
    with pytest.raises(MeshError):
        passed(*WHOLE[:-2])


ANSWERS: dict[str, Any] = {
    "anthropic.messages": {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [
            {"type": "text", "text": "hi there"},
            {"type": "thinking", "thinking": "t", "signature": "c2ln"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"city": "Oslo"}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
    "openai.chat": {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "up",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "hi there",
                    "reasoning_content": "t",
                    "tool_calls": [
                        {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"city":"Oslo"}'}}
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
    "openai.responses": {
        "id": "r",
        "object": "response",
        "status": "completed",
        "model": "u",
        "output": [
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "t"}]},
            {
                "type": "message",
                "id": "m",
                "status": "completed",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "hi there", "annotations": []}],
            },
            {
                "type": "function_call",
                "id": "fc",
                "status": "completed",
                "call_id": "t1",
                "name": "f",
                "arguments": '{"city":"Oslo"}',
            },
        ],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    },
    "gemini.generate": {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "hi there"},
                        {"text": "t", "thought": True},
                        {"functionCall": {"name": "f", "args": {"city": "Oslo"}}},
                    ],
                },
                "finishReason": "STOP",
                "index": 0,
            }
        ],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
        "modelVersion": "g",
        "responseId": "r",
    },
    "cohere.chat": {
        "id": "x",
        "finish_reason": "TOOL_CALL",
        "message": {
            "role": "assistant",
            "content": [{"type": "text", "text": "hi there"}, {"type": "thinking", "thinking": "t"}],
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"city":"Oslo"}'}}],
        },
        "usage": {"tokens": {"input_tokens": 1, "output_tokens": 1}},
    },
    "ollama.chat": {
        "model": "m",
        "created_at": "2024-01-01T00:00:00Z",
        "message": {
            "role": "assistant",
            "content": "hi there",
            "thinking": "t",
            "tool_calls": [{"function": {"name": "f", "arguments": {"city": "Oslo"}}}],
        },
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 1,
        "eval_count": 1,
    },
    "bedrock.converse": {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"text": "hi there"},
                    {"reasoningContent": {"reasoningText": {"text": "t", "signature": "c2ln"}}},
                    {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"city": "Oslo"}}},
                ],
            }
        },
        "stopReason": "tool_use",
        "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
    },
    "dashscope.generation": {
        "output": {
            "choices": [
                {
                    "finish_reason": "tool_calls",
                    "message": {
                        "role": "assistant",
                        "content": "hi there",
                        "reasoning_content": "t",
                        "tool_calls": [
                            {
                                "id": "t1",
                                "type": "function",
                                "index": 0,
                                "function": {"name": "f", "arguments": '{"city":"Oslo"}'},
                            }
                        ],
                    },
                }
            ]
        },
        "usage": {"input_tokens": 1, "output_tokens": 1},
        "request_id": "r",
    },
}


def salted(value: Any, place: str) -> Any:
    """A vendor's answer with one more member in each of its objects, but those that are the model's own words."""
    if isinstance(value, list):
        return [salted(item, place) for item in value]
    if not isinstance(value, dict) or place in ("args", "input", "arguments"):
        return value
    return {name: salted(item, name) for name, item in value.items()} | {f"salt_in_{place}": "SALT"}


@pytest.mark.parametrize("custom", [False, True], ids=["functions", "custom"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("source", ANSWERS)
def test_members_of_one_format_are_in_no_other(source: str, *, stream: bool, custom: bool) -> None:
    """Wherever a vendor puts one, whoever the client is; its text, its thoughts and its calls are there."""
    outbound = CustomTools(OUTBOUND[source], frozenset({"f"})) if custom else OUTBOUND[source]
    body = json.dumps(salted(ANSWERS[source], "answer")).encode()
    targets = [one for one in DIALECTS.values() if one.name not in (source, "openai.compact")]

    for target in targets:
        said = translated(outbound, target, [("", body)] if stream else body, stream=stream)

        assert "salt_in" not in said, target.name
        assert "hi there" in said, target.name
        if target.name != "openai.completions":
            assert "Oslo" in said, target.name
