"""`bedrock.count_tokens` and `bedrock.rerank`: work other than conversation, asked of a vendor only.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_CountTokens.html: POST /model/{id}/count-tokens
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_agent-runtime_Rerank.html: POST /rerank, on another host
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.modality.v1.modality_pb2 import CountTokensResult, RerankDocument, Result, Task
from polyroute.dialects import jsontools, rerank, tasktools
from polyroute.dialects.bedrock import errors
from polyroute.dialects.bedrock.request import Options, compose, encoded
from polyroute.dialects.task import Body, Outcome, TaskOutbound
from polyroute.dialects.tasktools import bad_answer, unsupported
from polyroute.mesh.errors import MeshError

__all__ = ["COUNT_TOKENS", "RERANK", "BedrockCountTokens", "BedrockRerank"]

_COUNTED: Final = ("messages", "system", "toolConfig", "additionalModelRequestFields")


@dataclass(frozen=True, slots=True)
class BedrockCountTokens:
    """The tokens of a conversation; every method is as `task.TaskOutbound` says.

    Attributes:
        options: What an account's models take, where they differ.
    """

    options: Options = field(default_factory=Options)
    name: str = "bedrock.count_tokens"

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A request to count; parameters of the answer have no part in it and are not named as dropped."""
        if task.WhichOneof("task") != "count_tokens":
            raise unsupported("this dialect only counts tokens", "task")
        body, _ = compose(task.count_tokens.chat, model=model, source=source, options=self.options)
        counted = {name: body[name] for name in _COUNTED if name in body}
        return Body(encoded({"input": {"converse": counted}})), []

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """How many tokens."""
        value = _object(body)
        tokens = value.get("inputTokens")
        if isinstance(tokens, bool) or not isinstance(tokens, int) or not 0 <= tokens < 1 << 53:
            raise bad_answer("the provider's answer holds no number of tokens")
        return Outcome(Result(count_tokens=CountTokensResult(input_tokens=tokens)), None)

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return errors.fault_of(status, body, headers)


@dataclass(frozen=True, slots=True)
class BedrockRerank:
    """Documents in order; every method is as `task.TaskOutbound` says. The model is named by its ARN, in the body."""

    name: str = "bedrock.rerank"

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A request to order documents."""
        asked = rerank.task_of(task)
        try:
            sources = [_source(document) for document in asked.documents]
            configured: dict[str, Any] = {"modelConfiguration": {"modelArn": model}}
            if asked.HasField("top_n"):
                configured["numberOfResults"] = min(asked.top_n, len(sources))  # more than there are is refused
            out: dict[str, Any] = {
                "queries": [{"type": "TEXT", "textQuery": {"text": asked.query}}],
                "sources": sources,
                "rerankingConfiguration": {
                    "type": "BEDROCK_RERANKING_MODEL",
                    "bedrockRerankingConfiguration": configured,
                },
            }
            kept, dropped = tasktools.own(task.extensions, source, (self.name,))
            tasktools.put_extras(out, kept)
        except ValueError as error:  # of JSON inside the typed form, which nobody has read before
            raise jsontools.invalid("a document or an extension of the request is not valid JSON") from error
        if asked.HasField("max_tokens_per_document"):
            dropped.append("max_tokens_per_document")
        return Body(encoded(out)), dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """The documents in order; this API says nothing of usage."""
        value = _object(body)
        found = value.get("results")
        if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
            raise rerank.no_results(value)
        result = Result(rerank=rerank.read_results([_renamed(item) for item in found]))
        for name, raw in tasktools.extras(value, ("results",)).items():
            result.extensions[name] = raw
        return Outcome(result, None)

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return errors.fault_of(status, body, headers)


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = jsontools.loads(body)
    except ValueError:
        raise bad_answer("the provider's answer is not valid JSON") from None
    if not isinstance(value, dict):
        raise bad_answer("the provider's answer is no JSON object")
    if errors.is_error(value) and not ("inputTokens" in value or "results" in value):
        raise errors.fault_in("", value)
    return value


def _source(document: RerankDocument) -> dict[str, Any]:
    if document.HasField("image"):
        raise unsupported("this provider ranks texts and objects, not pictures", "documents")
    value = jsontools.loads(document.fields) if document.fields else None
    if isinstance(value, dict) and set(value) != {"text"}:
        inline: dict[str, Any] = {"type": "JSON", "jsonDocument": value}
    else:
        inline = {"type": "TEXT", "textDocument": {"text": document.text}}
    return {"type": "INLINE", "inlineDocumentSource": inline}


def _renamed(item: dict[str, Any]) -> dict[str, Any]:
    """A ranked document in the words that other rerank APIs have."""
    out = {"index": item.get("index"), "relevance_score": item.get("relevanceScore")}
    document = item.get("document")
    if isinstance(document, dict):
        text = document.get("textDocument")
        out["document"] = text if isinstance(text, dict) else document.get("jsonDocument")
    return out


COUNT_TOKENS: Final[TaskOutbound] = BedrockCountTokens()
RERANK: Final[TaskOutbound] = BedrockRerank()
