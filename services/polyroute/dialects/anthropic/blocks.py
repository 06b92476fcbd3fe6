"""Content blocks into parts. Which blocks are models' words and which are users' decides what an unknown one becomes.

A block of a model that the contract has no part for (the vendor's own tools and their results, compaction) becomes a
reasoning part without text, whose state is the block: other dialects leave it out, this one returns it. One of a user
(search results, references to tools) becomes text that other models can read, with the block as its state.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Part, ToolCall, VendorState
from polyroute.dialects import jsontools
from polyroute.dialects.anthropic import media, seals
from polyroute.dialects.anthropic.common import extras, made_call_id, text_or_empty
from polyroute.dialects.jsontools import invalid

_TEXT_MEMBERS: Final = frozenset({"type", "text", "citations"})
_RESULT_MEMBERS: Final = frozenset({"type", "tool_use_id", "content", "is_error"})


def read_said(content: object, where: str, *, answer_id: str = "") -> list[Part]:
    """The parts of what a model said: a text, or a list of blocks.

    Args:
        content: The `content` of a message of the assistant.
        where: Its place, for complaints.
        answer_id: The answer's id, from which ids of calls without one are made.

    Raises:
        MeshError: REASON_INVALID_REQUEST for what is no list of blocks.
    """
    if isinstance(content, str):
        return [_text_part(content)] if content else []
    waiting: VendorState | None = None  # state that was carried in front of the part it belongs to
    out: list[Part] = []
    for number, block in enumerate(_blocks(content, where)):
        found = seals.carried(block.get("data")) if block.get("type") == seals.REDACTED else None
        if found and found.of == seals.NEXT:
            waiting = found.state
            continue
        if found and found.of == seals.PREVIOUS:
            if out and found.state:
                out[-1].state.CopyFrom(found.state)
            continue
        nameless = block.get("type") == "tool_use" and not block.get("id")
        part = read_said_block(block, f"{where}[{number}]", made_call_id(answer_id, number) if nameless else "")
        if waiting is not None and not part.HasField("state"):
            part.state.CopyFrom(waiting)
        waiting = None
        out.append(part)
    return out


def _blocks(content: object, where: str) -> Iterable[dict[str, Any]]:
    if not isinstance(content, list):
        raise invalid("the content is neither text nor a list", where)
    for number, block in enumerate(content):
        if not isinstance(block, dict):
            raise invalid("a block of the content is not an object", f"{where}[{number}]")
        yield block


def read_said_block(block: dict[str, Any], where: str, call_id: str) -> Part:
    """One block of what a model said; `call_id` is for a call that has none."""
    match block.get("type"):
        case "text":
            return _read_text(block, where)
        case "thinking":
            return _read_thinking(block, where)
        case "redacted_thinking":
            return _read_redacted(block, where)
        case "tool_use":
            return _read_call(block, where, call_id)
        case "image" if (source := media.read_source(block.get("source"), where)) is not None:
            return _extend(Part(image=pb.ImagePart(media=source)), block, ("type", "source"))
        case _:
            return Part(reasoning=pb.ReasoningPart(), state=seals.own_block(block))


def _text_part(text: str) -> Part:
    return Part(text=pb.TextPart(text=text))


def _extend(part: Part, block: dict[str, Any], known: Iterable[str]) -> Part:
    for name, raw in extras(block, known).items():
        part.extensions[name] = raw
    return part


def text_of(block: dict[str, Any], name: str, where: str) -> str:
    """A member that must be text; empty when it is missing."""
    value = block.get(name)
    if value is not None and not isinstance(value, str):
        raise invalid("expected text", f"{where}.{name}")
    return value or ""


def _read_text(block: dict[str, Any], where: str) -> Part:
    part = _text_part(text_of(block, "text", where))
    citations = block.get("citations")
    if citations:
        part.state.CopyFrom(seals.own(seals.CITATIONS, jsontools.dumps(citations)))
    return _extend(part, block, _TEXT_MEMBERS)


def _read_thinking(block: dict[str, Any], where: str) -> Part:
    part = Part(reasoning=pb.ReasoningPart(text=text_of(block, "thinking", where)))
    signature = text_of(block, "signature", where)
    found = seals.carried(signature)
    if found:
        part.reasoning.summary = found.summary
        if found.state:
            part.state.CopyFrom(found.state)
    elif signature:
        part.state.CopyFrom(seals.own(seals.SIGNATURE, signature))
    return _extend(part, block, ("type", "thinking", "signature"))


def _read_redacted(block: dict[str, Any], where: str) -> Part:
    data = text_of(block, "data", where)
    found = seals.carried(data)
    part = Part(reasoning=pb.ReasoningPart(redacted=True, summary=bool(found and found.summary)))
    if found is None:
        part.state.CopyFrom(seals.own(seals.REDACTED, data))
    elif found.state:
        part.state.CopyFrom(found.state)
    return _extend(part, block, ("type", "data"))


def _read_call(block: dict[str, Any], where: str, call_id: str) -> Part:
    call = ToolCall(
        id=text_of(block, "id", where) or call_id,
        name=text_of(block, "name", where),
        arguments=arguments_of(block.get("input")),
        kind=pb.TOOL_KIND_FUNCTION,
    )
    return _extend(Part(tool_call=call), block, ("type", "id", "name", "input"))


def arguments_of(value: object) -> str:
    """The `input` of a call as text; none at all is an empty object."""
    if isinstance(value, str):
        return value  # what a thin compatibility layer passed on as it got it
    return jsontools.dumps(value).decode() if value is not None else "{}"


def seal_neighbours(parts: list[Part]) -> None:
    """Seals parts that others of their kind follow.

    Steps of a stream make one part as long as nothing seals it; a whole answer must come out as its stream would.
    """
    for part, after in pairwise(parts):
        kind = part.WhichOneof("part")
        if part.HasField("state") or kind != after.WhichOneof("part"):
            continue
        if kind == "text":
            part.state.CopyFrom(seals.own(seals.CITATIONS, b""))
        elif kind == "reasoning":
            part.state.CopyFrom(seals.own(seals.SIGNATURE, b""))


def read_asked(content: object, where: str) -> list[Part]:
    """The parts of what a user or the application said: a text, or a list of blocks, tool results among them.

    Raises:
        MeshError: REASON_INVALID_REQUEST for what is no list of blocks, and for broken ones.
    """
    if isinstance(content, str):
        return [_text_part(content)] if content else []
    return [_read_asked_block(block, f"{where}[{number}]") for number, block in enumerate(_blocks(content, where))]


def _read_asked_block(block: dict[str, Any], where: str) -> Part:
    match block.get("type", "text" if "text" in block else None):
        case "text":
            return _read_text(block, where)
        case "image":
            source = media.read_source(block.get("source"), where)
            if source is None:
                return _opaque(block)
            return _extend(Part(image=pb.ImagePart(media=source)), block, ("type", "source"))
        case "document":
            source = media.read_source(block.get("source"), where)
            if source is None:
                return _opaque(block)
            return _extend(media.file_part(source, block.get("title")), block, ("type", "source", "title"))
        case "container_upload" if isinstance(block.get("file_id"), str) and block["file_id"]:
            part = media.file_part(pb.Media(file_id=block["file_id"]), None)
            part.state.CopyFrom(seals.own_block(block))
            return part
        case "tool_result":
            return _read_result(block, where)
        case str():
            return _opaque(block)
        case _:
            raise invalid("a block of the content has no type", where)


def _read_result(block: dict[str, Any], where: str) -> Part:
    content = block.get("content")
    result = pb.ToolResult(
        tool_call_id=text_of(block, "tool_use_id", where),
        parts=read_asked(content, f"{where}.content") if content is not None else [],
        failed=block.get("is_error") is True,
    )
    return _extend(Part(tool_result=result), block, _RESULT_MEMBERS)


def _opaque(block: dict[str, Any]) -> Part:
    """A block without a part of its own: the text in it, or its JSON, for models of other dialects."""
    text = _words(block) or jsontools.dumps(block).decode()
    part = _text_part(text)
    part.state.CopyFrom(seals.own_block(block))
    return part


def _words(block: dict[str, Any]) -> str:
    title = text_or_empty(block.get("title"))
    if isinstance(block.get("source"), dict):
        block = block["source"]
    content = block.get("content")
    if isinstance(content, list):
        words = [text_or_empty(item.get("text")) for item in content if isinstance(item, dict)]
    else:
        words = [text_or_empty(block.get("text")) or text_or_empty(content)]
    found = "\n".join(word for word in words if word)
    return f"{title}\n{found}" if title and found else found
