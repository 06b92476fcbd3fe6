"""`openai.images`: POST /v1/images/generations, and beside it `edits` and `variations`.

https://platform.openai.com/docs/api-reference/images. Which of the three is told by the body: a form is an edit, or a
variation when it has no prompt; JSON with `images` is an edit as well, JSON without makes a new picture. Servers that
take pictures as `image` inside the JSON of generations (https://www.volcengine.com/docs/82379/1541523) are asked in
`openai.images_inline`, which is otherwise the same.

Usage: cached tokens stand inside `input_tokens`, picture tokens inside both sides; older models state none and charge
by picture, so pictures are always counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import OPERATION_IMAGE, Media, RequestFacts, Usage
from polyroute.api.modality.v1 import modality_pb2 as pb
from polyroute.api.modality.v1.modality_pb2 import ImageTask, Task
from polyroute.dialects import faults, jsontools, multipart
from polyroute.dialects.dialect import Meter
from polyroute.dialects.jsontools import invalid
from polyroute.dialects.openai import image_answer
from polyroute.dialects.openai.facts import BYTES_PER_TOKEN, TOKENS_PER_IMAGE
from polyroute.dialects.task import Body, Outcome, TaskDialect
from polyroute.dialects.task_stream import TaskMeter
from polyroute.dialects.tasktools import (
    Fields,
    data_url,
    facts_of,
    media_of,
    own,
    patched,
    picture_type,
    put_extras,
    text_bytes,
    unsupported,
)
from polyroute.mesh.errors import MeshError

NAME: Final = "openai.images"
INLINE_NAME: Final = "openai.images_inline"
MAX_PICTURES: Final = 32
MAX_GIVEN: Final = 16
EDITS: Final = "edits"
VARIATIONS: Final = "variations"

_DELIVERY: Final = {"url": pb.IMAGE_DELIVERY_URL, "b64_json": pb.IMAGE_DELIVERY_DATA}
_WORDS: Final = {delivery: word for word, delivery in _DELIVERY.items()}
# Member of a task -> its name on the wire, of those that are plain text.
_TEXTS: Final = {
    "prompt": "prompt",
    "size": "size",
    "quality": "quality",
    "style": "style",
    "format": "output_format",
    "background": "background",
    "negative_prompt": "negative_prompt",
    "user": "user",
}
_MOST: Final = {"prompt": 131072, "negative_prompt": 131072, "user": 512, "size": 64, "style": 64, "output_format": 16}


@dataclass(frozen=True, slots=True)
class OpenAIImages:
    """The dialect; every method is as `task.TaskDialect` says.

    Attributes:
        inline: Pictures to edit stand in the JSON of generations.
    """

    name: str = NAME
    inline: bool = False

    def read_facts(self, body: Body, *, default_model: str = "") -> RequestFacts:
        """What routing needs of a client's request."""
        fields, pictures, _ = _opened(body)
        model = fields.model(default_model)
        stream = fields.flag("stream")
        asked = _read(fields, pictures)
        tokens = text_bytes(asked.prompt) // BYTES_PER_TOKEN + len(asked.images) * TOKENS_PER_IMAGE
        return facts_of(OPERATION_IMAGE, model, tokens=tokens, stream=bool(stream), choices=asked.count)

    def patch_task(self, body: Body, *, model: str) -> Body:
        """The client's own bytes with another model's name, on their way to the right path."""
        return patched(body, model)._replace(path=_path(body))

    def read_task(self, body: Body) -> Task:
        """A client's request."""
        fields, pictures, mask = _opened(body)
        if fields.files:
            raise invalid(f"a file called {fields.files[0]} is only served by a deployment of {NAME}", fields.files[0])
        fields.take("model")
        asked = _read(fields, pictures)
        if mask is not None:
            asked.mask.CopyFrom(mask)
        return Task(image=asked, extensions=fields.extensions())

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the parameters that were left out."""
        if task.WhichOneof("task") != "image":
            raise unsupported("this dialect only makes pictures", "task")
        asked = task.image
        out = {"model": model, **_members(asked)}
        extensions, dropped = own(task.extensions, source, (NAME, INLINE_NAME))
        if "response_format" in extensions:  # the vendor's own word for it, which clients have copied
            out.pop("response_format", None)
        put_extras(out, extensions)
        if not asked.images:
            return Body(jsontools.dumps(out)), dropped
        if self.inline:
            return _with_pictures(asked, out), dropped
        given = [*asked.images, *([asked.mask] if asked.HasField("mask") else [])]
        if asked.variation or all(media.WhichOneof("source") == "data" for media in given):
            return _form(asked, out), dropped
        return _by_reference(asked, out), dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer."""
        return image_answer.read(body, content_type)

    def write_outcome(self, outcome: Outcome, task: Task, *, request_id: str, model: str) -> Body:
        """An answer for a client, as a stream when it asked for one."""
        return image_answer.write(outcome, task, request_id)

    def meter(self) -> Meter:
        """A meter for one stream."""
        return TaskMeter()

    def read_usage(self, body: bytes, content_type: str) -> Usage | None:
        """What an answer says of its usage."""
        return image_answer.read(body, content_type).usage

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


class _ImageFields(Fields):
    """The members of a request and the names of files in it that are no pictures to edit."""

    __slots__ = ("files",)

    def __init__(self, values: Mapping[str, Any], *, form: bool = False, files: tuple[str, ...] = ()) -> None:
        super().__init__(values, form=form)
        self.files = files


