"""`bedrock.converse`: POST /model/{id}/converse and /converse-stream, spoken to a vendor only.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse
from polyroute.dialects.bedrock import errors, framing, reader
from polyroute.dialects.bedrock.common import CONVERSE
from polyroute.dialects.bedrock.request import Options, write_request
from polyroute.dialects.dialect import Framer, Outbound, StreamReader
from polyroute.mesh.errors import MeshError

__all__ = ["OUTBOUND", "BedrockConverse", "Options"]


@dataclass(frozen=True, slots=True)
class BedrockConverse:
    """The format; every method is as `dialect.Outbound` says.

    Attributes:
        options: What an account's models take, where they differ.
    """

    options: Options = field(default_factory=Options)
    name: str = CONVERSE

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """A conversation as a request; the model and the wish for a stream belong into the path."""
        return write_request(request, model=model, source=source, options=self.options)

    def framing(self, content_type: str) -> Framer | None:
        """Event-stream messages, or a whole answer."""
        return framing.framing(content_type)

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer."""
        return reader.read_answer(body)

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return reader.ConverseReader()

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return errors.fault_of(status, body, headers)


OUTBOUND: Final[Outbound] = BedrockConverse()
