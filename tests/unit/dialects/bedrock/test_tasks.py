"""`bedrock.count_tokens` and `bedrock.rerank`: questions out, answers in."""

import json

import pytest

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1 import modality_pb2 as mo
from polyroute.dialects.bedrock_tasks import COUNT_TOKENS, RERANK
from polyroute.mesh.errors import MeshError

ARN = "arn:aws:bedrock:us-west-2::foundation-model/cohere.rerank-v3-5:0"


def test_a_conversation_to_be_counted() -> None:
    """Only what has tokens is sent: the bound of the answer and its sampling have none."""
    message = pb.Message(role=pb.ROLE_USER, parts=[pb.Part(text=pb.TextPart(text="Hi"))])
    chat = pb.ChatRequest(messages=[message], max_output_tokens=9, tools=[pb.Tool(name="a")])

    body, dropped = COUNT_TOKENS.write_task(mo.Task(count_tokens=mo.CountTokensTask(chat=chat)), model="m")

    counted = json.loads(body.data)["input"]["converse"]
    assert {"messages", "toolConfig"} == counted.keys()
    assert [] == dropped


def test_a_count() -> None:
    """The number of tokens."""
    outcome = COUNT_TOKENS.read_outcome(b'{"inputTokens":7}', "application/json")

    assert 7 == outcome.result.count_tokens.input_tokens
    assert outcome.usage is None


def test_documents_to_be_ordered() -> None:
    """Texts and objects, no more results than documents, the model by its ARN."""
    asked = mo.RerankTask(
        query="q",
        documents=[mo.RerankDocument(text="a"), mo.RerankDocument(text="b", fields=b'{"text":"b","title":"t"}')],
        top_n=5,
        max_tokens_per_document=10,
    )

    body, dropped = RERANK.write_task(mo.Task(rerank=asked), model=ARN)

    assert {
        "queries": [{"type": "TEXT", "textQuery": {"text": "q"}}],
        "sources": [
            {"type": "INLINE", "inlineDocumentSource": {"type": "TEXT", "textDocument": {"text": "a"}}},
            {
                "type": "INLINE",
                "inlineDocumentSource": {"type": "JSON", "jsonDocument": {"text": "b", "title": "t"}},
            },
        ],
        "rerankingConfiguration": {
            "type": "BEDROCK_RERANKING_MODEL",
            "bedrockRerankingConfiguration": {"numberOfResults": 2, "modelConfiguration": {"modelArn": ARN}},
        },
    } == json.loads(body.data)
    assert ["max_tokens_per_document"] == dropped


def test_an_order() -> None:
    """Places, scores and documents; the token for more stays an extension."""
    answer = {
        "results": [
            {"index": 1, "relevanceScore": 0.5, "document": {"type": "TEXT", "textDocument": {"text": "b"}}},
            {"index": 0, "relevanceScore": 0.25, "document": {"type": "JSON", "jsonDocument": {"x": 1}}},
        ],
        "nextToken": "n",
    }

    result = RERANK.read_outcome(json.dumps(answer).encode(), "application/json").result

    assert [(1, 0.5), (0, 0.25)] == [(item.index, item.score) for item in result.rerank.results]
    assert "b" == result.rerank.results[0].document.text
    assert b'{"x":1}' == result.rerank.results[1].document.fields
    assert {"nextToken": b'"n"'} == dict(result.extensions)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"inputTokens":"7"}', b'{"results":[{"index":-1}]}'])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    """Neither a count nor an order."""
    for task in (COUNT_TOKENS, RERANK):
        with pytest.raises(MeshError) as caught:
            task.read_outcome(body, "application/json")
        assert errors_pb2.FAULT_BAD_ANSWER == caught.value.fault


def test_an_error_in_an_answer_keeps_its_class() -> None:
    """Some proxies answer errors with status 200."""
    with pytest.raises(MeshError) as caught:
        COUNT_TOKENS.read_outcome(b'{"__type":"ThrottlingException","message":"slow"}', "application/json")

    assert errors_pb2.FAULT_RATE == caught.value.fault


def test_work_of_another_kind_is_refused() -> None:
    """Each dialect does one thing."""
    with pytest.raises(MeshError):
        COUNT_TOKENS.write_task(mo.Task(rerank=mo.RerankTask()), model="m")
    with pytest.raises(MeshError):
        RERANK.write_task(mo.Task(count_tokens=mo.CountTokensTask()), model="m")
    picture = mo.RerankDocument(image=pb.Media(url="https://a.example/x.png"))
    with pytest.raises(MeshError):
        RERANK.write_task(mo.Task(rerank=mo.RerankTask(query="q", documents=[picture])), model="m")
