"""`openai.chat`: POST /v1/chat/completions, the format that most vendors and clients speak.

https://platform.openai.com/docs/api-reference/chat
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse, RequestFacts
from polyroute.dialects import faults, sse
from polyroute.dialects.dialect import NOTHING, AnswerFacts, Dialect, Framer, Meter, StreamReader, StreamWriter
from polyroute.dialects.openai import chat_answer, facts, meter, patch, request_reader, request_writer
from polyroute.dialects.openai.common import CHAT
from polyroute.dialects.openai.request_writer import Options
from polyroute.dialects.openai.stream_reader import OpenAIReader
from polyroute.dialects.openai.stream_writer import OpenAIWriter
from polyroute.mesh.errors import MeshError

__all__ = ["DIALECT", "END_MARKER", "OpenAIChat", "Options"]

END_MARKER: Final = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """The dialect; every method is as `dialect.Dialect` says.

    Attributes:
        options: What a vendor takes, where vendors differ.
    """

    options: Options = field(default_factory=Options)
    name: str = CHAT
    end_marker: bytes = END_MARKER
    lost_end: bytes = b""

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        return facts.read_chat_facts(body, default_model=default_model)

    def patch_request(
        self, body: bytes, facts: RequestFacts, *, model: str, ask_usage: bool, drop: frozenset[str] = NOTHING
    ) -> bytes:
        """The client's own bytes, changed only where they must be."""
        return patch.patch_request(body, facts, model=model, ask_usage=ask_usage, drop=drop)

    def meter(self, *, hide_usage: bool) -> Meter:
        """A meter for one stream."""
        return meter.OpenAIMeter(hide_usage=hide_usage)

    def read_answer_facts(self, body: bytes) -> AnswerFacts:
        """What metering needs of a whole answer."""
        return meter.read_answer_facts(body)

    def read_request(self, body: bytes) -> ChatRequest:
        """A client's request as a conversation."""
        return request_reader.read_request(body)

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """A conversation as a request to a vendor, and the parameters that were left out."""
        return request_writer.write_request(request, model=model, stream=stream, source=source, options=self.options)

    def read_answer(self, body: bytes) -> ChatResponse:
        """A vendor's whole answer."""
        return chat_answer.read_answer(body)

    def write_answer(self, response: ChatResponse, *, request_id: str, model: str) -> bytes:
        """An answer for a client."""
        return chat_answer.write_answer(response, request_id=request_id, model=model)

    def framing(self, content_type: str) -> Framer | None:
        """Server-sent events, or a whole answer."""
        return sse.framing(content_type)

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return OpenAIReader()

    def writer(self, *, request_id: str, model: str, include_usage: bool) -> StreamWriter:
        """A writer for one stream."""
        return OpenAIWriter(request_id=request_id, model=model, include_usage=include_usage)

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


DIALECT: Final[Dialect] = OpenAIChat()
