"""Answers of `bedrock.converse`, whole and streamed, into steps.

A whole answer goes through the same steps as a stream, so that both read alike. Blocks that the contract has no place
for (citations, the vendor's own tools at work, kinds yet unknown) are put aside into the message's extension
`contentBlocks`, each with the characters of the text at which it stood: `{"from", "to", <block>}`. The writer of
requests weaves them in again.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
"""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatResponse, Usage, VendorState
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools
from polyroute.dialects.asking import WRONG_TYPES, bad_answer
from polyroute.dialects.bedrock import errors
from polyroute.dialects.bedrock.common import (
    BLOCKS,
    CONVERSE,
    REDACTED,
    SERVER_TOOL,
    SIGNATURE,
    finish_of,
    usage_of,
)
from polyroute.dialects.bedrock.framing import EXCEPTION
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import assemble
from polyroute.dialects.openai.common import made_call_id
from polyroute.mesh.errors import MeshError

_PADDING: Final = "p"  # against traffic analysis; random


class _Use(msgspec.Struct):
    input: msgspec.Raw = msgspec.Raw()


class _Content(msgspec.Struct):
    toolUse: _Use | None = None  # noqa: N815 - the name on the wire


class _Message(msgspec.Struct):
    content: list[_Content] = []


class _Output(msgspec.Struct):
    message: _Message | None = None


class _Whole(msgspec.Struct):
    """As much of a whole answer as holds the inputs of tools, which stay as they were written."""

    output: _Output | None = None


_decode_inputs: Final = msgspec.json.Decoder(_Whole).decode


@dataclass(slots=True)
class _Block:
    """A content block in the making."""

    start: int  # characters of the message's text before it
    call: int = -1  # which of the answer's calls it is
    image: str = ""  # format, of a picture
    signature: str = ""
    sealed: bytes = b""  # content of the reasoning that the vendor encrypted
    citations: list[Any] = field(default_factory=list)
    aside: dict[str, Any] = field(default_factory=dict)  # a block that is put aside
    data: bytes = b""  # of a picture


