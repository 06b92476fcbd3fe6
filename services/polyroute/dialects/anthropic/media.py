"""Pictures and documents between `source` objects and the contract."""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Media, Part
from polyroute.dialects import jsontools, pictures
from polyroute.dialects.anthropic.common import text_or_empty, unsupported
from polyroute.dialects.jsontools import invalid

_PDF: Final = "application/pdf"
_PLAIN: Final = "text/plain"
_SOURCE_MEMBERS: Final = {
    "base64": frozenset({"type", "media_type", "data"}),
    "text": frozenset({"type", "media_type", "data"}),
    "url": frozenset({"type", "url"}),
    "file": frozenset({"type", "file_id"}),
}


def read_source(source: object, where: str) -> Media | None:
    """The media of a `source`; None for a kind that the contract has no form for.

    Raises:
        MeshError: REASON_INVALID_REQUEST for a source without content, and for data that is not base64.
    """
    if not isinstance(source, dict):
        raise invalid("the block has no source", f"{where}.source")
    kind = text_or_empty(source.get("type"))
    if not set(source) <= _SOURCE_MEMBERS.get(kind, frozenset()):
        return None
    media_type = text_or_empty(source.get("media_type"))
    if kind == "url":
        return Media(url=_text(source, "url", where))
    if kind == "file":
        return Media(file_id=_text(source, "file_id", where))
    data = _text(source, "data", where)
    if kind == "text":
        return Media(data=data.encode(), media_type=media_type or _PLAIN)
    try:
        content = jsontools.unpacked(data)
    except ValueError:
        raise invalid("the data is not base64", f"{where}.source.data") from None
    if not content:
        raise invalid("the source is empty", f"{where}.source.data")
    return Media(data=content, media_type=media_type)


def _text(source: dict[str, Any], name: str, where: str) -> str:
    value = source.get(name)
    if not isinstance(value, str) or not value:
        raise invalid(f"the source has no {name}", f"{where}.source.{name}")
    return value


def write_image(part: pb.ImagePart) -> dict[str, Any]:
    """An `image` block."""
    media = part.media
    if media.WhichOneof("source") != "data":
        return {"type": "image", "source": _reference(media)}
    media_type = media.media_type or pictures.media_type(media.data) or "image/png"
    return {"type": "image", "source": _base64(media.data, media_type)}


def write_document(part: pb.FilePart, param: str) -> dict[str, Any]:
    """A `document` block; its form is PDF or text, nothing else.

    Raises:
        MeshError: FAULT_UNSUPPORTED for other documents.
    """
    media = part.media
    out: dict[str, Any] = {"type": "document"}
    if media.WhichOneof("source") != "data":
        out["source"] = _reference(media)
    elif media.media_type == _PDF or (not _is_text(media.media_type) and media.data.startswith(b"%PDF")):
        out["source"] = _base64(media.data, _PDF)
    else:
        out["source"] = {"type": "text", "media_type": _PLAIN, "data": _decoded(media, param)}
    return out | ({"title": part.filename} if part.filename else {})


def _is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type == "application/json"


def _decoded(media: Media, param: str) -> str:
    if media.media_type and not _is_text(media.media_type) and media.media_type != "application/octet-stream":
        raise unsupported("only pdf and text documents can be sent in this dialect", param)
    try:
        return media.data.decode()
    except UnicodeDecodeError:
        raise unsupported("only pdf and text documents can be sent in this dialect", param) from None


def _base64(data: bytes, media_type: str) -> dict[str, str]:
    return {"type": "base64", "media_type": media_type, "data": jsontools.packed(data)}


def _reference(media: Media) -> dict[str, str]:
    if media.WhichOneof("source") == "file_id":
        return {"type": "file", "file_id": media.file_id}
    return {"type": "url", "url": media.url}


def file_part(media: Media, title: object) -> Part:
    """A document as a part."""
    return Part(file=pb.FilePart(media=media, filename=text_or_empty(title)))
