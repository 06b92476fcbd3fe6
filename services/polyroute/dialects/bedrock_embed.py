"""`bedrock.embed`: POST /model/{id}/invoke with one text, its vector back; asked of a vendor only.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html. The older model of that
format takes the text alone; the newer one a length and a list of types as well, of which floats are the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.dialects import jsontools
from polyroute.dialects.asking import bad_answer, count_in, json_of_callers, object_in, unsupported
from polyroute.dialects.bedrock import errors
from polyroute.dialects.embedding import NO_EXTENSIONS, EmbeddingOutbound, Vectors
from polyroute.dialects.vectors import object_of, vectors_in
from polyroute.mesh.errors import MeshError

__all__ = ["OUTBOUND", "BedrockEmbed"]


@dataclass(frozen=True, slots=True)
class BedrockEmbed:
    """The dialect; every method is as `embedding.EmbeddingOutbound` says."""

    name: str = "bedrock.embed"

    def write_request(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        input_type: str = "",
        extensions: Mapping[str, bytes] = NO_EXTENSIONS,
    ) -> tuple[bytes, list[str]]:
        """A request to a vendor; what the text is for cannot be said."""
        if len(texts) != 1:
            raise unsupported("this deployment embeds one text at a time", "input")
        with json_of_callers():
            out: dict[str, Any] = {name: jsontools.loads(raw) for name, raw in extensions.items() if name != "model"}
        out["inputText"] = texts[0]
        if dimensions:
            out["dimensions"] = dimensions
        return jsontools.dumps(out), ["input_type"] if input_type else []

    def read_answer(self, body: bytes) -> Vectors:
        """A vendor's answer, which names no model."""
        value = object_of(body)
        vector = value.get("embedding") or object_in(value.get("embeddingsByType")).get("float")
        if not isinstance(vector, list):
            raise errors.fault_in("", value) if errors.is_error(value) else bad_answer("the answer holds no vector")
        return Vectors(vectors_in([vector]), Usage(input_tokens=count_in(value.get("inputTextTokenCount"))), "")

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return errors.fault_of(status, body, headers)


OUTBOUND: Final[EmbeddingOutbound] = BedrockEmbed()
