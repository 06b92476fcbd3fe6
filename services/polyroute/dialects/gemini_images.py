"""`gemini.images`: pictures by models that answer in words and pictures, POST /v1beta/models/MODEL:generateContent.

https://ai.google.dev/gemini-api/docs/image-generation. One request makes one picture of a ratio and a resolution class;
pictures come as data. Counts: `promptTokenCount` holds the cached tokens, `thoughtsTokenCount` stands beside
`candidatesTokenCount`, and `toolUsePromptTokenCount` beside the prompt; together they are `totalTokenCount`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Media, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1.modality_pb2 import ImageResult, Picture, Result, Task
from polyroute.dialects import faults, jsontools
from polyroute.dialects.task import Body, Outcome, TaskOutbound
from polyroute.dialects.tasktools import (
    answer_of,
    bad_answer,
    count_of,
    decoded,
    encoded,
    no_answer,
    objects,
    own,
    picture_type,
    put_extras,
    text_of,
    unsupported,
)
from polyroute.mesh.errors import MeshError

NAME: Final = "gemini.images"
RATIOS: Final = ("1:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "21:9")
_CLASSES: Final = frozenset({"512", "1K", "2K", "4K"})
_PIXELS: Final = re.compile(r"([1-9]\d{1,4})[x*]([1-9]\d{1,4})")
_LARGE: Final = ((2800, "4K"), (1400, "2K"))  # longest side that is nearer to a class than to the one below
_REFUSED: Final = frozenset(
    {"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"}
    | {"IMAGE_RECITATION"}
)
# What this API has no word for, by the names of the request that clients write.
_WITHOUT: Final = {
    "quality": "quality",
    "style": "style",
    "format": "output_format",
    "background": "background",
    "negative_prompt": "negative_prompt",
    "user": "user",
}


@dataclass(frozen=True, slots=True)
class GeminiImages:
    """The dialect; every method is as `task.TaskOutbound` says."""

    name: str = NAME

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the parameters that were left out."""
        if task.WhichOneof("task") != "image":
            raise unsupported("this dialect only makes pictures", "task")
        asked = task.image
        if not asked.prompt:
            raise unsupported("this vendor makes no variations without a prompt", "prompt")
        if asked.HasField("mask"):
            raise unsupported("this vendor edits by words only", "mask")
        extensions, dropped = own(task.extensions, source, (NAME,))
        dropped += [name for member, name in _WITHOUT.items() if getattr(asked, member)]
        if asked.count > 1:
            dropped.append("n")
        config: dict[str, Any] = {"responseModalities": ["TEXT", "IMAGE"]}
        if asked.HasField("seed"):
            config["seed"] = asked.seed
        size = _image_config(asked.size)
        if size:
            config["imageConfig"] = size
        parts = [_part(media) for media in asked.images]
        out = {
            "contents": [{"role": "user", "parts": [*parts, {"text": asked.prompt}]}],
            "generationConfig": config,
        }
        put_extras(out, extensions)
        return Body(jsontools.dumps(out)), dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer."""
        value = answer_of(body)
        candidates = objects(value.get("candidates"))
        pictures = [picture for candidate in candidates for picture in _pictures(candidate)]
        if not pictures:
            raise _nothing(value, candidates)
        result = Result(
            image=ImageResult(images=pictures),
            id=text_of(value.get("responseId")),
            model=text_of(value.get("modelVersion")),
        )
        usage = _usage(value.get("usageMetadata"))
        usage.images = len(pictures)
        return Outcome(result, usage)

    def pending(self, body: bytes) -> str:
        """Nothing: answers are whole."""
        return ""

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


def _image_config(size: str) -> dict[str, str]:
    """Ratio and resolution for a size: `16:9`, `2K`, or pixels, of which the nearest ratio that there is is taken.

    The resolution is only named when it is above the smallest, for older models know no other and refuse the member.
    """
    if size.upper() in _CLASSES:
        return {"imageSize": size.upper()}
    if size in RATIOS:
        return {"aspectRatio": size}
    found = _PIXELS.fullmatch(size)
    if not found:
        return {}
    width, height = int(found.group(1)), int(found.group(2))
    out = {"aspectRatio": min(RATIOS, key=lambda ratio: abs(math.log(width / height) - math.log(_value(ratio))))}
    large = next((name for least, name in _LARGE if max(width, height) >= least), "")
    return out | ({"imageSize": large} if large else {})


def _value(ratio: str) -> float:
    width, _, height = ratio.partition(":")
    return int(width) / int(height)


def _part(media: Media) -> dict[str, Any]:
    kind = media.WhichOneof("source")
    if kind == "data":
        mime = media.media_type or picture_type(media.data)
        return {"inlineData": {"mimeType": mime, "data": encoded(media.data)}}
    if kind == "url":
        return {"fileData": {"fileUri": media.url} | ({"mimeType": media.media_type} if media.media_type else {})}
    raise unsupported("a file held by another vendor cannot be sent to this one", "image")


def _pictures(candidate: Mapping[str, Any]) -> list[Picture]:
    content = candidate.get("content")
    parts = objects(content.get("parts")) if isinstance(content, dict) else []
    made: list[Picture] = []
    for part in parts:
        inline = part.get("inlineData", part.get("inline_data"))
        if not isinstance(inline, dict) or part.get("thought") is True:
            continue  # drafts of a model that thinks in pictures are no answer
        data = decoded(inline.get("data"))
        kind = text_of(inline.get("mimeType")) or text_of(inline.get("mime_type")) or picture_type(data)
        if data and kind.startswith("image/"):
            made.append(Picture(media=Media(data=data, media_type=kind)))
    return made


def _nothing(value: Mapping[str, Any], candidates: list[dict[str, Any]]) -> MeshError:
    feedback = value.get("promptFeedback")
    blocked = text_of(feedback.get("blockReason")) if isinstance(feedback, dict) else ""
    word = blocked or next((text_of(candidate.get("finishReason")) for candidate in candidates), "")
    if blocked or word in _REFUSED:
        message = f"the provider's filter refused: {word[:60].lower()}"
        return MeshError.upstream(errors_pb2.FAULT_FILTER, message, vendor_code=word[:60])
    if candidates:
        return bad_answer("the model answered without a picture")
    return no_answer(value, "pictures")


def _usage(value: object) -> Usage:
    if not isinstance(value, dict):
        return Usage()
    cached = count_of(value.get("cachedContentTokenCount"))
    prompt = count_of(value.get("promptTokenCount")) + count_of(value.get("toolUsePromptTokenCount"))
    cached = min(cached, prompt)
    usage = Usage(
        input_tokens=prompt - cached,
        cache_read_tokens=cached,
        output_tokens=count_of(value.get("candidatesTokenCount")),
        reasoning_tokens=count_of(value.get("thoughtsTokenCount")),
    )
    for side, member in (("input", "promptTokensDetails"), ("output", "candidatesTokensDetails")):
        drawn = sum(
            count_of(item.get("tokenCount")) for item in objects(value.get(member)) if item.get("modality") == "IMAGE"
        )
        if drawn:
            usage.other[f"{side}_image_tokens"] = drawn
    return usage


OUTBOUND: Final[TaskOutbound] = GeminiImages()
