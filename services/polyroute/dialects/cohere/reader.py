"""`cohere.chat` streams into steps of an answer. https://docs.cohere.com/reference/chat-stream."""

from collections.abc import Callable
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools, sse
from polyroute.dialects.asking import WRONG_TYPES, bad_answer, object_in, objects_in, reclassed, text_of
from polyroute.dialects.cohere.answer import (
    CALL_MEMBERS,
    MESSAGE_MEMBERS,
    logprobs_of,
    read_value,
    says_error,
    text_in,
    thought_in,
)
from polyroute.dialects.cohere.common import THINKING, TOOL_PLAN, fault_in, finish_of, seal, usage_of
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import take_apart
from polyroute.dialects.openai import parts
from polyroute.dialects.openai.common import made_call_id
from polyroute.mesh.errors import MeshError

_EVENT_MEMBERS: Final = frozenset({"id", "type", "index", "delta", "logprobs"})
_DELTA_MEMBERS: Final = frozenset({"message", "finish_reason", "usage", "error"})
_HELD_MEMBERS: Final = MESSAGE_MEMBERS | {"citations"}


class CohereReader:
    """Reads one stream; see `dialect.StreamReader`. The answer is complete with `message-end`."""

    def __init__(self) -> None:
        self._id = ""
        self._started = False
        self._done = False
        self._open = ""  # the kind of reasoning that has begun and is not sealed
        self._calls: dict[object, int] = {}  # the vendor's index -> ours
        self._citations: list[Any] = []
        self._unknown: list[Any] = []  # entries of the content of no known type
        self._held: dict[str, bytes] = {}  # members of events that gave no step yet
        self._kinds: dict[str, Callable[[dict[str, Any], list[ChatEvent]], None]] = {
            "message-start": self._message_start,
            "content-start": self._content,
            "content-delta": self._content,
            "content-end": self._content_end,
            "tool-plan-delta": self._tool_plan,
            "tool-call-start": self._call_start,
            "tool-call-delta": self._call_delta,
            "tool-call-end": _nothing,
            "citation-start": self._citation,
            "citation-end": _nothing,
            "message-end": self._message_end,
        }

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        """Reads one batch; see `dialect.StreamReader`."""
        out: list[ChatEvent] = []
        try:
            for name, data in events:
                if self._done or data.strip() == sse.DONE:
                    continue
                self._event(name, data, out)
        except MeshError as error:
            raise BrokenStreamError.of(error, events=out) from None
        except WRONG_TYPES as error:
            raise BrokenStreamError.of(bad_answer("the provider sent an event of a wrong form"), events=out) from error
        return out

    def finish(self) -> list[ChatEvent]:
        """The last steps; see `dialect.StreamReader`."""
        if not self._done:
            raise MeshError.upstream(
                errors_pb2.FAULT_TRUNCATED, "the provider's stream ended before the answer was complete"
            )
        return []

    def _event(self, name: str, data: bytes, out: list[ChatEvent]) -> None:
        try:
            chunk = jsontools.loads(data)
        except ValueError:
            raise bad_answer("the provider sent broken JSON in its stream") from None
        if not isinstance(chunk, dict):
            raise bad_answer("the provider sent an event that is no object")
        kind = text_of(chunk.get("type")) or name
        if kind == "error" or says_error(chunk):
            raise fault_in(chunk)
        if not kind:  # a whole answer in place of a stream
            out += take_apart(read_value(chunk))
            self._done = True
            return
        before = len(out)
        if kind in self._kinds:
            self._kinds[kind](chunk, out)
            self._note(chunk)
        else:
            self._held[kind] = data
        self._attach(out[before:])

    def _note(self, chunk: dict[str, Any]) -> None:
        """Remembers what an event says beside what is modelled."""
        self._held |= parts.extras(chunk, _EVENT_MEMBERS)
        delta = object_in(chunk.get("delta"))
        self._held |= parts.extras(delta, _DELTA_MEMBERS)
        for name, raw in parts.extras(object_in(delta.get("message")), _HELD_MEMBERS).items():
            self._held[f"delta.{name}"] = raw

    def _attach(self, made: list[ChatEvent]) -> None:
        if made and self._held:
            for name, raw in self._held.items():
                made[0].extensions[name] = raw
            self._held = {}

    def _message_start(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        self._start(chunk, out)

    def _start(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        if not self._started:
            self._started = True
            self._id = text_of(chunk.get("id"))
            out.append(ChatEvent(start=pb.AnswerStart(id=self._id)))

    def _content(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        entry = _message(chunk).get("content")
        text, thought = text_in(entry), thought_in(entry)
        if thought:
            self._reason(chunk, THINKING, thought, out)
        if text:
            self._begin(chunk, "", out)
            out.append(ChatEvent(text=pb.TextDelta(text=text)))
        if entry and text is None and thought is None:
            self._unknown.append(entry)
        logprobs = logprobs_of(chunk.get("logprobs"))
        if logprobs:
            out.append(ChatEvent(logprobs=logprobs))

    def _content_end(self, _: dict[str, Any], out: list[ChatEvent]) -> None:
        self._seal(out)

    def _tool_plan(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        plan = text_of(_message(chunk).get("tool_plan"))
        if plan:
            self._reason(chunk, TOOL_PLAN, plan, out)

    def _reason(self, chunk: dict[str, Any], kind: str, text: str, out: list[ChatEvent]) -> None:
        self._begin(chunk, kind, out)
        self._open = kind
        out.append(ChatEvent(reasoning=pb.ReasoningDelta(text=text)))

    def _begin(self, chunk: dict[str, Any], kind: str, out: list[ChatEvent]) -> None:
        """Before content of any kind: the answer has started, and reasoning of another kind is over."""
        self._start(chunk, out)
        if self._open != kind:
            self._seal(out)

    def _seal(self, out: list[ChatEvent]) -> None:
        if self._open:
            out.append(ChatEvent(reasoning=pb.ReasoningDelta(state=seal(self._open))))
            self._open = ""

    def _call_start(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        self._begin(chunk, "", out)
        for call in objects_in(_message(chunk).get("tool_calls")):
            number = len(self._calls)
            self._calls[_place(chunk, number)] = number
            function = object_in(call.get("function"))
            name = text_of(function.get("name"))
            step = pb.ToolCallDelta(
                index=number,
                id=text_of(call.get("id")) or made_call_id(self._id, number, name),
                name=name,
                arguments=parts.arguments_text(function.get("arguments")),
                kind=pb.TOOL_KIND_FUNCTION,
            )
            event = ChatEvent(tool_call=step)
            for member, raw in parts.extras(call, CALL_MEMBERS).items():
                event.extensions[f"tool_call.{member}"] = raw
            out.append(event)

    def _call_delta(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        number = self._calls.get(_place(chunk, len(self._calls) - 1))
        if number is None:
            raise bad_answer("the provider sent a piece of a tool call that never began")
        for call in objects_in(_message(chunk).get("tool_calls")):
            arguments = parts.arguments_text(object_in(call.get("function")).get("arguments"))
            if arguments:
                out.append(ChatEvent(tool_call=pb.ToolCallDelta(index=number, arguments=arguments)))

    def _citation(self, chunk: dict[str, Any], _: list[ChatEvent]) -> None:
        self._citations += objects_in(_message(chunk).get("citations"))

    def _message_end(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        delta = object_in(chunk.get("delta"))
        if delta.get("error"):
            error = fault_in({"error": delta["error"]})
            # the vendor says that it failed, if not how
            raise reclassed(error, errors_pb2.FAULT_SERVER) if error.fault == errors_pb2.FAULT_BAD_ANSWER else error
        self._begin(chunk, "", out)
        word = text_of(delta.get("finish_reason"))
        reason = finish_of(word, tool_calls=bool(self._calls))
        last = ChatEvent(finished=pb.ChoiceFinished(reason=reason, vendor_reason=word))
        if self._citations:
            last.extensions["delta.citations"] = jsontools.dumps(self._citations)
        if self._unknown:
            last.extensions["delta.content_parts"] = jsontools.dumps(self._unknown)
        out.append(last)
        usage = usage_of(delta.get("usage"))
        if usage:
            out.append(ChatEvent(usage=usage))
        self._done = True


def _message(chunk: dict[str, Any]) -> dict[str, Any]:
    return object_in(object_in(chunk.get("delta")).get("message"))


def _place(chunk: dict[str, Any], default: int) -> int:
    place = chunk.get("index")
    return place if isinstance(place, int) else default


def _nothing(chunk: dict[str, Any], out: list[ChatEvent]) -> None:
    """An event that only says that something is over."""
