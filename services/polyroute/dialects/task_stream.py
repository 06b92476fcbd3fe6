"""Metering streams of work other than conversation: sound, transcripts and pictures that come in events.

Events of these streams are JSON with a `type` such as `speech.audio.delta` or `image_generation.completed`. The last
one carries usage; `[DONE]` may follow.
"""

from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults, jsontools, sse
from polyroute.dialects.dialect import BrokenStreamError, Metered, SseEvent
from polyroute.dialects.tasktools import tokens_from
from polyroute.mesh.errors import MeshError

LAST: Final = (".done", ".completed")
PICTURE: Final = ".partial_succeeded"  # one picture of several is ready


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    delta: str | None = None
    usage: Any = None
    error: msgspec.Raw = msgspec.Raw()
    b64_json: msgspec.Raw = msgspec.Raw()
    url: msgspec.Raw = msgspec.Raw()


_decode: Final = msgspec.json.Decoder(_Event).decode


class TaskMeter:
    """Reads one stream in passing."""

    __slots__ = ("_pictures", "_usage")

    def __init__(self) -> None:
        self._pictures = 0
        self._usage: Usage | None = None

    def feed(self, events: list[SseEvent]) -> Metered:
        """Reads one batch; see `dialect.Meter`."""
        out = Metered()
        pieces: list[bytes] = []
        broken: MeshError | None = None
        try:
            for name, data in events:
                if data.strip() == sse.DONE:
                    out.done = True
                    break
                self._event(name, data, out)
                pieces.append(sse.frame([b" ".join(data.split(b"\n"))], name))
        except MeshError as error:
            broken = error
        out.data = b"".join(pieces)
        if broken:
            raise BrokenStreamError.of(broken, metered=out)
        return out

    def _event(self, name: str, data: bytes, out: Metered) -> None:
        event = _read(data)
        if is_fatal(name, event.type, failed=bytes(event.error) not in (b"", b"null")):
            raise faults.fault_in(_value(data))
        out.content_events += 1
        out.text_chars += len(event.delta or "")
        last = event.type.endswith(LAST)
        if (last or event.type.endswith(PICTURE)) and (event.b64_json or event.url):
            self._pictures += 1
        if last:
            out.finish = chat_pb2.FINISH_REASON_STOP
            out.usage = self._note(tokens_from(event.usage))

    def _note(self, usage: Usage | None) -> Usage | None:
        # figures may grow from one picture's event to the next, or stand in the last one only: the largest is the total
        if usage is not None and (self._usage is None or _total(usage) >= _total(self._usage)):
            self._usage = usage
        if self._pictures:
            self._usage = self._usage or Usage()
            self._usage.images = self._pictures
        return self._usage


def _total(usage: Usage) -> int:
    return usage.input_tokens + usage.cache_read_tokens + usage.output_tokens + usage.reasoning_tokens


def is_fatal(name: str, kind: str, *, failed: bool) -> bool:
    """Whether an event ends its stream with an error; one picture of several may fail alone."""
    return name == "error" or kind == "error" or (failed and not kind.endswith(".partial_failed"))


def _read(data: bytes) -> _Event:
    try:
        return _decode(data)
    except jsontools.BAD_JSON:
        value = _value(data)
        return _Event(
            type=value["type"] if isinstance(value.get("type"), str) else "",
            usage=value.get("usage"),
            error=msgspec.Raw(jsontools.dumps(value.get("error"))),
            b64_json=msgspec.Raw(b"1" if value.get("b64_json") else b""),
            url=msgspec.Raw(b"1" if value.get("url") else b""),
        )


def _value(data: bytes) -> dict[str, Any]:
    try:
        value = jsontools.loads(data)
    except ValueError:
        raise _broken("the provider's stream holds an event that is not JSON") from None
    if not isinstance(value, dict):
        raise _broken("the provider's stream holds an event that is not a JSON object")
    return value


def events_of(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream that was read to its end.

    Raises:
        MeshError: the fault inside it, FAULT_BAD_ANSWER for what is no such stream, FAULT_TRUNCATED when nothing
            says that it is complete.
    """
    framer = sse.Framer()
    events = framer.feed(body) + framer.flush()
    values = [_value(data) for _, data in events if data.strip() != sse.DONE]
    for value in values:
        if is_fatal("", str(value.get("type")), failed=bool(value.get("error"))):
            raise faults.fault_in(value)
    if not any(str(value.get("type")).endswith(LAST) for value in values):
        raise MeshError.upstream(errors_pb2.FAULT_TRUNCATED, "the provider's stream ended before the answer did")
    return values


class NoStream:
    """The meter of dialects that have no streams."""

    def feed(self, events: list[SseEvent]) -> Metered:
        """Refuses whatever comes."""
        raise BrokenStreamError.of(_broken("the provider streamed where there are no streams"), metered=Metered())


def _broken(message: str) -> MeshError:
    return MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, message)
