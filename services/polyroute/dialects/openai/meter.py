"""Metering what passes: streams and answers of one dialect on both sides are read, never rewritten.

The hot path decodes each event into structs that name only what is counted; msgspec skips the rest without making
objects. An event of a shape that the structs do not foresee is read again, slowly, by its plain JSON.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults, jsontools, sse
from polyroute.dialects.dialect import AnswerFacts, BrokenStreamError, Metered, SseEvent
from polyroute.dialects.openai.common import (
    WireUsage,
    better_finish,
    check_event,
    finish_of,
    is_finish,
    usage_from,
    usage_of,
)
from polyroute.mesh.errors import MeshError

_USAGE: Final = b'"usage"'
_NULL_USAGE: Final = b',"usage":null'
_ABSENT: Final = msgspec.Raw()
_UNSET: Final = msgspec.UNSET


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None
    input: str | None = None


class _Call(msgspec.Struct, gc=False):
    function: _Function | None = None
    custom: _Function | None = None


class _Audio(msgspec.Struct, gc=False):
    id: str | None = None
    data: msgspec.Raw | None = None
    transcript: str | None = None
    expires_at: int | None = None


class _Content(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    audio: _Audio | None = None
    function_call: _Function | None = None
    reasoning_details: msgspec.Raw = _ABSENT
    images: msgspec.Raw = _ABSENT


class _Choice(msgspec.Struct, gc=False):
    delta: _Content | None = None
    finish_reason: str | None = None
    text: str | None = None
    message: _Content | None = None
    index: int = 0
    usage: WireUsage | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: WireUsage | msgspec.UnsetType | None = msgspec.UNSET
    error: msgspec.Raw = _ABSENT


_decode: Final = msgspec.json.Decoder(_Chunk).decode


class OpenAIMeter:
    """The meter of `openai.chat` and `openai.completions`.

    Args:
        hide_usage: The client did not ask for usage but the vendor was asked: take it out of what passes.
    """

    __slots__ = ("_finish", "_hide", "_seen", "_told", "_tool_calls")

    def __init__(self, *, hide_usage: bool) -> None:
        self._hide = hide_usage
        self._finish = ""  # of the first choice, in the vendor's words
        self._tool_calls = False
        self._seen = False
        self._told = False  # the usage of the whole answer, and not of a choice

    def feed(self, events: list[SseEvent]) -> Metered:
        """Reads one batch; see `dialect.Meter`."""
        out = Metered()
        payloads: list[bytes] = []
        nulls: list[int] = []  # places in payloads of events with `usage: null`
        wire: WireUsage | None = None
        finish = ""
        hide, content_events, text_chars = self._hide, 0, 0
        broken: MeshError | None = None
        try:
            for name, data in events:
                try:
                    chunk = _decode(data)
                except jsontools.BAD_JSON:
                    if data.strip() == sse.DONE:
                        out.done = True
                        break
                    chunk = _odd(data)
                if name or chunk.error is not _ABSENT:
                    _raise_error(data, named=name == "error")
                usage = chunk.usage
                if usage is not _UNSET:
                    if usage is None:
                        nulls.append(len(payloads))
                    else:
                        if usage.total_tokens or usage.prompt_tokens or usage.completion_tokens:
                            self._told = True
                            wire = usage  # zeros in a later event do not undo figures
                        if hide and not chunk.choices:
                            continue
                elif not chunk.choices:
                    check_event(jsontools.loads(data))
                payloads.append(data)
                chars = 0
                for choice in chunk.choices or ():
                    delta = choice.delta
                    # most events are one piece of text: told before anything else
                    if delta is not None and delta.content and delta.tool_calls is None:
                        chars += len(delta.content)
                        self._seen = True
                    else:
                        chars += self._count(choice)
                    if choice.usage is not None and usage is _UNSET:
                        wire = self._of_choice(choice.usage) or wire
                    if choice.finish_reason and is_finish(choice.finish_reason) and choice.index == 0:
                        finish = self._finish = better_finish(self._finish, choice.finish_reason)
                if chars:
                    content_events += 1
                    text_chars += chars
        except MeshError as error:
            broken = error
        out.content_events, out.text_chars = content_events, text_chars
        out.data = _framed(payloads, nulls if hide else ())
        if wire is not None:
            out.usage = usage_of(wire)
        if finish:
            out.finish = finish_of(finish, tool_calls=self._tool_calls)
        if broken:
            raise BrokenStreamError.of(broken, metered=out)
        return out

    def _of_choice(self, usage: WireUsage) -> WireUsage | None:
        """Usage where some vendors have it; that of the answer stands when it was told."""
        figures = usage.total_tokens or usage.prompt_tokens or usage.completion_tokens
        return usage if figures and not self._told else None

    def _count(self, choice: _Choice) -> int:
        """Characters of all the content of a choice; at least 1 when there is any."""
        # a whole message at the end repeats what was streamed, unless nothing was
        content = choice.delta or (None if self._seen else choice.message)
        if content is None:
            chars = len(choice.text or "")
        else:
            chars = chars_of(content)
            self._tool_calls = self._tool_calls or (choice.index == 0 and _calls(content))
        self._seen = self._seen or chars > 0
        return chars


def chars_of(content: _Content) -> int:
    """Characters of a message or delta; at least 1 when it holds anything that is content."""
    chars = len(content.content or "") + len(content.refusal or "")
    chars += len(content.reasoning_content or content.reasoning or "")
    for call in content.tool_calls or ():
        chars += 1 + sum(_function_chars(function) for function in (call.function, call.custom) if function)
    if content.function_call and not content.tool_calls:
        chars += _function_chars(content.function_call)
    audio = content.audio
    if audio and (audio.id or audio.data or audio.transcript or audio.expires_at):
        chars += 1 + len(audio.transcript or "")
    if not chars and (len(content.reasoning_details) > len(b"null") or len(content.images) > len(b"null")):
        chars = 1
    return chars


def _calls(content: _Content) -> bool:
    legacy = content.function_call
    return bool(content.tool_calls or (legacy and (legacy.name or legacy.arguments)))


def _function_chars(function: _Function) -> int:
    return len(function.name or "") + len(function.arguments or "") + len(function.input or "")


def _framed(payloads: list[bytes], nulls: Sequence[int]) -> bytes:
    """Canonical events; those at the places `nulls` without their `usage: null`."""
    framed = sse.frame(payloads)
    if framed.count(b"\n") != 2 * len(payloads):
        # JSON over several lines: a line feed in it can only be white space between tokens
        payloads = [b" ".join(payload.split(b"\n")) for payload in payloads]
        framed = sse.frame(payloads)
    if not nulls:
        return framed
    # each of them has the member at its top level, so as many names as events means: nowhere else
    if framed.count(_USAGE) == len(nulls) == framed.count(_NULL_USAGE):
        return framed.replace(_NULL_USAGE, b"")
    for place in nulls:
        payloads[place] = jsontools.rewrite(payloads[place], {}, ("usage",))
    return sse.frame(payloads)


def _raise_error(data: bytes, *, named: bool) -> None:
    """Raises the error inside an event; returns when its `error` is null and the event is not named one."""
    value = jsontools.loads(data)
    if named or (isinstance(value, dict) and value.get("error")):
        raise faults.fault_in(value)


def _odd(data: bytes) -> _Chunk:
    """An event that the structs do not fit, reduced to what they name."""
    try:
        value = jsontools.loads(data)
    except ValueError:
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the provider sent broken JSON in its stream") from None
    if not isinstance(value, dict):
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the provider sent an event that is no object")
    return _chunk_of(value)


def _chunk_of(value: dict[str, Any]) -> _Chunk:
    chunk = _Chunk(choices=[_choice_of(choice) for choice in _objects(value.get("choices"))])
    if value.get("error"):
        chunk.error = msgspec.Raw(b"{}")
    if "usage" in value:
        usage = value["usage"]
        chunk.usage = None if usage is None else _wire_usage(usage)
    return chunk


def _wire_usage(value: object) -> WireUsage | None:
    usage = usage_from(value)
    if usage is None:
        return None
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    completion = usage.output_tokens + usage.reasoning_tokens
    return WireUsage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=usage.cache_read_tokens,
        cache_creation_input_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _choice_of(value: dict[str, Any]) -> _Choice:
    delta, message = value.get("delta"), value.get("message")
    index, usage = value.get("index"), value.get("usage")
    return _Choice(
        delta=_content_of(delta) if isinstance(delta, dict) else None,
        message=_content_of(message) if isinstance(message, dict) else None,
        finish_reason=value["finish_reason"] if is_finish(value.get("finish_reason")) else None,
        text=_text(value.get("text")),
        index=index if isinstance(index, int) else 0,
        usage=_wire_usage(usage) if usage else None,
    )


def _content_of(value: dict[str, Any]) -> _Content:
    return _Content(
        content=text_of_content(value.get("content")),
        reasoning_content=_text(value.get("reasoning_content")),
        reasoning=_text(value.get("reasoning")),
        refusal=_text(value.get("refusal")),
        tool_calls=[_Call(function=_function_of(call)) for call in _objects(value.get("tool_calls"))],
        audio=_audio_of(value.get("audio")),
        function_call=_function_of(value) if value.get("function_call") else None,
        reasoning_details=_there(value.get("reasoning_details")),
        images=_there(value.get("images")),
    )


def _there(value: object) -> msgspec.Raw:
    return msgspec.Raw(b"[ {} ]") if value else _ABSENT


def _audio_of(value: object) -> _Audio | None:
    if not isinstance(value, dict) or not any(value.values()):
        return None
    return _Audio(id="sound", transcript=_text(value.get("transcript")))


def _function_of(call: dict[str, Any]) -> _Function:
    function = call.get("function") or call.get("custom") or call.get("function_call")
    if not isinstance(function, dict):
        return _Function()
    arguments = function.get("arguments", function.get("input"))
    text = arguments if isinstance(arguments, str) else jsontools.dumps(arguments).decode() if arguments else ""
    return _Function(name=_text(function.get("name")), arguments=text)


def text_of_content(content: object) -> str:
    """All words of a `content` in any of its forms: text, a list of parts (nested ones too), an object as JSON."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text_of_part(part) for part in content)
    return jsontools.dumps(content).decode() if content else ""


