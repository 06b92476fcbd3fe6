"""Every recorded exchange of work other than conversation, read by the dialects and by a naive reading."""

import base64
import json
from typing import Any

import pytest

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import multipart
from polyroute.dialects.sse import Framer
from polyroute.dialects.task import JSON, Body, Outcome, TaskOutbound
from polyroute.dialects.task_registry import SPOKEN, TASKS
from polyroute.mesh.errors import MeshError
from tests.recordings import FOLDER, Row, body_of, cases, check, exchanges

WIRES = {
    "cohere.rerank": "cohere.rerank",
    "rerank": "cohere.rerank",
    "voyage.rerank": "voyage.rerank",
    "dashscope.rerank": "dashscope.rerank",
    "openai.images": "openai.images",
    "openai.audio_speech": "openai.speech",
    "openai.audio_transcriptions": "openai.transcriptions",
    "mistral.audio_transcriptions": "openai.transcriptions",
    "openai.moderations": "openai.moderations",
    "dashscope.text2image": "dashscope.images",
    "dashscope.tasks": "dashscope.images",
    "dashscope.background_generation": "dashscope.images",
}
ROWS = exchanges(*WIRES)
ANSWERED = [row for row in ROWS if row["status"] == 200]
ASKED = [row for row in ROWS if row["request_file"]]
STREAMS = [row for row in ANSWERED if row["response_file"].endswith(".sse")]
pytestmark = pytest.mark.skipif(not ROWS, reason=f"no recordings in {FOLDER}")


def dialect_of(row: Row) -> TaskOutbound:
    """Who reads it."""
    return TASKS[WIRES[row["wire"]]]


def request_of(row: Row) -> Body:
    """The recorded request; a form's boundary is that of its first line."""
    data = body_of(row, "request_file")
    if not row["request_file"].endswith(".multipart"):
        return Body(data)
    boundary = data.partition(b"\r\n")[0].removeprefix(b"--").decode()
    return Body(data, f'{multipart.MEDIA_TYPE}; boundary="{boundary}"')


def plain_of(body: Body) -> Any:
    """What a body says, however it says it: a form as names with their values, files by their bytes."""
    if not multipart.is_form(body.content_type):
        return json.loads(body.data)
    return sorted((field.name.removesuffix("[]"), field.data) for field in multipart.read(body))


def pictures_in(value: Any) -> int:
    """Pictures in an answer of any of these vendors."""
    output = value.get("output") or {}
    listed = value.get("data") or value.get("images") or output.get("results") or []
    return sum(bool(item.get("url") or item.get("b64_json") or item.get("image")) for item in listed)


