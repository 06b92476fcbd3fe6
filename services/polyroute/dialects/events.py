"""A whole answer and its steps are the same thing twice: from steps to the answer, and from the answer to steps."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatResponse, Choice, Part
from polyroute.dialects import jsontools, states

# Where an extension of a step belongs in the answer; see `dialect` for the prefixes.
_CHOICE: Final = "choice."
_DELTA: Final = "delta."
_CALL: Final = "tool_call."
_STATELESS: Final = frozenset({"image", "audio"})  # whose steps have no member for a state


class Assembler:
    """Puts the steps of one stream together."""

    def __init__(self) -> None:
        self._response = ChatResponse()
        self._choices: dict[int, Choice] = {}
        self._calls: dict[tuple[int, int], Part] = {}
        self._sound: dict[int, bytearray] = {}
        self._logprobs: dict[int, list[bytes]] = {}

    def feed(self, events: Iterable[ChatEvent]) -> None:
        """Adds steps."""
        for event in events:
            self._event(event)

    def response(self) -> ChatResponse:
        """The answer as far as it has come."""
        del self._response.choices[:]
        for index in sorted(self._choices):
            choice = self._response.choices.add()
            choice.CopyFrom(self._choices[index])
            for part in choice.message.parts:
                if part.HasField("audio") and self._sound.get(index):
                    part.audio.media.data = bytes(self._sound[index])
            choice.logprobs = _joined(self._logprobs.get(index, []))
        return self._response

    def _event(self, event: ChatEvent) -> None:
        kind = event.WhichOneof("event")
        if kind == "start":
            self._response.id = event.start.id
            self._response.model = event.start.model
            self._response.create_time = event.start.create_time
        elif kind == "usage":
            self._response.usage.CopyFrom(event.usage)
        elif kind:
            choice = self._choice(event.choice)
            part = self._step(event, choice)
            self._note(event, choice, part)
            return
        self._note(event, None, None)

    def _choice(self, index: int) -> Choice:
        if index not in self._choices:
            choice = Choice(index=index)
            choice.message.role = pb.ROLE_ASSISTANT
            self._choices[index] = choice
        return self._choices[index]

    def _step(self, event: ChatEvent, choice: Choice) -> Part | None:
        match event.WhichOneof("event"):
            case "text":
                part = _open(choice, "text")
                part.text.text += event.text.text
                if event.text.HasField("state"):
                    part.state.CopyFrom(event.text.state)
                return part
            case "reasoning":
                return _reason(choice, event.reasoning)
            case "refusal":
                part = _open(choice, "refusal")
                part.refusal.text += event.refusal.text
                return part
            case "tool_call":
                return self._call(event.choice, choice, event.tool_call)
            case "audio":
                return self._audio(event.choice, choice, event.audio)
            case "image":
                part = choice.message.parts.add()
                part.image.CopyFrom(event.image)
                return part
            case "logprobs":
                self._logprobs.setdefault(event.choice, []).append(event.logprobs)
            case "finished":
                choice.finish_reason = event.finished.reason
                choice.vendor_finish_reason = event.finished.vendor_reason
        return None

    def _call(self, index: int, choice: Choice, step: pb.ToolCallDelta) -> Part:
        key = (index, step.index)
        if key not in self._calls:
            self._calls[key] = choice.message.parts.add()
        part = self._calls[key]
        call = part.tool_call
        call.id = call.id or step.id
        call.name = call.name or step.name
        call.kind = call.kind or step.kind
        call.namespace = call.namespace or step.namespace
        call.arguments += step.arguments
        if step.HasField("state"):
            part.state.CopyFrom(step.state)
        return part

    def _audio(self, index: int, choice: Choice, step: pb.AudioDelta) -> Part:
        part = _open(choice, "audio")
        part.audio.id = part.audio.id or step.id
        part.audio.transcript += step.transcript
        self._sound.setdefault(index, bytearray()).extend(step.data)
        return part

    def _note(self, event: ChatEvent, choice: Choice | None, part: Part | None) -> None:
        for name, raw in event.extensions.items():
            if part is not None and name == states.OF_PART:
                state = states.unpacked(raw)
                if state:
                    part.state.CopyFrom(state)
            elif choice is not None and name.startswith(_CHOICE):
                choice.extensions[name.removeprefix(_CHOICE)] = raw
            elif choice is not None and name.startswith(_DELTA):
                choice.message.extensions[name.removeprefix(_DELTA)] = raw
            elif part is not None and name.startswith(_CALL):
                part.extensions[name.removeprefix(_CALL)] = raw
            else:
                self._response.extensions[name] = raw


def _joined(pieces: list[bytes]) -> bytes:
    """Log probabilities of a whole answer from those of its pieces: lists under the same name, one after the other."""
    if len(pieces) < 2:
        return b"".join(pieces)
    values = [jsontools.loads(piece) for piece in pieces]
    if not all(isinstance(value, dict) for value in values):
        return jsontools.dumps(values)
    joined: dict[str, Any] = {}
    for value in values:
        for name, item in value.items():
            before = joined.get(name)
            joined[name] = before + item if isinstance(before, list) and isinstance(item, list) else item or before
    return jsontools.dumps(joined)


def _open(choice: Choice, kind: str) -> Part:
    """The last part of a choice if it is of a kind and not sealed, or a new one."""
    last = choice.message.parts[-1] if choice.message.parts else None
    if last is not None and last.WhichOneof("part") == kind and not last.HasField("state"):
        return last
    return choice.message.parts.add()


def _reason(choice: Choice, step: pb.ReasoningDelta) -> Part:
    part = _open(choice, "reasoning")
    if part.HasField("reasoning") and part.reasoning.summary != step.summary and step.text:
        part = choice.message.parts.add()
    part.reasoning.text += step.text
    part.reasoning.summary = part.reasoning.summary or step.summary
    part.reasoning.redacted = part.reasoning.redacted or step.redacted
    if step.HasField("state"):
        part.state.CopyFrom(step.state)
    return part


def text_step(text: str, choice: int = 0) -> ChatEvent:
    """A piece of text: the step that there are most of, and so made in the way that costs least."""
    step = ChatEvent()
    step.text.text = text
    if choice:
        step.choice = choice
    return step


def joined(steps: Sequence[ChatEvent]) -> list[ChatEvent]:
    """The steps with pieces of one text that follow each other as one piece; the steps themselves may be changed."""
    out: list[ChatEvent] = []
    run: list[str] = []  # pieces of the last step's text, when more may follow
    choice = 0
    for step in steps:
        plain = step.WhichOneof("event") == "text" and not step.text.HasField("state")
        if run and plain and step.choice == choice and not step.extensions:
            run.append(step.text.text)
            continue
        if len(run) > 1:
            out[-1].text.text = "".join(run)
        run = [step.text.text] if plain else []
        choice = step.choice
        out.append(step)
    if len(run) > 1:
        out[-1].text.text = "".join(run)
    return out


def assemble(events: Iterable[ChatEvent]) -> ChatResponse:
    """The answer that steps make."""
    assembler = Assembler()
    assembler.feed(events)
    return assembler.response()


def take_apart(response: ChatResponse) -> list[ChatEvent]:
    """The steps of a whole answer, each part in one."""
    start = pb.AnswerStart(id=response.id, model=response.model, create_time=response.create_time)
    out = [ChatEvent(start=start, extensions=response.extensions)]
    for choice in response.choices:
        out += _take_choice_apart(choice)
    if response.HasField("usage"):
        out.append(ChatEvent(usage=response.usage))
    return out


def _take_choice_apart(choice: Choice) -> list[ChatEvent]:
    index = choice.index
    out: list[ChatEvent] = []
    calls = 0
    for part in choice.message.parts:
        event = _event_of(part, calls)
        if event is None:
            continue
        calls += event.HasField("tool_call")
        event.choice = index
        for name, raw in part.extensions.items():
            event.extensions[f"{_CALL}{name}" if event.HasField("tool_call") else f"{_DELTA}{name}"] = raw
        if part.HasField("state") and part.WhichOneof("part") in _STATELESS:
            event.extensions[states.OF_PART] = states.packed(part.state)
        out.append(event)
    if choice.logprobs:
        out.append(ChatEvent(choice=index, logprobs=choice.logprobs))
    finished = pb.ChoiceFinished(reason=choice.finish_reason, vendor_reason=choice.vendor_finish_reason)
    last = ChatEvent(choice=index, finished=finished)
    for name, raw in choice.message.extensions.items():
        last.extensions[f"{_DELTA}{name}"] = raw
    for name, raw in choice.extensions.items():
        last.extensions[f"{_CHOICE}{name}"] = raw
    return [*out, last]


def _event_of(part: Part, call_index: int) -> ChatEvent | None:
    state = part.state if part.HasField("state") else None
    match part.WhichOneof("part"):
        case "text":
            return ChatEvent(text=pb.TextDelta(text=part.text.text, state=state))
        case "reasoning":
            reasoning = part.reasoning
            return ChatEvent(
                reasoning=pb.ReasoningDelta(
                    text=reasoning.text, state=state, redacted=reasoning.redacted, summary=reasoning.summary
                )
            )
        case "tool_call":
            call = part.tool_call
            return ChatEvent(
                tool_call=pb.ToolCallDelta(
                    index=call_index,
                    id=call.id,
                    name=call.name,
                    arguments=call.arguments,
                    kind=call.kind,
                    state=state,
                    namespace=call.namespace,
                )
            )
        case "refusal":
            return ChatEvent(refusal=pb.RefusalDelta(text=part.refusal.text))
        case "audio":
            audio = part.audio
            return ChatEvent(audio=pb.AudioDelta(id=audio.id, data=audio.media.data, transcript=audio.transcript))
        case "image":
            return ChatEvent(image=part.image)
        case _:
            return None
