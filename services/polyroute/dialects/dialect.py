"""What a dialect offers to the edge and the providers, and the small values that pass between them.

A dialect is one public wire format. Its methods are pure: bytes and contract messages in, bytes and contract messages
out. Objects that follow a stream (`Meter`, `StreamReader`, `StreamWriter`) hold the state of that one stream only.

`ChatEvent.extensions` of every dialect names a member of the event itself by its own name, one of the choice as
`choice.NAME`, and one of the delta as `delta.NAME`, so that a writer of the same dialect can put each where it was.
The state of a picture or of sound is `part.state`; see `states`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from polyroute.api.chat.v1.chat_pb2 import (
    FINISH_REASON_UNSPECIFIED,
    ChatEvent,
    ChatRequest,
    ChatResponse,
    FinishReason,
    RequestFacts,
    Usage,
)
from polyroute.mesh.errors import MeshError

NOTHING: frozenset[str] = frozenset()
SseEvent = tuple[str, bytes]  # (event name or "", data)


@dataclass(slots=True)
class Metered:
    """What a meter read in one batch of events.

    Attributes:
        data: The events for the client: canonical SSE, LF only, with event names only where the dialect has them,
            without the end marker.
        content_events: How many of them carry content (text, reasoning, a tool call, a refusal, sound).
        text_chars: Characters of that content, from which missing usage is estimated.
        usage: The newest usage, if the batch had any.
        finish: The finish reason, if the batch had one; FINISH_REASON_UNSPECIFIED otherwise.
        done: The end marker came.
    """

    data: bytes = b""
    content_events: int = 0
    text_chars: int = 0
    usage: Usage | None = None
    finish: FinishReason.ValueType = FINISH_REASON_UNSPECIFIED
    done: bool = False


class AnswerFacts(NamedTuple):
    """What metering needs of a whole answer.

    Attributes:
        usage: What the vendor says it used; None when it does not.
        finish: Why the first choice ended.
        text_chars: Characters of content, from which missing usage is estimated.
    """

    usage: Usage | None
    finish: FinishReason.ValueType
    text_chars: int


class BrokenStreamError(MeshError):
    """A vendor's stream that reported an error or stopped making sense.

    Attributes:
        metered: From a meter: what the events before the break in the same batch held.
        events: From a reader: the same, as steps of the answer.
    """

    metered: Metered | None = None
    events: tuple[ChatEvent, ...] = ()

    @classmethod
    def of(
        cls, error: MeshError, *, metered: Metered | None = None, events: list[ChatEvent] | None = None
    ) -> "BrokenStreamError":
        """The same error, with what the batch held before it."""
        broken = cls(error.reason, error.message, metadata=error.metadata, retry_after=error.retry_after)
        broken.metered = metered
        broken.events = tuple(events or ())
        return broken


class Meter(Protocol):
    """Reads what passes through in one stream between a client and a vendor of the same dialect."""

    def feed(self, events: list[SseEvent]) -> Metered:
        """Reads one batch.

        Raises:
            BrokenStreamError: an error inside the stream (its own fault class) or broken JSON (FAULT_BAD_ANSWER).
        """
        ...


class StreamReader(Protocol):
    """Reads a vendor's stream into steps of an answer."""

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        """Reads one batch.

        Raises:
            BrokenStreamError: an error inside the stream (its own fault class) or broken JSON (FAULT_BAD_ANSWER).
        """
        ...

    def finish(self) -> list[ChatEvent]:
        """The last steps, once the vendor's stream has ended.

        Raises:
            MeshError: FAULT_TRUNCATED when nothing said that the answer was complete.
        """
        ...


class StreamWriter(Protocol):
    """Renders steps of an answer as a stream of its dialect."""

    def feed(self, events: list[ChatEvent]) -> bytes:
        """Whole SSE events for these steps, without the end marker; may be empty."""
        ...


class Framer(Protocol):
    """Cuts the bytes of one streamed answer into events, however the network cut them."""

    @property
    def pending(self) -> int:
        """Bytes of an event that has begun and not ended; 0 between events."""
        ...

    def feed(self, data: bytes) -> list[SseEvent]:
        """Takes what one read gave and returns the events that it completed.

        Raises:
            MeshError: FAULT_BAD_ANSWER for what is not in this framing and for an event that is too large.
        """
        ...

    def flush(self) -> list[SseEvent]:
        """The last event of a stream that has ended, when it is whole."""
        ...


class Outbound(Protocol):
    """A wire format in which a vendor can be asked: conversation out, answer in."""

    @property
    def name(self) -> str:
        """Its name in contracts and configuration, such as `openai.chat`."""
        ...

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """A conversation as a request to a vendor, and the names of parameters that it cannot express.

        Args:
            request: The conversation.
            model: The model's id in the vendor's words.
            stream: Ask for a stream, with usage.
            source: Dialect the request came in; empty for a typed one. Extensions of another dialect are dropped.

        Raises:
            MeshError: FAULT_UNSUPPORTED when content, not a mere parameter, cannot be expressed; metadata `param`.
        """
        ...

    def framing(self, content_type: str) -> Framer | None:
        """How an answer of a media type is cut into events; None when it comes whole. `content_type` is lower case."""
        ...

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer.

        Raises:
            MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no answer.
        """
        ...

    def reader(self) -> StreamReader:
        """A reader for one stream. A whole answer may be fed to it as a single event named ""."""
        ...

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure (any status but 2xx, or an error inside a 200) as a classified error."""
        ...


class Dialect(Outbound, Protocol):
    """A wire format that clients speak as well: everything that `Outbound` does, and the same from the other side."""

    @property
    def end_marker(self) -> bytes:
        """What closes a complete stream, after the last event; may be empty."""
        ...

    @property
    def lost_end(self) -> bytes:
        """The last event of a complete stream whose vendor did not send it; empty where the end marker is enough."""
        ...

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request.

        Args:
            body: The client's body, untrusted.
            default_model: Model to assume when the body names none.

        Raises:
            MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
        """
        ...

    def patch_request(
        self, body: bytes, facts: RequestFacts, *, model: str, ask_usage: bool, drop: frozenset[str] = NOTHING
    ) -> bytes:
        """The client's own bytes for a vendor of the same dialect, changed only where they must be.

        Args:
            body: A body that `read_facts` accepted.
            facts: What it answered.
            model: The model's id in the vendor's words.
            ask_usage: Ask for usage at the end of the stream where the client did not.
            drop: Top-level members that must not reach the vendor.
        """
        ...

    def meter(self, *, hide_usage: bool) -> Meter:
        """A meter for one stream; `hide_usage` takes out the usage that the client did not ask for."""
        ...

    def read_answer_facts(self, body: bytes) -> AnswerFacts:
        """What metering needs of a whole answer that is passed on as it is.

        Raises:
            MeshError: the fault inside an error body, FAULT_BAD_ANSWER for anything else that is no answer.
        """
        ...

    def read_request(self, body: bytes) -> ChatRequest:
        """A client's request as a conversation.

        Raises:
            MeshError: REASON_INVALID_REQUEST; metadata `param` names the member.
        """
        ...

    def write_answer(self, response: ChatResponse, *, request_id: str, model: str) -> bytes:
        """An answer for a client; `model` is the name the client asked for, `request_id` a UUIDv7."""
        ...

    def writer(self, *, request_id: str, model: str, include_usage: bool) -> StreamWriter:
        """A writer for one stream; `include_usage` when the client asked for usage."""
        ...
