"""A vendor's answer to a task on its way to the caller: passed on, translated into the caller's dialect, or typed.

One of the three is made for each attempt. All keep count of what was used, for vendors that do not say.
"""

from typing import Final

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1.modality_pb2 import Result, SpeechResult, Task
from polyroute.api.providers.v1.providers_pb2 import EncodedContent, GenerateEvent
from polyroute.dialects import sound
from polyroute.dialects.dialect import BrokenStreamError, Metered, SseEvent
from polyroute.dialects.task import Body, Outcome, TaskDialect, TaskOutbound
from polyroute.mesh.errors import MeshError
from polyroute.providers.rendering import CHARS_PER_TOKEN, BrokenAnswerError

HEAD_BYTES: Final = 8192  # of sound that are kept to tell its length


class TaskRendering:
    """What the three have in common: sound in pieces, and what was used.

    Args:
        facts: What the caller asked for.

    Attributes:
        passes_events: A stream of events goes through as it comes.
        passes_sound: Sound goes through as it comes.
        content_events: How much content was handed on.
        complete: The stream's last event came.
        done: Its end marker came.
    """

    passes_events = False
    complete = False
    done = False

    def __init__(self, facts: RequestFacts) -> None:
        self.facts = facts
        self.passes_sound = facts.operation == chat_pb2.OPERATION_SPEECH and not facts.stream
        self.content_events = 0
        self._usage: Usage | None = None
        self._chars = 0
        self._head = b""
        self._size = 0
        self._kind = ""

    def task(self) -> Task | None:
        """What was asked, typed; None when that cannot be said."""
        raise NotImplementedError

    def whole(self, body: bytes, content_type: str) -> list[GenerateEvent]:
        """The steps of a whole answer. Raises the fault in it, FAULT_BAD_ANSWER when it is none."""
        raise NotImplementedError

    def piece(self, data: bytes, content_type: str) -> list[GenerateEvent]:
        """The steps of a piece of sound."""
        first = not self._size
        self._kind = content_type
        self._size += len(data)
        if len(self._head) < HEAD_BYTES:
            self._head += data[:HEAD_BYTES]
        self.content_events += 1
        return [self._sound(data, content_type if first else "")]

    def _sound(self, data: bytes, content_type: str) -> GenerateEvent:
        return GenerateEvent(encoded=EncodedContent(data=data, content_events=1, content_type=content_type))

    def events(self, events: list[SseEvent]) -> list[GenerateEvent]:
        """The steps of one batch of events of a stream that passes. Raises BrokenAnswerError at a break."""
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the vendor streamed where nobody asked it to")

    def end(self) -> None:
        """Refuses the end of a stream that nothing announced: FAULT_TRUNCATED."""

    def used(self) -> Usage:
        """The vendor's figures, or ours, marked as estimated."""
        return self._usage if self._usage is not None else self._estimate()

    def _estimate(self) -> Usage:
        facts = self.facts
        if facts.operation == chat_pb2.OPERATION_COUNT_TOKENS:
            return Usage()  # no vendor charges for counting
        usage = Usage(input_tokens=facts.input_tokens_estimate, estimated=True)
        if facts.operation == chat_pb2.OPERATION_IMAGE:
            usage.images = max(1, facts.choices)
        elif facts.operation == chat_pb2.OPERATION_SPEECH:
            self._estimate_speech(usage)
        elif facts.operation == chat_pb2.OPERATION_TRANSCRIPTION:
            task = self.task()
            given = task.transcription if task is not None else None
            usage.audio_milliseconds = sound.milliseconds(given.data, given.media_type) if given is not None else 0
            usage.output_tokens = -(-self._chars // CHARS_PER_TOKEN)
        return usage

    def _estimate_speech(self, usage: Usage) -> None:
        task = self.task()
        if task is not None:
            usage.other["input_characters"] = len(task.speech.text)
        # what is called PCM in the request often comes as mere bytes
        kind = f"{self._kind} {task.speech.format if task is not None else ''}"
        usage.audio_milliseconds = sound.milliseconds(self._head, kind, size=self._size)

    def _take(self, outcome: Outcome) -> None:
        """Notes what a whole answer used."""
        self._usage = outcome.usage
        self.content_events = 1
        result = outcome.result
        self._chars = len(result.transcription.text)
        self._head, self._kind = result.speech.data, result.speech.media_type
        self._size = len(self._head)


class Passed(TaskRendering):
    """The vendor's own bytes, for a caller of the same dialect; metering reads them, and changes nothing.

    Args:
        dialect: Of both.
        facts: What the caller asked for.
        given: The caller's request.
    """

    def __init__(self, dialect: TaskDialect, facts: RequestFacts, given: Body) -> None:
        super().__init__(facts)
        self.passes_events = facts.stream
        self._dialect = dialect
        self._given = given
        self._meter = dialect.meter()

    def task(self) -> Task | None:
        """What was asked; None for a request that only this vendor understands."""
        try:
            return self._dialect.read_task(self._given)
        except MeshError:
            return None

    def whole(self, body: bytes, content_type: str) -> list[GenerateEvent]:
        """The body as it is; as a stream when that was asked for and the vendor answered whole."""
        outcome = self._dialect.read_outcome(body, content_type)
        self._take(outcome)
        if not self.facts.stream:
            if content_type.startswith("text/event-stream"):
                raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the vendor streamed where nobody asked it to")
            return [_encoded(Body(body, content_type))]
        asked = self._dialect.read_task(self._given)
        return [_encoded(self._dialect.write_outcome(outcome, asked, request_id="", model=self.facts.model))]

    def events(self, events: list[SseEvent]) -> list[GenerateEvent]:
        """The steps of one batch."""
        try:
            return self._metered(self._meter.feed(events))
        except BrokenStreamError as broken:
            raise BrokenAnswerError(self._metered(broken.metered or Metered()), broken) from None

    def _metered(self, metered: Metered) -> list[GenerateEvent]:
        self._chars += metered.text_chars
        self.content_events += metered.content_events
        self._usage = metered.usage or self._usage
        self.complete = self.complete or bool(metered.finish)
        self.done = self.done or metered.done
        if not metered.data:
            return []
        return [GenerateEvent(encoded=EncodedContent(data=metered.data, content_events=metered.content_events))]

    def end(self) -> None:
        """Refuses an end without a last event."""
        if not self.complete:
            raise MeshError.upstream(errors_pb2.FAULT_TRUNCATED, "the vendor's stream ended before the answer did")


class Translated(TaskRendering):
    """The answer in the caller's dialect, which is not the vendor's.

    Args:
        source: The vendor's dialect.
        target: The caller's.
        facts: What the caller asked for.
        task: The same, typed.
        request_id: The call's id.
    """

    def __init__(
        self, source: TaskOutbound, target: TaskDialect, facts: RequestFacts, task: Task, request_id: str
    ) -> None:
        super().__init__(facts)
        self._source = source
        self._target = target
        self._task = task
        self._request_id = request_id

    def task(self) -> Task:
        """What was asked."""
        return self._task

    def whole(self, body: bytes, content_type: str) -> list[GenerateEvent]:
        """The answer, translated."""
        outcome = self._source.read_outcome(body, content_type)
        self._take(outcome)
        model = self.facts.model
        return [_encoded(self._target.write_outcome(outcome, self._task, request_id=self._request_id, model=model))]


class Typed(TaskRendering):
    """The answer as contract messages, for callers of the gRPC door.

    Args:
        source: The vendor's dialect.
        facts: What the caller asked for.
        task: The same, typed.
    """

    def __init__(self, source: TaskOutbound, facts: RequestFacts, task: Task) -> None:
        super().__init__(facts)
        self._source = source
        self._task = task

    def task(self) -> Task:
        """What was asked."""
        return self._task

    def whole(self, body: bytes, content_type: str) -> list[GenerateEvent]:
        """The result."""
        outcome = self._source.read_outcome(body, content_type)
        self._take(outcome)
        return [GenerateEvent(result=outcome.result)]

    def _sound(self, data: bytes, content_type: str) -> GenerateEvent:
        return GenerateEvent(result=Result(speech=SpeechResult(data=data, media_type=content_type)))


def _encoded(body: Body) -> GenerateEvent:
    """A whole body; its media type where that is neither JSON nor events."""
    kind = body.content_type
    plain = "json" in kind or kind.startswith("text/event-stream")
    return GenerateEvent(encoded=EncodedContent(data=body.data, content_events=1, content_type="" if plain else kind))
