"""`xai.grpc`: the service `xai_api.Chat`, in which only vendors are asked, by protobuf messages over gRPC.

A request is one serialised `GetCompletionsRequest`. An answer is one `GetChatCompletionResponse`, or a stream of
`GetChatCompletionChunk` in the frames of `grpc_frames`. https://docs.x.ai/docs/grpc-reference
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse
from polyroute.dialects import grpc_frames, grpc_status
from polyroute.dialects.dialect import Framer, Outbound, StreamReader
from polyroute.dialects.xai import common, reader
from polyroute.dialects.xai.request import write_request
from polyroute.mesh.errors import MeshError

__all__ = ["OUTBOUND", "XaiGrpc"]


@dataclass(frozen=True, slots=True)
class XaiGrpc:
    """The dialect; every method is as `dialect.Outbound` says."""

    name: str = common.NAME

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """A conversation as a request to a vendor; the wish for a stream belongs into the path."""
        return write_request(request, model=model, source=source)

    def framing(self, content_type: str) -> Framer | None:
        """Frames of gRPC, or one message."""
        return grpc_frames.framing(content_type)

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer."""
        return reader.read_answer(body)

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return reader.XaiReader()

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return grpc_status.fault_of(status, body, headers)


OUTBOUND: Final[Outbound] = XaiGrpc()
