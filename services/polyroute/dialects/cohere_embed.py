"""`cohere.embed`: POST /v2/embed; answers of version 1 are read as well. https://docs.cohere.com/reference/embed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.dialects import jsontools
from polyroute.dialects.asking import bad_answer, count_in, object_in
from polyroute.dialects.cohere import common
from polyroute.dialects.cohere.answer import says_error
from polyroute.dialects.embedding import DOCUMENT, NO_EXTENSIONS, QUERY, EmbeddingOutbound, Vectors
from polyroute.dialects.vectors import object_of, vectors_in
from polyroute.mesh.errors import MeshError

__all__ = ["OUTBOUND", "CohereEmbed"]

# Newer models want to be told what texts are for; most that is embedded is there to be found.
_INPUT_TYPES: Final[Mapping[str, str]] = {"": "search_document", DOCUMENT: "search_document", QUERY: "search_query"}


@dataclass(frozen=True, slots=True)
class CohereEmbed:
    """The dialect; every method is as `embedding.EmbeddingOutbound` says."""

    name: str = "cohere.embed"

    def write_request(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        input_type: str = "",
        extensions: Mapping[str, bytes] = NO_EXTENSIONS,
    ) -> tuple[bytes, list[str]]:
        """A request to a vendor; nothing is left out."""
        out: dict[str, Any] = {
            "model": model,
            "texts": list(texts),
            "input_type": _INPUT_TYPES.get(input_type, input_type),
            "embedding_types": ["float"],
        }
        if dimensions:
            out["output_dimension"] = dimensions
        for name, raw in extensions.items():
            out.setdefault(name, jsontools.loads(raw))
        return jsontools.dumps(out), []

    def read_answer(self, body: bytes) -> Vectors:
        """A vendor's answer, which names no model."""
        value = object_of(body)
        embeddings = value.get("embeddings")
        if not embeddings:
            raise common.fault_in(value) if says_error(value) else bad_answer("the provider's answer holds no vectors")
        if isinstance(embeddings, dict):  # by type; whoever asked for another type than floats asked for one only
            embeddings = embeddings.get("float") or next(iter(embeddings.values()))
        return Vectors(vectors_in(embeddings), _usage(value), "")

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return common.fault_of(status, body, headers)


def _usage(value: dict[str, Any]) -> Usage:
    """What is charged is all that is said: tokens of texts and, beside them, of pictures."""
    billed = object_in(object_in(value.get("meta")).get("billed_units"))
    pictures = count_in(billed.get("image_tokens"))
    usage = Usage(input_tokens=count_in(billed.get("input_tokens")) + pictures)
    if pictures:
        usage.other["input_image_tokens"] = pictures
    if count_in(billed.get("images")):
        usage.other["input_images"] = count_in(billed.get("images"))
    return usage


OUTBOUND: Final[EmbeddingOutbound] = CohereEmbed()
