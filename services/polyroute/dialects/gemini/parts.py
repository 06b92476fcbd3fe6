"""Parts of a `Content` between JSON and the contract."""

import re
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Media, Part
from polyroute.dialects import jsontools
from polyroute.dialects.asking import objects_in, put_extensions, unsupported
from polyroute.dialects.gemini.common import NAME, PART, SIGNATURE, camel, decoded, loads, state_of
from polyroute.dialects.jsontools import invalid

# Ids of calls that came without one: they tie calls to results in the contract and are not sent to this API again.
UNNAMED: Final = "unnamed_call_"

# Files that a vendor holds: its own file store, and buckets of its cloud.
_HELD: Final = re.compile(r"gs://|https://[^/]+/v1[a-z0-9]*/files/|files/")
_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "gif": "image/gif",
    "heic": "image/heic",
    "heif": "image/heif",
    "pdf": "application/pdf",
    "txt": "text/plain",
    "html": "text/html",
    "csv": "text/csv",
    "mp3": "audio/mp3",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "aac": "audio/aac",
    "aiff": "audio/aiff",
    "mp4": "video/mp4",
    "mov": "video/mov",
    "webm": "video/webm",
    "mpeg": "video/mpeg",
}


class Answered:
    """Ties results to calls in a conversation as it is read: by id, and by name where there are no ids."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, str]] = deque()  # id and name
        self._made = 0

    def call(self, given: str, name: str) -> str:
        """The id of a call."""
        call_id = given or self._make()
        self._waiting.append((call_id, name))
        return call_id

    def result(self, given: str, name: str) -> str:
        """The id of the call that a result answers: the first of that name that waits."""
        for waiting in self._waiting:
            if waiting[0] == given or (not given and waiting[1] == name):
                self._waiting.remove(waiting)
                return waiting[0]
        return given or self._make()

    def _make(self) -> str:
        self._made += 1
        return f"{UNNAMED}{self._made}"


def read_part(value: object, where: str, answered: Answered) -> Part | None:
    """One part of a client's content; None for an empty object.

    A part of a kind that the contract does not know (code that ran at the vendor) is an empty text with extensions.

    Raises:
        MeshError: REASON_INVALID_REQUEST.
    """
    if not isinstance(value, dict):
        raise invalid("a part is not an object", where)
    members = camel(value, where)
    signature = members.pop(SIGNATURE, "")
    thought = members.pop("thought", False)
    if not members and not signature:
        return None
    part = _read_data(members, where, answered)
    if thought is True:
        if part.HasField("text") and not members:
            part = Part(reasoning=pb.ReasoningPart(text=part.text.text, summary=True))
        else:
            members["thought"] = True
    if signature:
        part.state.CopyFrom(state_of(_text(signature, f"{where}.{SIGNATURE}")))
    for name, item in members.items():
        part.extensions[name] = jsontools.dumps(item)
    return part


def _read_data(members: dict[str, Any], where: str, answered: Answered) -> Part:
    """The part without what stands beside its data; takes out of `members` what it reads."""
    if "functionCall" in members:
        return read_call(_object(members.pop("functionCall"), f"{where}.functionCall"), where, answered)
    if "functionResponse" in members:
        return _read_result(_object(members.pop("functionResponse"), f"{where}.functionResponse"), where, answered)
    if "inlineData" in members or "fileData" in members:
        return _read_media(members, where)
    return Part(text=pb.TextPart(text=_text(members.pop("text", ""), f"{where}.text")))


def read_call(value: dict[str, Any], where: str, answered: Answered) -> Part:
    """A call of a function, its arguments as JSON text."""
    call = camel(value, where)
    name = _text(call.get("name", ""), f"{where}.functionCall.name")
    arguments = call.get("args", {})
    if not isinstance(arguments, dict):
        raise invalid("the arguments of a call are not an object", f"{where}.functionCall.args")
    call_id = answered.call(_text(call.get("id", ""), f"{where}.functionCall.id"), name)
    text = jsontools.dumps(arguments).decode()
    return Part(tool_call=pb.ToolCall(id=call_id, name=name, arguments=text, kind=pb.TOOL_KIND_FUNCTION))


def _read_result(value: dict[str, Any], where: str, answered: Answered) -> Part:
    where = f"{where}.functionResponse"
    members = camel(value, where)
    name = _text(members.pop("name", ""), f"{where}.name")
    result = pb.ToolResult(name=name, tool_call_id=answered.result(_text(members.pop("id", ""), f"{where}.id"), name))
    response = members.pop("response", None)
    if response is not None:
        text, result.failed = _response_text(response, where)
        result.parts.add().text.text = text
    for number, item in enumerate(objects_in(members.pop("parts", None))):
        media = camel(item, where)
        result.parts.append(_read_media(media, f"{where}.parts[{number}]"))
    part = Part(tool_result=result)
    for extra, item in members.items():
        part.extensions[f"functionResponse.{extra}"] = jsontools.dumps(item)
    return part


def _response_text(response: object, where: str) -> tuple[str, bool]:
    """A response as text and whether it tells of a failure.

    `output` and `error` are the names that the API itself proposes; alone and with a text they are only a wrapping.
    """
    if not isinstance(response, dict):
        raise invalid("a response is not an object", f"{where}.response")
    failed = "error" in response
    if len(response) == 1:
        inner = response.get("output", response.get("error"))
        if isinstance(inner, str) and as_object(inner) is None:
            return inner, failed
    return jsontools.dumps(response).decode(), failed


def as_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None for any other text."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _read_media(members: dict[str, Any], where: str) -> Part:
    """A picture, sound or document, by its bytes or its address."""
    inline = members.pop("inlineData", None)
    where = f"{where}.inlineData" if inline is not None else f"{where}.fileData"
    value = camel(_object(inline if inline is not None else members.pop("fileData", None), where), where)
    kind = _text(value.pop("mimeType", ""), f"{where}.mimeType")
    if inline is not None:
        try:
            data = decoded(_text(value.pop("data", ""), f"{where}.data"))
        except ValueError:
            raise invalid("the data is not base64", f"{where}.data") from None
        if not data:
            raise invalid("the media has no data", f"{where}.data")
        media = Media(data=data, media_type=kind)
    else:
        uri = _text(value.pop("fileUri", ""), f"{where}.fileUri")
        if not uri:
            raise invalid("the media has no address", f"{where}.fileUri")
        media = Media(media_type=kind)
        setattr(media, "file_id" if _HELD.match(uri) else "url", uri)
    return media_part(media, _text(value.get("displayName", ""), where))


def media_part(media: Media, filename: str = "") -> Part:
    """The part for media, by what its type says; a video is a document."""
    kind = media.media_type.split("/")[0]
    if kind == "image":
        return Part(image=pb.ImagePart(media=media))
    if kind == "audio":
        return Part(audio=pb.AudioPart(media=media))
    return Part(file=pb.FilePart(media=media, filename=filename))


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise invalid("expected text", where)
    return value


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid("expected an object", where)
    return value


def write_media(part: Part, where: str, *, own: bool) -> dict[str, Any]:
    """A picture, sound or document as `inlineData` or `fileData`.

    Raises:
        MeshError: FAULT_UNSUPPORTED for media that only another vendor holds.
    """
    kind = part.WhichOneof("part") or ""
    value = part.image if kind == "image" else part.audio if kind == "audio" else part.file
    media: Media = value.media
    source = media.WhichOneof("source")
    if source == "data":
        data = jsontools.packed(media.data)
        return {"inlineData": {"mimeType": _media_type(part, kind), "data": data}}
    if source == "url" and media.url.startswith("data:"):
        raise unsupported("the media is a data address without base64", where)
    if not source or (source == "file_id" and not own):
        raise unsupported(f"the {kind} is held by another vendor", where)
    uri = media.url or media.file_id
    media_type = media.media_type or ("" if own else _TYPES.get(uri.split("?")[0].rpartition(".")[2].lower(), ""))
    return {"fileData": ({"mimeType": media_type} if media_type else {}) | {"fileUri": uri}}


def _media_type(part: Part, kind: str) -> str:
    """The type of bytes; this API refuses bytes without one."""
    value = part.image if kind == "image" else part.audio if kind == "audio" else part.file
    if value.media.media_type:
        return value.media.media_type
    if kind == "audio":
        return f"audio/{part.audio.format or 'wav'}"
    name = part.file.filename.rpartition(".")[2].lower()
    return "image/png" if kind == "image" else _TYPES.get(name, "application/pdf")


def write_result(part: Part, name: str, call_id: str, where: str, *, own: bool, dropped: list[str]) -> dict[str, Any]:
    """The result of a call; pictures and documents in it stand beside its response."""
    result = part.tool_result
    texts = [inner.text.text for inner in result.parts if inner.HasField("text")]
    media = [inner for inner in result.parts if not inner.HasField("text")]
    out: dict[str, Any] = {"name": name}
    if call_id and not call_id.startswith(UNNAMED):
        out["id"] = call_id
    out["response"] = _response("\n".join(texts), failed=result.failed) if texts else {}
    if media:
        out["parts"] = [write_media(inner, where, own=own) for inner in media]
    inner = {name: raw for name, raw in part.extensions.items() if name.startswith("functionResponse.")}
    put_extensions({name.removeprefix("functionResponse."): raw for name, raw in inner.items()}, out, dropped, own=own)
    return {"functionResponse": out}


def _response(text: str, *, failed: bool) -> dict[str, Any]:
    value = as_object(text)
    if value is not None and (not failed or "error" in value):
        return value
    return {"error" if failed else "output": text}


def write_call(call: pb.ToolCall) -> dict[str, Any]:
    """A call of a function, its arguments as an object."""
    out: dict[str, Any] = {"name": call.name, "args": arguments_of(call.arguments)}
    if call.id and not call.id.startswith(UNNAMED):
        out["id"] = call.id
    return {"functionCall": out}


def arguments_of(text: str) -> Mapping[str, Any]:
    """Arguments as the object that this API demands; free text and broken JSON as its member `input`."""
    if not text.strip():
        return {}
    value = as_object(text)
    return {"input": text} if value is None else value


def own_signature(part: Part) -> str:
    """The signature of a part when this dialect made it; empty otherwise."""
    own = part.state.dialect == NAME and part.state.kind != PART
    return part.state.data.decode("utf-8", "replace") if own else ""


def own_part(part: Part) -> dict[str, Any] | None:
    """The part that a state of this dialect holds whole; None for any other state."""
    if part.state.dialect != NAME or part.state.kind != PART:
        return None
    try:
        value = loads(part.state.data)
    except ValueError:  # it came back damaged: nobody could read it
        return None
    return value if isinstance(value, dict) else None
