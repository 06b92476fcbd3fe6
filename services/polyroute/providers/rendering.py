"""A vendor's answer on its way to the caller: passed through, translated into the caller's dialect, or typed.

One of the three is made for each attempt. They have the same four methods, so the code that reads the vendor's
connection (`conversation.py`) does not know which one it feeds.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, FinishReason, RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1.providers_pb2 import EncodedContent, GenerateEvent
from polyroute.dialects.dialect import (
    BrokenStreamError,
    Dialect,
    Metered,
    Outbound,
    SseEvent,
    StreamReader,
    StreamWriter,
)
from polyroute.dialects.events import joined
from polyroute.dialects.foreign import settle_answer, settle_steps
from polyroute.mesh.errors import MeshError

CHARS_PER_TOKEN: Final = 4  # of English prose; only for answers whose vendor does not count
FEW: Final = 8  # steps of one read that are written as the vendor cut them; more came faster than anybody reads


class BrokenAnswerError(Exception):
    """A stream that reported an error or stopped making sense.

    Attributes:
        steps: What the same batch held before the break: the caller gets an exact prefix of the answer.
        error: The vendor's fault.
    """

    def __init__(self, steps: list[GenerateEvent], error: MeshError) -> None:
        super().__init__(error.message)
        self.steps = steps
        self.error = error


class Tally:
    """What metering has seen of one answer so far."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish: FinishReason.ValueType = chat_pb2.FINISH_REASON_UNSPECIFIED
        self.chars = 0
        self.content_events = 0
        self.done = False

    def usage_or_estimate(self, facts: RequestFacts) -> Usage:
        """The vendor's figures, or ours, marked as estimated."""
        if self.usage is not None:
            return self.usage
        return Usage(
            input_tokens=facts.input_tokens_estimate,
            output_tokens=-(-self.chars // CHARS_PER_TOKEN),
            estimated=True,
        )


class Rendering(Protocol):
    """Turns what a vendor says into the steps of an attempt, and keeps the tally."""

    tally: Tally

    def feed(self, events: list[SseEvent]) -> list[GenerateEvent]:
        """The steps of one batch of the vendor's events. Raises BrokenAnswerError at a break."""
        ...

    def end(self) -> list[GenerateEvent]:
        """The last steps, once the stream is over. Raises FAULT_TRUNCATED when it was not complete."""
        ...

    def whole(self, body: bytes) -> list[GenerateEvent]:
        """The steps of a whole answer. Raises the fault in it, FAULT_BAD_ANSWER when it is none."""
        ...


class Passthrough:
    """The vendor's own bytes, for a caller of the same dialect; metering reads them, and changes nothing."""

    def __init__(self, dialect: Dialect, facts: RequestFacts) -> None:
        self.tally = Tally()
        self._dialect = dialect
        self._facts = facts
        self._meter = dialect.meter(hide_usage=not facts.stream_usage)

    def feed(self, events: list[SseEvent]) -> list[GenerateEvent]:
        """The steps of one batch."""
        try:
            metered = self._meter.feed(events)
        except BrokenStreamError as broken:
            raise BrokenAnswerError(self._metered(broken.metered or Metered()), broken) from None
        return self._metered(metered)

    def _metered(self, metered: Metered) -> list[GenerateEvent]:
        tally = self.tally
        tally.chars += metered.text_chars
        tally.content_events += metered.content_events
        if metered.usage is not None:
            tally.usage = metered.usage
        if metered.finish:
            tally.finish = metered.finish
        tally.done = tally.done or metered.done
        return _encoded(metered.data, metered.content_events)

    def end(self) -> list[GenerateEvent]:
        """The last event where the vendor forgot it; refuses an end that nothing announced."""
        if self.tally.done:
            return []
        if not self.tally.finish:
            raise MeshError.upstream(errors_pb2.FAULT_TRUNCATED, "the vendor's stream ended before the answer did")
        return _encoded(self._dialect.lost_end, 0)

    def whole(self, body: bytes) -> list[GenerateEvent]:
        """The body as it is."""
        if self._facts.stream:  # the vendor answered whole where a stream was asked for
            return self._as_stream(body)
        seen = self._dialect.read_answer_facts(body)
        self.tally.usage, self.tally.finish, self.tally.chars = seen.usage, seen.finish, seen.text_chars
        self.tally.content_events = 1
        return _encoded(body.strip(), 1)

    def _as_stream(self, body: bytes) -> list[GenerateEvent]:
        """A whole answer as the stream that the caller expects."""
        reader = self._dialect.reader()
        steps = [*reader.feed([("", body.strip())]), *reader.finish()]
        content = _count(steps, self.tally)
        facts = self._facts
        writer = self._dialect.writer(request_id="", model=facts.model, include_usage=facts.stream_usage)
        return _encoded(writer.feed(steps), content)


class Translated:
    """The answer in the caller's dialect, which is not the vendor's.

    Args:
        source: The vendor's dialect.
        target: The caller's.
        facts: What the caller asked for.
        request_id: The call's id, from which the answer's own id is made.
    """

    def __init__(self, source: Outbound, target: Dialect, facts: RequestFacts, request_id: str) -> None:
        self.tally = Tally()
        self._source = source
        self._target = target
        self._facts = facts
        self._request_id = request_id
        self._stream: tuple[StreamReader, StreamWriter] | None = None  # of an answer that comes in pieces

    def feed(self, events: list[SseEvent]) -> list[GenerateEvent]:
        """The steps of one batch."""
        try:
            return self._written(self._both[0].feed(events))
        except BrokenStreamError as broken:
            raise BrokenAnswerError(self._written(broken.events), broken) from None

    def end(self) -> list[GenerateEvent]:
        """The last steps."""
        return self._written(self._both[0].finish())

    @property
    def _both(self) -> tuple[StreamReader, StreamWriter]:
        if self._stream is None:
            facts = self._facts
            writer = self._target.writer(
                request_id=self._request_id, model=facts.model, include_usage=facts.stream_usage
            )
            self._stream = self._source.reader(), writer
        return self._stream

    def _written(self, steps: Sequence[ChatEvent]) -> list[GenerateEvent]:
        settle_steps(steps, self._target.name)
        content = _count(steps, self.tally)
        return _encoded(self._both[1].feed(joined(steps) if len(steps) > FEW else list(steps)), content)

    def whole(self, body: bytes) -> list[GenerateEvent]:
        """The whole answer, translated; as a stream when that was asked for."""
        if self._facts.stream:
            return _at_once(self, body)
        response = self._source.read_answer(body)
        settle_answer(response, self._target.name)
        tally = self.tally
        tally.usage = response.usage if response.HasField("usage") else None
        tally.finish = response.choices[0].finish_reason if response.choices else tally.finish
        tally.chars = _chars(response)
        tally.content_events = 1
        answer = self._target.write_answer(response, request_id=self._request_id, model=self._facts.model)
        return _encoded(answer, 1)


class Typed:
    """The answer as contract messages, for callers of the gRPC door."""

    def __init__(self, source: Outbound) -> None:
        self.tally = Tally()
        self._reader = source.reader()

    def feed(self, events: list[SseEvent]) -> list[GenerateEvent]:
        """The steps of one batch."""
        try:
            return self._events(self._reader.feed(events))
        except BrokenStreamError as broken:
            raise BrokenAnswerError(self._events(broken.events), broken) from None

    def end(self) -> list[GenerateEvent]:
        """The last steps."""
        return self._events(self._reader.finish())

    def whole(self, body: bytes) -> list[GenerateEvent]:
        """The steps of an answer that came whole."""
        return _at_once(self, body)

    def _events(self, steps: Sequence[ChatEvent]) -> list[GenerateEvent]:
        _count(steps, self.tally)
        return [GenerateEvent(chat=step) for step in steps if step.WhichOneof("event") != "usage"]


def _at_once(rendering: Rendering, body: bytes) -> list[GenerateEvent]:
    """The steps of a stream whose answer came whole: nothing of a broken one is given to anybody."""
    try:
        return [*rendering.feed([("", body.strip())]), *rendering.end()]
    except BrokenAnswerError as broken:
        raise broken.error from None


def _encoded(data: bytes, content_events: int) -> list[GenerateEvent]:
    if not data:
        return []
    return [GenerateEvent(encoded=EncodedContent(data=data, content_events=content_events))]


def _count(steps: Sequence[ChatEvent], tally: Tally) -> int:
    """Adds typed steps to the tally; how many of them are content."""
    content = 0
    for step in steps:
        kind = step.WhichOneof("event")
        if kind == "usage":
            tally.usage = step.usage
        elif kind == "finished":
            tally.finish = tally.finish or step.finished.reason
        elif kind in ("text", "reasoning", "refusal"):
            content += 1
            tally.chars += len(getattr(step, kind).text)
        elif kind == "tool_call":
            content += 1
            tally.chars += len(step.tool_call.arguments)
        elif kind in ("audio", "image"):
            content += 1
    tally.content_events += content
    return content


def _chars(response: chat_pb2.ChatResponse) -> int:
    """Characters of an answer's content."""
    total = 0
    for choice in response.choices:
        for part in choice.message.parts:
            kind = part.WhichOneof("part")
            if kind in ("text", "reasoning", "refusal"):
                total += len(getattr(part, kind).text)
            elif kind == "tool_call":
                total += len(part.tool_call.arguments)
    return total
