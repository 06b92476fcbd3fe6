"""Streams of named events into steps of an answer.

The stop reason and usage are held back to the end. What has no step of its own (the vendor's own tools, compaction) is
gathered and told whole once its block ends; see `blocks`.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools
from polyroute.dialects.anthropic import seals
from polyroute.dialects.anthropic.answer import ANSWER_MEMBERS, CHOICE_MEMBERS, read_message
from polyroute.dialects.anthropic.blocks import arguments_of
from polyroute.dialects.anthropic.common import (
    WRONG_SHAPE,
    UsageTally,
    bad_answer,
    extras,
    finish_of,
    made_call_id,
    text_or_empty,
)
from polyroute.dialects.anthropic.faults import fault_in
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import take_apart, text_step
from polyroute.mesh.errors import MeshError

TEXT, THINKING, CALL = "text", "thinking", "tool_use"
_PARTS: Final = {"text_delta": TEXT, "thinking_delta": THINKING, "signature_delta": THINKING, "citations_delta": TEXT}
# A piece without a kind is what its member says.
_TELLING: Final = {
    "text": "text_delta",
    "partial_json": "input_json_delta",
    "thinking": "thinking_delta",
    "signature": "signature_delta",
    "citation": "citations_delta",
}
_STREAMED: Final[dict[str, frozenset[str]]] = {
    TEXT: frozenset({"text_delta", "citations_delta"}),
    THINKING: frozenset({"thinking_delta", "signature_delta"}),
    CALL: frozenset({"input_json_delta"}),
}
_DELTA_MEMBERS: Final = frozenset({"type", "text", "thinking", "signature", "partial_json", "citation"})
_END_MEMBERS: Final = frozenset({"type", "delta", "usage"})


@dataclass(slots=True)
class _Block:
    """A block that has begun and not ended."""

    kind: str
    value: dict[str, Any]  # as it began; whole, for one that is gathered
    call: int = 0
    told: bool = False  # a step of it has gone out
    json: list[str] = field(default_factory=list)  # pieces of `input` of a gathered block
    citations: list[Any] = field(default_factory=list)


class AnthropicReader:
    """Reads one stream; see `dialect.StreamReader`."""

    def __init__(self) -> None:
        self._started = False
        self._done = False
        self._closed = False
        self._id = ""
        self._stop = ""
        self._calls = 0
        self._open = ""  # kind of the last part told, while another of its kind would join it
        self._waiting: pb.VendorState | None = None  # that was carried in front of the part it belongs to
        self._blocks: dict[int, _Block] = {}
        self._begun = 0  # blocks so far
        self._tally = UsageTally()
        self._members: dict[str, bytes] = {}  # told at the end, of the answer and its choice

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        """Reads one batch; see `dialect.StreamReader`."""
        out: list[ChatEvent] = []
        try:
            for name, data in events:
                if self._done:
                    break
                self._event(name, data, out)
        except MeshError as error:
            raise BrokenStreamError.of(error, events=out) from None
        except WRONG_SHAPE as error:
            raise BrokenStreamError.of(bad_answer("the provider sent an event of a wrong form"), events=out) from error
        return out

    def finish(self) -> list[ChatEvent]:
        """The last steps; see `dialect.StreamReader`.

        A stop reason without the closing event is complete: nothing of the answer can follow it.
        """
        if self._closed:
            return []
        if not self._done and not self._stop:
            raise MeshError.upstream(
                errors_pb2.FAULT_TRUNCATED, "the provider's stream ended before the answer was complete"
            )
        try:
            return self._close()
        except WRONG_SHAPE as error:
            raise bad_answer("the provider's usage cannot be read") from error

    def _event(self, name: str, data: bytes, out: list[ChatEvent]) -> None:
        try:
            value = jsontools.loads(data)
        except ValueError:
            raise bad_answer("the provider sent broken JSON in its stream") from None
        if not isinstance(value, dict):
            raise bad_answer("the provider sent an event that is no object")
        kind = value.get("type") or name
        if kind == "content_block_delta":
            self._delta(self._place(value), value["delta"], out)
        elif kind == "error" or name == "error" or value.get("error"):
            raise fault_in(value)
        elif kind == "content_block_start":
            self._begin(self._new_place(value), value["content_block"], out)
        elif kind == "content_block_stop":
            self._end(self._place(value), out)
        elif kind == "message_start":
            self._start(value["message"], out)
        elif kind == "message_delta":
            self._end_of_message(value)
        elif kind == "message_stop":
            self._done = True
            out += self._close()
        elif kind in ("message", ""):
            self._whole(value, out)

    def _place(self, value: dict[str, Any]) -> int:
        """Which block an event is about; the one that began last where thin compatibility layers do not say."""
        index = value.get("index")
        return index if isinstance(index, int) else next(reversed(self._blocks), self._begun)

    def _new_place(self, value: dict[str, Any]) -> int:
        index = value.get("index")
        self._begun += 1
        return index if isinstance(index, int) else self._begun

    def _whole(self, value: dict[str, Any], out: list[ChatEvent]) -> None:
        """An answer that came in one piece where a stream was asked for."""
        response = read_message(value)
        self._done = self._closed = True
        out += take_apart(response)

    def _start(self, message: dict[str, Any], out: list[ChatEvent]) -> None:
        self._tally.note(message.get("usage"))
        if not self._started:
            self._started = True
            self._id = text_or_empty(message.get("id"))
            start = ChatEvent(start=pb.AnswerStart(id=self._id, model=text_or_empty(message.get("model"))))
            for name, raw in extras(message, ANSWER_MEMBERS).items():
                start.extensions[f"choice.{name}" if name in CHOICE_MEMBERS else name] = raw
            out.append(start)
        content = message.get("content")
        for number, block in enumerate(content if isinstance(content, list) else ()):
            self._begin(-1 - number, block, out)  # blocks that are there from the start have no events of their own
            self._end(-1 - number, out)

    def _begin(self, index: int, value: dict[str, Any], out: list[ChatEvent]) -> None:
        kind = text_or_empty(value.get("type"))
        block = self._blocks[index] = _Block(kind, value)
        if kind == TEXT:
            self._seal(TEXT, out)
            self._text(block, text_or_empty(value.get("text")), out)
            citations = value.get("citations")
            block.citations = list(citations) if isinstance(citations, list) else []
        elif kind == THINKING:
            self._seal(THINKING, out)
            self._think(block, pb.ReasoningDelta(text=text_or_empty(value.get("thinking"))), out)
            self._think(block, _signed(value.get("signature")), out)
        elif kind == CALL:
            self._call(block, value, out)

    def _seal(self, kind: str, out: list[ChatEvent]) -> None:
        """Ends the part told last when one of the same kind follows, which it must not become one with."""
        if self._open != kind:
            return
        if kind == TEXT:
            out.append(ChatEvent(text=pb.TextDelta(state=seals.own(seals.CITATIONS, b""))))
        else:
            out.append(ChatEvent(reasoning=pb.ReasoningDelta(state=seals.own(seals.SIGNATURE, b""))))
        self._open = ""

    def _text(self, block: _Block, text: str | None, out: list[ChatEvent]) -> None:
        if text:
            out.append(text_step(text))
            block.told, self._open = True, TEXT

    def _think(self, block: _Block, step: pb.ReasoningDelta, out: list[ChatEvent]) -> None:
        if step.text or step.HasField("state"):
            out.append(ChatEvent(reasoning=step))
            block.told = True
            self._open = "" if step.HasField("state") else THINKING

    def _call(self, block: _Block, value: dict[str, Any], out: list[ChatEvent]) -> None:
        block.call = self._calls
        self._calls += 1
        name = text_or_empty(value.get("name"))
        step = pb.ToolCallDelta(
            index=block.call,
            id=text_or_empty(value.get("id")) or made_call_id(self._id, block.call),
            name=name,
            kind=pb.TOOL_KIND_FUNCTION,
        )
        event = ChatEvent()
        for member, raw in extras(value, ("type", "id", "name", "input")).items():
            event.extensions[f"tool_call.{member}"] = raw
        if self._waiting is not None:
            step.state.CopyFrom(self._waiting)
            self._waiting = None
        event.tool_call.CopyFrom(step)
        out.append(event)
        self._open = CALL

    def _delta(self, index: int, delta: dict[str, Any], out: list[ChatEvent]) -> None:
        kind = delta.get("type") or next((kind for member, kind in _TELLING.items() if delta.get(member)), "")
        block = self._blocks.get(index)
        if block is None:
            if kind == "input_json_delta":
                raise bad_answer("the provider sent a piece of a block that never began")
            if kind not in _PARTS:
                return
            self._begin(index, {"type": _PARTS[kind]}, out)
            block = self._blocks[index]
        if kind not in _STREAMED.get(block.kind, ()):
            _gather(block, delta)
            return
        before = len(out)
        if kind == "text_delta":
            self._text(block, delta.get("text"), out)
        elif kind == "input_json_delta":
            self._arguments(block, delta.get("partial_json"), out)
        elif kind == "thinking_delta":
            self._think(block, pb.ReasoningDelta(text=delta.get("thinking") or ""), out)
        elif kind == "signature_delta":
            self._think(block, _signed(delta.get("signature")), out)
        else:
            block.citations.append(delta.get("citation"))
        if len(delta) > 2 and len(out) > before:  # members that nobody knows
            for name, raw in extras(delta, _DELTA_MEMBERS).items():
                out[-1].extensions[f"delta.{name}"] = raw

    def _arguments(self, block: _Block, piece: str | None, out: list[ChatEvent]) -> None:
        if piece:
            out.append(ChatEvent(tool_call=pb.ToolCallDelta(index=block.call, arguments=piece)))
            block.told = True

    def _end(self, index: int, out: list[ChatEvent]) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        if block.kind == TEXT:
            self._end_text(block, out)
        elif block.kind == CALL:
            if not block.told:  # no arguments at all, or all of them at the begin
                self._arguments(block, arguments_of(block.value.get("input")), out)
        elif block.kind == THINKING:
            if not block.told:
                out.append(ChatEvent(reasoning=pb.ReasoningDelta()))
                self._open = THINKING
        else:
            self._end_gathered(block, out)

    def _end_text(self, block: _Block, out: list[ChatEvent]) -> None:
        if block.citations:
            state = seals.own(seals.CITATIONS, jsontools.dumps(block.citations))
            out.append(ChatEvent(text=pb.TextDelta(state=state)))
            self._open = ""
        elif self._waiting is not None:
            out.append(ChatEvent(text=pb.TextDelta(state=self._waiting)))
            self._waiting, self._open = None, ""
        elif not block.told:
            out.append(ChatEvent(text=pb.TextDelta()))
            self._open = TEXT

    def _end_gathered(self, block: _Block, out: list[ChatEvent]) -> None:
        value = block.value
        if block.json:
            value["input"] = _parsed("".join(block.json))
        if block.kind == seals.REDACTED:
            self._end_redacted(text_or_empty(value.get("data")), out)
            return
        self._seal(THINKING, out)
        out.append(ChatEvent(reasoning=pb.ReasoningDelta(state=seals.own_block(value))))
        self._open = ""

    def _end_redacted(self, data: str, out: list[ChatEvent]) -> None:
        found = seals.carried(data)
        if found and found.of == seals.NEXT:
            self._waiting = found.state
        elif found and found.of == seals.PREVIOUS:
            self._belated(found.state, out)
        else:
            self._seal(THINKING, out)
            state = seals.own(seals.REDACTED, data) if found is None else found.state
            step = pb.ReasoningDelta(state=state, redacted=True, summary=bool(found and found.summary))
            out.append(ChatEvent(reasoning=step))
            self._open = "" if state is not None else THINKING

    def _belated(self, state: pb.VendorState | None, out: list[ChatEvent]) -> None:
        """A state that was carried behind the part it belongs to."""
        if state is not None and self._open == CALL:
            out.append(ChatEvent(tool_call=pb.ToolCallDelta(index=self._calls - 1, state=state)))
        elif state is not None and self._open == TEXT:
            out.append(ChatEvent(text=pb.TextDelta(state=state)))
            self._open = ""

    def _end_of_message(self, value: dict[str, Any]) -> None:
        delta = value.get("delta") or {}
        self._stop = text_or_empty(delta.get("stop_reason")) or self._stop
        self._tally.note(value.get("usage"))
        for name, raw in extras(delta, ("stop_reason",)).items():
            self._members[f"choice.{name}" if name in CHOICE_MEMBERS else name] = raw
        self._members |= extras(value, _END_MEMBERS)

    def _close(self) -> list[ChatEvent]:
        self._closed = True
        reason = finish_of(self._stop, tool_calls=self._calls > 0)
        last = ChatEvent(finished=pb.ChoiceFinished(reason=reason, vendor_reason=self._stop))
        for name, raw in (self._members | self._tally.details()).items():
            last.extensions[name] = raw
        usage = self._tally.usage()
        return [last, ChatEvent(usage=usage)] if usage else [last]


def _signed(signature: object) -> pb.ReasoningDelta:
    text = text_or_empty(signature)
    found = seals.carried(text)
    if found:
        return pb.ReasoningDelta(state=found.state, summary=found.summary)
    return pb.ReasoningDelta(state=seals.own(seals.SIGNATURE, text)) if text else pb.ReasoningDelta()


def _parsed(text: str) -> object:
    """An `input` that came in pieces; its text when a cut or a slip of the model made it no JSON."""
    try:
        return jsontools.loads(text.encode())
    except ValueError:
        return text


def _gather(block: _Block, delta: dict[str, Any]) -> None:
    """Adds a piece to a block that is told whole: texts and lists grow, anything else is replaced."""
    if delta.get("type") == "input_json_delta":
        block.json.append(text_or_empty(delta.get("partial_json")))
        return
    value = block.value
    for name, item in delta.items():
        before = value.get(name)
        if name == "type":
            continue
        if isinstance(before, str) and isinstance(item, str):
            value[name] = before + item
        elif isinstance(before, list) and isinstance(item, list):
            value[name] = [*before, *item]
        elif item is not None:
            value[name] = item
