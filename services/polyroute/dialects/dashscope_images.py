"""`dashscope.images`: pictures by the native API, in the two forms that its models know.

Newer models are asked as in a conversation and answer at once (services/aigc/multimodal-generation/generation,
https://www.alibabacloud.com/help/en/model-studio/qwen-image-api). Models up to generation 2.5 take a prompt and answer
with a task that is asked for until it is done (services/aigc/text2image/image-synthesis, `X-DashScope-Async: enable`,
https://www.alibabacloud.com/help/en/model-studio/text-to-image-v2-api-reference; image2image/image-synthesis to edit).
Charged by picture; `usage.image_count` says how many. Pictures come as addresses only.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Media, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.modality.v1 import modality_pb2 as pb
from polyroute.api.modality.v1.modality_pb2 import ImageResult, ImageTask, Picture, Result, Task
from polyroute.dialects import faults, jsontools
from polyroute.dialects.task import Body, Outcome, TaskOutbound
from polyroute.dialects.tasktools import (
    answer_of,
    bad_answer,
    count_of,
    data_url,
    no_answer,
    objects,
    own,
    put_extras,
    text_of,
    tokens_from,
    unsupported,
)
from polyroute.mesh.errors import MeshError

NAME: Final = "dashscope.images"
# Where requests go, beside any services/aigc/KIND/ACTION below the API's root.
_CONVERSATION: Final = "../multimodal-generation/generation"
_FROM_TEXT: Final = "../text2image/image-synthesis"
_FROM_PICTURES: Final = "../image2image/image-synthesis"
_TASKS: Final = "../../../tasks/"
_ASYNC: Final = (("x-dashscope-async", "enable"),)
# Families that know the older form only.
_TASK_MODELS: Final = re.compile(r"wanx|wan2\.[0-5]|flux|stable-diffusion")
# The oldest that edits takes one picture, and names what to do with it.
_ONE_PICTURE: Final = re.compile(r"wanx.*imageedit")
_TASK_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_GOING_ON: Final = frozenset({"PENDING", "RUNNING", "SUSPENDED"})
_FAILED: Final = frozenset({"FAILED", "CANCELED", "UNKNOWN"})
# What this API has no word for, by the names of the request that clients write.
_WITHOUT: Final = {"quality": "quality", "format": "output_format", "background": "background", "user": "user"}


@dataclass(frozen=True, slots=True)
class DashScopeImages:
    """The dialect; every method is as `task.TaskOutbound` says."""

    name: str = NAME

    def write_task(self, task: Task, *, model: str, source: str = "") -> tuple[Body, list[str]]:
        """A task as a request to a vendor, and the parameters that were left out."""
        if task.WhichOneof("task") != "image":
            raise unsupported("this dialect only makes pictures", "task")
        asked = task.image
        if not asked.prompt:
            raise unsupported("this vendor makes no variations without a prompt", "prompt")
        parameters = _parameters(asked)
        extensions, dropped = own(task.extensions, source, (NAME,))
        dropped += [name for member, name in _WITHOUT.items() if getattr(asked, member)]
        if asked.delivery == pb.IMAGE_DELIVERY_DATA:
            dropped.append("response_format")
        older = bool(_TASK_MODELS.match(model))
        if asked.style and not older:
            dropped.append("style")
        elif asked.style:
            parameters["style"] = asked.style
        write = _older if older else _newer
        body = write(model, asked, parameters, extensions)
        return body, dropped

    def read_outcome(self, body: bytes, content_type: str) -> Outcome:
        """A vendor's whole answer, or a task that is done."""
        value = answer_of(body)
        output = value.get("output")
        if not isinstance(output, dict):
            raise no_answer(value, "pictures")
        status = text_of(output.get("task_status"))
        if status in _FAILED:
            raise _failed(output)
        pictures = _pictures(output)
        if not pictures:
            failed = next((item for item in objects(output.get("results")) if item.get("code")), output)
            raise faults.fault_in(failed) if failed.get("code") else bad_answer("the provider made no pictures")
        result = Result(image=ImageResult(images=pictures), id=text_of(value.get("request_id")))
        return Outcome(result, _usage(value.get("usage"), len(pictures)))

    def pending(self, body: bytes) -> str:
        """Where to ask for a task that goes on."""
        output = answer_of(body).get("output")
        if not isinstance(output, dict) or text_of(output.get("task_status")) not in _GOING_ON:
            return ""
        handle = text_of(output.get("task_id"))
        if not _TASK_ID.fullmatch(handle):
            raise bad_answer("the provider's answer names no task")
        return _TASKS + handle

    def fault_of(self, status: int, body: bytes, headers: Mapping[str, str]) -> MeshError:
        """A vendor's refusal or failure as a classified error."""
        return faults.fault_of(status, body, headers)


