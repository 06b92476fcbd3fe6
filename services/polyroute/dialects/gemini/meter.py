"""Metering what passes: streams and answers of this dialect on both sides are read, never rewritten.

The hot path decodes each event into structs that name only what is counted; msgspec skips the rest without making
objects. An event of a shape that the structs do not foresee is read again, slowly, by its plain JSON.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.dialects import jsontools, sse
from polyroute.dialects.asking import bad_answer, object_in, objects_in, text_of
from polyroute.dialects.dialect import AnswerFacts, BrokenStreamError, Metered, SseEvent
from polyroute.dialects.gemini.common import better_finish, finish_of, is_finish, loads, usage_from
from polyroute.dialects.gemini.faults import fault_in
from polyroute.dialects.gemini.stream_reader import chunks_of
from polyroute.mesh.errors import MeshError

_ABSENT: Final = msgspec.Raw()
_UNSPECIFIED: Final = frozenset({"", "BLOCK_REASON_UNSPECIFIED"})


class _Call(msgspec.Struct, gc=False, rename="camel"):
    name: str | None = None
    args: msgspec.Raw = _ABSENT
    partial_args: msgspec.Raw = _ABSENT


class _Part(msgspec.Struct, gc=False, rename="camel"):
    text: str | None = None
    function_call: _Call | None = None
    inline_data: msgspec.Raw = _ABSENT
    executable_code: msgspec.Raw = _ABSENT
    code_execution_result: msgspec.Raw = _ABSENT


class _Content(msgspec.Struct, gc=False, rename="camel"):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, gc=False, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int | None = None


class _Feedback(msgspec.Struct, gc=False, rename="camel"):
    block_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: msgspec.Raw = _ABSENT
    prompt_feedback: _Feedback | None = None
    error: msgspec.Raw = _ABSENT


_decode: Final = msgspec.json.Decoder(_Chunk).decode


class GeminiMeter:
    """The meter of `gemini.generate`. Usage is a part of every answer of this format and never hidden."""

    __slots__ = ("_called", "_finish")

    def __init__(self) -> None:
        self._finish = ""  # of the first candidate, in the vendor's words
        self._called = False

    def feed(self, events: list[SseEvent]) -> Metered:
        """Reads one batch; see `dialect.Meter`."""
        out = Metered()
        payloads: list[bytes] = []
        usage = _ABSENT
        broken: MeshError | None = None
        try:
            for _, data in events:
                for payload, chunk in _chunks(data):
                    self._chunk(chunk, payload, out)
                    payloads.append(payload)
                    if chunk.usage_metadata is not _ABSENT:
                        usage = chunk.usage_metadata
        except MeshError as error:
            broken = error
        out.data = sse.frame(_lines(payloads))
        out.usage = _usage(usage) or out.usage
        if broken:
            raise BrokenStreamError.of(broken, metered=out)
        return out

    def _chunk(self, chunk: _Chunk, payload: bytes, out: Metered) -> None:
        if chunk.error is not _ABSENT:
            _raise_error(payload)
        chars = 0
        for place, candidate in enumerate(chunk.candidates or ()):
            first = (place if candidate.index is None else candidate.index) == 0
            found, called = _count(candidate)
            chars += found
            if first:
                self._called = self._called or called
                if is_finish(candidate.finish_reason):
                    self._finish = better_finish(self._finish, candidate.finish_reason)
                    out.finish = finish_of(self._finish, tool_calls=self._called)
        feedback = chunk.prompt_feedback
        if feedback is not None and (feedback.block_reason or "") not in _UNSPECIFIED and not self._finish:
            out.finish = pb.FINISH_REASON_CONTENT_FILTER
        if chars:
            out.content_events += 1
            out.text_chars += chars


def _count(candidate: _Candidate) -> tuple[int, bool]:
    """Characters of the content of a candidate, at least 1 when there is any; and whether it calls a function."""
    chars, called = 0, False
    for part in (candidate.content.parts or ()) if candidate.content else ():
        if part.text:
            chars += len(part.text)
        elif part.function_call is not None:
            call = part.function_call
            called = called or bool(call.name)
            chars += len(call.name or "") + len(call.args) + len(call.partial_args)
        elif part.text is None and (part.inline_data or part.executable_code or part.code_execution_result):
            chars += 1
    return chars, called


def _chunks(data: bytes) -> Iterable[tuple[bytes, _Chunk]]:
    """The chunks of one event with their bytes: mostly one; the entries of a stream that came whole."""
    try:
        return ((data, _decode(data)),)
    except jsontools.BAD_JSON:
        chunks = chunks_of(data)
    if len(chunks) == 1 and not data.lstrip().startswith(b"["):
        return ((data, _odd(chunks[0])),)
    return [(jsontools.dumps(chunk), _odd(chunk)) for chunk in chunks]


def _odd(value: dict[str, Any]) -> _Chunk:
    """An event that the structs do not fit, reduced to what they name."""
    chunk = _Chunk(candidates=[_candidate_of(item) for item in objects_in(value.get("candidates"))])
    if value.get("error"):
        chunk.error = msgspec.Raw(b"{}")
    if isinstance(value.get("usageMetadata"), dict):
        chunk.usage_metadata = msgspec.Raw(jsontools.dumps(value["usageMetadata"]))
    chunk.prompt_feedback = _Feedback(text_of(object_in(value.get("promptFeedback")).get("blockReason")))
    return chunk


def _candidate_of(value: dict[str, Any]) -> _Candidate:
    index = value.get("index")
    return _Candidate(
        content=_Content([_part_of(part) for part in objects_in(object_in(value.get("content")).get("parts"))]),
        finish_reason=text_of(value.get("finishReason")),
        index=index if isinstance(index, int) else None,
    )


def _part_of(value: dict[str, Any]) -> _Part:
    call = value.get("functionCall")
    part = _Part(text=value["text"] if isinstance(value.get("text"), str) else None)
    if isinstance(call, dict):
        arguments = jsontools.dumps(call.get("args", call.get("partialArgs", {})))
        part.function_call = _Call(name=text_of(call.get("name")), args=msgspec.Raw(arguments))
    if value.get("inlineData") or value.get("executableCode") or value.get("codeExecutionResult"):
        part.inline_data = msgspec.Raw(b"{}")
    return part


def _lines(payloads: list[bytes]) -> list[bytes]:
    """Payloads of one line each: a line end in JSON can only be white space between tokens."""
    return [
        payload.replace(b"\r", b" ").replace(b"\n", b" ") if b"\n" in payload or b"\r" in payload else payload
        for payload in payloads
    ]


def _usage(raw: msgspec.Raw) -> Usage | None:
    return usage_from(loads(bytes(raw))) if raw else None


def _raise_error(payload: bytes) -> None:
    """Raises the error inside an event; returns when its `error` is null."""
    value = loads(payload)
    if isinstance(value, dict) and value.get("error"):
        raise fault_in(value)


def read_answer_facts(body: bytes) -> AnswerFacts:
    """What metering needs of a whole answer; see `dialect.Dialect.read_answer_facts`."""
    meter = GeminiMeter()
    seen = meter.feed([("", body)])
    if not seen.finish and not seen.content_events:
        raise bad_answer("the provider's answer has no candidates")
    return AnswerFacts(seen.usage, seen.finish, seen.text_chars)
