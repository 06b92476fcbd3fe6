"""`anthropic.messages`: POST /v1/messages, the format of coding agents and of several vendors beside their own.

https://platform.claude.com/docs/en/api/messages. Bodies of API versions 2023-06-01 and 2026-10-21 are the same but for
what the newer refuses (see `Options`); the version itself is a header, or a member on hosts that have no such header.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import ChatRequest, ChatResponse, RequestFacts
from polyroute.dialects import sse
from polyroute.dialects.anthropic import answer, facts, faults, meter, patch, request_reader, request_writer
from polyroute.dialects.anthropic.common import DEFAULT_MAX_TOKENS, NAME, Options
from polyroute.dialects.anthropic.stream_reader import AnthropicReader
from polyroute.dialects.anthropic.stream_writer import AnthropicWriter
from polyroute.dialects.bedrock.framing import invoke_framing
from polyroute.dialects.dialect import NOTHING, AnswerFacts, Dialect, Framer, Meter, StreamReader, StreamWriter
from polyroute.mesh.errors import MeshError

__all__ = ["DEFAULT_MAX_TOKENS", "DIALECT", "AnthropicMessages", "Options"]


@dataclass(frozen=True, slots=True)
class AnthropicMessages:
    """The dialect; every method is as `dialect.Dialect` says.

    Attributes:
        options: What a vendor takes, where hosts and models differ.
    """

    options: Options = field(default_factory=Options)
    name: str = NAME
    end_marker: bytes = b""  # the closing event is one of the stream's own
    lost_end: bytes = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        return facts.read_facts(body, default_model=default_model)

    def patch_request(
        self, body: bytes, facts: RequestFacts, *, model: str, ask_usage: bool, drop: frozenset[str] = NOTHING
    ) -> bytes:
        """The client's own bytes, changed only where they must be. Usage need not be asked for."""
        return patch.patch_request(body, facts, model=model, drop=drop, options=self.options)

    def meter(self, *, hide_usage: bool) -> Meter:
        """A meter for one stream. Usage is a part of every answer of this format and never hidden."""
        return meter.AnthropicMeter()

    def read_answer_facts(self, body: bytes) -> AnswerFacts:
        """What metering needs of a whole answer."""
        return answer.read_answer_facts(body)

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
        return answer.read_answer(body)

    def write_answer(self, response: ChatResponse, *, request_id: str, model: str) -> bytes:
        """An answer for a client."""
        return answer.write_answer(response, request_id=request_id, model=model)

    def framing(self, content_type: str) -> Framer | None:
        """Server-sent events, the same wrapped by a host of the models, or a whole answer."""
        return invoke_framing(content_type) or sse.framing(content_type)

    def reader(self) -> StreamReader:
        """A reader for one stream."""
        return AnthropicReader()

    def writer(self, *, request_id: str, model: str, include_usage: bool) -> StreamWriter:
        """A writer for one stream; this format always tells usage."""
        return AnthropicWriter(request_id=request_id, model=model)

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


DIALECT: Final[Dialect] = AnthropicMessages()
