"""`cohere.rerank`: POST /v2/rerank, /v1/rerank: the rerank API that clients and most servers speak.

https://docs.cohere.com/reference/rerank and, with `{text}` and `{image}` documents and `usage`, https://jina.ai/reranker.
Billed by search units, one for a query over up to a hundred documents, or by tokens, all of them input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import OPERATION_RERANK, RequestFacts, Usage
from polyroute.api.modality.v1.modality_pb2 import RerankTask, Result, Task
from polyroute.dialects import faults, jsontools, rerank
from polyroute.dialects.dialect import Meter
from polyroute.dialects.openai.facts import BYTES_PER_TOKEN, TOKENS_PER_IMAGE
from polyroute.dialects.task import Body, Outcome, TaskDialect
from polyroute.dialects.task_stream import NoStream
from polyroute.dialects.tasktools import (
    Fields,
    answer_of,
    count_of,
    extras,
    facts_of,
    own,
    patched,
    put_extras,
    text_bytes,
    text_of,
)
from polyroute.mesh.errors import MeshError

NAME: Final = "cohere.rerank"
_UNITS: Final = "search_units"
_KNOWN: Final = ("id", "model", "object", "results", "meta", "usage")


@dataclass(frozen=True, slots=True)
class CohereRerank:
    """The dialect; every method is as `task.TaskDialect` says."""

    name: str = NAME

    def read_facts(self, body: Body, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        fields = Fields.of(body)
        model = fields.model(default_model)
        asked = _read(fields)
        pictures = sum(document.HasField("image") for document in asked.documents)
        size = sum(len(document.fields) or text_bytes(document.text) for document in asked.documents)
        # the model reads the query with each document
        size += text_bytes(asked.query) * len(asked.documents)
        tokens = size // BYTES_PER_TOKEN + pictures * TOKENS_PER_IMAGE
        return facts_of(OPERATION_RERANK, model, tokens=tokens)

    def patch_task(self, body: Body, *, model: str) -> Body:
        """The client's own bytes with another model's name."""
        return patched(body, model)

    def read_task(self, body: Body) -> Task:
        """A client's request."""
        fields = Fields.of(body)
        fields.take("model")
        asked = _read(fields)
        return Task(rerank=asked, extensions=fields.extensions())

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the parameters that were left out."""
        asked = rerank.task_of(task)
        out: dict[str, Any] = {
            "model": model,
            "query": asked.query,
            "documents": [rerank.document_json(document) for document in asked.documents],
        }
        for member, name in _MEMBERS.items():
            if asked.HasField(member):  # type: ignore[arg-type] # an optional of the table
                out[name] = getattr(asked, member)
        extensions, dropped = own(task.extensions, source, (NAME,))
        put_extras(out, extensions)
        return Body(jsontools.dumps(out)), dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer."""
        value = answer_of(body)
        if not isinstance(value.get("results"), list):
            raise rerank.no_results(value)
        ranked = rerank.read_results(value["results"])
        result = Result(rerank=ranked, id=text_of(value.get("id")), model=text_of(value.get("model")))
        for name, raw in extras(value, _KNOWN).items():
            result.extensions[name] = raw
        meta = value.get("meta")
        if isinstance(meta, dict):
            for name, raw in extras(meta, ("billed_units", "tokens")).items():
                result.extensions[f"meta.{name}"] = raw
        return Outcome(result, _usage(value))

    def write_outcome(self, outcome: Outcome, task: Task, *, request_id: str, model: str) -> Body:
        """An answer for a client, with the documents when it asked for them."""
        result = outcome.result
        wanted = task.rerank.return_documents
        out: dict[str, Any] = {
            "id": result.id or request_id,
            "model": model,
            "results": [_ranked(ranked, task.rerank, wanted=wanted) for ranked in result.rerank.results],
        }
        meta = {name.removeprefix("meta."): raw for name, raw in result.extensions.items() if name.startswith("meta.")}
        out["meta"] = {} if outcome.usage is None else _meta(outcome.usage)
        put_extras(out["meta"], meta)
        if outcome.usage is not None and outcome.usage.input_tokens:
            tokens = outcome.usage.input_tokens
            out["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
        put_extras(out, {name: raw for name, raw in result.extensions.items() if not name.startswith("meta.")})
        return Body(jsontools.dumps(out))

    def meter(self) -> Meter:
        """There are no streams of this kind."""
        return NoStream()

    def read_usage(self, body: bytes, content_type: str) -> Usage | None:
        """What an answer says of its usage."""
        return self.read_outcome(body, content_type).usage

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


_MEMBERS: Final = {
    "top_n": "top_n",
    "return_documents": "return_documents",
    "max_tokens_per_document": "max_tokens_per_doc",
}


def _read(fields: Fields) -> RerankTask:
    return RerankTask(
        query=fields.text("query", needed=True),
        documents=rerank.read_documents(fields.take("documents")),
        top_n=fields.integer("top_n", 1, 1 << 31),
        return_documents=fields.flag("return_documents"),
        max_tokens_per_document=fields.integer("max_tokens_per_doc", 1, 1 << 31),
    )


def _ranked(ranked: Any, asked: RerankTask, *, wanted: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"index": ranked.index, "relevance_score": ranked.score}
    if ranked.HasField("document"):
        out["document"] = rerank.document_json(ranked.document, bare=False)
    elif wanted and ranked.index < len(asked.documents):
        out["document"] = rerank.document_json(asked.documents[ranked.index], bare=False)
    return out


def _meta(usage: Usage) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if _UNITS in usage.other:
        out["billed_units"] = {_UNITS: usage.other[_UNITS]}
    if usage.input_tokens:
        out["tokens"] = {"input_tokens": usage.input_tokens}
    return out


def _usage(value: Mapping[str, Any]) -> Usage | None:
    """Tokens from `usage` or `meta`, search units from `meta`; a vendor may state either or both."""
    meta = value.get("meta")
    units = meta.get("billed_units") if isinstance(meta, dict) else None
    tokens = meta.get("tokens") if isinstance(meta, dict) else None
    usage = rerank.usage_of(value.get("usage")) or rerank.usage_of(tokens) or rerank.usage_of(units)
    searched = count_of(units.get(_UNITS)) if isinstance(units, dict) else 0
    if searched:
        usage = usage or Usage()
        usage.other[_UNITS] = searched
    return usage


DIALECT: Final[TaskDialect] = CohereRerank()
