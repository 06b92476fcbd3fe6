"""`gemini.count_tokens` and `gemini.embed`: the recordings, both forms of a request, and what is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1.modality_pb2 import CountTokensTask, Task
from polyroute.dialects import gemini_count_tokens, gemini_embeddings
from polyroute.dialects.dialect import BrokenStreamError
from polyroute.dialects.embedding import QUERY
from polyroute.dialects.gemini_count_tokens import GeminiCountTokens
from polyroute.dialects.gemini_embeddings import GeminiEmbeddings, Options
from polyroute.dialects.task import Body
from polyroute.mesh.errors import MeshError
from tests.outbound import VALUES, attempt, broken
from tests.recordings import Row, body_of, cases, check, exchanges

COUNT = gemini_count_tokens.DIALECT
EMBED = gemini_embeddings.DIALECT
COUNTS = exchanges("gemini.countTokens", "vertex.countTokens")
VECTORS = exchanges("gemini.embedContent", "vertex.embedContent", "vertex.predict", "gemini.embeddings")
DIRECT = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
WRAPPED = {
    "generateContentRequest": {
        "model": "models/m",
        **DIRECT,
        "systemInstruction": {"parts": [{"text": "Be brief"}]},
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
    }
}


def raw(value: Any) -> bytes:
    """JSON."""
    return json.dumps(value).encode()


@cases([row for row in COUNTS if row["request_file"]])
def test_a_recorded_count_is_asked(row: Row) -> None:
    """The request is read at the door, passes on, and survives the typed form."""
    body = Body(body_of(row, "request_file"))

    facts = COUNT.read_facts(body, default_model="m")
    patched = COUNT.patch_task(body, model="up-1")
    task = COUNT.read_task(body)
    written, dropped = COUNT.write_task(task, model="m", source=COUNT.name)

    check("operation", holds=facts.operation == pb.OPERATION_COUNT_TOKENS and facts.model == "m")
    value = json.loads(body.data)
    if "generateContentRequest" in value:
        value["generateContentRequest"]["model"] = "models/up-1"
    check("only the model changed", holds=json.loads(patched.data) == value)
    again = COUNT.read_task(written).count_tokens.chat
    check("same conversation", holds=again.messages == task.count_tokens.chat.messages and not dropped)
    check("same tools", holds=again.tools == task.count_tokens.chat.tools)


@cases(COUNTS)
def test_a_recorded_count_is_read(row: Row) -> None:
    """The number is that of the raw JSON, and an error is an error."""
    body = body_of(row)
    value = json.loads(body)
    if row["status"] != 200:
        check("gone", holds=COUNT.fault_of(row["status"], body, {}).fault == errors_pb2.FAULT_MODEL_GONE)
        return

    outcome = COUNT.read_outcome(body, "application/json")
    written = COUNT.write_outcome(outcome, Task(), request_id="r", model="m")

    check("count", holds=value["totalTokens"] == outcome.result.count_tokens.input_tokens)
    check("nothing lost", holds=value == json.loads(written.data))


def test_both_forms_of_a_request() -> None:
    """Instructions and tools count where they stand in the inner request."""
    direct, wrapped = (COUNT.read_facts(Body(raw(value)), default_model="m") for value in (DIRECT, WRAPPED))

    assert ([], [pb.CAPABILITY_TOOLS]) == (list(direct.needs), list(wrapped.needs))
    assert wrapped.input_tokens_estimate > direct.input_tokens_estimate
    assert "Be brief" == COUNT.read_task(Body(raw(WRAPPED))).count_tokens.chat.messages[0].parts[0].text.text


def test_a_count_for_either_kind_of_vendor() -> None:
    """Wrapped, with the model's name; or with everything beside the contents."""
    task = COUNT.read_task(Body(raw(WRAPPED)))
    task.count_tokens.chat.max_output_tokens = 5

    wrapped, dropped = COUNT.write_task(task, model="up-1")
    plain, _ = GeminiCountTokens(wrapped=False).write_task(task, model="up-1")

    inner = WRAPPED["generateContentRequest"] | {"model": "models/up-1", "generationConfig": {"maxOutputTokens": 5}}
    assert {"generateContentRequest": inner} == json.loads(wrapped.data)
    assert {name: item for name, item in inner.items() if name != "model"} == json.loads(plain.data)
    assert not dropped


