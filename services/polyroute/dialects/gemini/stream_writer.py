"""Steps of an answer as a `gemini.generate` stream: server-sent events without names and without an end marker.

Clients of this API expect calls whole and look at `candidates[0]` of every event. So a call is held back until it is
complete, and no event is without a candidate but the refusal of a prompt.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import ChatEvent, Part, ToolCall
from polyroute.dialects import jsontools, sse, states
from polyroute.dialects.asking import object_in, text_of
from polyroute.dialects.gemini.answer import own_logprobs, write_part
from polyroute.dialects.gemini.common import MESSAGE_MEMBERS, finish_word, time_of, usage_json
from polyroute.dialects.openai.parts import put_extras

_LEVELS: Final = ("choice.", "delta.", "tool_call.", "part.")


@dataclass(slots=True)
class _Choice:
    """One answer as it was written so far."""

    calls: dict[int, Part] = field(default_factory=dict)  # under way, by their index
    audio_type: str = ""
    finish: str = ""


class GeminiWriter:
    """Writes one stream; see `dialect.StreamWriter`. For clients without `alt=sse` see `framing.ArrayWriter`.

    Args:
        request_id: The call, a UUIDv7.
        model: Model as the client named it.
        include_usage: The client asked for usage, as every client of this API does.
    """

    def __init__(self, *, request_id: str, model: str, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._choices: dict[int, _Choice] = {}
        self._base: dict[str, Any] = {"modelVersion": model, "responseId": request_id}
        self._held: dict[str, bytes] = {}  # members of a step that is no event here
        self._usage_extras = b""  # what stands beside the figures

    def feed(self, events: list[ChatEvent]) -> bytes:
        """Whole events for these steps; see `dialect.StreamWriter`."""
        out: list[dict[str, Any]] = []
        for event in events:
            self._event(event, out)
        return sse.frame([jsontools.dumps(chunk) for chunk in out])

    def _event(self, event: ChatEvent, out: list[dict[str, Any]]) -> None:
        kind = event.WhichOneof("event")
        if kind == "start":
            if time_of(event.start.create_time):
                self._base["createTime"] = time_of(event.start.create_time)
            self._held.update(event.extensions)
            self._usage_extras = self._held.pop("usageMetadata", b"")
        elif kind == "usage":
            self._usage(event, out)
        elif kind:
            choice = self._choices.setdefault(event.choice, _Choice())
            if kind == "tool_call":
                self._call(event, choice)
            else:
                self._release(event.choice, choice, out)
                self._candidate(event, kind, choice, out)

    def _usage(self, event: ChatEvent, out: list[dict[str, Any]]) -> None:
        """With the last event of the batch, which mostly says why the answer ended; else with an empty one."""
        if not self._include_usage:
            return
        if not out:
            finish = self._choices.get(0, _Choice()).finish
            out.append(
                self._chunk({"content": _content([{"text": ""}])} | ({"finishReason": finish} if finish else {}), 0)
            )
        extras = event.extensions.get("usageMetadata", self._usage_extras)
        out[-1]["usageMetadata"] = usage_json(event.usage, extras)
        put_extras(out[-1], {name: raw for name, raw in event.extensions.items() if not name.startswith(_LEVELS)})

    def _chunk(self, candidate: dict[str, Any], index: int) -> dict[str, Any]:
        chunk: dict[str, Any] = {"candidates": [candidate | {"index": index}]} | self._base
        if self._held:
            put_extras(chunk, {name: raw for name, raw in self._held.items() if not name.startswith(_LEVELS)})
            self._held.clear()
        return chunk

    def _call(self, event: ChatEvent, choice: _Choice) -> None:
        step = event.tool_call
        part = choice.calls.setdefault(step.index, Part(tool_call=ToolCall()))
        call = part.tool_call
        call.id = call.id or step.id
        call.name = call.name or step.name
        call.arguments += step.arguments
        if step.HasField("state"):
            part.state.CopyFrom(step.state)
        for name, raw in event.extensions.items():
            if name.startswith("tool_call."):
                part.extensions[name.removeprefix("tool_call.")] = raw
            else:
                self._held[name] = raw

    def _release(self, index: int, choice: _Choice, out: list[dict[str, Any]]) -> None:
        """Writes the calls that were held back: something else follows, so they are complete."""
        if not choice.calls:
            return
        parts = [value for _, part in sorted(choice.calls.items()) if (value := write_part(part)) is not None]
        choice.calls = {}
        held = {name: raw for name, raw in self._held.items() if name.startswith(_LEVELS)}
        candidate: dict[str, Any] = {"content": _content(parts)}
        _put_members(candidate["content"], held, "delta.")
        _put_members(candidate, held, "choice.")
        out.append(self._chunk(candidate, index))

    def _candidate(self, event: ChatEvent, kind: str, choice: _Choice, out: list[dict[str, Any]]) -> None:
        candidate: dict[str, Any] = {}
        parts = self._parts(event, kind, choice)
        if kind == "finished":
            choice.finish = finish_word(event.finished.reason, event.finished.vendor_reason)
            candidate["finishReason"] = choice.finish
        elif kind == "logprobs" and own_logprobs(event.logprobs):
            candidate["logprobsResult"] = own_logprobs(event.logprobs)
        if not parts and not candidate and not event.extensions:
            return  # nothing that this format has a place for
        if parts or kind != "finished":
            candidate = {"content": _content(parts or [{"text": ""}])} | candidate
        _put_members(candidate.setdefault("content", _content([])), event.extensions, "delta.")
        if not candidate["content"]["parts"] and len(candidate["content"]) == 2:
            del candidate["content"]
        _put_members(candidate, event.extensions, "choice.")
        chunk = self._chunk(candidate, event.choice)
        put_extras(chunk, {name: raw for name, raw in event.extensions.items() if not name.startswith(_LEVELS)})
        if candidate.keys() == {"finishReason"} and _is_refusal(chunk):
            del chunk["candidates"]
        out.append(chunk)

    def _parts(self, event: ChatEvent, kind: str, choice: _Choice) -> list[dict[str, Any]]:
        """The parts of a step: one or none."""
        if "delta.audioMimeType" in event.extensions:
            choice.audio_type = text_of(jsontools.loads(event.extensions["delta.audioMimeType"]))
        value = write_part(_part_of(event, kind), choice.audio_type)
        return [value] if value is not None else []


def _part_of(event: ChatEvent, kind: str) -> Part:
    """A step as a whole part; an empty one for a step that is none."""
    part = Part()
    match kind:
        case "text":
            part.text.text = event.text.text
            if event.text.HasField("state"):
                part.state.CopyFrom(event.text.state)
        case "reasoning":
            part.reasoning.text = event.reasoning.text
            if event.reasoning.HasField("state"):
                part.state.CopyFrom(event.reasoning.state)
        case "refusal":
            part.refusal.text = event.refusal.text
        case "audio":
            if event.audio.data:  # its transcript has no place here
                part.audio.media.data = event.audio.data
        case "image":
            part.image.CopyFrom(event.image)
    state = states.unpacked(event.extensions[states.OF_PART]) if states.OF_PART in event.extensions else None
    if state:
        part.state.CopyFrom(state)
    return part


def _content(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {"parts": parts, "role": "model"}


def _is_refusal(chunk: dict[str, Any]) -> bool:
    return bool(object_in(chunk.get("promptFeedback")).get("blockReason"))


def _put_members(target: dict[str, Any], extensions: Any, level: str) -> None:
    members = {name.removeprefix(level): raw for name, raw in extensions.items() if name.startswith(level)}
    put_extras(target, {name: raw for name, raw in members.items() if level != "delta." or name not in MESSAGE_MEMBERS})
