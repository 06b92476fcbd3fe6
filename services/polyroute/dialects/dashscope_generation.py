"""`dashscope.generation`, in which only vendors are asked.

It is POST /api/v1/services/aigc/text-generation/generation and .../multimodal-generation/generation, two addresses for
models of text and for models that see and hear; requests differ in how contents are written, answers in nothing. A
stream must be asked for by a header (`x-dashscope-sse: enable`).

https://help.aliyun.com/en/model-studio/qwen-api-via-dashscope
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse
from polyroute.dialects import sse
from polyroute.dialects.asking import json_of_callers
from polyroute.dialects.dashscope import common, reader
from polyroute.dialects.dashscope.request import Options, Writer
from polyroute.dialects.dialect import Framer, Outbound, StreamReader
from polyroute.mesh.errors import MeshError

__all__ = ["OUTBOUND", "DashScopeGeneration", "Options"]


@dataclass(frozen=True, slots=True)
class DashScopeGeneration:
    """The dialect; every method is as `dialect.Outbound` says.

    Attributes:
        options: What a model takes, where models differ.
    """

    options: Options = field(default_factory=Options)
    name: str = "dashscope.generation"

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """A conversation as a request to a vendor, and the parameters that were left out."""
        writer = Writer(request, own=source in ("", self.name), options=self.options)
        with json_of_callers():
            return writer.body(model=model, stream=stream)

    def framing(self, content_type: str) -> Framer | None:
        """Server-sent events, or a whole answer."""
        return sse.framing(content_type)

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer."""
        return reader.read_answer(body)

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return reader.DashScopeReader()

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return common.fault_of(status, body, headers)


OUTBOUND: Final[Outbound] = DashScopeGeneration()
