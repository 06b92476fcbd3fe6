"""`gemini.generate`: POST /v1beta/models/MODEL:generateContent and :streamGenerateContent.

https://ai.google.dev/api/generate-content. The model and whether the answer streams stand in the address, in no body.
Streams are server-sent events with `?alt=sse`, as vendors are asked, and one JSON array without: such an answer may be
given to a reader as a single event, and a door that owes a client an array makes one with `gemini.framing.ArrayWriter`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse, RequestFacts
from polyroute.dialects.dialect import NOTHING, AnswerFacts, Dialect, Framer, Meter, StreamReader, StreamWriter
from polyroute.dialects.gemini import answer, facts, faults, meter, patch, request, request_writer, stream_reader
from polyroute.dialects.gemini.common import NAME
from polyroute.dialects.gemini.framing import GeminiFramer
from polyroute.dialects.gemini.request_writer import Options
from polyroute.dialects.gemini.stream_writer import GeminiWriter
from polyroute.mesh.errors import MeshError

__all__ = ["DIALECT", "GeminiGenerate", "Options"]


@dataclass(frozen=True, slots=True)
class GeminiGenerate:
    """The dialect; every method is as `dialect.Dialect` says.

    Attributes:
        options: What a vendor takes, where deployments and models differ.
    """

    options: Options = field(default_factory=Options)
    name: str = NAME
    end_marker: bytes = b""
    lost_end: bytes = b""

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request; `default_model` is the one in the address."""
        return facts.read_facts(body, default_model=default_model)

    def patch_request(
        self, body: bytes, facts: RequestFacts, *, model: str, ask_usage: bool, drop: frozenset[str] = NOTHING
    ) -> bytes:
        """The client's own bytes, changed only where they must be. Usage need not be asked for."""
        return patch.patch_request(body, model=model, unsigned=self.options.unsigned_calls, drop=drop)

    def meter(self, *, hide_usage: bool) -> Meter:
        """A meter for one stream. Usage is a part of every answer of this format and never hidden."""
        return meter.GeminiMeter()

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
        return request_writer.write_request(request, source=source, options=self.options)

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer."""
        return stream_reader.read_answer(body)

    def write_answer(self, response: ChatResponse, *, request_id: str, model: str) -> bytes:
        """An answer for a client."""
        return answer.write_answer(response, request_id=request_id, model=model)

    def framing(self, content_type: str) -> Framer | None:
        """Server-sent events, or a whole answer."""
        return GeminiFramer() if content_type.startswith("text/event-stream") else None

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return stream_reader.GeminiReader()

    def writer(self, *, request_id: str, model: str, include_usage: bool) -> StreamWriter:
        """A writer for one stream."""
        return GeminiWriter(request_id=request_id, model=model, include_usage=include_usage)

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


DIALECT: Final[Dialect] = GeminiGenerate()
