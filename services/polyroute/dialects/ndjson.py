"""JSON values one a line, without I/O: bytes in as the network cut them, whole lines out.

https://github.com/ndjson/ndjson-spec
"""

from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects.dialect import SseEvent
from polyroute.dialects.jsontools import loads
from polyroute.dialects.sse import MAX_EVENT_BYTES
from polyroute.mesh.errors import MeshError

_TYPES: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")


class NdjsonFramer:
    """Cuts one stream into lines; see `dialect.Framer`. Made per stream; not shared.

    Args:
        max_line_bytes: Most bytes that one line may have.
    """

    __slots__ = ("_limit", "_partial", "_size")

    def __init__(self, *, max_line_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = max_line_bytes
        self._partial: list[bytes] = []  # pieces of the line that has not ended
        self._size = 0

    @property
    def pending(self) -> int:
        """Bytes of a line that has begun and not ended."""
        return self._size

    def feed(self, data: bytes) -> list[SseEvent]:
        """Takes what one read gave and returns the lines that it completed, as ("", line).

        Raises:
            MeshError: FAULT_BAD_ANSWER for a line that is too large.
        """
        head, *lines = data.split(b"\n")
        self._keep(head)
        if not lines:
            return []
        first = b"".join(self._partial)
        rest = lines.pop()
        self._partial = []
        self._size = 0
        self._keep(rest)
        events = [("", line) for piece in (first, *lines) if (line := piece.strip())]
        if any(len(line) > self._limit for _, line in events):
            raise self._too_large()
        return events

    def flush(self) -> list[SseEvent]:
        """The last line of a stream that ended without a line feed; empty when it was cut."""
        line = b"".join(self._partial).strip()
        if not line:
            return []
        try:
            loads(line)
        except ValueError:
            return []
        self._partial = []
        self._size = 0
        return [("", line)]

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._partial.append(piece)
        self._size += len(piece)
        if self._size > self._limit:
            raise self._too_large()

    def _too_large(self) -> MeshError:
        message = f"the provider sent a line of more than {self._limit} bytes"
        return MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, message)


def framing(content_type: str) -> NdjsonFramer | None:
    """A framer for an answer of this media type when that is JSON lines; None when the answer comes whole."""
    return NdjsonFramer() if content_type.startswith(_TYPES) else None