class ConverseReader:
    """Reads one stream; see `dialect.StreamReader`."""

    def __init__(self) -> None:
        self._blocks: dict[int, _Block] = {}
        self._aside: list[dict[str, Any]] = []
        self._extensions: dict[str, bytes] = {}
        self._usage: Usage | None = None
        self._stop: str | None = None
        self._started = False
        self._closed = False
        self._chars = 0
        self._calls = 0

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        """Reads one batch; see `dialect.StreamReader`."""
        out: list[ChatEvent] = []
        try:
            for name, data in events:
                self._event(name, data, out)
        except MeshError as error:
            raise BrokenStreamError.of(error, events=out) from None
        except WRONG_TYPES as error:  # a member of a type that the contract does not take
            raise BrokenStreamError.of(bad_answer("the provider sent an event of a wrong form"), events=out) from error
        return out

    def finish(self) -> list[ChatEvent]:
        """The last steps; see `dialect.StreamReader`."""
        if self._closed:
            return []
        if self._stop is None:
            raise MeshError.upstream(
                errors_pb2.FAULT_TRUNCATED, "the provider's stream ended before the answer was complete"
            )
        return self._close()

    def _event(self, name: str, data: bytes, out: list[ChatEvent]) -> None:
        if self._closed:
            return
        try:
            value = jsontools.loads(data)
        except ValueError:
            raise bad_answer("the provider sent broken JSON in its stream") from None
        if name.startswith(EXCEPTION):
            raise errors.fault_in(name.removeprefix(EXCEPTION), value)
        if not isinstance(value, dict):
            raise bad_answer("the provider sent an event that is no object")
        if name:
            self._step(name, value, out)
        elif isinstance(value.get("output"), dict):
            self._whole(value, data, out)
        elif errors.is_error(value):
            raise errors.fault_in("", value)
        else:
            for kind, inner in value.items():  # events by their names, as some stores and proxies write them
                if isinstance(inner, dict):
                    self._step(kind, inner, out)

    def _step(self, name: str, value: dict[str, Any], out: list[ChatEvent]) -> None:
        match name:
            case "contentBlockDelta":
                self._delta(self._block(value, out), value.get("delta"), out)
            case "contentBlockStart":
                self._begin(self._block(value, out), value.get("start"), out)
            case "contentBlockStop":
                self._end(value.get("contentBlockIndex"), out)
            case "messageStart":
                self._start(out)
            case "messageStop":
                self._start(out)
                self._end_all(out)
                self._stop = _word(value.get("stopReason"))
                self._note(value, "additionalModelResponseFields")
            case "metadata":
                self._metadata(value)
                if self._stop is not None:
                    out += self._close()
            case _ if name.lower().endswith("exception"):
                raise errors.fault_in(name, value)

    def _start(self, out: list[ChatEvent]) -> None:
        if not self._started:
            self._started = True
            out.append(ChatEvent(start=pb.AnswerStart()))  # this API gives neither an id nor the model

    def _block(self, value: dict[str, Any], out: list[ChatEvent]) -> _Block:
        self._start(out)
        index = value.get("contentBlockIndex")
        index = index if isinstance(index, int) else 0
        block = self._blocks.get(index)
        if block is None:
            self._end_silent(out)
            block = self._blocks[index] = _Block(self._chars)
        return block

    def _begin(self, block: _Block, start: object, out: list[ChatEvent]) -> None:
        """`contentBlockStart`, which text has none of."""
        if not isinstance(start, dict):
            return
        use, picture = start.get("toolUse"), start.get("image")
        if isinstance(use, dict) and use.get("type") != SERVER_TOOL:
            self._call(block, use, out)
        elif isinstance(picture, dict):
            block.image = str(picture.get("format") or "png")
        else:
            block.aside = {name: dict(item) for name, item in start.items() if isinstance(item, dict)}

    def _call(self, block: _Block, use: dict[str, Any], out: list[ChatEvent]) -> None:
        block.call = self._calls
        self._calls += 1
        name = _text(use.get("name"))
        call_id = _text(use.get("toolUseId")) or made_call_id(block.call, name, self._chars)
        step = pb.ToolCallDelta(index=block.call, id=call_id, name=name, kind=pb.TOOL_KIND_FUNCTION)
        out.append(ChatEvent(tool_call=step))

    def _delta(self, block: _Block, delta: object, out: list[ChatEvent]) -> None:
        if not isinstance(delta, dict):
            return
        for name, value in delta.items():
            match name:
                case "text" if value:
                    self._text(_text(value), out)
                case "toolUse" if isinstance(value, dict):
                    self._input(block, _text(value.get("input")), out)
                case "reasoningContent" if isinstance(value, dict):
                    _reasoning(block, value, out)
                case "citation" if isinstance(value, dict):
                    block.citations.append(value)
                case "toolResult" if isinstance(value, list):
                    block.aside.setdefault("toolResult", {}).setdefault("content", []).extend(value)
                case "image" if isinstance(value, dict):
                    block.data += _image_bytes(value)
                case "text" | "toolUse" | "reasoningContent" | "citation" | "toolResult" | "image":
                    if value:
                        raise bad_answer("the provider sent a delta of a wrong form")
                case _:
                    block.aside.setdefault(name, {}).setdefault("deltas", []).append(value)

    def _text(self, text: str, out: list[ChatEvent]) -> None:
        self._chars += len(text)
        out.append(ChatEvent(text=pb.TextDelta(text=text)))

    def _input(self, block: _Block, text: str, out: list[ChatEvent]) -> None:
        if block.call >= 0:
            if text:
                out.append(ChatEvent(tool_call=pb.ToolCallDelta(index=block.call, arguments=text)))
        else:
            use = block.aside.setdefault("toolUse", {})
            use["input"] = use.get("input", "") + text

    def _end_all(self, out: list[ChatEvent]) -> None:
        for index in sorted(self._blocks):
            self._end(index, out)

    def _end_silent(self, out: list[ChatEvent]) -> None:
        """Ends blocks whose end nobody said, so that a seal comes before what follows; calls may go side by side."""
        for index in sorted(self._blocks):
            if self._blocks[index].call < 0:
                self._end(index, out)

    def _end(self, index: object, out: list[ChatEvent]) -> None:
        """The end of a block: what it gathered becomes steps or is put aside."""
        block = self._blocks.pop(index, None) if isinstance(index, int) else None
        if block is None:
            return
        if block.signature:
            state = VendorState(dialect=CONVERSE, kind=SIGNATURE, data=block.signature.encode())
            out.append(ChatEvent(reasoning=pb.ReasoningDelta(state=state)))
        if block.sealed:
            state = VendorState(dialect=CONVERSE, kind=REDACTED, data=block.sealed)
            out.append(ChatEvent(reasoning=pb.ReasoningDelta(state=state, redacted=True)))
        if block.data:
            media = pb.Media(data=block.data, media_type=f"image/{block.image or 'png'}")
            out.append(ChatEvent(image=pb.ImagePart(media=media)))
        if block.citations:
            cited = {"citationsContent": {"citations": block.citations}}
            self._aside.append({"from": block.start, "to": self._chars, **cited})
        for name, item in block.aside.items():
            if isinstance(item.get("input"), str):
                item["input"] = _object_or_text(item["input"])
            self._aside.append({"from": block.start, name: item})

    def _metadata(self, value: dict[str, Any]) -> None:
        self._usage = usage_of(value.get("usage")) or self._usage
        for name in value:
            if name not in ("usage", _PADDING):
                self._note(value, name)

    def _note(self, value: dict[str, Any], name: str) -> None:
        if value.get(name) is not None:
            self._extensions[name] = jsontools.dumps(value[name])

    def _close(self) -> list[ChatEvent]:
        self._closed = True
        word = self._stop or ""
        reason = finish_of(word, tool_calls=self._calls > 0)
        last = ChatEvent(finished=pb.ChoiceFinished(reason=reason, vendor_reason=word), extensions=self._extensions)
        if self._aside:
            last.extensions[f"delta.{BLOCKS}"] = jsontools.dumps(self._aside)
        return [last, ChatEvent(usage=self._usage)] if self._usage else [last]

    def _whole(self, value: dict[str, Any], data: bytes, out: list[ChatEvent]) -> None:
        """A whole answer, in the steps of the stream that it would have been."""
        message = value["output"].get("message")
        word = value.get("stopReason")
        if not isinstance(message, dict) or not isinstance(word, str):
            raise bad_answer("the provider's answer holds no message")
        content = message.get("content") or []
        inputs = _inputs(data) if any("toolUse" in block for block in content) else []
        self._start(out)
        for index, block in enumerate(content):
            if isinstance(block, dict):
                written = inputs[index] if index < len(inputs) else ""
                self._whole_block(index, block, written, out)
        self._step("messageStop", value, out)
        rest = {
            name: item
            for name, item in value.items()
            if name not in ("output", "stopReason", "additionalModelResponseFields")
        }
        self._step("metadata", rest, out)

    def _whole_block(self, index: int, value: dict[str, Any], written: str, out: list[ChatEvent]) -> None:
        block = self._block({"contentBlockIndex": index}, out)
        for name, inner in value.items():
            match name:
                case "text":
                    self._delta(block, {"text": inner}, out)
                case "toolUse" if isinstance(inner, dict):
                    self._begin(
                        block, {"toolUse": {name: item for name, item in inner.items() if name != "input"}}, out
                    )
                    text = written or jsontools.dumps(inner.get("input", {})).decode()
                    self._input(block, text, out)
                case "reasoningContent" if isinstance(inner, dict):
                    text_and_seal = inner.get("reasoningText") or {}
                    self._delta(block, {"reasoningContent": {**text_and_seal, **_without(inner, "reasoningText")}}, out)
                case "citationsContent" if isinstance(inner, dict):
                    for piece in inner.get("content") or ():
                        self._delta(block, {"text": piece.get("text")}, out)
                    block.citations += inner.get("citations") or []
                case "image" if isinstance(inner, dict):
                    self._begin(block, {"image": inner}, out)
                    self._delta(block, {"image": inner}, out)
                case _ if isinstance(inner, dict):
                    block.aside[name] = inner
        self._end(index, out)


