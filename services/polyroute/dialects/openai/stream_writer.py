"""Steps of an answer as an `openai.chat` or `openai.completions` stream.

Clients of this API index `choices[0]` without looking and some cut events at LF LF themselves: so there is no event
without a choice but the usage a client asked for, no event name, and no CR (see `sse.frame`).
"""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, Part
from polyroute.dialects import jsontools, sse, states
from polyroute.dialects.openai import parts
from polyroute.dialects.openai.common import create_time, finish_word, usage_json

_LEVELS: Final = ("choice.", "delta.", "tool_call.", "part.")


class OpenAIWriter:
    """Writes one stream; see `dialect.StreamWriter`.

    Args:
        request_id: The call, a UUIDv7.
        model: Model as the client named it.
        include_usage: The client asked for usage.
        text: Write `openai.completions`: text only, without roles.
    """

    def __init__(self, *, request_id: str, model: str, include_usage: bool, text: bool = False) -> None:
        self._text = text
        self._include_usage = include_usage
        self._spoken: set[int] = set()  # choices whose first event has been written
        self._custom: set[tuple[int, int]] = set()  # calls of custom tools, by choice and index
        self._pictures: dict[int, int] = {}  # how many of a choice
        self._base = {
            "id": f"{'cmpl' if text else 'chatcmpl'}-{request_id}",
            "object": "text_completion" if text else "chat.completion.chunk",
            "created": create_time(0, request_id),
            "model": model,
        }

    def feed(self, events: list[ChatEvent]) -> bytes:
        """Whole SSE events for these steps; see `dialect.StreamWriter`."""
        return sse.frame([payload for event in events if (payload := self._event(event))])

    def _event(self, event: ChatEvent) -> bytes | None:
        kind = event.WhichOneof("event")
        if kind == "usage":
            usage = {"choices": [], "usage": usage_json(event.usage)}
            return jsontools.dumps(self._base | usage) if self._include_usage else None
        if kind == "start":
            self._base["created"] = event.start.create_time or self._base["created"]
        choice = self._choice(event, kind or "")
        if choice is None:
            return None
        out: dict[str, Any] = self._base | {"choices": [choice]}
        if self._include_usage:
            out["usage"] = None
        if event.extensions:
            for name, raw in event.extensions.items():
                if not name.startswith(_LEVELS):
                    out.setdefault(name, jsontools.loads(raw))
        return jsontools.dumps(out)

    def _choice(self, event: ChatEvent, kind: str) -> dict[str, Any] | None:
        out: dict[str, Any] = {"index": event.choice}
        if self._text:
            if kind not in ("text", "finished", "logprobs"):
                return None
            out["text"] = event.text.text
        else:
            delta = self._making(event, kind)
            if delta is None:
                return None
            if event.choice not in self._spoken:
                self._spoken.add(event.choice)
                delta = {"role": "assistant"} | (delta or {"content": ""})
            out["delta"] = delta
            _put_members(delta, event, "delta.")
        out["logprobs"] = jsontools.loads(event.logprobs) if kind == "logprobs" else None
        out["finish_reason"] = finish_word(event.finished.reason) if kind == "finished" else None
        _put_members(out, event, "choice.")
        return out

    def _making(self, event: ChatEvent, kind: str) -> dict[str, Any] | None:
        if kind == "tool_call":
            return self._tool_call(event)
        return self._image(event) if kind == "image" else _delta(event, kind)

    def _image(self, event: ChatEvent) -> dict[str, Any]:
        number = self._pictures.get(event.choice, 0)
        self._pictures[event.choice] = number + 1
        state = states.unpacked(event.extensions[states.OF_PART]) if states.OF_PART in event.extensions else None
        return {"images": [parts.write_image(event.image, number, state)]}

    def _tool_call(self, event: ChatEvent) -> dict[str, Any]:
        step = event.tool_call
        if step.kind == pb.TOOL_KIND_CUSTOM:
            self._custom.add((event.choice, step.index))
        custom = (event.choice, step.index) in self._custom
        out: dict[str, Any] = {"index": step.index}
        body = {"input" if custom else "arguments": step.arguments}
        if step.id:
            out |= {"id": step.id, "type": "custom" if custom else "function"}
        if step.name:
            body = {"name": step.name} | body
        out["custom" if custom else "function"] = body
        if step.HasField("state"):
            out["extra_content"] = parts.carry_state(step.state)
        _put_members(out, event, "tool_call.")
        return {"tool_calls": [out]}


def _delta(event: ChatEvent, kind: str) -> dict[str, Any] | None:
    """The delta of a step; None for a step that has none here."""
    match kind:
        case "text":
            return {"content": event.text.text}
        case "reasoning":
            return _reasoning(event.reasoning)
        case "refusal":
            return {"refusal": event.refusal.text}
        case "audio":
            return {"audio": _audio(event.audio)}
        case "start" | "finished" | "logprobs":
            return {}
        case _:
            return None


def _reasoning(step: pb.ReasoningDelta) -> dict[str, Any]:
    out: dict[str, Any] = {"reasoning_content": step.text} if step.text else {}
    if step.HasField("state"):
        reasoning = pb.ReasoningPart(summary=step.summary, redacted=step.redacted)
        out["reasoning_details"] = [parts.write_detail(Part(reasoning=reasoning, state=step.state))]
    return out


def _audio(step: pb.AudioDelta) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if step.id:
        out["id"] = step.id
    if step.data:
        out["data"] = jsontools.packed(step.data)
    if step.transcript:
        out["transcript"] = step.transcript
    if step.expire_time:
        out["expires_at"] = step.expire_time
    return out


def _put_members(target: dict[str, Any], event: ChatEvent, level: str) -> None:
    if not event.extensions:  # most have none
        return
    for name, raw in event.extensions.items():
        if name.startswith(level):
            target.setdefault(name.removeprefix(level), jsontools.loads(raw))
