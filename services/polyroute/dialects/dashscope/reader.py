"""`dashscope.*` answers into steps.

What stands under `output` is a choice as `openai.chat` has it, in streams too, so each event is put into that form and
read as such. https://help.aliyun.com/en/model-studio/qwen-api-via-dashscope
"""

from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatResponse
from polyroute.dialects import jsontools
from polyroute.dialects.asking import WRONG_TYPES, bad_answer, count_in, object_in, objects_in, text_of
from polyroute.dialects.dashscope.common import fault_in
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import assemble
from polyroute.dialects.openai.common import usage_from
from polyroute.dialects.openai.meter import object_of
from polyroute.dialects.openai.stream_reader import OpenAIReader
from polyroute.mesh.errors import MeshError

_MEMBERS: Final = frozenset({"output", "usage", "request_id", "status_code", "code", "message"})
_OUTPUT_MEMBERS: Final = frozenset({"choices", "text", "message", "finish_reason", "model_name"})
# The research models end with these words, the first as their vendor spells it.
_FINISHED: Final = ("fininshed_reason", "finished_reason", "finish_reason")
_FLAGS: Final = frozenset({"fininshed", "finished", *_FINISHED})
_MEDIA: Final = ("image_tokens", "audio_tokens", "video_tokens")


class DashScopeReader:
    """Reads one stream; see `dialect.StreamReader`. The answer is complete with a finish reason."""

    def __init__(self) -> None:
        self._reader = OpenAIReader()
        self._started = False
        self._usage: dict[str, Any] = {}  # the newest; it comes with every event

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        """Reads one batch; see `dialect.StreamReader`."""
        out: list[ChatEvent] = []
        try:
            for name, data in events:
                out += self._reader.feed([("", self._converted(name, data))])
        except BrokenStreamError as error:
            raise BrokenStreamError.of(error, events=[*out, *error.events]) from error.__cause__
        except MeshError as error:
            raise BrokenStreamError.of(error, events=out) from None
        except WRONG_TYPES as error:
            raise BrokenStreamError.of(bad_answer("the provider sent an event of a wrong form"), events=out) from error
        return out

    def finish(self) -> list[ChatEvent]:
        """The last steps; see `dialect.StreamReader`."""
        out = self._reader.finish()
        usage = usage_from(_tokens(self._usage))
        if usage and out:
            for name, figure in _units(self._usage).items():
                usage.other[name] = figure
            out.append(ChatEvent(usage=usage))
        return out

    def _converted(self, name: str, data: bytes) -> bytes:
        try:
            value = jsontools.loads(data)
        except ValueError:
            raise bad_answer("the provider sent broken JSON in its stream") from None
        if not isinstance(value, dict):
            raise bad_answer("the provider sent an event that is no object")
        output = value.get("output")
        if name == "error" or value.get("error") or (text_of(value.get("code")) and not output):
            raise fault_in(value)
        if output is None and self._started:
            output = {}  # an event of a kind of its own
        if not isinstance(output, dict):
            raise bad_answer("the provider's answer has no output")
        chunk = {name: item for name, item in value.items() if name not in _MEMBERS}
        chunk |= {name: item for name, item in output.items() if name not in _OUTPUT_MEMBERS | _FLAGS}
        chunk |= {"id": text_of(value.get("request_id")), "model": text_of(output.get("model_name"))}
        chunk["choices"] = _choices(output, required=not self._started)
        self._started = True
        self._usage = object_in(value.get("usage")) or self._usage
        return jsontools.dumps(chunk)


def _choices(output: dict[str, Any], *, required: bool) -> list[dict[str, Any]]:
    """The choices of an event, the message of each as what is new of it.

    Raises:
        MeshError: FAULT_BAD_ANSWER when one is `required` and there is none.
    """
    if isinstance(output.get("choices"), list):
        return [_choice(choice) for choice in objects_in(output["choices"])]
    word = next((text_of(output[name]) for name in _FINISHED if output.get(name)), "")
    if isinstance(output.get("message"), dict):
        return [{"index": 0, "delta": output["message"], "finish_reason": word}]
    text = output.get("text")
    if text is None and not word:
        if not required:
            return []
        raise bad_answer("the provider's answer has no choices")
    return [{"index": 0, "delta": {"content": text_of(text)}, "finish_reason": word}]


def _choice(value: dict[str, Any]) -> dict[str, Any]:
    rest = {name: item for name, item in value.items() if name != "message"}
    return rest | {"delta": object_in(value.get("message"))}


def _tokens(value: dict[str, Any]) -> dict[str, Any]:
    """Usage by the names of `openai.chat`.

    Cached, written and media tokens stand inside `input_tokens`, reasoning inside `output_tokens`; `total_tokens`,
    where there is one, is the sum of the two.
    """
    prompt = object_in(value.get("prompt_tokens_details"))
    details = {
        "cached_tokens": prompt.get("cached_tokens"),
        "cache_write_tokens": prompt.get("cache_creation_input_tokens"),
    }
    return {
        "prompt_tokens": value.get("input_tokens"),
        "completion_tokens": value.get("output_tokens"),
        "total_tokens": value.get("total_tokens"),
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": object_in(value.get("output_tokens_details")).get("reasoning_tokens")
        },
    }


def _units(value: dict[str, Any]) -> dict[str, int]:
    """What is counted beside: tokens of media, and calls of the vendor's own tools."""
    inner = object_in(value.get("input_tokens_details"))
    units = {f"input_{name}": count_in(value.get(name)) or count_in(inner.get(name)) for name in _MEDIA}
    for name, plugin in object_in(value.get("plugins")).items():
        units[f"{name}_calls"] = count_in(object_in(plugin).get("count"))
    return {name: figure for name, figure in units.items() if figure}


def read_answer(body: bytes) -> ChatResponse:
    """See `dialect.Outbound.read_answer`."""
    object_of(body)
    reader = DashScopeReader()
    try:
        events = reader.feed([("", body.strip())])
    except BrokenStreamError as error:
        raise MeshError(error.reason, error.message, metadata=error.metadata) from error.__cause__
    return assemble([*events, *reader.finish()])
