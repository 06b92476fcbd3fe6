"""Steps of an answer as a stream of named events.

The format wants blocks one after the other: each begins, grows and ends before the next begins. The steps of other
dialects have no such borders, so the writer draws them: a step of another kind, a seal, or another tool call ends the
block before. A reader tells the end and the usage together, in one batch: with it the stream is closed.
"""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, Part
from polyroute.dialects import jsontools
from polyroute.dialects.anthropic import answer, seals
from polyroute.dialects.anthropic.answer import CHOICE_MEMBERS, details_of
from polyroute.dialects.anthropic.common import NAME, finish_word, put_extras, usage_json

_TEXT, _THINKING, _CALL = "text", "thinking", "tool_use"
_OWN_MEMBERS: Final = frozenset({"usage_details"})
_CHOICE: Final = "choice."
_DELTA: Final = "delta."
_TOOL_CALL: Final = "tool_call."
_LEVELS: Final = (_CHOICE, _DELTA, _TOOL_CALL, "part.")


class AnthropicWriter:
    """Writes one stream; see `dialect.StreamWriter`.

    Args:
        request_id: The call, a UUIDv7.
        model: Model as the client named it.
    """

    def __init__(self, *, request_id: str, model: str) -> None:
        self._id = f"msg_{request_id}"
        self._model = model
        self._out: list[bytes] = []
        self._started = False
        self._index = -1  # of the last block that began
        self._kind = ""  # of the block that is open; empty when none is
        self._summary = False
        self._sealed = False  # the open thinking has its signature
        self._call = -1  # the call whose block is open
        self._arguments: list[str] = []  # of that call
        self._queue: list[ChatEvent] = []  # steps of calls that began while another was not whole
        self._finished: ChatEvent | None = None
        self._usage = pb.Usage()
        self._details: dict[str, Any] = {}
        self._done = False  # the stream is closed

    def feed(self, events: list[ChatEvent]) -> bytes:
        """Whole SSE events for these steps; see `dialect.StreamWriter`."""
        self._out = []
        for event in events:
            if not event.choice and not self._done:  # the format knows one choice
                self._event(event)
        if self._finished is not None and not self._done:
            self._done = True
            self._write_end(self._finished)
        return b"".join(self._out)

    def _event(self, event: ChatEvent) -> None:
        kind = event.WhichOneof("event")
        if event.extensions and "usage_details" in event.extensions:
            self._details = details_of(event.extensions["usage_details"])
        if kind == "usage":
            self._usage = event.usage
            return
        if kind is None or kind == "logprobs":
            return
        if not self._started:
            self._write_start(event)
        if kind == "finished":
            self._finished = event
        elif kind == "tool_call":
            self._tool_call(event)
        elif kind != "start":
            self._flush()
            self._content(event, kind)

    def _write_start(self, event: ChatEvent) -> None:
        self._started = True
        message: dict[str, Any] = {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_json(pb.Usage(), {}),  # no vendor but this dialect's own tells it now
        }
        if event.HasField("start"):
            for name, raw in event.extensions.items():
                if not name.startswith(_LEVELS) and name not in _OWN_MEMBERS:
                    message.setdefault(name, jsontools.loads(raw))
        self._write("message_start", {"message": message})

    def _content(self, event: ChatEvent, kind: str) -> None:
        match kind:
            case "text":
                self._text(event, event.text.text, event.text.state if event.text.HasField("state") else None)
            case "refusal":
                self._text(event, event.refusal.text, None)
            case "audio":
                self._text(event, event.audio.transcript, None)
            case "reasoning":
                self._reasoning(event)
            case "image":
                self._whole(answer.block_of(Part(image=event.image)))

    def _text(self, event: ChatEvent, text: str, state: pb.VendorState | None) -> None:
        if not text and state is not None and self._kind != _TEXT and _says_nothing(state):
            return
        if text or state is None or self._kind != _TEXT:
            if not text and state is None and event.WhichOneof("event") != "text":
                return
            self._open(_TEXT, {"type": "text", "text": ""})
            if text:
                self._delta(event, {"type": "text_delta", "text": text})
        if state is None:
            return
        if _says_nothing(state):
            self._close()  # another text that follows is another block
        elif state.dialect == NAME:
            for citation in jsontools.loads(state.data) if state.data else ():
                self._write_delta({"type": "citations_delta", "citation": citation})
            self._close()
        else:
            self._close()
            self._whole(answer.carrier(state, seals.PREVIOUS))

    def _reasoning(self, event: ChatEvent) -> None:
        step = event.reasoning
        state = step.state if step.HasField("state") else None
        if state is not None and state.dialect == NAME and state.kind != seals.SIGNATURE:
            part = Part(reasoning=pb.ReasoningPart(redacted=step.redacted), state=state)
            self._whole(answer.block_of(part))
            return
        if step.redacted and not step.text:
            self._whole({"type": seals.REDACTED, "data": seals.carry(state, summary=step.summary)})
            return
        nothing = state is not None and _says_nothing(state)
        if nothing and not step.text and self._kind != _THINKING:
            return
        self._open(_THINKING, {"type": "thinking", "thinking": "", "signature": ""})
        self._summary = self._summary or step.summary
        if step.text:
            self._delta(event, {"type": "thinking_delta", "thinking": step.text})
        if nothing:
            self._close()
        elif state is not None:
            own = state.dialect == NAME
            self._sign(state.data.decode("utf-8", "replace") if own else seals.carry(state, summary=self._summary))
            self._close()

    def _sign(self, signature: str) -> None:
        self._sealed = True
        if signature:
            self._write_delta({"type": "signature_delta", "signature": signature})

    def _tool_call(self, event: ChatEvent) -> None:
        """A piece of a call; of another one than the open only once that is whole, which keeps the blocks in order."""
        step = event.tool_call
        other = self._kind == _CALL and step.index != self._call
        if other and (self._queue or not self._is_whole()):
            self._queue.append(event)
            return
        self._call_piece(event)
        if self._queue and self._is_whole():
            self._flush()

    def _is_whole(self) -> bool:
        try:
            jsontools.loads("".join(self._arguments).encode())
        except ValueError:
            return False
        return True

    def _flush(self) -> None:
        """Writes what waited, call by call."""
        queue, self._queue = self._queue, []
        for index in dict.fromkeys(event.tool_call.index for event in queue):
            for event in queue:
                if event.tool_call.index == index:
                    self._call_piece(event)

    def _call_piece(self, event: ChatEvent) -> None:
        step = event.tool_call
        state = step.state if step.HasField("state") and not _says_nothing(step.state) else None
        if self._kind != _CALL or step.index != self._call:
            if state is not None and state.dialect != NAME:
                self._whole(answer.carrier(state, seals.NEXT))
                state = None
            block: dict[str, Any] = {"type": "tool_use", "id": step.id, "name": step.name, "input": {}}
            for name, raw in event.extensions.items():
                if name.startswith(_TOOL_CALL):
                    block.setdefault(name.removeprefix(_TOOL_CALL), jsontools.loads(raw))
            self._close()
            self._open(_CALL, block)
            self._call, self._arguments = step.index, []
        if step.arguments:
            self._arguments.append(step.arguments)
            self._delta(event, {"type": "input_json_delta", "partial_json": step.arguments})
        if state is not None and state.dialect != NAME:
            self._close()
            self._whole(answer.carrier(state, seals.PREVIOUS))

    def _open(self, kind: str, block: dict[str, Any]) -> None:
        if self._kind == kind:
            return
        self._close()
        self._kind, self._summary, self._sealed = kind, False, False
        self._index += 1
        self._write("content_block_start", {"index": self._index, "content_block": block})

    def _close(self) -> None:
        if not self._kind:
            return
        if self._kind == _THINKING and not self._sealed:
            self._sign(seals.carry(None, summary=self._summary))  # a mark that it must not go to a vendor that checks
        self._kind, self._call = "", -1
        self._write("content_block_stop", {"index": self._index})

    def _whole(self, block: dict[str, Any] | None) -> None:
        """A block that comes in one piece; the arguments of the vendor's own tools apart, as the vendor does."""
        if block is None:
            return
        self._close()
        given = block.get("input")
        apart = isinstance(given, dict) and bool(given)
        self._open("whole", block | {"input": {}} if apart else block)
        if apart:
            self._write_delta({"type": "input_json_delta", "partial_json": jsontools.dumps(given).decode()})
        self._close()

    def _write_end(self, event: ChatEvent) -> None:
        self._flush()
        self._close()
        finished = event.finished
        delta: dict[str, Any] = {
            "stop_reason": finish_word(finished.reason, finished.vendor_reason),
            "stop_sequence": None,
        }
        out: dict[str, Any] = {"delta": delta, "usage": usage_json(self._usage, self._details)}
        for name, raw in event.extensions.items():
            member = name.removeprefix(_CHOICE)
            if member in CHOICE_MEMBERS:
                delta[member] = jsontools.loads(raw)
            elif name == "context_management":
                out[name] = jsontools.loads(raw)
            elif not name.startswith(_LEVELS) and name not in _OWN_MEMBERS:
                delta.setdefault(name, jsontools.loads(raw))
        self._write("message_delta", out)
        self._write("message_stop", {})

    def _delta(self, event: ChatEvent, delta: dict[str, Any]) -> None:
        if event.extensions:
            put_extras(
                delta,
                {name.removeprefix(_DELTA): raw for name, raw in event.extensions.items() if name.startswith(_DELTA)},
            )
        self._write_delta(delta)

    def _write_delta(self, delta: dict[str, Any]) -> None:
        self._write("content_block_delta", {"index": self._index, "delta": delta})

    def _write(self, kind: str, members: dict[str, Any]) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), jsontools.dumps({"type": kind} | members)))


def _says_nothing(state: pb.VendorState) -> bool:
    """Whether a state is another dialect's and need not come back."""
    return state.dialect != NAME and seals.worth_carrying(state) is None
