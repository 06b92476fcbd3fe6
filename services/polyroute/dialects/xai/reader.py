"""`xai.grpc` answers: messages into steps. A whole answer is read as a stream of one piece, so both give the same."""

from collections.abc import Iterable
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatResponse
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import grpc_frames, grpc_status, jsontools
from polyroute.dialects.asking import bad_answer
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import assemble
from polyroute.dialects.openai.common import made_call_id
from polyroute.dialects.xai.common import (
    OPEN,
    SEALED,
    SERVER_CALLS,
    finish_of,
    finish_word,
    listed,
    logprobs_of,
    parsed,
    state,
    usage_from,
)
from polyroute.mesh.errors import MeshError
from xai.api.v1 import chat_pb2
from xai.api.v1.chat_pb2 import GetChatCompletionChunk, GetChatCompletionResponse

MAX_OUTPUTS: Final = 1024  # of one answer; the vendor makes at most 128, or one for each turn with its own tools
_CALLERS: Final = (chat_pb2.TOOL_CALL_TYPE_INVALID, chat_pb2.TOOL_CALL_TYPE_CLIENT_SIDE_TOOL)


class _Choice:
    """What is known of one answer so far."""

    __slots__ = ("calls", "citations", "finish", "index", "open", "sealed", "server_calls")

    def __init__(self, index: int) -> None:
        self.index = index
        self.open = False  # reasoning that has begun and carries no mark yet
        self.sealed: list[str] = []  # pieces of its encrypted form
        self.calls: dict[str, tuple[int, str]] = {}  # id -> our number, and the arguments that were given on
        self.server_calls: dict[str, chat_pb2.ToolCall] = {}  # by id: as far as the newest piece says
        self.citations: list[chat_pb2.InlineCitation] = []
        self.finish = 0


class XaiReader:
    """Reads one stream; see `dialect.StreamReader`. The answer is complete with the call's status OK.

    When the vendor runs tools of its own, its outputs are not alternatives but the turns of one answer: what the model
    says and calls, what the tool says, what the model says then. They are read as one choice; what the vendor's tools
    were called with goes into an extension, because nobody else is to run them.
    """

    def __init__(self) -> None:
        self._id = ""
        self._started = False
        self._done = False
        self._choices: dict[int, _Choice] = {}
        self._one = False  # the outputs are turns of one answer
        self._last = GetChatCompletionChunk()  # what only the end says: usage, citations, files

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
        return out

    def finish(self) -> list[ChatEvent]:
        """Nothing more; see `dialect.StreamReader`."""
        if not self._done:
            raise MeshError.upstream(
                errors_pb2.FAULT_TRUNCATED, "the provider's stream ended before the answer was complete"
            )
        return []

    def _event(self, name: str, data: bytes, out: list[ChatEvent]) -> None:
        if name == grpc_frames.MESSAGE:
            self._chunk(parsed(GetChatCompletionChunk.FromString, data), out)
            return
        if name == grpc_frames.TRAILERS:
            trailers = grpc_frames.read_trailers(data)
            if trailers.get(grpc_frames.STATUS_KEY) != grpc_status.OK:
                raise grpc_status.fault_of(200, b"", trailers)
        else:
            self._chunk(_as_chunk(parsed(GetChatCompletionResponse.FromString, data)), out)
        self._end(out)

    def _chunk(self, chunk: GetChatCompletionChunk, out: list[ChatEvent]) -> None:
        if not self._started:
            self._started = True
            self._id = chunk.id
            start = pb.AnswerStart(id=chunk.id, model=chunk.model, create_time=chunk.created.seconds)
            out.append(ChatEvent(start=start))
        for piece in chunk.outputs:
            self._output(piece, out)
        last = self._last
        if chunk.HasField("usage"):
            last.usage.CopyFrom(chunk.usage)
        last.citations.extend(chunk.citations)
        last.output_files.extend(chunk.output_files)
        last.system_fingerprint = chunk.system_fingerprint or last.system_fingerprint
        last.service_tier = chunk.service_tier or last.service_tier

    def _output(self, piece: chat_pb2.CompletionOutputChunk, out: list[ChatEvent]) -> None:
        delta = piece.delta
        if delta.role in (chat_pb2.ROLE_TOOL, chat_pb2.ROLE_FUNCTION) or any(map(_is_servers, delta.tool_calls)):
            self._one = True
        choice = self._choice(piece.index)
        if delta.role in (chat_pb2.ROLE_TOOL, chat_pb2.ROLE_FUNCTION):
            choice.server_calls.update(_by_id(delta.tool_calls))
            return
        self._reasoning(choice, delta, out)
        if delta.content:
            _seal(choice, out)
            out.append(ChatEvent(choice=choice.index, text=pb.TextDelta(text=delta.content)))
        for call in delta.tool_calls:
            self._call(choice, call, out)
        logprobs = logprobs_of(piece.logprobs)
        if logprobs:
            out.append(ChatEvent(choice=choice.index, logprobs=logprobs))
        choice.citations.extend(delta.citations)
        choice.finish = piece.finish_reason or choice.finish

    def _choice(self, index: int) -> _Choice:
        if not 0 <= index < MAX_OUTPUTS:
            raise bad_answer("the provider sent an output of a wrong number")
        index = 0 if self._one else index
        if index not in self._choices:
            self._choices[index] = _Choice(index)
        return self._choices[index]

    def _reasoning(self, choice: _Choice, delta: chat_pb2.Delta, out: list[ChatEvent]) -> None:
        if delta.reasoning_content:
            choice.open = True
            reasoning = pb.ReasoningDelta(text=delta.reasoning_content)
            out.append(ChatEvent(choice=choice.index, reasoning=reasoning))
        if delta.encrypted_content:
            choice.sealed.append(delta.encrypted_content)

    def _call(self, choice: _Choice, call: chat_pb2.ToolCall, out: list[ChatEvent]) -> None:
        if _is_servers(call):
            choice.server_calls.update(_by_id([call]))
            return
        function = call.function
        number, given = choice.calls.get(call.id, (len(choice.calls), ""))
        step = pb.ToolCallDelta(index=number)
        if call.id and call.id in choice.calls:  # a call that grows, or is only told again
            if not function.arguments.startswith(given) or function.arguments == given:
                return
            step.arguments = function.arguments[len(given) :]
        else:
            _seal(choice, out)
            step.id = call.id or made_call_id(self._id, choice.index, number, function.name)
            step.name, step.arguments, step.kind = function.name, function.arguments, pb.TOOL_KIND_FUNCTION
        choice.calls[call.id or step.id] = (number, function.arguments)
        out.append(ChatEvent(choice=choice.index, tool_call=step))

    def _end(self, out: list[ChatEvent]) -> None:
        if not self._choices:
            raise bad_answer("the provider's answer holds nothing")
        for choice in self._choices.values():
            _seal(choice, out)
            out.append(_finished(choice))
        usage = usage_from(self._last.usage)
        if usage:
            out.append(ChatEvent(usage=usage))
        self._note(out[-1])
        self._done = True

    def _note(self, event: ChatEvent) -> None:
        """What is said of the answer as a whole and modelled nowhere."""
        last = self._last
        if last.citations:
            event.extensions["citations"] = jsontools.dumps(list(last.citations))
        if last.output_files:
            event.extensions["output_files"] = listed(last.output_files)
        if last.system_fingerprint:
            event.extensions["system_fingerprint"] = jsontools.dumps(last.system_fingerprint)
        if last.service_tier:
            event.extensions["service_tier"] = jsontools.dumps(last.service_tier)