def read_answer(body: bytes) -> ChatResponse:
    """See `dialect.Outbound.read_answer`."""
    reader = ConverseReader()
    try:
        value = jsontools.loads(body)
    except ValueError:
        raise bad_answer("the provider's answer is not valid JSON") from None
    if not isinstance(value, dict) or ("output" not in value and not errors.is_error(value)):
        raise bad_answer("the provider's answer is no answer of this format")
    return assemble([*reader.feed([("", body)]), *reader.finish()])


def _reasoning(block: _Block, value: dict[str, Any], out: list[ChatEvent]) -> None:
    text = _text(value.get("text"))
    if text:
        out.append(ChatEvent(reasoning=pb.ReasoningDelta(text=text)))
    block.signature += _text(value.get("signature"))
    block.sealed += _decoded(_text(value.get("redactedContent")))


def _image_bytes(value: dict[str, Any]) -> bytes:
    source = value.get("source")
    return _decoded(_text(source.get("bytes"))) if isinstance(source, dict) else b""


def _decoded(text: str) -> bytes:
    try:
        return jsontools.unpacked(text)
    except ValueError:
        raise bad_answer("the provider sent data that is not base64") from None


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise bad_answer("the provider sent a member of a wrong type where text belongs")
    return value


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {member: item for member, item in value.items() if member != name}


def _object_or_text(text: str) -> Any:
    try:
        return jsontools.loads(text.encode("utf-8", "replace"))
    except ValueError:
        return text


def _inputs(data: bytes) -> list[str]:
    """The input of each block's call as it was written; empty text for a block that is none."""
    try:
        whole = _decode_inputs(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    message = whole.output.message if whole.output else None
    blocks = message.content if message else []
    return [bytes(block.toolUse.input).decode() if block.toolUse else "" for block in blocks]
