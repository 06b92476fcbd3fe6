"""`openai.compact`: POST /v1/responses/compact, a long conversation made short by the vendor that will go on with it.

https://platform.openai.com/docs/api-reference/responses/compact. A request is one of `openai.responses`; the answer is
a `response.compaction` whose items, one of them sealed, stand for the conversation from then on. Nobody but the vendor
that sealed it can read it, so the request passes as it is to those that have this, and is refused for all others.
"""

from dataclasses import dataclass
from typing import Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, RequestFacts
from polyroute.dialects.dialect import Dialect
from polyroute.dialects.openai_responses import OpenAIResponses
from polyroute.dialects.responses import facts
from polyroute.dialects.responses.common import unsupported
from polyroute.mesh.errors import MeshError

NAME: Final = "openai.compact"


@dataclass(frozen=True, slots=True)
class OpenAICompact(OpenAIResponses):
    """The dialect; every method is as `dialect.Dialect` says, but that it is never translated."""

    name: str = NAME

    def read_facts(self, body: bytes, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request: tools are read, and not called."""
        found = facts.read_facts(body, default_model=default_model)
        if pb.CAPABILITY_TOOLS in found.needs:
            found.needs.remove(pb.CAPABILITY_TOOLS)
        found.stream = found.stream_usage = False
        return found

    def read_request(self, body: bytes) -> ChatRequest:
        """Refused: no other format has anything of the kind."""
        raise _nowhere_else()

    def write_request(
        self, request: ChatRequest, *, model: str, stream: bool, source: str = ""
    ) -> tuple[bytes, list[str]]:
        """Refused: see `read_request`."""
        raise _nowhere_else()


def _nowhere_else() -> MeshError:
    return unsupported("this deployment cannot compact a conversation; ask for a model of a vendor that can", "model")


DIALECT: Final[Dialect] = OpenAICompact()
