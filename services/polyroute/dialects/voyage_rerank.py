"""`voyage.rerank`: POST /v1/rerank with `top_k` and an answer in `data`.

https://docs.voyageai.com/reference/reranker-api. Billed by tokens, all of them input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.modality.v1.modality_pb2 import Result, Task
from polyroute.dialects import faults, jsontools, rerank
from polyroute.dialects.task import Body, Outcome, TaskOutbound
from polyroute.dialects.tasktools import answer_of, extras, own, put_extras, text_of
from polyroute.mesh.errors import MeshError

NAME: Final = "voyage.rerank"


@dataclass(frozen=True, slots=True)
class VoyageRerank:
    """The dialect; every method is as `task.TaskOutbound` says."""

    name: str = NAME

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the parameters that were left out."""
        asked = rerank.task_of(task)
        documents = [rerank.plain_document(document) for document in asked.documents]
        out: dict[str, Any] = {"model": model, "query": asked.query, "documents": documents}
        if asked.HasField("top_n"):
            out["top_k"] = asked.top_n
        if asked.HasField("return_documents"):
            out["return_documents"] = asked.return_documents
        extensions, dropped = own(task.extensions, source, (NAME,))
        put_extras(out, extensions)
        if asked.HasField("max_tokens_per_document"):
            dropped.append("max_tokens_per_doc")
        return Body(jsontools.dumps(out)), dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer."""
        value = answer_of(body)
        if not isinstance(value.get("data"), list):
            raise rerank.no_results(value)
        result = Result(rerank=rerank.read_results(value["data"]), model=text_of(value.get("model")))
        for name, raw in extras(value, ("object", "data", "model", "usage")).items():
            result.extensions[name] = raw
        return Outcome(result, rerank.usage_of(value.get("usage")))

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


OUTBOUND: Final[TaskOutbound] = VoyageRerank()
