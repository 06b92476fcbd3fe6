"""What the rerank dialects share: documents, ranked documents and their usage."""

from collections.abc import Mapping
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.modality.v1.modality_pb2 import Ranked, RerankDocument, RerankResult, RerankTask, Task
from polyroute.dialects import jsontools
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.tasktools import (
    bad_answer,
    count_of,
    data_url,
    media_of,
    no_answer,
    objects,
    score_of,
    text_of,
    unsupported,
)
from polyroute.mesh.errors import MeshError

MAX_DOCUMENTS: Final = 10_000


def task_of(task: Task) -> RerankTask:
    """The rerank in a task.

    Raises:
        MeshError: FAULT_UNSUPPORTED for work of another kind.
    """
    if task.WhichOneof("task") != "rerank":
        raise unsupported("this dialect only orders documents", "task")
    return task.rerank


def read_documents(value: object) -> list[RerankDocument]:
    """A client's documents: texts, or objects of which `text` and `image` mean what they say.

    Raises:
        MeshError: REASON_INVALID_REQUEST when there are none, too many, or others.
    """
    if not isinstance(value, list) or not value:
        raise invalid("the request has no documents", "documents")
    if len(value) > MAX_DOCUMENTS:
        raise invalid(f"more than {MAX_DOCUMENTS} documents", "documents")
    return [_read_document(item, f"documents[{place}]") for place, item in enumerate(value)]


def _read_document(value: object, where: str) -> RerankDocument:
    if isinstance(value, str):
        return RerankDocument(text=value)
    if not isinstance(value, dict) or not value:
        raise invalid("a document is neither text nor an object", where)
    document = RerankDocument(text=text_of(value.get("text")))
    picture = value.get("image")
    if set(value) == {"image"} and isinstance(picture, str) and picture:
        document.image.CopyFrom(media_of(picture, where))
    else:
        document.fields = jsontools.dumps(value)
    return document


def document_json(document: RerankDocument, *, bare: bool = True) -> Any:
    """A document as clients write it; `bare` texts stand alone instead of in an object."""
    if document.fields:
        return jsontools.loads(document.fields)
    if document.HasField("image"):
        return {"image": data_url(document.image, "image/png", "documents")}
    return document.text if bare else {"text": document.text}


def plain_document(document: RerankDocument) -> str:
    """A document for a vendor that ranks texts only: an object without `text` alone is given as its JSON.

    Raises:
        MeshError: FAULT_UNSUPPORTED for a picture.
    """
    if document.HasField("image"):
        raise unsupported("this vendor ranks texts, not pictures", "documents")
    if not document.fields:
        return document.text
    value = jsontools.loads(document.fields)
    alone = isinstance(value, dict) and set(value) == {"text"}
    return document.text if alone else document.fields.decode()


def no_results(value: Mapping[str, Any]) -> MeshError:
    """What is wrong with an answer that ranks nothing."""
    return no_answer(value, "ranked documents")


def read_results(value: object) -> RerankResult:
    """Ranked documents as `[{index, relevance_score, document}]`, which every rerank API of today has.

    Raises:
        MeshError: FAULT_BAD_ANSWER for an entry that names no document.
    """
    result = RerankResult()
    if not isinstance(value, list) or len(objects(value)) != len(value):
        raise bad_answer("the provider's answer holds no ranked documents")
    for item in value:
        index = item.get("index")
        score = item.get("relevance_score", item.get("score"))
        if type(index) is not int or not 0 <= index < 1 << 31 or type(score) not in (int, float):
            raise bad_answer("the provider's answer ranks something that is no document")
        ranked = Ranked(index=index, score=score_of(score))
        if item.get("document") is not None:
            ranked.document.CopyFrom(_answered_document(item["document"]))
        result.results.append(ranked)
    return result


def _answered_document(value: object) -> RerankDocument:
    if isinstance(value, str):
        return RerankDocument(text=value)
    document = RerankDocument(text=text_of(value.get("text")) if isinstance(value, dict) else "")
    if not isinstance(value, dict) or set(value) != {"text"}:
        document.fields = jsontools.dumps(value)
    return document


def usage_of(value: object) -> Usage | None:
    """Usage as `{total_tokens}` or `{prompt_tokens, total_tokens}`: a rerank answers in no tokens, all are input."""
    if not isinstance(value, Mapping):
        return None
    tokens = max(count_of(value.get(name)) for name in ("total_tokens", "prompt_tokens", "input_tokens"))
    return Usage(input_tokens=tokens) if tokens else None