def _opened(body: Body) -> tuple[_ImageFields, list[Media], Media | None]:
    """The plain members of a request, the pictures in it, and its mask."""
    if not multipart.is_form(body.content_type):
        fields = _ImageFields(Fields.of(body).all())
        return fields, _named(fields), _mask(fields)
    parts = multipart.read(body)
    files = [(part.name.removesuffix("[]"), part) for part in parts if part.filename is not None]
    pictures = [_media(part) for name, part in files if name == "image"]
    masks = [_media(part) for name, part in files if name == "mask"]
    others = tuple(name for name, _ in files if name not in ("image", "mask"))
    fields = _ImageFields(multipart.values(parts), form=True, files=others)
    return fields, pictures + _named(fields), masks[0] if masks else None


def _media(part: multipart.Field) -> Media:
    if not part.data:
        raise invalid("the picture is empty", part.name)
    kind = part.content_type if part.content_type.startswith("image/") else picture_type(part.data)
    return Media(data=part.data, media_type=kind)


def _named(fields: Fields) -> list[Media]:
    """Pictures that a request gives by address or as text, in `images` or in `image`."""
    found: list[Media] = []
    for name in ("images", "image"):
        value = fields.take(name)
        listed = value if isinstance(value, list) else [] if value is None else [value]
        found += [_reference(item, f"{name}[{place}]") for place, item in enumerate(listed)]
    return found


def _mask(fields: Fields) -> Media | None:
    value = fields.take("mask")
    return None if value is None else _reference(value, "mask")


def _reference(value: object, where: str) -> Media:
    if isinstance(value, dict):
        if isinstance(value.get("file_id"), str) and value["file_id"]:
            return Media(file_id=value["file_id"])
        value = value.get("image_url", value.get("url"))
    return media_of(value, where)


def _path(body: Body) -> str:
    if multipart.is_form(body.content_type):
        return EDITS if any(part.name == "prompt" for part in multipart.read(body)) else VARIATIONS
    return EDITS if b'"images"' in body.data and "images" in jsontools.members_of(body.data) else ""


def _read(fields: Fields, pictures: list[Media]) -> ImageTask:
    if len(pictures) > MAX_GIVEN:
        raise invalid(f"more than {MAX_GIVEN} pictures", "image")
    texts = {member: fields.text(name, most=_MOST.get(name, 32)) for member, name in _TEXTS.items()}
    if not texts["prompt"] and not pictures:
        raise invalid("the request has no prompt", "prompt")
    asked = ImageTask(
        **texts,  # type: ignore[arg-type] # the members of the table are texts
        count=fields.integer("n", 1, MAX_PICTURES),
        seed=fields.integer("seed", -(1 << 53), 1 << 53),
        images=pictures,
        variation=not texts["prompt"],
    )
    delivery = fields.take("response_format")
    if isinstance(delivery, str) and delivery in _DELIVERY:
        asked.delivery = _DELIVERY[delivery]
    elif delivery is not None:
        fields.put("response_format", delivery)
    return asked


def _members(asked: ImageTask) -> dict[str, Any]:
    out: dict[str, Any] = {name: text for member, name in _TEXTS.items() if (text := getattr(asked, member))}
    if asked.HasField("count"):
        out["n"] = asked.count
    if asked.HasField("seed"):
        out["seed"] = asked.seed
    if asked.delivery in _WORDS:
        out["response_format"] = _WORDS[asked.delivery]
    return out


def _with_pictures(asked: ImageTask, out: dict[str, Any]) -> Body:
    if asked.HasField("mask") or asked.variation:
        raise unsupported("this vendor edits by words only", "mask" if asked.HasField("mask") else "prompt")
    addresses = [data_url(media, "image/png", "image") for media in asked.images]
    return Body(jsontools.dumps(out | {"image": addresses[0] if len(addresses) == 1 else addresses}))


def _by_reference(asked: ImageTask, out: dict[str, Any]) -> Body:
    out["images"] = [_reference_json(media) for media in asked.images]
    if asked.HasField("mask"):
        out["mask"] = _reference_json(asked.mask)
    return Body(jsontools.dumps(out), path=EDITS)


def _reference_json(media: Media) -> dict[str, str]:
    if media.WhichOneof("source") == "file_id":
        return {"file_id": media.file_id}
    return {"image_url": data_url(media, "image/png", "image")}


def _form(asked: ImageTask, out: Mapping[str, Any]) -> Body:
    several = "image[]" if len(asked.images) > 1 else "image"
    files = [_file(media, several, f"image{place}") for place, media in enumerate(asked.images)]
    if asked.HasField("mask"):
        files.append(_file(asked.mask, "mask", "mask"))
    path = VARIATIONS if asked.variation else EDITS
    return multipart.write([*multipart.fields_of(out), *files], path=path)


def _file(media: Media, name: str, filename: str) -> multipart.Field:
    if media.WhichOneof("source") != "data":
        raise unsupported("variations are made of pictures given as data only", name.removesuffix("[]"))
    kind = media.media_type or picture_type(media.data)
    return multipart.Field(name, media.data, f"{filename}.{kind.rpartition('/')[2]}", kind)


DIALECT: Final[TaskDialect] = OpenAIImages()
INLINE: Final[TaskDialect] = OpenAIImages(name=INLINE_NAME, inline=True)