def read_answer(body: bytes) -> ChatResponse:
    """See `dialect.Outbound.read_answer`."""
    return assemble(XaiReader().feed([("", body)]))


def _as_chunk(whole: GetChatCompletionResponse) -> GetChatCompletionChunk:
    """A whole answer as the only piece of a stream; the two differ in numbers, not in what they say."""
    chunk = GetChatCompletionChunk(
        id=whole.id,
        model=whole.model,
        created=whole.created,
        citations=whole.citations,
        output_files=whole.output_files,
        system_fingerprint=whole.system_fingerprint,
        service_tier=whole.service_tier,
    )
    if whole.HasField("usage"):
        chunk.usage.CopyFrom(whole.usage)
    for output in whole.outputs:
        said = output.message
        delta = chat_pb2.Delta(
            content=said.content,
            reasoning_content=said.reasoning_content,
            role=said.role,
            tool_calls=said.tool_calls,
            encrypted_content=said.encrypted_content,
            citations=said.citations,
        )
        chunk.outputs.add(delta=delta, logprobs=output.logprobs, finish_reason=output.finish_reason, index=output.index)
    return chunk


def _is_servers(call: chat_pb2.ToolCall) -> bool:
    return call.type not in _CALLERS


def _by_id(calls: Iterable[chat_pb2.ToolCall]) -> dict[str, chat_pb2.ToolCall]:
    return {call.id: call for call in calls}


def _seal(choice: _Choice, out: list[ChatEvent]) -> None:
    """Marks reasoning that is over, so that it finds back to where it came from."""
    if not choice.open and not choice.sealed:
        return
    mark = state(SEALED, "".join(choice.sealed).encode()) if choice.sealed else state(OPEN)
    out.append(ChatEvent(choice=choice.index, reasoning=pb.ReasoningDelta(state=mark)))
    choice.open, choice.sealed = False, []


def _finished(choice: _Choice) -> ChatEvent:
    reason = finish_of(choice.finish, tool_calls=bool(choice.calls))
    finished = pb.ChoiceFinished(reason=reason, vendor_reason=finish_word(choice.finish))
    event = ChatEvent(choice=choice.index, finished=finished)
    if choice.citations:
        event.extensions["delta.citations"] = listed(choice.citations)
    if choice.server_calls:
        event.extensions[f"delta.{SERVER_CALLS}"] = listed(choice.server_calls.values())
    return event
