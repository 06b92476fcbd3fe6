"""The bytes a vendor answers with: HTTP/1.1 heads, JSON bodies and SSE pieces. Pure functions, no I/O.

Here are chat completions and what all forms share; `bench.messages` has the form of Messages.

Every content carries a stamp, `@` and 16 digits of CLOCK_MONOTONIC microseconds, taken when the piece that holds it
is handed to the socket: any process of the machine can tell how long it was on its way. No other byte of a body is
`@`, so that counting stamps is counting chunks however the bytes were cut or rewritten on the way.
"""

import base64
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson

from bench.script import MAX_CHUNKS, Script

STAMP: Final = b"@"
STAMP_DIGITS: Final = 16
NUMBER_DIGITS: Final = len(str(MAX_CHUNKS - 1))
PIECE_BYTES: Final = 65_536  # how much a fast vendor hands to its socket at once
END: Final = b"0\r\n\r\n"  # the last chunk of a chunked body, RFC 9112 section 7.1
DONE: Final = b"data: [DONE]\n\n"
GARBAGE: Final = b'data: {"choices":[{"delta":{"content":"\xff\xfe\n\n'
BROKEN: Final[Mapping[str, Any]] = {
    "error": {"message": "the mock vendor broke on request", "type": "server_error", "param": None, "code": "mock"}
}
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"
JSON: Final = "application/json"

_TYPES: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def now_us() -> int:
    """Microseconds of the clock that all processes of this machine share."""
    return time.monotonic_ns() // 1000


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a chat request shapes its answer."""

    id: str
    model: str
    stream: bool = False
    include_usage: bool = False
    prompt_tokens: int = 1
    created: int = 0

    def usage(self, chunks: int) -> dict[str, Any]:
        """Token usage of an answer of that many chunks: one token each."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": chunks,
            "total_tokens": self.prompt_tokens + chunks,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        }