def naive_events(raw: bytes) -> list[Any]:
    """The JSON of a stream's events."""
    lines = [line[5:].strip() for line in raw.decode().splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def told(usage: Any) -> int:
    """All tokens that a vendor states."""
    if not isinstance(usage, dict):
        return 0
    return usage.get("total_tokens") or (usage.get("input_tokens") or 0) + (usage.get("output_tokens") or 0)


def total(usage: Usage | None) -> int:
    """The sum of the buckets."""
    if usage is None:
        return 0
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return prompt + usage.output_tokens + usage.reasoning_tokens


@cases([row for row in ASKED if WIRES[row["wire"]] in SPOKEN])
def test_a_recorded_request_survives_the_typed_form(row: Row) -> None:
    """Facts are those of the body, patching changes the model alone, and reading and writing changes nothing."""
    dialect = SPOKEN[WIRES[row["wire"]]]
    body = request_of(row)
    raw = plain_of(body)
    named = raw.get("model") if isinstance(raw, dict) else dict(raw).get("model", b"").decode()

    facts = dialect.read_facts(body, default_model="assumed")
    task = dialect.read_task(body)
    patched = dialect.patch_task(body, model="upstream")
    again, dropped = dialect.write_task(task, model=named or "assumed", source=dialect.name)

    check("model", holds=facts.model in (named, "assumed", "omni-moderation-latest"))
    check("nothing dropped", holds=not dropped)
    check("same request", holds=without_model(plain_of(again)) == without_model(raw))
    check("only the model changed", holds=without_model(plain_of(patched)) == without_model(raw))
    check("the model changed", holds=dialect.read_facts(patched).model == "upstream")


def without_model(raw: Any) -> Any:
    """A request but for its model."""
    if isinstance(raw, dict):
        return {name: value for name, value in raw.items() if name != "model"}
    return [(name, data) for name, data in raw if name != "model"]


@cases([row for row in ASKED if WIRES[row["wire"]] == "voyage.rerank" or row["wire"] == "dashscope.rerank"])
def test_a_recorded_rerank_is_what_we_would_ask(row: Row) -> None:
    """A vendor's own request is written from the same question in the form that clients speak."""
    raw = json.loads(body_of(row, "request_file"))
    given = {**raw, **raw.get("input", {})}
    top = raw.get("top_k", raw.get("parameters", {}).get("top_n"))
    asked = {"model": "m", "query": given["query"], "documents": given["documents"]} | ({"top_n": top} if top else {})
    task = SPOKEN["cohere.rerank"].read_task(Body(json.dumps(asked).encode()))

    body, dropped = dialect_of(row).write_task(task, model=raw["model"], source="cohere.rerank")

    raw.pop("truncation", None)
    check("same request", holds=json.loads(body.data) == raw)
    check("nothing dropped", holds=not dropped)


@cases([row for row in ANSWERED if row["response_file"].endswith(".json")])
def test_a_recorded_answer_reads_like_its_json(row: Row) -> None:
    """Results and usage are those of the raw JSON, and the same once written for a client."""
    raw = body_of(row)
    value = json.loads(raw)
    dialect = dialect_of(row)
    state = (value.get("output") or {}).get("task_status")
    if state in ("PENDING", "UNKNOWN"):
        check("goes on", holds=bool(dialect.pending(raw)) == (state == "PENDING"))
        with pytest.raises(MeshError):
            dialect.read_outcome(raw, JSON)
        return

    outcome = dialect.read_outcome(raw, JSON)

    check("done", holds=not dialect.pending(raw))
    check("usage", holds=total(outcome.usage) == told(value.get("usage")))
    check("result", holds=naive(value, WIRES[row["wire"]]) == seen(outcome))
    spoken = SPOKEN.get(WIRES[row["wire"]])
    if spoken is not None:
        task = spoken.read_task(request_of(row)) if row["request_file"] else None
        if task is not None:
            written = spoken.write_outcome(outcome, task, request_id="r", model="m")
            again = spoken.read_outcome(written.data, written.content_type)
            check("same result again", holds=seen(again) == seen(outcome))
            check("same usage again", holds=total(again.usage) == total(outcome.usage))
            check("same extras again", holds=dict(again.result.extensions) == dict(outcome.result.extensions))


def naive(value: Any, name: str) -> Any:
    """What an answer says, read simply."""
    if "rerank" in name:
        listed = value.get("results") or value.get("data") or value["output"]["results"]
        return [(item["index"], item["relevance_score"]) for item in listed]
    if "images" in name:
        return pictures_in(value)
    if "moderations" in name:
        return [(item["flagged"], item["categories"], item["category_scores"]) for item in value["results"]]
    pieces = [(piece["text"], piece["start"], piece["end"]) for piece in value.get("segments") or []]
    return value["text"], pieces, round((value.get("duration") or 0) * 1000)


def seen(outcome: Outcome) -> Any:
    """The same of what was read."""
    result = outcome.result
    match result.WhichOneof("result"):
        case "rerank":
            return [(item.index, item.score) for item in result.rerank.results]
        case "image":
            return len(result.image.images)
        case "moderation":
            return [(one.flagged, dict(one.categories), dict(one.scores)) for one in result.moderation.verdicts]
        case _:
            given = result.transcription
            pieces = [(one.text, one.start_milliseconds / 1000, one.end_milliseconds / 1000) for one in given.segments]
            return given.text, pieces, given.duration_milliseconds


@cases([row for row in ANSWERED if row["response_file"].endswith(".txt")])
def test_recorded_subtitles_are_read_and_written(row: Row) -> None:
    """Subtitles keep their words and times."""
    dialect = SPOKEN[WIRES[row["wire"]]]
    raw = body_of(row)
    outcome = dialect.read_outcome(raw, row["response_content_type"])

    written = dialect.write_outcome(outcome, dialect.read_task(request_of(row)), request_id="r", model="m")

    check("same text", holds=written.data.split() == raw.split())


@cases([row for row in ANSWERED if row["response_file"].endswith(".bin")])
def test_recorded_sound_is_sound(row: Row) -> None:
    """The bytes are the sound."""
    outcome = SPOKEN["openai.speech"].read_outcome(body_of(row), row["response_content_type"])

    check("same bytes", holds=outcome.result.speech.data == body_of(row))
    check("no usage", holds=outcome.usage is None)


@cases(STREAMS)
def test_a_recorded_stream_reads_like_its_json(row: Row) -> None:
    """The whole of a stream, and what is metered in passing, are what its events say."""
    dialect = SPOKEN[WIRES[row["wire"]]]
    raw = body_of(row)
    events = naive_events(raw)
    framer, meter = Framer(), dialect.meter()

    outcome = dialect.read_outcome(raw, "text/event-stream")
    metered = meter.feed(framer.feed(raw) + framer.flush())

    check("usage", holds=total(outcome.usage) == told(events[-1]["usage"]))
    check("usage in passing", holds=metered.usage == outcome.usage)
    check("end marker", holds=metered.done)
    check("complete", holds=metered.finish == chat_pb2.FINISH_REASON_STOP)
    check("events in passing", holds=naive_events(metered.data) == events and metered.content_events == len(events))
    if outcome.result.HasField("speech"):
        sound = b"".join(base64.b64decode(event["audio"]) for event in events if "audio" in event)
        check("sound", holds=sound == outcome.result.speech.data)
    else:
        check("words", holds=outcome.result.transcription.text == events[-1]["text"])


@cases(STREAMS)
def test_a_cut_stream_is_never_complete(row: Row) -> None:
    """Cut before its last event, a stream is a fault for the reader and unfinished for the meter."""
    dialect = SPOKEN[WIRES[row["wire"]]]
    raw = body_of(row)
    last = raw.rindex(b'data: {"type"')
    for place in range(0, last, max(1, last // 40)):
        with pytest.raises(MeshError) as caught:
            dialect.read_outcome(raw[:place], "text/event-stream")
        check("truncated", holds=caught.value.fault == errors_pb2.FAULT_TRUNCATED)
        framer, meter = Framer(), dialect.meter()
        check("unfinished", holds=not meter.feed(framer.feed(raw[:place]) + framer.flush()).finish)


@cases([row for row in ROWS if row["status"] != 200])
def test_a_recorded_error_has_a_class(row: Row) -> None:
    """Every recorded error is classed."""
    error = dialect_of(row).fault_of(row["status"], body_of(row), {})

    check("a class", holds=error.fault not in (errors_pb2.FAULT_UNSPECIFIED, errors_pb2.FAULT_BAD_ANSWER))
    check("words", holds=0 < len(error.message) <= 500)
