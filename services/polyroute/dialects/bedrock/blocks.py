"""Parts of messages as content blocks of `bedrock.converse`.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html
"""

import re
from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Media, Part, ToolCall
from polyroute.dialects import jsontools
from polyroute.dialects.asking import unsupported
from polyroute.dialects.bedrock.common import CONVERSE, REDACTED, SIGNATURE

Block = dict[str, Any]

_IMAGES: Final = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "gif": "gif", "webp": "webp"}
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF8", "gif"),
)
_DOCUMENTS: Final = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
_DOCUMENT_ENDINGS: Final = frozenset(_DOCUMENTS.values())
_VIDEOS: Final = {
    "x-matroska": "mkv",
    "quicktime": "mov",
    "mp4": "mp4",
    "webm": "webm",
    "x-flv": "flv",
    "mpeg": "mpeg",
    "x-ms-wmv": "wmv",
    "3gpp": "three_gp",
}
_VIDEO_ENDINGS: Final = {"mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv"}
_SOUNDS: Final = frozenset(
    {"mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "mkv", "mka", "x-aac", "m4a", "mpeg", "mpga", "pcm", "webm"}
)
# https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_DocumentBlock.html, `name`; underscores, which it
# leaves out, are taken as well.
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9 ()\[\]_-]+")
_SPACES: Final = re.compile(r"\s+")
_MAX_NAME: Final = 200
DOCUMENT_MEMBERS: Final = ("citations", "context", "name")  # extensions of a part that belong into its document


class Names:
    """Names for the documents of one request, which must differ."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def of(self, filename: str) -> str:
        """A name made of a file's name."""
        stem = filename.rpartition("/")[2]
        stem = stem.rpartition(".")[0] or stem
        base = _SPACES.sub(" ", _NOT_IN_NAMES.sub("-", _SPACES.sub(" ", stem))).strip(" -")[:_MAX_NAME] or "document"
        name, number = base, 1
        while name in self._used:
            number += 1
            name = f"{base} {number}"
        self._used.add(name)
        return name


def write_block(part: Part, where: str, names: Names, *, own: bool) -> Block | None:
    """A part as a content block; None for a text that says nothing, which this API refuses.

    Args:
        part: Text, picture, sound, document, film or refusal.
        where: The place of it, for errors.
        names: Of the documents so far.
        own: Its extensions are of this dialect.

    Raises:
        MeshError: FAULT_UNSUPPORTED for what cannot be expressed.
    """
    match part.WhichOneof("part"):
        case "text":
            if own and "guardContent" in part.extensions:
                return {"guardContent": jsontools.loads(part.extensions["guardContent"])}
            return {"text": part.text.text} if part.text.text.strip() else None
        case "refusal":
            return {"text": part.refusal.text} if part.refusal.text.strip() else None
        case "image":
            return {"image": _image(part.image, where)}
        case "file":
            return _file(part, where, names, own=own)
        case "audio" if part.audio.HasField("media"):
            return {"audio": _sound(part.audio, where)}
        case kind:
            raise unsupported(f"a part of kind {kind} cannot be expressed here", where)


def _image(image: pb.ImagePart, where: str) -> Block:
    kind = image.media.media_type.lower().removeprefix("image/")
    form = _IMAGES.get(kind) or _sniffed(image.media.data) or _IMAGES.get(_ending(image.media.url))
    if form is None:
        raise unsupported("the picture is of a type that cannot be sent to this provider", where)
    return {"format": form, "source": _source(image.media, where)}


def _sniffed(data: bytes) -> str | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((form for magic, form in _MAGIC if data.startswith(magic)), None)


def _ending(name: str) -> str:
    return name.split("?", 1)[0].rpartition(".")[2].lower() if "." in name else ""


