"""`ollama.embed`: POST /api/embed.

https://github.com/ollama/ollama/blob/main/docs/api.md#generate-embeddings
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.dialects import faults, jsontools
from polyroute.dialects.asking import count_in, text_of
from polyroute.dialects.embedding import NO_EXTENSIONS, EmbeddingOutbound, Vectors
from polyroute.dialects.ollama import common
from polyroute.dialects.vectors import object_of, vectors_in
from polyroute.mesh.errors import MeshError

__all__ = ["OUTBOUND", "OllamaEmbed"]


@dataclass(frozen=True, slots=True)
class OllamaEmbed:
    """The dialect; every method is as `embedding.EmbeddingOutbound` says."""

    name: str = "ollama.embed"

    def write_request(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        input_type: str = "",
        extensions: Mapping[str, bytes] = NO_EXTENSIONS,
    ) -> tuple[bytes, list[str]]:
        """A request to a vendor, and the parameters that were left out."""
        out: dict[str, Any] = {"model": model, "input": list(texts)}
        if dimensions:
            out["dimensions"] = dimensions
        for name, raw in extensions.items():
            out.setdefault(name, jsontools.loads(raw))
        return jsontools.dumps(out), ["input_type"] if input_type else []

    def read_answer(self, body: bytes) -> Vectors:
        """A vendor's answer; the older address gives a single vector."""
        value = object_of(body)
        if value.get("error"):
            raise common.fault_in(value)
        single = value.get("embedding")
        vectors = vectors_in([single] if single else value.get("embeddings"))
        return Vectors(
            vectors, Usage(input_tokens=count_in(value.get("prompt_eval_count"))), text_of(value.get("model"))
        )

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


OUTBOUND: Final[EmbeddingOutbound] = OllamaEmbed()
