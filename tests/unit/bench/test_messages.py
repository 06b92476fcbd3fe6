"""The mock vendor's Messages: named events, usage in two parts, an end."""

import itertools

import orjson
import pytest

from bench.answers import Asked, completion, pieces
from bench.messages import MESSAGES
from bench.script import Script

ASKED = Asked(id="msg_1", model="m", stream=True, prompt_tokens=7, created=1)


def clock() -> int:
    return 123


def stream(script: Script) -> bytes:
    """The body inside the chunked encoding."""
    wire = b"".join(piece.data for piece in pieces(ASKED, script, clock, MESSAGES))
    body = b""
    while wire:
        size, _, rest = wire.partition(b"\r\n")
        length = int(size, 16)
        body, wire = body + rest[:length], rest[length + 2 :]
    return body


def events(body: bytes) -> list[dict[str, object]]:
    """The events of a stream, each under the name that its data has."""
    found = []
    for block in filter(None, body.split(b"\n\n")):
        name, _, data = block.partition(b"\n")
        event = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        found.append(event)
    return found


@pytest.mark.parametrize("script", [Script(chunks=500), Script(chunks=5, gap=1), Script(chunks=1), Script(chunks=0)])
def test_stream_is_whole(script: Script) -> None:
    """A stream opens a message and its block, has its numbered chunks, closes both and tells the usage."""
    found = events(stream(script))

    kinds = [kind for kind, _ in itertools.groupby(event["type"] for event in found)]
    texts = [event["delta"]["text"] for event in found if event["type"] == "content_block_delta"]  # type: ignore[index]
    between = ["content_block_delta"] if script.chunks else []
    opening = ["message_start", "content_block_start", "ping"]
    assert kinds == [*opening, *between, "content_block_stop", "message_delta", "message_stop"]
    assert texts == [f"@{123:016d} {number:06d} " for number in range(script.chunks)]
    assert found[-2]["usage"] == {"output_tokens": script.chunks}


def test_error_in_mid_stream() -> None:
    """An error event ends the body, and no stop reason is told."""
    found = events(stream(Script(chunks=5, error=2)))

    assert found[-1]["type"] == "error"
    assert "message_delta" not in {event["type"] for event in found}


@pytest.mark.parametrize("usage", [True, False])
def test_unary_answer(usage: bool) -> None:
    """A unary answer has one stamp, its words, and its usage unless that is kept back."""
    answer = completion(ASKED, Script(chunks=3, usage=usage), clock, MESSAGES)
    message = orjson.loads(answer.partition(b"\r\n\r\n")[2])

    assert message["content"] == [{"type": "text", "text": f"@{123:016d} 0 1 2"}]
    assert message["stop_reason"] == "end_turn"
    assert ("usage" in message) == usage
