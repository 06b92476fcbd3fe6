"""`ollama.chat` answers into steps. https://github.com/ollama/ollama/blob/main/docs/api.md.

A stream is lines of JSON; a whole answer is one such line that is complete in itself. Tool calls come whole, their
arguments as objects and mostly without ids.
"""

from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatResponse, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools
from polyroute.dialects.asking import WRONG_TYPES, bad_answer, count_in, object_in, objects_in, text_of
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import assemble
from polyroute.dialects.ollama.common import fault_in, seconds_of
from polyroute.dialects.openai import parts
from polyroute.dialects.openai.common import finish_of, made_call_id
from polyroute.dialects.openai.meter import object_of
from polyroute.mesh.errors import MeshError

_MEMBERS: Final = frozenset(
    {
        "model",
        "created_at",
        "message",
        "done",
        "done_reason",
        "prompt_eval_count",
        "eval_count",
        "logprobs",
    }
)
_MESSAGE_MEMBERS: Final = frozenset({"role", "content", "thinking", "tool_calls"})
_CALL_MEMBERS: Final = frozenset({"id", "type", "function"})


# Of a line, only what a model wrote as JSON: kept to the byte, as other vendors' arguments are.
class _Function(msgspec.Struct, gc=False):
    arguments: msgspec.Raw = msgspec.Raw()


class _Call(msgspec.Struct, gc=False):
    function: _Function = msgspec.field(default_factory=_Function)


class _Message(msgspec.Struct, gc=False):
    tool_calls: list[_Call] = []


class _Line(msgspec.Struct, gc=False):
    message: _Message = msgspec.field(default_factory=_Message)


_decode_calls: Final = msgspec.json.Decoder(_Line).decode


class OllamaReader:
    """Reads one stream; see `dialect.StreamReader`. The answer is complete with the line that says `done`."""

    def __init__(self) -> None:
        self._model = ""
        self._created = ""
        self._started = False
        self._done = False
        self._calls = 0
        self._held: dict[str, bytes] = {}  # members of lines that gave no step yet

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        """Reads one batch; see `dialect.StreamReader`."""
        out: list[ChatEvent] = []
        try:
            for _, line in events:
                if not self._done:
                    self._line(line, out)
        except MeshError as error:
            raise BrokenStreamError.of(error, events=out) from None
        except WRONG_TYPES as error:
            raise BrokenStreamError.of(bad_answer("the provider sent a line of a wrong form"), events=out) from error
        return out

    def finish(self) -> list[ChatEvent]:
        """The last steps; see `dialect.StreamReader`."""
        if not self._done:
            raise MeshError.upstream(
                errors_pb2.FAULT_TRUNCATED, "the provider's stream ended before the answer was complete"
            )
        return []

    def _line(self, line: bytes, out: list[ChatEvent]) -> None:
        try:
            value = jsontools.loads(line)
        except ValueError:
            raise bad_answer("the provider sent a line that is not JSON") from None
        if not isinstance(value, dict):
            raise bad_answer("the provider sent a line that is no object")
        if value.get("error"):
            raise fault_in(value)
        message = value.get("message")
        if message is None and self._started:
            message = {}  # how the work goes on, or that it is over
        if not isinstance(message, dict):
            raise bad_answer("the provider's answer has no message")
        before = len(out)
        self._start(value, out)
        self._message(message, line, out)
        if objects_in(value.get("logprobs")):
            out.append(ChatEvent(logprobs=jsontools.dumps({"content": value["logprobs"]})))
        if value.get("done") is True:
            self._end(value, out)
        self._note(value, message, out[before:])

    def _start(self, value: dict[str, Any], out: list[ChatEvent]) -> None:
        if self._started:
            return
        self._started = True
        self._model = text_of(value.get("model"))
        self._created = text_of(value.get("created_at"))
        out.append(ChatEvent(start=pb.AnswerStart(model=self._model, create_time=seconds_of(self._created))))

    def _message(self, message: dict[str, Any], line: bytes, out: list[ChatEvent]) -> None:
        thinking, content = text_of(message.get("thinking")), text_of(message.get("content"))
        if thinking:
            out.append(ChatEvent(reasoning=pb.ReasoningDelta(text=thinking)))
        if content:
            out.append(ChatEvent(text=pb.TextDelta(text=content)))
        calls = message.get("tool_calls")
        if calls:
            raws = _arguments(line, objects_in(calls))
            for call, raw in zip(objects_in(calls), raws, strict=True):
                out.append(self._call(call, raw))

    def _call(self, value: dict[str, Any], arguments: str) -> ChatEvent:
        number = self._calls
        self._calls += 1
        name = text_of(object_in(value.get("function")).get("name"))
        step = pb.ToolCallDelta(
            index=number,
            # the time has nanoseconds: no two answers of a conversation have the same
            id=text_of(value.get("id")) or made_call_id(self._model, self._created, number, name),
            name=name,
            arguments=arguments,
            kind=pb.TOOL_KIND_FUNCTION,
        )
        event = ChatEvent(tool_call=step)
        for member, raw in parts.extras(value, _CALL_MEMBERS).items():
            event.extensions[f"tool_call.{member}"] = raw
        return event

    def _end(self, value: dict[str, Any], out: list[ChatEvent]) -> None:
        word = text_of(value.get("done_reason"))
        # before there was a reason, `done` was all that was said
        reason = finish_of(word or "stop", tool_calls=self._calls > 0)
        out.append(ChatEvent(finished=pb.ChoiceFinished(reason=reason, vendor_reason=word)))
        usage = _usage(value)
        if usage:
            out.append(ChatEvent(usage=usage))
        self._done = True

    def _note(self, value: dict[str, Any], message: dict[str, Any], made: list[ChatEvent]) -> None:
        """Keeps what a line says beside what is modelled: durations, where a model ran, pictures."""
        self._held |= parts.extras(value, _MEMBERS)
        for name, raw in parts.extras(message, _MESSAGE_MEMBERS).items():
            self._held[f"delta.{name}"] = raw
        # the place of an extension of the message is a step of the message, not the start of the answer
        step = next((event for event in reversed(made) if event.WhichOneof("event") not in ("start", "usage")), None)
        if step is not None and self._held:
            for name, raw in self._held.items():
                step.extensions[name] = raw
            self._held = {}


def _arguments(line: bytes, calls: list[dict[str, Any]]) -> list[str]:
    """The arguments of the calls of a line, to the byte where they are as they should be."""
    try:
        raws = [bytes(call.function.arguments) for call in _decode_calls(line).message.tool_calls]
    except msgspec.DecodeError:
        raws = []
    values = [object_in(call.get("function")).get("arguments") for call in calls]
    if len(raws) != len(values):
        return [parts.arguments_text(value) for value in values]
    return [
        raw.decode() if isinstance(value, dict) else parts.arguments_text(value)
        for raw, value in zip(raws, values, strict=True)
    ]


def _usage(value: dict[str, Any]) -> Usage | None:
    """The two figures there are: the prompt that was evaluated and all that was made, reasoning inside it."""
    prompt, made = count_in(value.get("prompt_eval_count")), count_in(value.get("eval_count"))
    return Usage(input_tokens=prompt, output_tokens=made) if prompt or made else None


def read_answer(body: bytes) -> ChatResponse:
    """See `dialect.Outbound.read_answer`."""
    object_of(body)
    reader = OllamaReader()
    try:
        return assemble([*reader.feed([("", body.strip())]), *reader.finish()])
    except BrokenStreamError as error:
        raise MeshError(error.reason, error.message, metadata=error.metadata) from error.__cause__
