"""`gemini.generate` streams, and whole answers, into steps of an answer.

Every event has the form of a whole answer. Finish reasons and usage come with several events, the last one standing,
and content may follow them: so both are held back until the stream ends. There is no end marker.

A part of a kind that the contract does not know (code that ran at the vendor and what it gave) becomes reasoning
without text whose state is the part: other dialects give it to their clients sealed, and it returns with the turn.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatResponse, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools, states
from polyroute.dialects.asking import WRONG_TYPES, bad_answer, object_in, objects_in, text_of
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import assemble
from polyroute.dialects.gemini import grounding
from polyroute.dialects.gemini.common import (
    NAME,
    PART,
    SIGNATURE,
    better_finish,
    decoded,
    finish_of,
    is_finish,
    loads,
    seconds_of,
    state_of,
    usage_extras,
    usage_from,
)
from polyroute.dialects.gemini.faults import fault_in
from polyroute.dialects.gemini.partial import PartialArguments
from polyroute.dialects.openai.common import made_call_id
from polyroute.mesh.errors import MeshError

_CHUNK_MEMBERS: Final = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId", "createTime", "error"})
_CANDIDATE_MEMBERS: Final = frozenset({"content", "finishReason", "index", "logprobsResult"})
_CONTENT_MEMBERS: Final = frozenset({"parts", "role"})
_TEXT_MEMBERS: Final = frozenset({"text", "thought", SIGNATURE})
_CALL_MEMBERS: Final = frozenset({"functionCall", "thought", SIGNATURE})
_MEDIA_MEMBERS: Final = frozenset({"inlineData", "thought", SIGNATURE})


@dataclass(slots=True)
class _OpenCall:
    """A call whose arguments come in pieces."""

    index: int
    arguments: PartialArguments = field(default_factory=PartialArguments)


@dataclass(slots=True)
class _Choice:
    """One answer in the making."""

    index: int
    finish: str = ""
    calls: int = 0
    open_call: _OpenCall | None = None
    thinking: bool = False  # the last part was a thought without a seal
    said: list[str] = field(default_factory=list)


def chunks_of(data: bytes) -> list[dict[str, Any]]:
    """The objects of one event: itself, or the entries of a stream that came whole as an array.

    Raises:
        MeshError: FAULT_BAD_ANSWER for anything else.
    """
    if not data.strip():
        raise bad_answer("the provider answered with nothing")
    try:
        value = loads(data.strip())
    except ValueError:
        raise bad_answer("the provider's answer is not JSON") from None
    chunks = value if isinstance(value, list) else [value]
    if not chunks or not all(isinstance(chunk, dict) for chunk in chunks):
        raise bad_answer("the provider's answer is not a JSON object")
    return chunks


def truncated() -> MeshError:
    """A stream that ended before the answer did."""
    return MeshError.upstream(errors_pb2.FAULT_TRUNCATED, "the provider's stream ended before the answer was complete")


def read_answer(body: bytes) -> ChatResponse:
    """See `dialect.Dialect.read_answer`; a stream that came whole, as an array, is an answer too."""
    reader = GeminiReader()
    steps = reader.feed([("", body)])
    return assemble(steps + reader.close(whole=not body.lstrip().startswith(b"[")))


class GeminiReader:
    """Reads one stream; see `dialect.StreamReader`."""

    def __init__(self) -> None:
        self._id = ""
        self._created = 0
        self._started = False
        self._closed = False
        self._blocked = ""  # why the prompt was refused
        self._usage: Usage | None = None
        self._usage_extras: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._sent: dict[str, bytes] = {}  # members that repeat with every event, as last told
        self._held: dict[str, bytes] = {}  # members of events that gave no step yet

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        """Reads one batch; see `dialect.StreamReader`."""
        out: list[ChatEvent] = []
        try:
            for _, data in events:
                for chunk in chunks_of(data):
                    self._chunk(chunk, out)
        except MeshError as error:
            raise BrokenStreamError.of(error, events=out) from None
        except WRONG_TYPES as error:  # a member of a type that the contract does not take
            raise BrokenStreamError.of(bad_answer("the provider sent an event of a wrong form"), events=out) from error
        return out

    def finish(self) -> list[ChatEvent]:
        """The last steps; see `dialect.StreamReader`."""
        return self.close(whole=False)

    def close(self, *, whole: bool) -> list[ChatEvent]:
        """The last steps; the candidates of a `whole` answer may go without finish reasons.

        Raises:
            MeshError: FAULT_TRUNCATED for a stream that nothing ended, FAULT_BAD_ANSWER for a whole answer that has
                neither content nor a reason why.
        """
        if self._closed:
            return []
        if self._blocked and not self._choices:
            self._choices[0] = _Choice(0)
        choices = list(self._choices.values())
        if not choices or not all(choice.finish or self._blocked for choice in choices):
            if not whole:
                raise truncated()
            if not any(choice.finish or choice.calls or self._spoke(choice) for choice in choices):
                raise bad_answer("the provider's answer has no candidates")
        self._closed = True
        out: list[ChatEvent] = []
        for choice in choices:
            self._close_call(choice, out)
            out.append(self._finished(choice))
        if self._usage:
            out.append(ChatEvent(usage=self._usage))
            if self._usage_extras:
                out[-1].extensions["usageMetadata"] = jsontools.dumps(self._usage_extras)
        self._release(out)
        return out

    def _spoke(self, choice: _Choice) -> bool:
        return f"{choice.index}.spoke" in self._sent

    def _finished(self, choice: _Choice) -> ChatEvent:
        word = choice.finish
        reason = finish_of(word, tool_calls=choice.calls > 0)
        if not word and self._blocked:
            word, reason = self._blocked, pb.FINISH_REASON_CONTENT_FILTER
        return ChatEvent(choice=choice.index, finished=pb.ChoiceFinished(reason=reason, vendor_reason=word))

    def _chunk(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        if chunk.get("error"):
            raise fault_in(chunk)
        before = len(out)
        self._start(chunk, out)
        for place, candidate in enumerate(objects_in(chunk.get("candidates"))):
            self._candidate(candidate, place, out)
        reason = object_in(chunk.get("promptFeedback")).get("blockReason")
        if isinstance(reason, str) and reason not in ("", "BLOCK_REASON_UNSPECIFIED"):
            self._blocked = reason
        usage = usage_from(chunk.get("usageMetadata"))
        if usage:
            self._usage = usage
            self._usage_extras = usage_extras(chunk["usageMetadata"])
        self._members(chunk, _CHUNK_MEMBERS, "", out[before:])

    def _start(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        if self._started or not (chunk.get("candidates") or chunk.get("promptFeedback") or chunk.get("responseId")):
            return
        self._started = True
        self._id = text_of(chunk.get("responseId"))
        self._created = seconds_of(chunk.get("createTime"))
        model = text_of(chunk.get("modelVersion"))
        out.append(ChatEvent(start=pb.AnswerStart(id=self._id, model=model, create_time=self._created)))

    def _candidate(self, value: dict[str, Any], place: int, out: list[ChatEvent]) -> None:
        index = value.get("index")
        index = index if isinstance(index, int) and 0 <= index < 1 << 31 else place
        choice = self._choices.setdefault(index, _Choice(index))
        before = len(out)
        content = object_in(value.get("content"))
        for part in objects_in(content.get("parts")):
            self._part(part, choice, out)
        if len(out) > before:
            self._sent[f"{index}.spoke"] = b""
        if value.get("logprobsResult"):
            out.append(ChatEvent(choice=index, logprobs=jsontools.dumps(value["logprobsResult"])))
        if is_finish(value.get("finishReason")):
            choice.finish = better_finish(choice.finish, value["finishReason"])
        if "groundingMetadata" in value:
            cited = grounding.citations(value["groundingMetadata"], "".join(choice.said))
            if cited:
                self._member("delta.annotations", jsontools.dumps(cited), out[before:], index)
        self._members(value, _CANDIDATE_MEMBERS, "choice.", out[before:], index)
        self._members(content, _CONTENT_MEMBERS, "delta.", out[before:], index)

    def _members(
        self, value: dict[str, Any], known: frozenset[str], prefix: str, made: list[ChatEvent], index: int = 0
    ) -> None:
        """Sends members that are not `known` along with the steps made, when they changed."""
        for name, item in value.items():
            if name not in known and item is not None:
                self._member(f"{prefix}{name}", jsontools.dumps(item), made, index)

    def _member(self, name: str, raw: bytes, made: list[ChatEvent], index: int) -> None:
        key = f"{index}.{name}"
        if self._sent.get(key) == raw:
            return
        self._sent[key] = raw
        if made:
            made[-1].extensions[name] = raw
        else:
            self._held[key] = raw

    def _release(self, out: list[ChatEvent]) -> None:
        """Gives the members still held to the last step of their choice."""
        for key, raw in self._held.items():
            index, _, name = key.partition(".")
            of_choice = (event for event in out if event.choice == int(index) and event.HasField("finished"))
            next(of_choice, out[0]).extensions[name] = raw
        self._held.clear()

    def _part(self, part: dict[str, Any], choice: _Choice, out: list[ChatEvent]) -> None:
        text, signature = text_of(part.get("text")), text_of(part.get(SIGNATURE))
        if isinstance(part.get("functionCall"), dict):
            self._call(part, part["functionCall"], signature, choice, out)
        elif isinstance(part.get("inlineData"), dict) and not part.get("thought"):
            self._media(part, signature, choice, out)
        elif not text and part.keys() - _TEXT_MEMBERS:
            _seal(part, choice, out)
        elif text or signature:
            out.append(self._text(part, text, signature, choice))

    def _text(self, part: dict[str, Any], text: str, signature: str, choice: _Choice) -> ChatEvent:
        event = ChatEvent(choice=choice.index)
        step = event.reasoning if part.get("thought") is True else event.text
        step.text = text
        choice.thinking = False
        if isinstance(step, pb.ReasoningDelta):
            step.summary = True  # what is shown of thoughts
            choice.thinking = not signature
        else:
            choice.said.append(text)
        if signature:
            step.state.CopyFrom(state_of(signature))
        for member, item in part.items():
            if member not in _TEXT_MEMBERS and item is not None:
                event.extensions[f"delta.{member}"] = jsontools.dumps(item)
        return event

    def _media(self, part: dict[str, Any], signature: str, choice: _Choice, out: list[ChatEvent]) -> None:
        """A picture or sound that was made; anything else is a part of an unknown kind."""
        value = part["inlineData"]
        kind = text_of(value.get("mimeType"))
        try:
            data = decoded(text_of(value.get("data")))
        except ValueError:
            raise bad_answer("the media in the provider's answer is not base64") from None
        event = ChatEvent(choice=choice.index)
        if not data or not kind.startswith(("image/", "audio/")) or part.keys() - _MEDIA_MEMBERS:
            _seal(part, choice, out)
            return
        choice.thinking = False
        if kind.startswith("image/"):
            event.image.media.CopyFrom(pb.Media(data=data, media_type=kind))
        else:
            event.audio.data = data
            self._member("delta.audioMimeType", jsontools.dumps(kind), [event], choice.index)
        if signature:
            event.extensions[states.OF_PART] = states.packed(state_of(signature))
        out.append(event)

    def _call(
        self, part: dict[str, Any], value: dict[str, Any], signature: str, choice: _Choice, out: list[ChatEvent]
    ) -> None:
        """A call, or a piece of one: the first has the name, the last does not say that it goes on."""
        name = text_of(value.get("name"))
        choice.thinking = False
        if name:
            self._close_call(choice, out)
            event = self._new_call(value, name, choice)
            if signature:
                event.tool_call.state.CopyFrom(state_of(signature))
            for member, item in part.items():
                if member not in _CALL_MEMBERS and item is not None:
                    event.extensions[f"tool_call.{member}"] = jsontools.dumps(item)
            out.append(event)
        call = choice.open_call
        if call is None:
            return  # whole, or the end of a call that is over
        call.arguments.put(object_in(value.get("args")))
        call.arguments.feed(value.get("partialArgs"))
        if value.get("willContinue") is not True:
            self._close_call(choice, out)

    def _new_call(self, value: dict[str, Any], name: str, choice: _Choice) -> ChatEvent:
        """The first step of a call; of one that came whole the only one."""
        pieces = value.get("willContinue") is True or bool(value.get("partialArgs"))
        arguments = "" if pieces else jsontools.dumps(object_in(value.get("args"))).decode()
        given = text_of(value.get("id"))
        call_id = given or made_call_id(self._id, self._created, choice.index, choice.calls, name, arguments)
        if pieces:
            choice.open_call = _OpenCall(choice.calls)
        step = pb.ToolCallDelta(
            index=choice.calls, id=call_id, name=name, arguments=arguments, kind=pb.TOOL_KIND_FUNCTION
        )
        choice.calls += 1
        return ChatEvent(choice=choice.index, tool_call=step)

    def _close_call(self, choice: _Choice, out: list[ChatEvent]) -> None:
        """The arguments of a call that came in pieces, whole: values may come in any order until its end."""
        call = choice.open_call
        if call is None:
            return
        choice.open_call = None
        step = pb.ToolCallDelta(index=call.index, arguments=call.arguments.text())
        out.append(ChatEvent(choice=choice.index, tool_call=step))


def _seal(part: dict[str, Any], choice: _Choice, out: list[ChatEvent]) -> None:
    """Keeps a part of an unknown kind whole; a thought before it ends here, for steps without a seal run together."""
    if choice.thinking:
        ended = pb.VendorState(dialect=NAME, kind=SIGNATURE)
        out.append(ChatEvent(choice=choice.index, reasoning=pb.ReasoningDelta(state=ended)))
    choice.thinking = False
    whole = pb.VendorState(dialect=NAME, kind=PART, data=jsontools.dumps(part))
    out.append(ChatEvent(choice=choice.index, reasoning=pb.ReasoningDelta(state=whole)))
