"""`openai.chat` and `openai.completions` streams into steps of an answer, in all the forms that vendors send them.

Finish reasons and usage are held back until the stream ends: some vendors send a finish reason twice, content after it,
or new usage with every event, while the steps promise each once.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, Part, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults, jsontools, sse, states
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import text_step
from polyroute.dialects.openai import parts
from polyroute.dialects.openai.chat_answer import (
    ANSWER_MEMBERS,
    MESSAGE_MEMBERS,
    audio_bytes,
    bad_answer,
    read_content,
    says_something,
    seconds_of,
)
from polyroute.dialects.openai.common import better_finish, check_event, finish_of, is_finish, made_call_id, usage_from
from polyroute.dialects.openai.parts import read_reasoning
from polyroute.mesh.errors import MeshError

# Padding against traffic analysis; random, and new with every event.
_PADDING: Final = frozenset({"obfuscation", "p"})
_EVENT_MEMBERS: Final = ANSWER_MEMBERS | _PADDING
_TEXT_ONLY: Final = frozenset({"content", "role"})
_CHOICE_MEMBERS: Final = frozenset({"index", "message", "delta", "text", "finish_reason", "logprobs"})
_CALL_MEMBERS: Final = frozenset({"id", "type", "index", "function", "custom", "extra_content"})


@dataclass(slots=True)
class _Call:
    """A tool call in the making."""

    index: int
    id: str = ""
    name: str = ""


@dataclass(slots=True)
class _Choice:
    """One answer in the making."""

    index: int
    finish: str = ""
    spoke: bool = False  # some content has come
    calls: list[_Call] = field(default_factory=list)
    by_place: dict[int, _Call] = field(default_factory=dict)  # the vendor's index -> the call it means now


class OpenAIReader:
    """Reads one stream; see `dialect.StreamReader`."""

    def __init__(self) -> None:
        self._id = ""
        self._created = 0
        self._started = False
        self._done = False
        self._closed = False
        self._usage: Usage | None = None
        self._told = False  # the usage of the whole answer, and not of a choice
        self._choices: dict[int, _Choice] = {}
        self._sent: dict[str, bytes] = {}  # members of events that repeat with every event, as last told
        self._words: dict[str, str] = {}  # of them, those that are texts
        self._held: dict[str, bytes] = {}  # members of events that gave no step yet

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
        except (TypeError, ValueError, AttributeError) as error:  # a member of a type that the contract does not take
            raise BrokenStreamError.of(bad_answer("the provider sent an event of a wrong form"), events=out) from error
        return out

    def finish(self) -> list[ChatEvent]:
        """The last steps; see `dialect.StreamReader`."""
        if self._closed:
            return []
        finished = self._choices and all(choice.finish for choice in self._choices.values())
        if not self._done and not finished:
            raise MeshError.upstream(
                errors_pb2.FAULT_TRUNCATED, "the provider's stream ended before the answer was complete"
            )
        return self._close()

    def _event(self, name: str, data: bytes, out: list[ChatEvent]) -> None:
        if data[:1] != b"{" and data.strip() == sse.DONE:
            self._done = True
            out += self._close()
            return
        try:
            chunk = jsontools.loads(data)
        except ValueError:
            raise bad_answer("the provider sent broken JSON in its stream") from None
        if name == "error" or (isinstance(chunk, dict) and chunk.get("error")):
            raise faults.fault_in(chunk)
        if not isinstance(chunk, dict):
            raise bad_answer("the provider sent an event that is no object")
        if not chunk.get("choices"):
            check_event(chunk)
        before = len(out)
        self._start(chunk, out)
        for place, value in enumerate(chunk.get("choices") or ()):
            if isinstance(value, dict):
                self._choice(value, place, chunk, out)
        if chunk.get("usage") is not None:
            self._usage = usage_from(chunk["usage"]) or self._usage
            self._told = self._usage is not None
        self._note_members(chunk, out, before)

    def _start(self, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        """The first event that says what answers; some vendors send an empty one ahead, about the prompt."""
        if self._started or not (chunk.get("id") or chunk.get("choices")):
            return
        self._started = True
        self._id = chunk.get("id") or ""
        self._created = seconds_of(chunk.get("created"))
        start = pb.AnswerStart(id=self._id, model=chunk.get("model") or "", create_time=self._created)
        out.append(ChatEvent(start=start))

    def _note_members(self, chunk: dict[str, Any], out: list[ChatEvent], before: int) -> None:
        """Keeps members that no step models until there is a step to go with: the first that this event made."""
        for name, item in chunk.items():
            if name in _EVENT_MEMBERS or item is None or (isinstance(item, str) and self._words.get(name) == item):
                continue
            raw = jsontools.dumps(item)
            if self._sent.get(name) != raw:
                self._sent[name] = self._held[name] = raw
                self._words[name] = item if isinstance(item, str) else ""
        if self._held and len(out) > before:
            for name, raw in self._held.items():
                out[before].extensions[name] = raw
            self._held.clear()

    def _choice(self, value: dict[str, Any], place: int, chunk: dict[str, Any], out: list[ChatEvent]) -> None:
        index = value.get("index")
        index = index if isinstance(index, int) else place
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index)
        before = len(out)
        delta = value.get("delta")
        whole = value.get("message")
        if isinstance(whole, dict) and not choice.spoke and (not delta or chunk.get("object") == "chat.completion"):
            delta = whole  # never streamed; otherwise it repeats what was
        if isinstance(delta, dict):
            self._delta(delta, choice, out)
        elif isinstance(value.get("text"), str) and value["text"]:  # beside a delta it repeats it
            out.append(ChatEvent(choice=index, text=pb.TextDelta(text=value["text"])))
        if value.get("logprobs") is not None and says_something(value["logprobs"]):
            out.append(ChatEvent(choice=index, logprobs=jsontools.dumps(value["logprobs"])))
        choice.spoke = choice.spoke or len(out) > before
        if is_finish(value.get("finish_reason")):
            choice.finish = better_finish(choice.finish, value["finish_reason"])
        if value.get("usage") is not None and not self._told:  # where some vendors have it
            self._usage = usage_from(value["usage"]) or self._usage
        self._note("choice.", value, _CHOICE_MEMBERS, index, out[before:])
        if isinstance(delta, dict):
            self._note("delta.", delta, MESSAGE_MEMBERS, index, out[before:])

    def _note(
        self, level: str, value: dict[str, Any], known: frozenset[str], index: int, made: list[ChatEvent]
    ) -> None:
        if value.keys() <= known:
            return
        for member, raw in parts.extras(value, known).items():
            self._member(f"{index}.{level}{member}", f"{level}{member}", raw, made)

    def _member(self, key: str, name: str, raw: bytes, made: list[ChatEvent]) -> None:
        if self._sent.get(key) == raw:
            return
        self._sent[key] = raw
        if made:
            made[0].extensions[name] = raw
        else:
            self._held[name] = raw

    def _delta(self, delta: dict[str, Any], choice: _Choice, out: list[ChatEvent]) -> None:
        content = delta.get("content")
        if isinstance(content, str) and delta.keys() <= _TEXT_ONLY:
            if content:
                out.append(text_step(content, choice.index))
            return
        self._reasoning(delta, choice, out)
        if isinstance(content, str):
            if content:
                out.append(text_step(content, choice.index))
        elif content:
            self._content(content, choice, out)
        if delta.get("refusal"):
            out.append(ChatEvent(choice=choice.index, refusal=pb.RefusalDelta(text=delta["refusal"])))
        if isinstance(delta.get("audio"), dict) and any(delta["audio"].values()):
            self._audio(delta["audio"], choice, out)
        if delta.get("images"):
            self._images(delta["images"], choice, out)
        for value in delta.get("tool_calls") or ():
            if isinstance(value, dict):
                self._call(value, choice, out)
        legacy = delta.get("function_call")
        if isinstance(legacy, dict) and (legacy.get("name") or legacy.get("arguments")):
            self._call({"index": 0, "function": legacy}, choice, out)

    def _reasoning(self, delta: dict[str, Any], choice: _Choice, out: list[ChatEvent]) -> None:
        plain = delta.get("reasoning_content") or delta.get("reasoning")
        sealed = read_reasoning(delta) if delta.get("reasoning_details") else []
        if isinstance(plain, str) and plain:
            told = "".join(part.reasoning.text for part in sealed)
            if told != plain:  # details beside the plain text mostly repeat it
                out.append(ChatEvent(choice=choice.index, reasoning=pb.ReasoningDelta(text=plain)))
                for part in sealed:
                    part.reasoning.text = ""
        for part in sealed:
            step = _reasoning_step(part)
            if step:
                out.append(ChatEvent(choice=choice.index, reasoning=step))

    def _content(self, content: object, choice: _Choice, out: list[ChatEvent]) -> None:
        known, unknown = read_content(content)
        for part in known:
            if part.HasField("text") and part.text.text:
                out.append(ChatEvent(choice=choice.index, text=pb.TextDelta(text=part.text.text)))
            elif part.HasField("reasoning") and part.reasoning.text:
                out.append(ChatEvent(choice=choice.index, reasoning=pb.ReasoningDelta(text=part.reasoning.text)))
            elif part.HasField("image"):
                out.append(ChatEvent(choice=choice.index, image=part.image))
        if unknown:
            self._member(f"{choice.index}.content_parts", "delta.content_parts", jsontools.dumps(unknown), out[-1:])

    def _audio(self, value: dict[str, Any], choice: _Choice, out: list[ChatEvent]) -> None:
        sound = pb.AudioDelta(
            id=value.get("id") or "",
            data=audio_bytes(value.get("data")),
            transcript=value.get("transcript") or "",
            expire_time=seconds_of(value.get("expires_at")),
        )
        out.append(ChatEvent(choice=choice.index, audio=sound))

    def _images(self, value: object, choice: _Choice, out: list[ChatEvent]) -> None:
        unread: dict[str, bytes] = {}
        for part in parts.pictures_in(value, unread):
            event = ChatEvent(choice=choice.index, image=part.image)
            if part.HasField("state"):
                event.extensions[states.OF_PART] = states.packed(part.state)
            out.append(event)
        for name, raw in unread.items():
            self._member(f"{choice.index}.delta.{name}", f"delta.{name}", raw, out[-1:])

    def _call(self, value: dict[str, Any], choice: _Choice, out: list[ChatEvent]) -> None:
        custom, body = parts.called(value)
        name, given_id = body.get("name") or "", value.get("id") or ""
        call = self._which(value.get("index"), given_id, name, choice)
        step = pb.ToolCallDelta(
            index=call.index, arguments=parts.arguments_text(body.get("input" if custom else "arguments"))
        )
        if not call.id:
            call.id = step.id = given_id or made_call_id(self._id, self._created, choice.index, call.index, name)
            step.kind = pb.TOOL_KIND_CUSTOM if custom else pb.TOOL_KIND_FUNCTION
        if name and not call.name:
            call.name = step.name = name
        state = parts.carried_state(value.get("extra_content"))
        if state:
            step.state.CopyFrom(state)
        event = ChatEvent(choice=choice.index, tool_call=step)
        out.append(event)
        for member, raw in parts.extras(value, _CALL_MEMBERS).items():
            event.extensions[f"tool_call.{member}"] = raw

    def _which(self, place: object, given_id: str, name: str, choice: _Choice) -> _Call:
        """The call that a piece belongs to.

        By the vendor's index, unless a new id with a name shows that the vendor counts every call as the first; by its
        id where it has no index; and else the last one.
        """
        known = choice.by_place.get(place) if isinstance(place, int) else None
        if known is None and not isinstance(place, int):
            known = next((call for call in choice.calls if given_id and call.id == given_id), None)
            if known is None and not given_id and not name and choice.calls:
                known = choice.calls[-1]
        if known is not None and not (given_id and name and known.id and given_id != known.id):
            return known
        call = _Call(len(choice.calls))
        choice.calls.append(call)
        if isinstance(place, int):
            choice.by_place[place] = call
        return call

    def _close(self) -> list[ChatEvent]:
        self._closed = True
        out: list[ChatEvent] = []
        for choice in self._choices.values():
            reason = finish_of(choice.finish, tool_calls=bool(choice.calls))
            out.append(
                ChatEvent(choice=choice.index, finished=pb.ChoiceFinished(reason=reason, vendor_reason=choice.finish))
            )
        if self._usage:
            out.append(ChatEvent(usage=self._usage))
        if out and self._held:
            for name, raw in self._held.items():
                out[0].extensions[name] = raw
            self._held.clear()
        return out


def _reasoning_step(part: Part) -> pb.ReasoningDelta | None:
    """The step for one entry of `reasoning_details`; its state only where it is a seal and not a mere label."""
    state = part.state if part.HasField("state") else None
    step = pb.ReasoningDelta(text=part.reasoning.text, redacted=part.reasoning.redacted, summary=part.reasoning.summary)
    if state and (b'"signature"' in state.data or b'"data"' in state.data or state.kind != "reasoning_details"):
        step.state.CopyFrom(state)
    return step if step.text or step.HasField("state") else None