@pytest.mark.parametrize(
    "value",
    [{}, [], {"generateContentRequest": 1}, {"generateContentRequest": {}}, {**DIRECT, **WRAPPED}, {"contents": []}],
)
def test_what_is_no_request_to_count(value: Any) -> None:
    """Is refused at the door and in the typed form."""
    for read in (
        lambda: COUNT.read_facts(Body(raw(value)), default_model="m"),
        lambda: COUNT.read_task(Body(raw(value))),
    ):
        with pytest.raises(MeshError) as caught:
            read()
        assert errors_pb2.REASON_INVALID_REQUEST == caught.value.reason


@given(broken([DIRECT, WRAPPED]) | VALUES | st.just(WRAPPED))
def test_whatever_is_to_be_counted_is_read_or_refused(value: Any) -> None:
    """Never another exception."""
    body = Body(raw(value))
    calls = (
        lambda: COUNT.read_facts(body, default_model="m"),
        lambda: COUNT.write_task(COUNT.read_task(body), model="m"),
    )
    for call in calls:
        error = attempt(call)[1]
        assert error is None or error.reason in (errors_pb2.REASON_INVALID_REQUEST, errors_pb2.REASON_UPSTREAM)


@pytest.mark.parametrize("value", [{}, [], {"totalTokens": "5"}, {"totalTokens": -1}, {"totalTokens": True}, "x"])
def test_what_is_no_count(value: Any) -> None:
    """Is refused as an answer."""
    with pytest.raises(MeshError) as caught:
        COUNT.read_usage(raw(value), "application/json")

    assert errors_pb2.FAULT_BAD_ANSWER == caught.value.fault


def test_counting_has_no_streams_and_does_nothing_else() -> None:
    """Nor any work that goes on."""
    with pytest.raises(BrokenStreamError):
        COUNT.meter().feed([])
    with pytest.raises(MeshError):
        COUNT.write_task(Task(), model="m")

    assert "" == COUNT.pending(b"{}")
    assert Task(count_tokens=CountTokensTask()).WhichOneof("task") == "count_tokens"


@cases([row for row in VECTORS if row["status"] == 200])
def test_recorded_vectors_read_like_their_json(row: Row) -> None:
    """In any of the forms, with the tokens that are told."""
    body = body_of(row)
    value = json.loads(body)
    found = (
        [item["embeddings"] for item in value.get("predictions", [])] or value.get("embeddings") or [value["embedding"]]
    )
    told = sum(item.get("statistics", {}).get("token_count", 0) for item in found)

    vectors, usage, _ = EMBED.read_answer(body)

    check("vectors", holds=vectors == [item["values"] for item in found])
    check("usage", holds=usage.input_tokens == (value.get("usageMetadata", {}).get("promptTokenCount") or told))
    again = EMBED.write_answer(vectors, usage, model="m", base64=False)
    check("same once written", holds=EMBED.read_answer(again)[:2] == (vectors, usage))


@cases([row for row in VECTORS if row["request_file"] and row["wire"] != "vertex.predict"])
def test_a_recorded_request_for_vectors_is_read(row: Row) -> None:
    """It gives facts, texts, and a batch for the vendor that asks the same."""
    body = body_of(row, "request_file")
    value = json.loads(body)
    entries = value.get("requests", [value])

    facts = EMBED.read_facts(body, default_model="m")
    asked = EMBED.read_request(body)
    patched = json.loads(EMBED.patch_request(body, facts, model="up-1"))

    check("operation", holds=facts.operation == pb.OPERATION_EMBEDDING and facts.model == "m")
    check("texts", holds=len(asked.texts) == len(entries))
    check(
        "only the model changed", holds=patched["requests"] == [{**entry, "model": "models/up-1"} for entry in entries]
    )


@cases([row for row in VECTORS if row["status"] != 200])
def test_a_recorded_error_has_a_class(row: Row) -> None:
    """By what it says."""
    fault = errors_pb2.Fault.Name(EMBED.fault_of(row["status"], body_of(row), {}).fault)

    wanted = {400: ("FAULT_CREDENTIAL", "FAULT_FILTER"), 401: ("FAULT_CREDENTIAL",), 404: ("FAULT_MODEL_GONE",)}
    check("class", holds=fault in wanted[row["status"]])


ONE = {"content": {"parts": [{"text": "a"}, {"text": "b"}]}, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8}


