"""`openai.responses`: POST /v1/responses, the newer format of one vendor that many servers and clients speak.

https://platform.openai.com/docs/api-reference/responses and https://www.openresponses.org
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse, RequestFacts
from polyroute.dialects import faults, sse
from polyroute.dialects.dialect import NOTHING, AnswerFacts, Dialect, Framer, StreamReader, StreamWriter
from polyroute.dialects.openai import patch
from polyroute.dialects.responses import answer, facts, meter, request, request_writer, stream_writer
from polyroute.dialects.responses.common import RESPONSES
from polyroute.dialects.responses.meter import ResponsesMeter
from polyroute.dialects.responses.request_writer import Options
from polyroute.dialects.responses.stream_reader import ResponsesReader
from polyroute.dialects.responses.stream_writer import ResponsesWriter
from polyroute.mesh.errors import MeshError

__all__ = [
    "DIALECT",
    "OpenAIResponses",
    "Options",
    "ResponsesMeter",
]


@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The dialect; every method is as `dialect.Dialect` says.

    Attributes:
        options: What a vendor takes, where vendors differ.
    """

    options: Options = field(default_factory=Options)
    name: str = RESPONSES
    end_marker: bytes = b""  # its last event says that it is the last
    lost_end: bytes = b""

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        return facts.read_facts(body, default_model=default_model)

    def patch_request(
        self, body: bytes, facts: RequestFacts, *, model: str, ask_usage: bool, drop: frozenset[str] = NOTHING
    ) -> bytes:
        """The client's own bytes, changed only where they must be; usage comes unasked."""
        return patch.patch_request(body, facts, model=model, ask_usage=False, drop=drop)

    def meter(self, *, hide_usage: bool) -> ResponsesMeter:
        """A meter for one stream."""
        return ResponsesMeter()

    def read_answer_facts(self, body: bytes) -> AnswerFacts:
        """What metering needs of a whole answer."""
        return meter.read_answer_facts(body)

    def read_request(self, body: bytes) -> ChatRequest:
        """A client's request as a conversation."""
        return request.read_request(body)

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """A conversation as a request to a vendor, and the parameters that were left out."""
        return request_writer.write_request(request, model=model, stream=stream, source=source, options=self.options)

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer."""
        return answer.read_answer(body)

    def write_answer(self, response: ChatResponse, *, request_id: str, model: str) -> bytes:
        """An answer for a client."""
        return stream_writer.write_answer(response, request_id=request_id, model=model)

    def framing(self, content_type: str) -> Framer | None:
        """Server-sent events, or a whole answer."""
        return sse.framing(content_type)

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return ResponsesReader()

    def writer(self, *, request_id: str, model: str, include_usage: bool) -> StreamWriter:
        """A writer for one stream; its last event holds usage in any case."""
        return ResponsesWriter(request_id=request_id, model=model)

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


DIALECT: Final[Dialect] = OpenAIResponses()