def _text_of_part(part: object) -> str:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else ""
    inner = part.get("text", part.get("thinking", part.get("refusal")))
    return text_of_content(inner) if isinstance(inner, str | list) else ""


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _objects(value: object) -> Iterable[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def read_answer_facts(body: bytes) -> AnswerFacts:
    """What metering needs of a whole answer; see `dialect.Dialect.read_answer_facts`."""
    try:
        answer = _decode(body)
        usage = usage_of(answer.usage) if answer.usage else None
    except jsontools.BAD_JSON:
        answer = _chunk_of(object_of(body))
        usage = usage_of(answer.usage) if answer.usage else None
    if not answer.choices or (answer.error is not _ABSENT and bytes(answer.error) != b"null"):
        check_answer(object_of(body))
    chars = 0
    finish = pb.FINISH_REASON_UNSPECIFIED
    for number, choice in enumerate(answer.choices or ()):
        content = choice.message or choice.delta
        chars += chars_of(content) if content else len(choice.text or "")
        if number == 0:
            finish = finish_of(choice.finish_reason, tool_calls=content is not None and _calls(content))
    return AnswerFacts(usage, finish, chars)


def object_of(body: bytes) -> dict[str, Any]:
    """A vendor's whole answer as a JSON object; white space around it is a keep-alive of some gateways.

    Raises:
        MeshError: FAULT_BAD_ANSWER for nothing, HTML, broken JSON and other values.
    """
    if not body.strip():
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the provider answered with nothing")
    try:
        value = jsontools.loads(body.strip())
    except ValueError:
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the provider's answer is not JSON") from None
    if not isinstance(value, dict):
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the provider's answer is not a JSON object")
    return value


def check_answer(answer: dict[str, Any]) -> None:
    """Refuses an error in place of an answer, by its own class, and an answer without choices."""
    if answer.get("error"):
        raise faults.fault_in(answer)
    if not any(True for _ in _objects(answer.get("choices"))):
        faults.check_bare(answer)
        raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, "the provider's answer has no choices")
