"""Pieces of messages between JSON of the `openai.*` dialects and the contract."""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Media, Part, ToolCall, VendorState
from polyroute.dialects import jsontools, states
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai.common import CHAT
from polyroute.mesh.errors import MeshError

# How a state of another dialect travels through this one: a client that sends back what it got returns it intact.
_CARRIED: Final = "polyroute.v1"
_TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})


def extras(value: Mapping[str, Any], known: Iterable[str]) -> dict[str, bytes]:
    """The members that are not `known`, as JSON; null ones say nothing and are left out."""
    known = frozenset(known)
    if value.keys() <= known:
        return {}
    return {name: jsontools.dumps(item) for name, item in value.items() if name not in known and item is not None}


def put_extras(target: dict[str, Any], extensions: Mapping[str, bytes]) -> None:
    """Adds extensions to a JSON object, never over what it has."""
    if not extensions:  # most have none
        return
    for name, raw in extensions.items():
        if name not in target:
            target[name] = jsontools.loads(raw)


def read_part(value: object, where: str) -> list[Part]:
    """One entry of a `content` list; a list because a thinking entry may hold several.

    Raises:
        MeshError: REASON_INVALID_REQUEST for an entry of an unknown type.
    """
    if isinstance(value, str):
        return [Part(text=pb.TextPart(text=value))]
    if not isinstance(value, dict):
        raise invalid("a part of the content is neither text nor an object", where)
    kind = value.get("type", "text" if "text" in value else "")
    if kind in _TEXT_PARTS:
        part = Part(text=pb.TextPart(text=_str(value.get("text"), f"{where}.text")))
    elif kind == "refusal":
        part = Part(refusal=pb.RefusalPart(text=_str(value.get("refusal"), f"{where}.refusal")))
    elif kind == "thinking":
        return _read_thinking(value, where)
    else:
        part = _read_media(kind, value, where)
    for name, raw in extras(value, ("type", "text", "refusal", kind)).items():
        part.extensions[name] = raw
    return [part]


def _read_thinking(value: dict[str, Any], where: str) -> list[Part]:
    inner = value.get("thinking")
    if isinstance(inner, str):
        return [Part(reasoning=pb.ReasoningPart(text=inner))]
    return [
        Part(reasoning=pb.ReasoningPart(text=_str(item.get("text"), where)))
        for item in inner or ()
        if isinstance(item, dict) and item.get("type") == "text"
    ]


def _read_media(kind: str, value: dict[str, Any], where: str) -> Part:
    inner = value.get(kind)
    if kind == "image_url" and inner:
        url = inner if isinstance(inner, str) else _str(_member(inner, "url", where), f"{where}.image_url.url")
        detail = "" if isinstance(inner, str) else inner.get("detail") or ""
        return Part(image=pb.ImagePart(media=media_of(url, where), detail=detail))
    if kind == "input_audio" and inner:
        if isinstance(inner, str):
            inner = {"data": inner}
        data = _decoded(_str(_member(inner, "data", where), f"{where}.input_audio.data"), where)
        return Part(audio=pb.AudioPart(media=Media(data=data), format=inner.get("format") or ""))
    if kind == "file" and isinstance(inner, dict):
        media = Media(file_id=inner["file_id"]) if inner.get("file_id") else media_of(inner.get("file_data"), where)
        return Part(file=pb.FilePart(media=media, filename=inner.get("filename") or ""))
    if kind in ("file_url", "document_url") and inner:
        url = inner if isinstance(inner, str) else inner.get("url")
        return Part(file=pb.FilePart(media=media_of(url, where)))
    raise invalid(f"a part of type {kind[:40]!r} cannot be translated", where)


def _member(value: object, name: str, where: str) -> object:
    if not isinstance(value, dict):
        raise invalid("a part of the content is not an object", where)
    return value.get(name)