def _source(media: Media, where: str) -> Block:
    match media.WhichOneof("source"):
        case "data":
            return {"bytes": jsontools.packed(media.data)}
        case "url" if media.url.startswith("s3://"):
            return {"s3Location": {"uri": media.url}}
        case "url":
            raise unsupported("this provider takes media as bytes or from its own store, not by address", where)
        case _:
            raise unsupported("a file held by another vendor cannot be sent to this one", where)


def _sound(audio: pb.AudioPart, where: str) -> Block:
    kind = (audio.format or audio.media.media_type.rpartition("/")[2]).lower()
    form = {"x-wav": "wav", "wave": "wav", "pcm16": "pcm"}.get(kind, kind)
    if form not in _SOUNDS:
        raise unsupported("the sound is of a type that cannot be sent to this provider", where)
    return {"format": form, "source": _source(audio.media, where)}


def _file(part: Part, where: str, names: Names, *, own: bool) -> Block:
    file = part.file
    media_type = file.media.media_type.split(";")[0].strip().lower()
    ending = _ending(file.filename) or _ending(file.media.url)
    if media_type.startswith("image/"):
        return {"image": _image(pb.ImagePart(media=file.media), where)}
    if media_type.startswith("video/") or (not media_type and ending in _VIDEO_ENDINGS):
        form = _VIDEOS.get(media_type.removeprefix("video/"), ending)
        return {"video": {"format": form or "mp4", "source": _source(file.media, where)}}
    form = _DOCUMENTS.get(media_type) or (ending if ending in _DOCUMENT_ENDINGS else "")
    if not form and file.media.data.startswith(b"%PDF"):
        form = "pdf"
    if not form and media_type.startswith("text/"):
        form = "txt"
    if not form:
        raise unsupported("the document is of a type that cannot be sent to this provider", where)
    document: Block = {"format": form, "name": "", "source": _source(file.media, where)}
    extras = {name: part.extensions[name] for name in DOCUMENT_MEMBERS if own and name in part.extensions}
    document |= {name: jsontools.loads(raw) for name, raw in extras.items()}
    if form == "txt" and "citations" in document and file.media.data:
        document["source"] = {"text": file.media.data.decode("utf-8", "replace")}  # only text is cited by character
    document["name"] = document["name"] or names.of(file.filename)
    return {"document": document}


def write_reasoning(part: Part) -> Block | None:
    """Reasoning for its own maker; None for that of another, and for what no seal protects, which it would refuse."""
    state = part.state
    if not part.HasField("state") or state.dialect != CONVERSE:
        return None
    if state.kind == REDACTED:
        return {"reasoningContent": {"redactedContent": jsontools.packed(state.data)}}
    if state.kind == SIGNATURE:
        text = {"text": part.reasoning.text, "signature": state.data.decode("utf-8", "replace")}
        return {"reasoningContent": {"reasoningText": text}}
    return None


def write_input(call: ToolCall) -> msgspec.Raw | Block:
    """The arguments of a call as the JSON object that this API wants, to the letter where they are one.

    Free text, and what the model wrote wrong, stands in a member `input`.
    """
    if not call.arguments.strip():
        return {}
    if call.kind != pb.TOOL_KIND_CUSTOM:
        try:
            value = jsontools.loads(call.arguments.encode())
        except ValueError:
            return {"input": call.arguments}
        return msgspec.Raw(call.arguments.encode()) if isinstance(value, dict) else {"input": value}
    return {"input": call.arguments}


def write_result(result: pb.ToolResult, call_id: str, where: str, names: Names, *, own: bool) -> Block:
    """What a tool answered.

    Raises:
        MeshError: FAULT_UNSUPPORTED for content that cannot be expressed.
    """
    content: list[Block] = []
    for number, part in enumerate(result.parts):
        if own and "json" in part.extensions:
            content.append({"json": jsontools.loads(part.extensions["json"])})
            continue
        block = write_block(part, f"{where}.content[{number}]", names, own=own)
        if block is not None:
            content.append(block)
    out: Block = {"toolUseId": call_id, "content": content}
    return {"toolResult": out | ({"status": "error"} if result.failed else {})}