def test_a_single_text_is_asked_as_a_batch() -> None:
    """And answered as a single one."""
    body = raw(ONE)
    facts = EMBED.read_facts(body, default_model="m")
    answer = raw({"embeddings": [{"values": [0.5, 1.0]}], "usageMetadata": {"promptTokenCount": 2}})

    asked = EMBED.read_request(body)
    patched = json.loads(EMBED.patch_request(body, facts, model="up-1"))
    fixed, usage, count = EMBED.fix_encoding(answer, body)

    assert (["a\nb"], QUERY, 8) == (asked.texts, asked.input_type, asked.dimensions)
    assert {"requests": [ONE | {"model": "models/up-1"}]} == patched
    assert {"embedding": {"values": [0.5, 1.0]}, "usageMetadata": {"promptTokenCount": 2}} == json.loads(fixed)
    assert (2, 1) == (usage.input_tokens, count)


def test_the_answer_to_a_batch_passes_as_it_is() -> None:
    """Not a byte changes."""
    answer = raw({"embeddings": [{"values": [0.5]}, {"values": [1]}]})

    fixed, usage, count = EMBED.fix_encoding(answer, raw({"requests": [ONE, ONE]}))

    assert (answer, pb.Usage(), 2) == (fixed, usage, count)


def test_the_forms_in_which_vendors_are_asked() -> None:
    """A batch, a single text, a prediction; and models that are not told what texts are for."""
    entry = {"content": {"parts": [{"text": "a"}]}, "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8}
    asked: dict[str, Any] = {"model": "up-1", "dimensions": 8, "input_type": QUERY}

    batch = json.loads(EMBED.write_request(["a"], **asked)[0])
    single = json.loads(gemini_embeddings.CONTENT.write_request(["a"], **asked)[0])
    predict = json.loads(gemini_embeddings.PREDICT.write_request(["a"], **asked)[0])
    untold = GeminiEmbeddings(options=Options(task_types=False)).write_request(["a"], model="up-1", input_type=QUERY)

    assert {"requests": [{"model": "models/up-1"} | entry]} == batch
    assert entry == single
    instance = {"content": "a", "task_type": "RETRIEVAL_QUERY"}
    assert {"instances": [instance], "parameters": {"outputDimensionality": 8}} == predict
    assert ["input_type"] == untold[1]
    assert "taskType" not in json.loads(untold[0])["requests"][0]


def test_several_texts_in_a_form_of_one() -> None:
    """Cannot be asked."""
    with pytest.raises(MeshError) as caught:
        gemini_embeddings.CONTENT.write_request(["a", "b"], model="m")

    assert errors_pb2.FAULT_UNSUPPORTED == caught.value.fault


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], ""),
        ({"requests": []}, "requests"),
        ({"requests": [1]}, "requests"),
        ({}, "requests[0].content"),
        ({"content": {"parts": []}}, "requests[0].content"),
        ({"content": {"parts": [{"text": 1}]}}, "requests[0].content"),
        ({"requests": [ONE] * 2049}, "requests"),
    ],
)
def test_what_is_no_request_for_vectors(value: Any, param: str) -> None:
    """Is refused at the door."""
    with pytest.raises(MeshError) as caught:
        EMBED.read_facts(raw(value), default_model="m")

    assert (errors_pb2.REASON_INVALID_REQUEST, param) == (caught.value.reason, caught.value.metadata.get("param", ""))


@pytest.mark.parametrize(
    "value",
    [
        {"requests": [ONE, ONE | {"taskType": "CLUSTERING"}]},
        {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]}},
    ],
)
def test_what_only_this_dialect_serves(value: Any) -> None:
    """Passes the door, and no deployment of another dialect."""
    EMBED.read_facts(raw(value), default_model="m")

    with pytest.raises(MeshError) as caught:
        EMBED.read_request(raw(value))

    assert errors_pb2.FAULT_UNSUPPORTED == caught.value.fault


@given(
    broken(
        [
            ONE,
            {"requests": [ONE]},
            {"embeddings": [{"values": [1]}]},
            {"predictions": [{"embeddings": {"values": [1]}}]},
        ]
    )
)
def test_whatever_comes_is_read_or_refused(value: Any) -> None:
    """From clients and from vendors, never another exception."""
    data = raw(value)
    for call in (lambda: EMBED.read_facts(data, default_model="m"), lambda: EMBED.read_request(data)):
        error = attempt(call)[1]
        assert error is None or error.reason in (errors_pb2.REASON_INVALID_REQUEST, errors_pb2.REASON_UPSTREAM)
    error = attempt(lambda: EMBED.read_answer(data))[1]
    assert error is None or error.reason == errors_pb2.REASON_UPSTREAM
