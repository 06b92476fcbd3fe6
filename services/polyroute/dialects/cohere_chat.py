"""`cohere.chat`: POST /v2/chat, in which only vendors are asked.

https://docs.cohere.com/reference/chat
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse
from polyroute.dialects import sse
from polyroute.dialects.cohere import answer, common
from polyroute.dialects.cohere.reader import CohereReader
from polyroute.dialects.cohere.request import write_request
from polyroute.dialects.dialect import Framer, Outbound, StreamReader
from polyroute.mesh.errors import MeshError

__all__ = ["OUTBOUND", "CohereChat"]


@dataclass(frozen=True, slots=True)
class CohereChat:
    """The dialect; every method is as `dialect.Outbound` says."""

    name: str = common.NAME

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """A conversation as a request to a vendor, and the parameters that were left out."""
        return write_request(request, model=model, stream=stream, source=source)

    def framing(self, content_type: str) -> Framer | None:
        """Server-sent events, or a whole answer."""
        return sse.framing(content_type)

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer."""
        return answer.read_answer(body)

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return CohereReader()

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return common.fault_of(status, body, headers)


OUTBOUND: Final[Outbound] = CohereChat()
