"""Metering what passes: the vendor's events are read, and go on byte for byte under their names.

The hot path decodes each event into structs that name only what is counted. An event of a shape that the structs do not
foresee is read again, slowly, by its plain JSON.
"""

from typing import Any, Final

import msgspec

from polyroute.dialects import jsontools
from polyroute.dialects.anthropic.answer import chars_of, check_answer
from polyroute.dialects.anthropic.common import WRONG_SHAPE, UsageTally, bad_answer, finish_of, text_or_empty
from polyroute.dialects.anthropic.faults import fault_in
from polyroute.dialects.dialect import BrokenStreamError, Metered, SseEvent
from polyroute.mesh.errors import MeshError

_ABSENT: Final = msgspec.Raw()


class _Delta(msgspec.Struct, gc=False):
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    citation: msgspec.Raw = _ABSENT
    type: str = ""


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: _Delta | None = None
    usage: msgspec.Raw = _ABSENT
    message: msgspec.Raw = _ABSENT
    content_block: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_decode: Final = msgspec.json.Decoder(_Event).decode


class AnthropicMeter:
    """Reads what passes through; see `dialect.Meter`. Usage belongs to every answer of this format: none is hidden."""

    __slots__ = ("_calls", "_stop", "_tally", "_told")

    def __init__(self) -> None:
        self._tally = UsageTally()
        self._calls = False
        self._told = False  # the final usage
        self._stop = ""

    def feed(self, events: list[SseEvent]) -> Metered:
        """Reads one batch; see `dialect.Meter`."""
        out = Metered()
        payloads: list[bytes] = []
        content_events = text_chars = 0
        broken: MeshError | None = None
        try:
            for name, data in events:
                try:
                    event = _decode(data)
                except jsontools.BAD_JSON:
                    event = _odd(data)
                kind = event.type or name
                if kind == "content_block_delta":
                    delta = event.delta
                    # most events are one piece of text
                    chars = (len(delta.text) if delta.text else _chars(delta)) if delta else 0
                else:
                    chars = self._other(kind, name, event, data, out)
                if chars:
                    content_events += 1
                    text_chars += chars
                payloads.append(_framed(kind, data))
                if kind == "message_stop":
                    out.done = True
                    break
        except MeshError as error:
            broken = error
        except WRONG_SHAPE:
            broken = bad_answer("the provider sent an event of a wrong form")
        out.content_events, out.text_chars = content_events, text_chars
        out.data = b"".join(payloads)
        if out.done and not self._told:
            out.usage = self._tally.usage()
        if broken:
            raise BrokenStreamError.of(broken, metered=out)
        return out

    def _other(self, kind: str, name: str, event: _Event, data: bytes, out: Metered) -> int:
        """Characters of content of an event that is no delta; notes what else it tells."""
        if kind == "error" or name == "error" or (event.error is not _ABSENT and bytes(event.error) != b"null"):
            raise fault_in(jsontools.loads(data))
        if kind == "content_block_start":
            block = _object(event.content_block)
            self._calls = self._calls or block.get("type") == "tool_use"
            return chars_of(block) if block.get("type") != "thinking" else len(text_or_empty(block.get("thinking")))
        if kind == "message_start":
            message = _object(event.message)
            self._tally.note(message.get("usage"))
            content = message.get("content")
            there = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
            self._calls = self._calls or any(block.get("type") == "tool_use" for block in there)
            return sum(chars_of(block) for block in there)
        if kind == "message_delta":
            self._end(event, out)
        elif not kind:
            check_answer(_object(msgspec.Raw(data)))
            raise bad_answer("the provider answered whole where a stream was asked for")
        return 0

    def _end(self, event: _Event, out: Metered) -> None:
        """The final usage. That of the begin is no answer to how much a cut stream used: it counts one token out."""
        if bytes(event.usage) not in (b"", b"null"):
            self._tally.note(_object(event.usage))
            out.usage = self._tally.usage()
            self._told = out.usage is not None
        self._stop = (event.delta.stop_reason if event.delta else None) or self._stop
        if self._stop:
            out.finish = finish_of(self._stop, tool_calls=self._calls)


def _chars(delta: _Delta) -> int:
    """Characters of a piece; at least 1 when it is content."""
    told = delta.partial_json or delta.thinking
    if told:
        return len(told)
    return int(bool(delta.signature or len(delta.citation) or delta.type not in _KNOWN))


_KNOWN: Final = frozenset(
    {"text_delta", "input_json_delta", "thinking_delta", "signature_delta", "citations_delta", ""}
)


def _object(raw: msgspec.Raw) -> dict[str, Any]:
    value = jsontools.loads(bytes(raw)) if len(raw) else {}
    if not isinstance(value, dict):
        raise bad_answer("the provider sent an event of a wrong form")
    return value


def _framed(kind: str, data: bytes) -> bytes:
    """An event under its name, which clients of this format go by and some vendors leave out."""
    if b"\n" in data:  # JSON over several lines: a line feed in it can only be white space between tokens
        data = b" ".join(data.split(b"\n"))
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _odd(data: bytes) -> _Event:
    """An event that the structs do not fit, reduced to what they name."""
    try:
        value = jsontools.loads(data)
    except ValueError:
        raise bad_answer("the provider sent broken JSON in its stream") from None
    if not isinstance(value, dict):
        raise bad_answer("the provider sent an event that is no object")
    delta = value.get("delta")
    event = _Event(type=text_or_empty(value.get("type")), delta=_delta_of(delta) if isinstance(delta, dict) else None)
    for name in ("usage", "message", "content_block", "error"):
        if isinstance(value.get(name), dict):
            setattr(event, name, msgspec.Raw(jsontools.dumps(value[name])))
    return event


def _delta_of(value: dict[str, Any]) -> _Delta:
    return _Delta(
        type=text_or_empty(value.get("type")),
        text=text_or_empty(value.get("text")),
        partial_json=text_or_empty(value.get("partial_json")),
        thinking=text_or_empty(value.get("thinking")),
        signature=text_or_empty(value.get("signature")),
        stop_reason=text_or_empty(value.get("stop_reason")),
    )
