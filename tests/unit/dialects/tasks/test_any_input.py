"""Whatever comes, from a client or a vendor, is read or refused: no other error than the mesh's, on any input."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1.modality_pb2 import Task
from polyroute.dialects import multipart
from polyroute.dialects.sse import Framer, frame
from polyroute.dialects.task import Body
from polyroute.dialects.task_registry import SPOKEN, TASKS
from polyroute.mesh.errors import MeshError

MEMBERS = [
    "model",
    "query",
    "documents",
    "top_n",
    "return_documents",
    "max_tokens_per_doc",
    "results",
    "data",
    "output",
    "usage",
    "meta",
    "billed_units",
    "tokens",
    "search_units",
    "index",
    "relevance_score",
    "document",
    "text",
    "image",
    "images",
    "mask",
    "prompt",
    "n",
    "size",
    "quality",
    "style",
    "response_format",
    "output_format",
    "b64_json",
    "url",
    "image_url",
    "file_id",
    "revised_prompt",
    "created",
    "error",
    "code",
    "message",
    "task_status",
    "task_id",
    "choices",
    "message",
    "content",
    "candidates",
    "parts",
    "inlineData",
    "mimeType",
    "usageMetadata",
    "promptTokenCount",
    "promptFeedback",
    "blockReason",
    "finishReason",
    "flagged",
    "categories",
    "category_scores",
    "input",
    "voice",
    "speed",
    "stream",
    "stream_format",
    "language",
    "temperature",
    "timestamp_granularities",
    "segments",
    "words",
    "start",
    "end",
    "duration",
    "seconds",
    "type",
    "delta",
    "audio",
    "svg_usage",
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "input_tokens_details",
]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
WORDS = st.sampled_from(
    ["PENDING", "FAILED", "SUCCEEDED", "aGk=", "x.done", "y.completed", "url", "error", "image_url"]
)
VALUES = st.recursive(
    LEAVES | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(MEMBERS), inner, max_size=6),
    max_leaves=20,
)
OBJECTS = st.dictionaries(st.sampled_from(MEMBERS), VALUES, max_size=10)
TYPES = st.sampled_from(["application/json", "text/event-stream", "text/plain", "audio/mpeg", "text/html", ""])
# A vendor's answer to a question about it must be one of the mesh's errors that a vendor can cause.
VENDORS = (errors_pb2.REASON_UPSTREAM,)
CLIENTS = (errors_pb2.REASON_INVALID_REQUEST,)


def refused(reasons: tuple[int, ...], work: Any, *arguments: Any) -> Any:
    """What the work gives, or None when it refuses in the right way."""
    try:
        return work(*arguments)
    except MeshError as error:
        if error.reason not in reasons:
            raise AssertionError(f"refused with reason {error.reason}") from error
        return None


@settings(max_examples=40, deadline=None)
@given(value=VALUES | OBJECTS, kind=TYPES)
def test_any_answer(value: Any, kind: str) -> None:
    """Any JSON as an answer."""
    body = json.dumps(value).encode()
    events = frame([body, body])
    for name, dialect in TASKS.items():
        refused(VENDORS, dialect.pending, body)
        refused(VENDORS, dialect.fault_of, 400, body, {})
        outcome = refused(VENDORS, dialect.read_outcome, body, kind)
        refused(VENDORS, dialect.read_outcome, events, "text/event-stream")
        if outcome is not None and name in SPOKEN:
            spoken = SPOKEN[name]
            task = refused(CLIENTS, spoken.read_task, Body(b'{"prompt":"x","query":"x","documents":["a"],"input":"x"}'))
            if task is not None:
                written = spoken.write_outcome(outcome, task, request_id="r", model="m")
                assert isinstance(written.data, bytes)


@settings(max_examples=40, deadline=None)
@given(body=st.binary(max_size=200), kind=TYPES)
def test_any_bytes(body: bytes, kind: str) -> None:
    """Any bytes as an answer, and in a stream that passes."""
    for dialect in TASKS.values():
        refused(VENDORS, dialect.pending, body)
        refused(VENDORS, dialect.read_outcome, body, kind)
        refused(VENDORS, dialect.fault_of, 500, body, {})
    for spoken in SPOKEN.values():
        framer, meter = Framer(), spoken.meter()
        refused(VENDORS, lambda framer=framer, meter=meter: meter.feed(framer.feed(body) + framer.flush()))
        refused(VENDORS, lambda meter=meter: meter.feed([("", body)]))


@settings(max_examples=40, deadline=None)
@given(value=OBJECTS | VALUES)
def test_any_request(value: Any) -> None:
    """Any JSON as a request; what is read can be asked of any vendor, or is refused as more than it can do."""
    body = Body(json.dumps(value).encode())
    for spoken in SPOKEN.values():
        facts = refused(CLIENTS, spoken.read_facts, body)
        task = refused(CLIENTS, spoken.read_task, body)
        if task is None:
            continue
        if facts is not None:
            assert spoken.read_facts(spoken.patch_task(body, model="up")).model == "up"
        for dialect in TASKS.values():
            refused((*VENDORS, *CLIENTS), lambda d=dialect, t=task: d.write_task(t, model="m", source="x"))
        refused((*VENDORS, *CLIENTS), lambda s=spoken, t=task: s.write_task(t, model="m", source=s.name))


FIELDS = st.lists(
    st.builds(
        multipart.Field,
        st.sampled_from([*MEMBERS, "file", "image[]", "timestamp_granularities[]"]),
        st.binary(max_size=30) | st.sampled_from([b"1", b"true", b"0.5", b"en"]),
        st.none() | st.text(max_size=8),
        st.sampled_from(["", "audio/wav", "image/png", "odd type\r\nx: y"]),
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(fields=FIELDS)
def test_any_form(fields: list[multipart.Field]) -> None:
    """Any form as a request."""
    body = multipart.write(fields)
    for spoken in SPOKEN.values():
        refused(CLIENTS, spoken.read_facts, body)
        task = refused(CLIENTS, spoken.read_task, body)
        if task is not None:
            refused((*VENDORS, *CLIENTS), lambda spoken=spoken, task=task: spoken.write_task(task, model="m"))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=120), boundary=st.sampled_from(["b", "", 'a"b', "x" * 80, "a b", "é"]))
def test_any_bytes_as_a_form(data: bytes, boundary: str) -> None:
    """Any bytes under any boundary."""
    for whole in (data, b"--b\r\n" + data + b"\r\n--b--\r\n"):
        refused(CLIENTS, multipart.read, Body(whole, f"multipart/form-data; boundary={boundary}"))
        refused(CLIENTS, multipart.read, Body(whole, f'multipart/form-data; boundary="{boundary}"'))


GOLDEN = Path(__file__).parents[3] / "golden"
ODD: tuple[Any, ...] = (None, True, -1, 0, 2.5, 1e300, "", "x", [], {}, [None], [[]], {"x": None}, 1 << 70)
REQUESTS = {
    "cohere.rerank": {
        "model": "m",
        "query": "q",
        "documents": ["a", {"text": "b"}],
        "top_n": 1,
        "return_documents": True,
    },
    "openai.images": {
        "model": "m",
        "prompt": "p",
        "n": 1,
        "images": [{"image_url": "https://x.test"}],
        "mask": {"file_id": "f"},
    },
    "openai.speech": {"model": "m", "input": "t", "voice": {"id": "v"}, "speed": 1, "stream_format": "sse"},
    "openai.moderations": {"model": "m", "input": [{"type": "image_url", "image_url": {"url": "https://x.test"}}]},
}


def spoiled(value: Any) -> Iterator[Any]:
    """A JSON value with something odd in each of its places in turn."""
    for path in places(value):
        for odd in ODD:
            whole = copy.deepcopy(value)
            inner = whole
            for step in path[:-1]:
                inner = inner[step]
            inner[path[-1]] = odd
            yield whole


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in entries:
        yield (*path, step)
        yield from places(inner, (*path, step))


@pytest.mark.parametrize("name", sorted(TASKS))
def test_anything_anywhere_in_an_answer(name: str) -> None:
    """Sound answers with one value replaced, whole and as the last event of a stream; what is read can be written."""
    dialect = TASKS[name]
    for case in sorted((GOLDEN / name.replace(".", "_")).glob("*/answer.json")):
        try:
            value = json.loads(case.read_bytes())
        except ValueError:
            continue
        for answer in spoiled(value):
            body = json.dumps(answer).encode()
            refused(VENDORS, dialect.pending, body)
            outcome = refused(VENDORS, dialect.read_outcome, body, "application/json")
            if outcome is not None and name in SPOKEN:
                SPOKEN[name].write_outcome(outcome, Task(), request_id="r", model="m")
            if isinstance(answer, dict):
                event = json.dumps(answer | {"type": "x.done"}).encode()
                refused(VENDORS, dialect.read_outcome, frame([event]), "text/event-stream")
                if name in SPOKEN:
                    refused(VENDORS, SPOKEN[name].meter().feed, [("", event)])


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_anything_anywhere_in_a_request(name: str) -> None:
    """Sound requests with one value replaced; what is read can be asked of whoever can do it."""
    spoken = SPOKEN[name]
    for value in spoiled(REQUESTS[name]):
        body = Body(json.dumps(value).encode())
        refused(CLIENTS, spoken.read_facts, body)
        task = refused(CLIENTS, spoken.read_task, body)
        for dialect in TASKS.values():
            if task is not None:
                refused((*VENDORS, *CLIENTS), lambda d=dialect, t=task: d.write_task(t, model="m", source="x"))
