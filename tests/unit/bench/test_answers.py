"""The bytes of the mock vendor's answers."""

import base64
import itertools
import struct
from typing import Any

import orjson
import pytest

from bench import answers
from bench.answers import Asked, completion, embeddings, pieces
from bench.script import Script

ASKED = Asked(id="chatcmpl-1", model="m", stream=True, include_usage=True, prompt_tokens=7, created=1)


def clock() -> int:
    return 123


def unchunk(wire: bytes) -> tuple[bytes, bool]:
    """The body inside a chunked encoding, and whether it ended."""
    body = b""
    while wire:
        size, _, wire = wire.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body, True
        body, wire = body + wire[:length], wire[length + 2 :]
    return body, False


def stream(script: Script, asked: Asked = ASKED) -> tuple[bytes, bool]:
    return unchunk(b"".join(piece.data for piece in pieces(asked, script, clock)))


def events(body: bytes) -> list[Any]:
    """The JSON events of a stream."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    return [orjson.loads(line) for line in lines if line != b"[DONE]"]


@pytest.mark.parametrize("script", [Script(chunks=500), Script(chunks=5, gap=1), Script(chunks=0), Script(chunks=1)])
def test_stream_is_whole(script: Script) -> None:
    """A stream has a role, its numbered chunks, a finish reason, the usage and the end marker."""
    body, ended = stream(script)

    role, *content, finish, usage = events(body)

    assert ended
    assert body.endswith(b"data: [DONE]\n\n")
    assert role["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    expected = [f"@{123:016d} {number:06d} " for number in range(script.chunks)]
    assert expected == [event["choices"][0]["delta"]["content"] for event in content]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (7, script.chunks) == (usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"])
    assert script.chunks == body.count(answers.STAMP)


def test_usage_is_sent_only_when_asked_for() -> None:
    """Without `include_usage` no event has the field, and `usage=0` keeps it back although it was asked for."""
    plain, _ = stream(Script(chunks=2), Asked(id="x", model="m", stream=True))
    kept_back, _ = stream(Script(chunks=2, usage=False))

    assert b"usage" not in plain
    assert [None] * 4 == [event["usage"] for event in events(kept_back)]


def test_fast_stream_leaves_in_few_pieces() -> None:
    """Chunks back to back fill pieces of 64 KiB; paced ones leave one by one."""
    fast = [piece.data for piece in pieces(ASKED, Script(chunks=1000), clock)]
    paced = list(pieces(ASKED, Script(chunks=1000, gap=1), clock))

    assert b"".join(fast).count(b"\r\n") == 2 * 1004 + 2  # each event and the end are one chunk of the body
    assert len(fast) == -(-sum(map(len, fast)) // answers.PIECE_BYTES)
    assert max(map(len, fast)) < answers.PIECE_BYTES + 2048
    assert len(paced) == 1000
    assert [False] * 999 + [True] == [piece.last for piece in paced]


def test_stamps_are_taken_when_a_piece_is_asked_for() -> None:
    """A paced chunk has the time at which it was made, not that of the answer's beginning."""
    ticks = itertools.count(1)
    body, _ = unchunk(b"".join(piece.data for piece in pieces(ASKED, Script(chunks=3, gap=1), lambda: next(ticks))))

    contents = [event["choices"][0]["delta"].get("content", "") for event in events(body) if event["choices"]]

    assert [1, 2, 3] == [int(content[1:17]) for content in contents if content]


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_stream_that_does_not_end(fault: str) -> None:
    """A cut or stalled stream has its chunks and no end."""
    body, ended = stream(Script(chunks=5).told({fault: "2"}))

    assert not ended
    assert body.count(answers.STAMP) == 2
    assert b"[DONE]" not in body


def test_error_in_mid_stream() -> None:
    """An error event ends the body and there is no end marker."""
    body, ended = stream(Script(chunks=5, error=2))

    assert ended
    assert answers.BROKEN == events(body)[-1]
    assert b"[DONE]" not in body


def test_garbage_in_mid_stream() -> None:
    """An event that is no JSON stands before the end."""
    body, ended = stream(Script(chunks=5, garbage=2))

    assert ended
    assert answers.GARBAGE in body
    with pytest.raises(orjson.JSONDecodeError):
        events(body)


def test_unary_answer() -> None:
    """A unary answer has one stamp, its words and its usage."""
    head, _, body = completion(ASKED, Script(chunks=3), clock).partition(b"\r\n\r\n")
    answer = orjson.loads(body)

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert f"content-length: {len(body)}".encode() in head
    assert f"@{123:016d} 0 1 2" == answer["choices"][0]["message"]["content"]
    assert answer["usage"]["total_tokens"] == 10


def test_unary_answer_cut() -> None:
    """A cut answer promises more bytes than it has."""
    whole, cut = (completion(ASKED, script, clock) for script in (Script(), Script(cut=0)))

    assert whole.startswith(cut)
    assert len(cut) < len(whole)
    assert b"\r\n\r\n" in cut


def test_refusal() -> None:
    """A refusal has its status, the wait that it asks for, and an error body."""
    head, _, body = answers.refusal(429, "slow down", 1.5).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"retry-after: 1.5" in head
    assert orjson.loads(body)["error"]["type"] == "rate_limit_error"


def test_embeddings() -> None:
    """Each input gets a vector of the wanted size, as numbers or as base64 of little-endian floats."""
    request = {"model": "e", "input": ["a", "bb"], "dimensions": 4}
    plain = orjson.loads(embeddings(request).partition(b"\r\n\r\n")[2])
    encoded = orjson.loads(embeddings({**request, "encoding_format": "base64"}).partition(b"\r\n\r\n")[2])

    assert [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]] == [item["embedding"] for item in plain["data"]]
    assert (0.0, 1.0, 0.0, 0.0) == struct.unpack("<4f", base64.b64decode(encoded["data"][0]["embedding"]))
