"""Answers of `openai.transcriptions`: JSON, plain text, subtitles or events, read and written."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.modality.v1.modality_pb2 import Result, Segment, Task, TranscriptionResult
from polyroute.dialects import jsontools, sse, subtitles
from polyroute.dialects.task import JSON, Body, Outcome
from polyroute.dialects.task_stream import LAST, events_of
from polyroute.dialects.tasktools import (
    answer_of,
    bad_answer,
    extras,
    leftovers,
    no_answer,
    objects,
    put_extras,
    put_leftovers,
    seconds_of,
    text_of,
    tokens_from,
    tokens_json,
)

STREAM: Final = "text/event-stream"
TEXT: Final = "text/plain; charset=utf-8"
_TIMED: Final = ("segments", "words")
_KNOWN: Final = ("text", "language", "duration", *_TIMED, "usage", "model", "task", "type")
_SEGMENT: Final = ("text", "word", "start", "end", "speaker")
_SEGMENT_EVENT: Final = ".segment"


def read(body: bytes, content_type: str) -> Outcome:
    """A vendor's whole answer, in whichever format it came, or a stream that was read to its end.

    Raises:
        MeshError: the fault inside it, FAULT_BAD_ANSWER for what is no transcript.
    """
    if content_type.startswith(STREAM):
        return _read_events(events_of(body))
    words = body.strip()
    # servers differ in the media type of plain formats; JSON begins with a brace, and so does no transcript of theirs
    if words.startswith(b"{") and ("json" in content_type or not content_type.startswith("text/")):
        return _read_json(answer_of(body))
    if "html" in content_type or words.startswith((b"<!", b"<html")):
        raise bad_answer("the provider's answer is a page")
    return _read_text(words, quoted="json" in content_type)


def _read_json(value: Mapping[str, Any]) -> Outcome:
    if not isinstance(value.get("text"), str):
        raise no_answer(value, "transcript")
    spoken = TranscriptionResult(
        text=value["text"],
        language=text_of(value.get("language")),
        duration_milliseconds=seconds_of(value.get("duration")),
        segments=[_read_segment(item) for item in objects(value.get("segments"))],
        words=[_read_segment(item) for item in objects(value.get("words"))],
    )
    result = Result(transcription=spoken, model=text_of(value.get("model")))
    for name, raw in extras(value, _KNOWN).items():
        result.extensions[name] = raw
    for name in _TIMED:
        rest = leftovers(objects(value.get(name)), _SEGMENT)
        if rest:
            result.extensions[name] = rest
    return Outcome(result, _usage(value, spoken.duration_milliseconds))


def _usage(value: Mapping[str, Any], duration: int) -> Usage | None:
    usage = tokens_from(value.get("usage"))
    if duration and (usage is None or not usage.audio_milliseconds):
        usage = usage or Usage()
        usage.audio_milliseconds = duration
    return usage


def _read_segment(value: Mapping[str, Any]) -> Segment:
    return Segment(
        text=text_of(value.get("text")) or text_of(value.get("word")),
        start_milliseconds=seconds_of(value.get("start")),
        end_milliseconds=seconds_of(value.get("end")),
        speaker=text_of(value.get("speaker")) or text_of(value.get("speaker_id")),
    )


def _read_text(body: bytes, *, quoted: bool) -> Outcome:
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise bad_answer("the provider's answer is neither text nor JSON") from None
    if quoted and text.startswith('"'):
        try:
            text = text_of(jsontools.loads(body))
        except ValueError:
            raise bad_answer("the provider's answer is not JSON") from None
    segments = subtitles.read(text)
    if segments is None:
        if quoted and not body.startswith(b'"'):
            raise bad_answer("the provider's answer is not a JSON object")
        return Outcome(Result(transcription=TranscriptionResult(text=text)), None)
    spoken = TranscriptionResult(text=" ".join(segment.text for segment in segments), segments=segments)
    if segments:
        spoken.duration_milliseconds = segments[-1].end_milliseconds
    return Outcome(Result(transcription=spoken), None)


def _read_events(events: Sequence[Mapping[str, Any]]) -> Outcome:
    """The last event holds the whole text; pieces with their speakers come as events of their own."""
    last = next(event for event in reversed(events) if text_of(event.get("type")).endswith(LAST))
    named = [text_of(event.get("type")) for event in events]
    deltas = "".join(
        text_of(event.get("delta")) or text_of(event.get("text"))
        for event, name in zip(events, named, strict=True)
        if name.endswith(".delta")
    )
    whole = dict(last) | {"text": last["text"] if isinstance(last.get("text"), str) else deltas}
    pieces = [event for event, name in zip(events, named, strict=True) if name.endswith(_SEGMENT_EVENT)]
    if pieces and not whole.get("segments"):
        whole["segments"] = pieces
    return _read_json(whole)


def write(outcome: Outcome, task: Task) -> Body:
    """An answer for a client, in the format that it asked for."""
    spoken = outcome.result.transcription
    if task.extensions.get("stream") == b"true":
        return _write_events(outcome)
    match task.transcription.format:
        case "text":
            return Body(f"{spoken.text}\n".encode(), TEXT)
        case "srt":
            return Body(subtitles.write_srt(_pieces(spoken)).encode(), TEXT)
        case "vtt":
            return Body(subtitles.write_vtt(_pieces(spoken)).encode(), TEXT)
        case form:
            return Body(jsontools.dumps(_json(outcome, task, timed=form not in ("", "json"))), JSON)


def _pieces(spoken: TranscriptionResult) -> Sequence[Segment]:
    whole = Segment(text=spoken.text, end_milliseconds=spoken.duration_milliseconds)
    return spoken.segments or ([whole] if spoken.text else [])


def _json(outcome: Outcome, task: Task, *, timed: bool) -> dict[str, Any]:
    spoken, extensions = outcome.result.transcription, outcome.result.extensions
    out: dict[str, Any] = {"text": spoken.text}
    if timed:
        out |= {"task": "translate" if task.transcription.translate else "transcribe", "language": spoken.language}
        out["duration"] = spoken.duration_milliseconds / 1000
    elif spoken.language:
        out["language"] = spoken.language
    for name, pieces, word in (("segments", spoken.segments, "text"), ("words", spoken.words, "word")):
        if pieces:
            out[name] = [_segment_json(piece, word) for piece in pieces]
            put_leftovers(out[name], extensions.get(name, b""))
    if outcome.usage is not None:
        out["usage"] = _usage_json(outcome.usage)
    put_extras(out, {name: raw for name, raw in extensions.items() if name not in _TIMED})
    return out


def _segment_json(piece: Segment, word: str) -> dict[str, Any]:
    out = {word: piece.text, "start": piece.start_milliseconds / 1000, "end": piece.end_milliseconds / 1000}
    return out | ({"speaker": piece.speaker} if piece.speaker else {})


def _usage_json(usage: Usage) -> dict[str, Any]:
    if usage.input_tokens or usage.output_tokens or usage.cache_read_tokens:
        return {"type": "tokens", **tokens_json(usage, details="token_details")}
    return {"type": "duration", "seconds": usage.audio_milliseconds / 1000}


def _write_events(outcome: Outcome) -> Body:
    text = outcome.result.transcription.text
    done: dict[str, Any] = {"type": "transcript.text.done", "text": text}
    if outcome.usage is not None:
        done["usage"] = _usage_json(outcome.usage)
    events = [{"type": "transcript.text.delta", "delta": text}, done] if text else [done]
    return Body(sse.frame([jsontools.dumps(event) for event in events]), STREAM)
