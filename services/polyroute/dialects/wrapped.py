"""A vendor's format with another one before it: what changes the answers of one, and leaves all else to it."""

from collections.abc import Mapping

from polyroute.api.chat.v1.chat_pb2 import ChatRequest
from polyroute.dialects.dialect import Framer, Outbound
from polyroute.mesh.errors import MeshError


class Wrapped(Outbound):
    """A format that asks as another one does.

    Args:
        inner: The other one.
    """

    def __init__(self, inner: Outbound) -> None:
        self._inner = inner

    @property
    def name(self) -> str:
        """The format's name."""
        return self._inner.name

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """The format's own."""
        return self._inner.write_request(request, model=model, stream=stream, source=source)

    def framing(self, content_type: str) -> Framer | None:
        """The format's own."""
        return self._inner.framing(content_type)

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """The format's own."""
        return self._inner.fault_of(status, body, headers)
