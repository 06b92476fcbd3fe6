"""`dashscope.embed`: POST /api/v1/services/embeddings/text-embedding/text-embedding.

https://help.aliyun.com/en/model-studio/text-embedding-synchronous-api
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.dialects import jsontools
from polyroute.dialects.asking import bad_answer, count_in, object_in, objects_in, text_of
from polyroute.dialects.dashscope import common
from polyroute.dialects.embedding import DOCUMENT, NO_EXTENSIONS, QUERY, EmbeddingOutbound, Vectors
from polyroute.dialects.vectors import object_of, vectors_in
from polyroute.mesh.errors import MeshError

__all__ = ["OUTBOUND", "DashScopeEmbed"]


@dataclass(frozen=True, slots=True)
class DashScopeEmbed:
    """The dialect; every method is as `embedding.EmbeddingOutbound` says."""

    name: str = "dashscope.embed"

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
        parameters: dict[str, Any] = {"dimension": dimensions} if dimensions else {}
        if input_type in (QUERY, DOCUMENT):
            parameters["text_type"] = input_type
        for name, raw in extensions.items():
            parameters.setdefault(name, jsontools.loads(raw))
        out: dict[str, Any] = {"model": model, "input": {"texts": list(texts)}}
        dropped = ["input_type"] if input_type not in ("", QUERY, DOCUMENT) else []
        return jsontools.dumps(out | ({"parameters": parameters} if parameters else {})), dropped

    def read_answer(self, body: bytes) -> Vectors:
        """A vendor's answer, which names no model."""
        value = object_of(body)
        entries = objects_in(object_in(value.get("output")).get("embeddings"))
        if not entries:
            if text_of(value.get("code")):
                raise common.fault_in(value)
            raise bad_answer("the provider's answer holds no vectors")
        if all(isinstance(entry.get("text_index"), int) for entry in entries):
            entries.sort(key=lambda entry: entry["text_index"])
        usage = object_in(value.get("usage"))
        used = count_in(usage.get("total_tokens")) or count_in(usage.get("input_tokens"))
        return Vectors(vectors_in([entry.get("embedding") for entry in entries]), Usage(input_tokens=used), "")

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return common.fault_of(status, body, headers)


OUTBOUND: Final[EmbeddingOutbound] = DashScopeEmbed()
