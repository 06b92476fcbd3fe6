"""The mock vendor's answers in the form of Messages, for what a translated call costs.

https://platform.claude.com/docs/en/build-with-claude/streaming: events have names, usage comes in two parts, and a
`message_stop` ends the stream. Pure functions, no I/O; stamps and framing as in `bench.answers`.
"""

from typing import Any, Final

import orjson

from bench.answers import BROKEN, Asked, Form, Frames, chunk, words
from bench.script import Script


def message(asked: Asked, script: Script, stamp: int) -> dict[str, Any]:
    """A whole message."""
    content = [{"type": "text", "text": words(script.chunks, stamp)}]
    usage = _usage(asked, script.chunks) if script.usage else {}
    return _message(asked, content, "end_turn") | ({"usage": usage} if usage else {})


class MessageFrames(Frames):
    """The events of one streamed message."""

    def around(self) -> tuple[bytes, bytes]:
        """What of a text delta stands before and after its stamp and number."""
        start = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"'
        return b"event: content_block_delta\ndata: " + start, b' "}}\n\n'

    def role(self) -> bytes:
        """The message without content, and the opening of its one block."""
        opened = _message(self.asked, [], None) | {"usage": _usage(self.asked, 1)}
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return _event("message_start", message=opened) + _event("content_block_start", **block) + _event("ping")

    def finish(self, chunks: int, *, usage: bool) -> bytes:
        """The block's end, the stop reason with the usage, and the end of the message."""
        delta: dict[str, Any] = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}}
        if usage:
            delta["usage"] = {"output_tokens": chunks}
        return _event("content_block_stop", index=0) + _event("message_delta", **delta) + _event("message_stop")

    def broken(self) -> bytes:
        """An error in mid-stream."""
        return _event("error", **BROKEN)


MESSAGES: Final = Form(message, MessageFrames)


def _message(asked: Asked, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    head = {"id": asked.id, "type": "message", "role": "assistant", "model": asked.model}
    return head | {"content": content, "stop_reason": reason, "stop_sequence": None}


def _usage(asked: Asked, output: int) -> dict[str, int]:
    cache = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": asked.prompt_tokens, **cache, "output_tokens": output}


def _event(name: str, **members: Any) -> bytes:
    return chunk(b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **members})))
