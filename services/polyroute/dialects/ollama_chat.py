"""`ollama.chat`: POST /api/chat, in which only vendors are asked.

https://github.com/ollama/ollama/blob/main/docs/api.md#generate-a-chat-completion
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse
from polyroute.dialects import ndjson
from polyroute.dialects.dialect import Framer, Outbound, StreamReader
from polyroute.dialects.ollama import common, reader
from polyroute.dialects.ollama.request import write_request
from polyroute.mesh.errors import MeshError

__all__ = ["OUTBOUND", "OllamaChat"]


@dataclass(frozen=True, slots=True)
class OllamaChat:
    """The dialect; every method is as `dialect.Outbound` says."""

    name: str = common.NAME

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """A conversation as a request to a vendor, and the parameters that were left out."""
        return write_request(request, model=model, stream=stream, source=source)

    def framing(self, content_type: str) -> Framer | None:
        """Lines of JSON, or a whole answer."""
        return ndjson.framing(content_type)

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer."""
        return reader.read_answer(body)

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return reader.OllamaReader()

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return common.fault_of(status, body, headers)


OUTBOUND: Final[Outbound] = OllamaChat()