def head(status: int, content_type: str, length: int | None, extra: Mapping[str, str] | None = None) -> bytes:
    """Status line and headers; a body of unknown length is chunked."""
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    lines = [f"HTTP/1.1 {status} {_phrase(status)}", f"content-type: {content_type}", size]
    lines += [f"{name}: {value}" for name, value in (extra or {}).items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def json_answer(value: Any, status: int = 200, extra: Mapping[str, str] | None = None) -> bytes:
    """A whole JSON answer."""
    body = orjson.dumps(value)
    return head(status, JSON, len(body), extra) + body


def refusal(status: int, message: str, retry_after: float | None = None) -> bytes:
    """A whole error answer in the public form of the dialect."""
    extra = {} if retry_after is None else {"retry-after": f"{retry_after:g}"}
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return json_answer({"error": {"message": message, "type": kind, "param": None, "code": None}}, status, extra)


def words(chunks: int, stamp: int) -> str:
    """The text of a whole answer: one stamp, then a word for each chunk."""
    return f"@{stamp:016d} " + " ".join(map(str, range(chunks)))


def chat_completion(asked: Asked, script: Script, stamp: int) -> dict[str, Any]:
    """A whole chat completion."""
    text = words(script.chunks, stamp)
    value: dict[str, Any] = {
        "id": asked.id,
        "object": "chat.completion",
        "created": asked.created,
        "model": asked.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
    }
    return {**value, "usage": asked.usage(script.chunks)} if script.usage else value


class Frames:
    """The SSE events of one streamed chat completion, each framed as one chunk of the HTTP body, as vendors do it.

    Content events differ only in their number and stamp and all have one length, so a run of them is one `join`: the
    vendor must be cheaper than what is measured in front of it. Another form overrides what is not private.
    """

    def __init__(self, asked: Asked, chunks: int) -> None:
        self.asked = asked
        self._numbers = _numbers(chunks)
        before, after = self.around()
        size = len(before) + len(STAMP) + STAMP_DIGITS + 1 + NUMBER_DIGITS + len(after)
        self._before = b"%x\r\n%b%b" % (size, before, STAMP)
        self._after = after + b"\r\n"
        self.size = len(self._before) + STAMP_DIGITS + 1 + NUMBER_DIGITS + len(self._after)  # a framed content event

    def around(self) -> tuple[bytes, bytes]:
        """What of a content event stands before and after its stamp and number."""
        start, end = self._ends()
        return (
            start + b',"choices":[{"index":0,"delta":{"content":"',
            b' "},"logprobs":null,"finish_reason":null}]' + end,
        )

    def role(self) -> bytes:
        """What comes before the content."""
        return self._event(b'[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]')

    def content(self, first: int, last: int, stamp: int) -> bytes:
        """The content events number `first` to `last`, the last one not included, with one stamp."""
        before = b"%b%016d " % (self._before, stamp)
        return before + (self._after + before).join(self._numbers[first:last]) + self._after

    def finish(self, chunks: int, *, usage: bool) -> bytes:
        """The finish reason, the usage when it is wanted, and the end marker."""
        tail = self._event(b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]')
        if usage and self.asked.include_usage:
            counts = b',"choices":[],"usage":' + orjson.dumps(self.asked.usage(chunks)) + b"}\n\n"
            tail += chunk(self._ends()[0] + counts)
        return tail + chunk(DONE)

    def broken(self) -> bytes:
        """An error in mid-stream."""
        return chunk(b"data: " + orjson.dumps(BROKEN) + b"\n\n")

    def _event(self, choices: bytes) -> bytes:
        start, end = self._ends()
        return chunk(start + b',"choices":' + choices + end)

    def _ends(self) -> tuple[bytes, bytes]:
        asked = self.asked
        head = {"id": asked.id, "object": "chat.completion.chunk", "created": asked.created, "model": asked.model}
        return b"data: " + orjson.dumps(head)[:-1], b',"usage":null}\n\n' if asked.include_usage else b"}\n\n"


@dataclass(frozen=True, slots=True)
class Form:
    """How one API writes its answers.

    Attributes:
        whole: The body of a unary answer, from the request, the script and a stamp.
        frames: The events of a streamed one.
    """

    whole: Callable[[Asked, Script, int], dict[str, Any]]
    frames: type[Frames]


CHAT: Final = Form(chat_completion, Frames)


def completion(asked: Asked, script: Script, clock: Callable[[], int] = now_us, form: Form = CHAT) -> bytes:
    """A whole unary answer; with `cut` only its first half, and the caller closes."""
    fault, _ = script.fault
    if fault == "garbage":
        return head(200, JSON, len(GARBAGE)) + GARBAGE
    if fault == "error":
        return json_answer(BROKEN)
    whole = json_answer(form.whole(asked, script, clock()), extra={"x-request-id": asked.id})
    return whole[: len(whole) - len(whole) // 4] if fault == "cut" else whole


class Piece(NamedTuple):
    """What is handed to the socket at once, and whether nothing follows it."""

    data: bytes
    last: bool


def pieces(asked: Asked, script: Script, clock: Callable[[], int] = now_us, form: Form = CHAT) -> Iterator[Piece]:
    """A streamed answer as the pieces that leave together: a chunked HTTP body, one event a chunk.

    With a gap every piece holds one chunk, else about `PIECE_BYTES`. The first carries the role, the last the end; an
    answer that is cut or stalls has no end. Stamps are taken when a piece is asked for.
    """
    _, end = script.fault
    frames = form.frames(asked, end)
    step = 1 if script.gap else max(1, PIECE_BYTES // frames.size)
    lead = frames.role()
    for first in range(0, end, step):
        last = min(first + step, end)
        data = lead + frames.content(first, last, clock())
        lead = b""
        yield Piece(data + _close(frames, script), last=True) if last == end else Piece(data, last=False)
    if end == 0:
        yield Piece(lead + _close(frames, script), last=True)


def _close(frames: Frames, script: Script) -> bytes:
    """What follows the last content event."""
    fault, sent = script.fault
    if fault in {"cut", "stall"}:
        return b""
    if fault == "error":
        return frames.broken() + END
    broken = chunk(GARBAGE) if fault == "garbage" else b""
    return broken + frames.finish(sent, usage=script.usage) + END


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(maxsize=8)  # a load repeats one answer
def _numbers(count: int) -> tuple[bytes, ...]:
    return tuple(b"%0*d" % (NUMBER_DIGITS, number) for number in range(count))


def embeddings(request: Mapping[str, Any], default_dimensions: int = 8) -> bytes:
    """A vector for every input: unit length along an axis that the input's length chooses."""
    given = request.get("input", "")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    size = int(request.get("dimensions") or default_dimensions)
    encoded = request.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(text, size, encoded=encoded)}
        for index, text in enumerate(inputs)
    ]
    tokens = sum(max(1, len(text) // 4) for text in inputs)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_answer({"object": "list", "data": data, "model": request.get("model", ""), "usage": usage})


def _vector(text: str | list[int], size: int, *, encoded: bool) -> list[float] | str:
    values = [0.0] * size
    values[len(text) % size] = 1.0
    return base64.b64encode(struct.pack(f"<{size}f", *values)).decode() if encoded else values


def models(names: tuple[str, ...]) -> bytes:
    """The list of models."""
    data = [{"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "mock"} for name in names]
    return json_answer({"object": "list", "data": data})


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
