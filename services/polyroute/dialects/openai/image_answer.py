"""Answers of `openai.images`: pictures as data or addresses, whole or in events."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Media, Usage
from polyroute.api.modality.v1 import modality_pb2 as pb
from polyroute.api.modality.v1.modality_pb2 import ImageResult, Picture, Result, Task
from polyroute.dialects import faults, jsontools, sse
from polyroute.dialects.openai.common import create_time
from polyroute.dialects.task import Body, Outcome
from polyroute.dialects.task_stream import LAST, PICTURE, events_of
from polyroute.dialects.tasktools import (
    answer_of,
    bad_answer,
    count_of,
    decoded,
    encoded,
    extras,
    leftovers,
    no_answer,
    objects,
    picture_type,
    put_extras,
    put_leftovers,
    text_of,
    tokens_from,
    tokens_json,
)

_PICTURE: Final = ("b64_json", "image", "url", "revised_prompt")
_EVENT: Final = (*_PICTURE, "type", "usage", "created_at", "model", "partial_image_index", "sequence_number")
# Some servers have the pictures under a name of their own.
_LISTS: Final = ("data", "images")
_KNOWN: Final = (*_LISTS, "created", "id", "model", "usage", "svg_usage")
_SVG: Final = "svg_usage"
STREAM: Final = "text/event-stream"


def read(body: bytes, content_type: str) -> Outcome:
    """A vendor's whole answer, or a stream of it that was read to its end.

    Raises:
        MeshError: the fault inside it, FAULT_BAD_ANSWER for anything else without a picture.
    """
    if content_type.startswith(STREAM):
        return _read_events(events_of(body))
    value = answer_of(body)
    entries = next((value[name] for name in _LISTS if isinstance(value.get(name), list)), None)
    if entries is None:
        raise no_answer(value, "pictures")
    result = Result(id=text_of(value.get("id")), model=text_of(value.get("model")))
    rest = _read_pictures(objects(entries), result, text_of(value.get("output_format")))
    result.image.create_time = count_of(value.get("created"))
    for name, raw in extras(value, _KNOWN).items():
        result.extensions[name] = raw
    if rest:
        result.extensions["data"] = rest
    return Outcome(result, _usage(value, len(result.image.images)))


def _read_pictures(entries: Sequence[Mapping[str, Any]], result: Result, form: str) -> bytes:
    """Puts the pictures into a result; what else stood beside them, as JSON.

    One of several may have failed on its own: the others are an answer all the same.
    """
    made = [entry for entry in entries if any(isinstance(entry.get(name), str) for name in _PICTURE[:3])]
    if not made:
        failed = next((entry for entry in entries if entry.get("error")), None)
        raise faults.fault_in(failed) if failed else bad_answer("the provider's answer holds no pictures")
    result.image.CopyFrom(ImageResult(images=[_read_picture(entry, form) for entry in made]))
    return leftovers(made, _PICTURE)


def _read_picture(entry: Mapping[str, Any], form: str) -> Picture:
    address = text_of(entry.get("url"))
    if address and not address.startswith("data:"):
        return Picture(media=Media(url=address), revised_prompt=text_of(entry.get("revised_prompt")))
    data = decoded(entry.get("b64_json") or entry.get("image") or address)
    if not data:
        raise bad_answer("the provider's answer holds an empty picture")
    kind = picture_type(data, f"image/{form}" if form else "image/png")
    return Picture(media=Media(data=data, media_type=kind), revised_prompt=text_of(entry.get("revised_prompt")))


def _read_events(events: Sequence[Mapping[str, Any]]) -> Outcome:
    ready = [event for event in events if text_of(event.get("type")).endswith((*LAST, PICTURE))]
    last = ready[-1]
    result = Result(model=text_of(last.get("model")))
    _read_pictures(ready, result, text_of(last.get("output_format")))  # what stands beside one stands in the last, too
    result.image.create_time = count_of(last.get("created_at"))
    for name, raw in extras(last, _EVENT).items():
        result.extensions[name] = raw
    return Outcome(result, _usage(last, len(result.image.images)))


def _usage(value: Mapping[str, Any], pictures: int) -> Usage:
    usage = tokens_from(value.get("usage")) or Usage()
    usage.images = pictures
    drawn = value.get(_SVG)
    if isinstance(drawn, dict):
        for name in ("input_tokens", "output_tokens"):
            usage.other[f"svg_{name}"] = count_of(drawn.get(name))
    return usage


def write(outcome: Outcome, task: Task, request_id: str) -> Body:
    """An answer for a client, as a stream when it asked for one."""
    result, usage = outcome.result, outcome.usage
    by_address = task.image.delivery == pb.IMAGE_DELIVERY_URL
    pictures = [_write_picture(picture, by_address=by_address) for picture in result.image.images]
    created = create_time(result.image.create_time, request_id)
    if task.extensions.get("stream") == b"true":
        return _write_events(pictures, created, outcome, task)
    put_leftovers(pictures, result.extensions.get("data", b""))
    out: dict[str, Any] = {"created": created, "data": pictures}
    if usage is not None and _counted(usage):
        out["usage"] = tokens_json(usage, details="tokens_details")
    put_extras(out, result.extensions)
    return Body(jsontools.dumps(out))


def _counted(usage: Usage) -> bool:
    return bool(usage.input_tokens or usage.output_tokens or usage.cache_read_tokens or usage.reasoning_tokens)


def _write_picture(picture: Picture, *, by_address: bool) -> dict[str, Any]:
    media = picture.media
    if media.WhichOneof("source") == "url":
        out = {"url": media.url}
    elif by_address:  # a client that asked for an address gets one that holds the picture
        out = {"url": f"data:{media.media_type or 'image/png'};base64,{encoded(media.data)}"}
    else:
        out = {"b64_json": encoded(media.data)}
    return out | ({"revised_prompt": picture.revised_prompt} if picture.revised_prompt else {})


def _write_events(pictures: list[dict[str, Any]], created: int, outcome: Outcome, task: Task) -> Body:
    kind = "image_edit.completed" if task.image.images else "image_generation.completed"
    frames: list[bytes] = []
    for place, picture in enumerate(pictures):
        event: dict[str, Any] = {"type": kind, **picture, "created_at": created}
        if place == len(pictures) - 1 and outcome.usage is not None and _counted(outcome.usage):
            event["usage"] = tokens_json(outcome.usage, details="tokens_details")
        put_extras(event, {name: raw for name, raw in outcome.result.extensions.items() if name != "data"})
        frames.append(sse.frame([jsontools.dumps(event)], kind))
    return Body(b"".join(frames), STREAM)