def _str(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise invalid("expected text", where)
    return value


def _decoded(text: str, where: str) -> bytes:
    try:
        return jsontools.unpacked(text)
    except ValueError:
        raise invalid("the data is not base64", where) from None


def media_of(url: object, where: str) -> Media:
    """Media by its address, a `data:` URL as its bytes (RFC 2397)."""
    if not isinstance(url, str) or not url:
        raise invalid("the media has neither data nor an address", where)
    head, comma, data = url.partition(",")
    if not url.startswith("data:") or not comma or not head.endswith(";base64"):
        return Media(url=url)
    media_type = head[len("data:") :].split(";")[0]
    content = _decoded(data, where)
    return Media(data=content, media_type=media_type) if content else Media(url=url)


def media_url(media: Media, default_type: str) -> str:
    """The address of media, its bytes as a `data:` URL.

    Raises:
        MeshError: REASON_INVALID_REQUEST for a file that only its vendor holds.
    """
    if media.WhichOneof("source") == "url":
        return media.url
    if media.WhichOneof("source") == "data":
        return f"data:{media.media_type or default_type};base64,{jsontools.packed(media.data)}"
    raise invalid("a file held by another vendor cannot be sent to this one")


def write_part(part: Part) -> dict[str, Any]:
    """One entry of a `content` list.

    Raises:
        MeshError: REASON_INVALID_REQUEST for what this dialect cannot hold in a content list.
    """
    kind = part.WhichOneof("part")
    if kind == "text":
        out: dict[str, Any] = {"type": "text", "text": part.text.text}
    elif kind == "refusal":
        out = {"type": "refusal", "refusal": part.refusal.text}
    elif kind == "image":
        image = {"url": media_url(part.image.media, "image/png")}
        out = {"type": "image_url", "image_url": image | ({"detail": part.image.detail} if part.image.detail else {})}
    elif kind == "audio" and part.audio.media.WhichOneof("source") == "data":
        sound = part.audio.media
        form = part.audio.format or sound.media_type.rpartition("/")[2] or "wav"
        out = {"type": "input_audio", "input_audio": {"data": jsontools.packed(sound.data), "format": form}}
    elif kind == "file":
        out = {"type": "file", "file": _file(part.file)}
    else:
        raise invalid(f"a {kind} part cannot be expressed in {CHAT}")
    put_extras(out, part.extensions)
    return out


def read_images(value: object, where: str) -> list[Part]:
    """The pictures that a model made, in the member `images` that vendors with such models have beside `content`.

    Raises:
        MeshError: REASON_INVALID_REQUEST for an entry that is no picture.
    """
    entries = value if isinstance(value, list) else []
    return [_picture(entry, f"{where}[{number}]") for number, entry in enumerate(entries)]


def _picture(entry: object, where: str) -> Part:
    if not isinstance(entry, dict) or not entry.get("image_url"):
        raise invalid("an entry is no picture", where)
    part = _read_media("image_url", entry, where)
    state = carried_state(entry.get("extra_content"))
    if state:
        part.state.CopyFrom(state)
    return part


def pictures_in(images: object, extensions: MutableMapping[str, bytes]) -> list[Part]:
    """The pictures in `images`; what cannot be read as such becomes the extension of that name."""
    try:
        return read_images(images, "images")
    except MeshError:
        extensions["images"] = jsontools.dumps(images)
        return []


def write_image(image: pb.ImagePart, index: int, state: VendorState | None = None) -> dict[str, Any]:
    """An entry of `images`, with the picture's state where a client is to send it back."""
    out = {"type": "image_url", "index": index, "image_url": {"url": media_url(image.media, "image/png")}}
    return out | {"extra_content": carry_state(state)} if state else out


def _file(file: pb.FilePart) -> dict[str, Any]:
    held = file.media.WhichOneof("source") == "file_id"
    out = {"file_id": file.media.file_id} if held else {"file_data": media_url(file.media, "application/pdf")}
    return out | ({"filename": file.filename} if file.filename else {})


def read_call(value: Mapping[str, Any]) -> Part:
    """A whole tool call, of a function or of a custom tool."""
    custom, body = called(value)
    arguments = body.get("input" if custom else "arguments")
    part = Part(
        tool_call=ToolCall(
            id=value.get("id") or "",
            name=body.get("name") or "",
            arguments=arguments_text(arguments),
            kind=pb.TOOL_KIND_CUSTOM if custom else pb.TOOL_KIND_FUNCTION,
        )
    )
    state = carried_state(value.get("extra_content"))
    if state:
        part.state.CopyFrom(state)
    for name, raw in extras(value, ("id", "type", "index", "function", "custom", "extra_content")).items():
        part.extensions[name] = raw
    return part


def called(value: Mapping[str, Any]) -> tuple[bool, Mapping[str, Any]]:
    """Whether a call or a piece of one is of a custom tool, and its inner object; some vendors send both, one empty."""
    function, custom = value.get("function"), value.get("custom")
    if isinstance(custom, dict) and not isinstance(function, dict):
        return True, custom
    return False, function if isinstance(function, dict) else {}


def arguments_text(arguments: object) -> str:
    """Arguments as text; a few vendors send the object itself."""
    if isinstance(arguments, str):
        return arguments
    return jsontools.dumps(arguments).decode() if arguments else ""


def write_call(part: Part, *, index: int | None = None) -> dict[str, Any]:
    """A whole tool call, with its `index` in streams."""
    call = part.tool_call
    out: dict[str, Any] = {} if index is None else {"index": index}
    out["id"] = call.id
    if call.kind == pb.TOOL_KIND_CUSTOM:
        out |= {"type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    else:
        out |= {"type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    if part.HasField("state"):
        out["extra_content"] = carry_state(part.state)
    put_extras(out, part.extensions)
    return out


def carried_state(extra_content: object) -> VendorState | None:
    """The vendor's state in `extra_content`: its own, or another dialect's that was carried through."""
    if not isinstance(extra_content, dict) or not extra_content:
        return None
    ours = extra_content.get("polyroute")
    if isinstance(ours, dict):
        return states.from_json(ours)
    return VendorState(dialect=CHAT, kind="extra_content", data=jsontools.dumps(extra_content))


def carry_state(state: VendorState) -> Any:
    """`extra_content` for a state; see `carried_state`."""
    if state.dialect == CHAT and state.kind == "extra_content":
        return jsontools.loads(state.data)
    return {"polyroute": states.as_json(state)}


def read_detail(detail: Mapping[str, Any]) -> Part:
    """One entry of `reasoning_details`: text, a summary, or reasoning in encrypted form, with the vendor's seal."""
    kind = detail.get("type")
    summary = kind == "reasoning.summary"
    text = detail.get("summary" if summary else "text")
    part = Part(reasoning=pb.ReasoningPart(text=text if isinstance(text, str) else "", summary=summary))
    if detail.get("format") == _CARRIED:
        state = states.from_json(detail)
        part.reasoning.redacted = bool(detail.get("redacted"))
        if state:
            part.state.CopyFrom(state)
        return part
    part.reasoning.redacted = kind == "reasoning.encrypted" and not part.reasoning.text
    own = {name: item for name, item in detail.items() if name not in ("text", "summary") and item is not None}
    part.state.CopyFrom(VendorState(dialect=CHAT, kind="reasoning_details", data=jsontools.dumps(own)))
    return part


def read_reasoning(value: dict[str, Any]) -> list[Part]:
    """The reasoning of a message, by whichever member it stands in; details carry the vendor's seals."""
    details = value.get("reasoning_details")
    if isinstance(details, list) and details:
        return [read_detail(detail) for detail in details if isinstance(detail, dict)]
    text = value.get("reasoning_content") or value.get("reasoning")
    return [Part(reasoning=pb.ReasoningPart(text=text))] if isinstance(text, str) and text else []


def write_detail(part: Part) -> dict[str, Any] | None:
    """The entry of `reasoning_details` for a reasoning part; None for a part without state."""
    if not part.HasField("state"):
        return None
    reasoning = part.reasoning
    if part.state.dialect == CHAT and part.state.kind == "reasoning_details":
        out = dict(jsontools.loads(part.state.data))
        if reasoning.text:
            out["summary" if reasoning.summary else "text"] = reasoning.text
        return out
    out = {"type": "reasoning.summary" if reasoning.summary else "reasoning.text", "format": _CARRIED}
    out |= states.as_json(part.state)
    if reasoning.redacted:
        out["redacted"] = True
    if reasoning.text:
        out["summary" if reasoning.summary else "text"] = reasoning.text
    return out
