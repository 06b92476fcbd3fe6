"""`ollama.chat` requests: a conversation into JSON. https://github.com/ollama/ollama/blob/main/docs/api.md."""

from typing import Any, Final

import msgspec

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part, ToolChoice
from polyroute.dialects import jsontools
from polyroute.dialects.asking import (
    Calls,
    function_of,
    json_of_callers,
    leave_out,
    put_extensions,
    put_sampling,
    strict_tools,
    unsupported,
)
from polyroute.dialects.ollama.common import NAME

# Members of `options`: https://github.com/ollama/ollama/blob/main/docs/modelfile.mdx
_SAMPLING: Final = {
    name: name for name in ("temperature", "top_p", "top_k", "seed", "frequency_penalty", "presence_penalty")
}
_LOGPROBS: Final = ("logprobs", "top_logprobs")
_ROLES: Final = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}
# https://docs.ollama.com/capabilities/thinking: a switch, or one of three levels for models that have levels.
_LEVELS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


class Writer:
    """Writes one request.

    Args:
        request: The conversation.
        own: Its extensions are of this dialect.
    """

    def __init__(self, request: ChatRequest, *, own: bool) -> None:
        self._request = request
        self._own = own
        self._calls = Calls()
        self._dropped: list[str] = []

    def body(self, *, model: str, stream: bool) -> tuple[bytes, list[str]]:
        """The request, and the parameters that were left out."""
        request = self._request
        messages = [written for message in request.messages for written in self._message(message)]
        # a stream is the default here: its absence must be said
        out: dict[str, Any] = {"model": model, "messages": messages, "stream": stream}
        self._tools(out)
        self._options(out)
        if request.HasField("response_format"):
            self._format(request.response_format, out)
        self._think(request.reasoning, out)
        leave_out(request, self._dropped)
        put_extensions(request.extensions, out, self._dropped, own=self._own)
        return jsontools.dumps(out), list(dict.fromkeys(self._dropped))

    def _message(self, message: Message) -> list[dict[str, Any]]:
        results = [self._result(part.tool_result) for part in message.parts if part.HasField("tool_result")]
        others = [part for part in message.parts if not part.HasField("tool_result")]
        if message.name:
            self._dropped.append("messages.name")
        if message.role == pb.ROLE_TOOL and not others:
            return results
        out = {"role": _ROLES.get(message.role, "user")} | self._content(others)
        thinking = "".join(part.reasoning.text for part in others if not part.reasoning.redacted)
        if thinking:
            out["thinking"] = thinking
        calls = [self._call(part) for part in others if part.HasField("tool_call")]
        if calls:
            out["tool_calls"] = calls
        put_extensions(message.extensions, out, self._dropped, own=self._own, where="messages.")
        return [*results, out]

    def _result(self, result: pb.ToolResult) -> dict[str, Any]:
        call_id, name = self._calls.answered_by(result)
        out: dict[str, Any] = {"role": "tool"} | self._content(list(result.parts))
        if name:
            out["tool_name"] = name
        if call_id:
            out["tool_call_id"] = call_id
        return out

    def _content(self, content: list[Part]) -> dict[str, Any]:
        """Text in one piece and pictures beside it: there is no order between the two."""
        texts: list[str] = []
        images: list[str] = []
        for part in content:
            kind = part.WhichOneof("part")
            if kind in ("text", "refusal"):
                texts.append(getattr(part, kind).text)
            elif kind == "image":
                images.append(_picture(part.image.media))
            elif kind not in ("tool_call", "reasoning"):
                raise unsupported(f"this vendor takes no {kind} in a conversation")
            if kind != "tool_call":
                self._dropped += [f"messages.content.{name}" for name in part.extensions]
        text = "\n".join(texts) if len(texts) > 1 else "".join(texts)
        return {"content": text} | ({"images": images} if images else {})

    def _call(self, part: Part) -> dict[str, Any]:
        call = part.tool_call
        function = {"name": call.name, "arguments": _arguments(call.arguments)}
        out: dict[str, Any] = {"id": self._calls.id_of(call), "function": function}
        put_extensions(part.extensions, out, self._dropped, own=self._own, where="messages.tool_calls.")
        return out

    def _tools(self, out: dict[str, Any]) -> None:
        request = self._request
        choice = request.tool_choice
        free = (ToolChoice.MODE_UNSPECIFIED, ToolChoice.MODE_AUTO)
        if choice.raw or choice.mode not in (*free, ToolChoice.MODE_NONE):
            self._dropped.append("tool_choice")  # a call cannot be demanded
        if request.tools and (choice.raw or choice.mode != ToolChoice.MODE_NONE):
            out["tools"] = [function_of(tool, self._dropped, own=self._own) for tool in request.tools]
        if any(strict_tools(request)):
            self._dropped.append("tools.strict")

    def _options(self, out: dict[str, Any]) -> None:
        request = self._request
        given: dict[str, Any] = {}
        if self._own and "options" in request.extensions:
            rest = jsontools.loads(request.extensions["options"])
            given |= rest if isinstance(rest, dict) else {}
        put_sampling(request, _SAMPLING | {name: name for name in _LOGPROBS}, given, self._dropped)
        for name in _LOGPROBS:  # not options here
            if name in given:
                out[name] = given.pop(name)
        if request.HasField("max_output_tokens"):
            given["num_predict"] = request.max_output_tokens
        if request.stop:
            given["stop"] = list(request.stop)
        if given:
            out["options"] = given

    def _format(self, form: pb.ResponseFormat, out: dict[str, Any]) -> None:
        if form.type == pb.ResponseFormat.TYPE_JSON_OBJECT or (
            form.type == pb.ResponseFormat.TYPE_JSON_SCHEMA and not form.schema
        ):
            out["format"] = "json"
        elif form.type == pb.ResponseFormat.TYPE_JSON_SCHEMA:
            out["format"] = jsontools.loads(form.schema)
        elif form.type == pb.ResponseFormat.TYPE_RAW and self._own:
            out["format"] = jsontools.loads(form.raw)
        elif form.type == pb.ResponseFormat.TYPE_RAW:
            raise unsupported("this vendor knows no such form of the answer", "response_format")
        if form.description:
            self._dropped.append("response_format.description")

    def _think(self, reasoning: pb.ReasoningOptions, out: dict[str, Any]) -> None:
        """A level where one is asked for by name, else the switch; a bound in tokens only turns thinking on."""
        if reasoning.summary:
            self._dropped.append("reasoning.summary")
        if reasoning.HasField("max_tokens"):
            self._dropped.append("reasoning.max_tokens")
        if reasoning.effort == "none" or (reasoning.HasField("enabled") and not reasoning.enabled):
            out["think"] = False
        elif reasoning.effort:
            out["think"] = _LEVELS.get(reasoning.effort, True)
        elif reasoning.enabled or reasoning.HasField("max_tokens"):
            out["think"] = True


def _picture(media: pb.Media) -> str:
    if media.WhichOneof("source") != "data":
        raise unsupported("this vendor takes pictures by their bytes only")
    return jsontools.packed(media.data)


def _arguments(text: str) -> Any:
    """Arguments as an object, byte for byte as the model wrote them."""
    if not text.strip():
        return {}
    try:
        value = jsontools.loads(text.encode())
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise unsupported("this vendor takes tool calls only with arguments that are a JSON object")
    return msgspec.Raw(text.encode())


def write_request(request: ChatRequest, *, model: str, stream: bool, source: str) -> tuple[bytes, list[str]]:
    """See `dialect.Outbound.write_request`."""
    with json_of_callers():
        return Writer(request, own=source in ("", NAME)).body(model=model, stream=stream)
