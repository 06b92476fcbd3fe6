"""What users and tools say: the entries of `content` and of a tool's `output`, into parts and back."""

from collections.abc import Iterable
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Media, Part
from polyroute.dialects import jsontools
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import parts
from polyroute.dialects.responses.common import text_of, unsupported

_TEXTS: Final = frozenset({"input_text", "output_text", "text"})
_KNOWN: Final = {
    "input_image": frozenset({"type", "image_url", "file_id", "detail"}),
    "input_file": frozenset({"type", "file_data", "file_url", "file_id", "filename"}),
    "input_audio": frozenset({"type", "input_audio"}),
}
_AUDIO_FORMATS: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


def read_content(content: object, where: str) -> list[Part]:
    """`content` or `output` in any of its forms: text, a list of parts, nothing.

    Raises:
        MeshError: REASON_INVALID_REQUEST for anything else, and for a part of an unknown type.
    """
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Part(text=pb.TextPart(text=content))]
    if not isinstance(content, list):
        raise invalid("the content is neither text nor a list", where)
    return [_read_part(entry, f"{where}[{number}]") for number, entry in enumerate(content)]


def _read_part(entry: object, where: str) -> Part:
    if isinstance(entry, str):
        return Part(text=pb.TextPart(text=entry))
    if not isinstance(entry, dict):
        raise invalid("a part of the content is neither text nor an object", where)
    kind = text_of(entry.get("type"))
    if kind in _TEXTS:
        if not isinstance(entry.get("text"), str):
            raise invalid("expected text", f"{where}.text")
        part, known = Part(text=pb.TextPart(text=entry["text"])), frozenset({"type", "text"})
    elif kind == "refusal":
        part, known = Part(refusal=pb.RefusalPart(text=text_of(entry.get(kind)))), frozenset({"type", kind})
    elif kind in _KNOWN:
        part, known = _read_media(kind, entry, where), _KNOWN[kind]
    else:
        raise invalid(f"a part of type {kind[:40]!r} is not known", f"{where}.type")
    for name, raw in parts.extras(entry, known).items():
        if raw != b"[]":
            part.extensions[name] = raw
    return part


def _read_media(kind: str, entry: dict[str, Any], where: str) -> Part:
    if kind == "input_image":
        media = _held(entry) or parts.media_of(entry.get("image_url"), where)
        return Part(image=pb.ImagePart(media=media, detail=entry.get("detail") or ""))
    if kind == "input_file":
        return Part(file=pb.FilePart(media=_file_media(entry, where), filename=entry.get("filename") or ""))
    sound = entry.get("input_audio")
    if not isinstance(sound, dict):
        raise invalid("expected an object", f"{where}.input_audio")
    media = _bytes_of(text_of(sound.get("data")), f"{where}.input_audio.data")
    return Part(audio=pb.AudioPart(media=media, format=sound.get("format") or ""))


def _held(entry: dict[str, Any]) -> Media | None:
    return Media(file_id=entry["file_id"]) if entry.get("file_id") else None


def _file_media(entry: dict[str, Any], where: str) -> Media:
    held = _held(entry)
    if held:
        return held
    if entry.get("file_url"):
        return Media(url=entry["file_url"])
    data = text_of(entry.get("file_data"))
    return parts.media_of(data, where) if data.startswith("data:") else _bytes_of(data, f"{where}.file_data")


def _bytes_of(data: str, where: str) -> Media:
    """Media out of bare base64."""
    if not data:
        raise invalid("the media has neither data nor an address", where)
    return parts.media_of(f"data:;base64,{data}", where)


def write_content(content: Iterable[Part], *, foreign: bool, where: str) -> Any:
    """`content` or `output`: text where that is enough, else a list.

    Raises:
        MeshError: FAULT_UNSUPPORTED for what cannot be said here.
    """
    shown = list(content)
    if not shown:
        return ""
    if len(shown) == 1 and shown[0].HasField("text") and not (shown[0].extensions and not foreign):
        return shown[0].text.text
    return [write_part(part, foreign=foreign, where=where) for part in shown]


def write_part(part: Part, *, foreign: bool, where: str) -> dict[str, Any]:
    """One entry; `foreign` when the request came in another dialect, whose extensions and files mean nothing here.

    Raises:
        MeshError: FAULT_UNSUPPORTED for what cannot be said here.
    """
    match part.WhichOneof("part"):
        case "text":
            out: dict[str, Any] = {"type": "input_text", "text": part.text.text}
        case "refusal":
            out = {"type": "refusal", "refusal": part.refusal.text}
        case "image":
            out = {"type": "input_image", **_source(part.image.media, "image", foreign=foreign, where=where)}
            out |= {"detail": part.image.detail} if part.image.detail else {}
        case "file":
            out = {"type": "input_file", **_source(part.file.media, "file", foreign=foreign, where=where)}
            out |= {"filename": part.file.filename} if part.file.filename else {}
        case "audio" if part.audio.media.data:
            form = part.audio.format or _AUDIO_FORMATS.get(part.audio.media.media_type, "wav")
            sound = jsontools.packed(part.audio.media.data)
            out = {"type": "input_audio", "input_audio": {"data": sound, "format": form}}
        case kind:
            raise unsupported(f"this kind of content cannot be sent to the provider: {kind}", where)
    if not foreign:
        parts.put_extras(out, part.extensions)
    return out


def _source(media: Media, kind: str, *, foreign: bool, where: str) -> dict[str, str]:
    source = media.WhichOneof("source")
    if source == "file_id":
        if foreign:
            raise unsupported("a file held by another provider cannot be sent to this one", where)
        return {"file_id": media.file_id}
    if source == "url":
        return {"file_data" if kind == "file" and media.url.startswith("data:") else f"{kind}_url": media.url}
    if not media.data:
        raise unsupported("media without a source cannot be sent to the provider", where)
    if kind == "image":
        return {"image_url": parts.media_url(media, "image/png")}
    if not media.media_type and not foreign:  # as it came
        return {"file_data": jsontools.packed(media.data)}
    return {"file_data": parts.media_url(media, "application/pdf")}
