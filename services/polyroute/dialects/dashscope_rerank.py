"""`dashscope.rerank`: POST /api/v1/services/rerank/text-rerank/text-rerank, the native form.

https://www.alibabacloud.com/help/en/model-studio/text-rerank-api. Query and documents stand in `input`, everything else
in `parameters`, the answer in `output`. Billed by tokens, all of them input. Models that see rank `{image}` documents.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.modality.v1.modality_pb2 import Result, Task
from polyroute.dialects import faults, jsontools, rerank
from polyroute.dialects.task import Body, Outcome, TaskOutbound
from polyroute.dialects.tasktools import answer_of, own, put_extras, text_of
from polyroute.mesh.errors import MeshError

NAME: Final = "dashscope.rerank"


@dataclass(frozen=True, slots=True)
class DashScopeRerank:
    """The dialect; every method is as `task.TaskOutbound` says."""

    name: str = NAME

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the parameters that were left out."""
        asked = rerank.task_of(task)
        documents = [
            rerank.document_json(document) if document.HasField("image") else rerank.plain_document(document)
            for document in asked.documents
        ]
        parameters: dict[str, Any] = {}
        if asked.HasField("top_n"):
            parameters["top_n"] = asked.top_n
        if asked.HasField("return_documents"):
            parameters["return_documents"] = asked.return_documents
        extensions, dropped = own(task.extensions, source, (NAME,))
        put_extras(parameters, extensions)
        if asked.HasField("max_tokens_per_document"):
            dropped.append("max_tokens_per_doc")
        out = {"model": model, "input": {"query": asked.query, "documents": documents}, "parameters": parameters}
        return Body(jsontools.dumps(out)), dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer."""
        value = answer_of(body)
        output = value.get("output")
        if not isinstance(output, dict) or not isinstance(output.get("results"), list):
            raise rerank.no_results(value)
        result = Result(rerank=rerank.read_results(output["results"]), id=text_of(value.get("request_id")))
        return Outcome(result, rerank.usage_of(value.get("usage")))

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


OUTBOUND: Final[TaskOutbound] = DashScopeRerank()