def _parameters(asked: ImageTask) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if asked.size and asked.size != "auto":
        out["size"] = asked.size.replace("x", "*")
    if asked.HasField("count"):
        out["n"] = asked.count
    if asked.HasField("seed"):
        out["seed"] = asked.seed
    return out


def _newer(model: str, asked: ImageTask, parameters: dict[str, Any], extensions: Mapping[str, bytes]) -> Body:
    if asked.HasField("mask"):
        raise unsupported("this model edits by words only", "mask")
    content = [{"image": data_url(media, "image/png", "image")} for media in asked.images]
    content.append({"text": asked.prompt})
    if asked.negative_prompt:
        parameters["negative_prompt"] = asked.negative_prompt
    put_extras(parameters, extensions)
    messages = [{"role": "user", "content": content}]
    out = {"model": model, "input": {"messages": messages}, "parameters": parameters}
    return Body(jsontools.dumps(out), path=_CONVERSATION)


def _older(model: str, asked: ImageTask, parameters: dict[str, Any], extensions: Mapping[str, bytes]) -> Body:
    given: dict[str, Any] = {"prompt": asked.prompt}
    if asked.negative_prompt:
        given["negative_prompt"] = asked.negative_prompt
    pictures = [data_url(media, "image/png", "image") for media in asked.images]
    if pictures and _ONE_PICTURE.match(model):
        given |= _one_picture(asked, pictures)
    elif asked.HasField("mask"):
        raise unsupported("this model edits by words only", "mask")
    elif pictures:
        given["images"] = pictures
    put_extras(parameters, extensions)
    out = {"model": model, "input": given, "parameters": parameters}
    return Body(jsontools.dumps(out), path=_FROM_PICTURES if pictures else _FROM_TEXT, headers=_ASYNC)


def _one_picture(asked: ImageTask, pictures: list[str]) -> dict[str, str]:
    if len(pictures) > 1:
        raise unsupported("this model edits one picture at a time", "image")
    if not asked.HasField("mask"):
        return {"function": "description_edit", "base_image_url": pictures[0]}
    mask = data_url(asked.mask, "image/png", "mask")
    return {"function": "description_edit_with_mask", "base_image_url": pictures[0], "mask_image_url": mask}


def _failed(output: Mapping[str, Any]) -> MeshError:
    if output.get("code") or output.get("message"):
        return faults.fault_in(output)
    return MeshError.upstream(errors_pb2.FAULT_SERVER, "the provider gave the task up")


def _pictures(output: Mapping[str, Any]) -> list[Picture]:
    """Pictures of a task (`results`, of which single ones may have failed) or of a conversation (`choices`)."""
    made = [
        Picture(media=Media(url=item["url"]), revised_prompt=text_of(item.get("actual_prompt")))
        for item in objects(output.get("results"))
        if text_of(item.get("url"))
    ]
    for choice in objects(output.get("choices")):
        message = choice.get("message")
        content = objects(message.get("content")) if isinstance(message, dict) else []
        made += [Picture(media=Media(url=part["image"])) for part in content if text_of(part.get("image"))]
    return made


def _usage(value: object, pictures: int) -> Usage:
    usage = tokens_from(value) or Usage()
    usage.images = (count_of(value.get("image_count")) if isinstance(value, dict) else 0) or pictures
    return usage


OUTBOUND: Final[TaskOutbound] = DashScopeImages()
