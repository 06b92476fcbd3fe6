"""`dashscope.*` requests: a conversation into JSON.

https://help.aliyun.com/en/model-studio/qwen-api-via-dashscope. That a stream is wanted is said by a header, not here.
"""

from dataclasses import dataclass
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part, ToolChoice
from polyroute.dialects import drawn, jsontools
from polyroute.dialects.asking import (
    Calls,
    function_of,
    leave_out,
    put_extensions,
    put_sampling,
    said,
    strict_tools,
    unsupported,
)
from polyroute.dialects.openai.parts import media_url

_SAMPLING: Final = {
    name: name for name in ("temperature", "top_p", "top_k", "seed", "presence_penalty", "logprobs", "top_logprobs")
}
_ROLES: Final = {
    pb.ROLE_SYSTEM: "system",
    pb.ROLE_DEVELOPER: "system",
    pb.ROLE_USER: "user",
    pb.ROLE_ASSISTANT: "assistant",
    pb.ROLE_TOOL: "tool",
}
_MEDIA_TYPES: Final = {"image": "image/png", "audio": "audio/wav"}


@dataclass(frozen=True, slots=True)
class Options:
    """How the models of this dialect differ in what they take.

    Attributes:
        lists: Every content is a list, as at the address of models that see and hear; otherwise text that stands alone
            is written as text.
    """

    lists: bool = False


class Writer:
    """Writes one request.

    Args:
        request: The conversation.
        own: Its extensions are of this dialect.
        options: What the model takes.
    """

    def __init__(self, request: ChatRequest, *, own: bool, options: Options) -> None:
        self._request = request
        self._own = own
        self._options = options
        self._calls = Calls()
        self._dropped: list[str] = []

    def body(self, *, model: str, stream: bool) -> tuple[bytes, list[str]]:
        """The request, and the parameters that were left out."""
        shown = drawn.shown_by_users(self._request.messages, self._dropped)
        messages = [written for message in shown for written in self._message(message)]
        parameters: dict[str, Any] = {"result_format": "message"}
        if stream:
            parameters["incremental_output"] = True  # else every event repeats the whole answer so far
        self._parameters(parameters)
        out = {"model": model, "input": {"messages": messages}, "parameters": parameters}
        return jsontools.dumps(out), list(dict.fromkeys(self._dropped))

    def _message(self, message: Message) -> list[dict[str, Any]]:
        results = [self._result(part.tool_result) for part in message.parts if part.HasField("tool_result")]
        others = [part for part in message.parts if not part.HasField("tool_result")]
        if message.name:
            self._dropped.append("messages.name")
        if message.role == pb.ROLE_TOOL and not others:
            return results
        shown = [part for part in others if part.WhichOneof("part") not in ("reasoning", "tool_call")]
        if any(part.HasField("reasoning") for part in others):
            self._dropped.append("messages.reasoning")
        out: dict[str, Any] = {"role": _ROLES.get(message.role, "user"), "content": self._content(shown)}
        calls = [self._call(part) for part in others if part.HasField("tool_call")]
        if calls:
            out["tool_calls"] = calls
        put_extensions(message.extensions, out, self._dropped, own=self._own, where="messages.")
        return [*results, out]

    def _result(self, result: pb.ToolResult) -> dict[str, Any]:
        call_id, name = self._calls.answered_by(result)
        content = said(result.parts, "a tool's result")
        out: dict[str, Any] = {"role": "tool", "tool_call_id": call_id}
        out["content"] = [{"text": content}] if self._options.lists else content
        return out | ({"name": name} if name else {})

    def _content(self, shown: list[Part]) -> Any:
        plain = all(part.WhichOneof("part") in ("text", "refusal") for part in shown)
        if plain and not self._options.lists:
            return said(shown, "a text")
        return [self._entry(part) for part in shown]

    def _entry(self, part: Part) -> dict[str, Any]:
        kind = part.WhichOneof("part") or ""
        if kind in ("text", "refusal"):
            out: dict[str, Any] = {"text": getattr(part, kind).text}
        elif kind in _MEDIA_TYPES and getattr(part, kind).media.WhichOneof("source") in ("url", "data"):
            media = getattr(part, kind).media
            form = part.audio.format if kind == "audio" else ""
            out = {kind: media_url(media, f"audio/{form}" if form else _MEDIA_TYPES[kind])}
        else:
            raise unsupported(f"this vendor takes no such {kind} in a conversation")
        put_extensions(part.extensions, out, self._dropped, own=self._own, where="messages.content.")
        return out

    def _call(self, part: Part) -> dict[str, Any]:
        call = part.tool_call
        function = {"name": call.name, "arguments": call.arguments or "{}"}
        out: dict[str, Any] = {"id": self._calls.id_of(call), "type": "function", "function": function}
        put_extensions(part.extensions, out, self._dropped, own=self._own, where="messages.tool_calls.")
        return out

    def _parameters(self, out: dict[str, Any]) -> None:
        request = self._request
        self._tools(out)
        put_sampling(request, _SAMPLING, out, self._dropped)
        if request.HasField("max_output_tokens"):
            out["max_tokens"] = request.max_output_tokens
        if request.stop:
            out["stop"] = list(request.stop)
        if request.HasField("choices"):
            out["n"] = request.choices
        if request.HasField("parallel_tool_calls"):
            out["parallel_tool_calls"] = request.parallel_tool_calls
        if request.HasField("response_format"):
            self._format(request.response_format, out)
        self._thinking(request.reasoning, out)
        leave_out(request, self._dropped, choices=False, parallel=False)
        put_extensions(request.extensions, out, self._dropped, own=self._own)

    def _tools(self, out: dict[str, Any]) -> None:
        request = self._request
        if request.tools:
            out["tools"] = [function_of(tool, self._dropped, own=self._own) for tool in request.tools]
        if any(strict_tools(request)):
            self._dropped.append("tools.strict")
        if request.HasField("tool_choice"):
            choice = self._choice(request.tool_choice)
            if choice is None:
                self._dropped.append("tool_choice")
            else:
                out["tool_choice"] = choice

    def _choice(self, choice: ToolChoice) -> Any:
        """`auto`, `none` or one tool by its name; None for what cannot be said."""
        if choice.raw:
            return None
        name = choice.name
        if choice.mode == ToolChoice.MODE_REQUIRED and len(self._request.tools) == 1:
            name = self._request.tools[0].name
        elif choice.mode == ToolChoice.MODE_REQUIRED:
            return None
        elif choice.mode != ToolChoice.MODE_NAMED:
            return "none" if choice.mode == ToolChoice.MODE_NONE else "auto"
        return {"type": "function", "function": {"name": name}}

    def _format(self, form: pb.ResponseFormat, out: dict[str, Any]) -> None:
        if form.type == pb.ResponseFormat.TYPE_JSON_OBJECT:
            out["response_format"] = {"type": "json_object"}
        elif form.type == pb.ResponseFormat.TYPE_JSON_SCHEMA:
            schema: dict[str, Any] = {"name": form.name or "answer"}
            if form.description:
                schema["description"] = form.description
            if form.schema:
                schema["schema"] = jsontools.loads(form.schema)
            if form.HasField("strict"):
                schema["strict"] = form.strict
            out["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form.type == pb.ResponseFormat.TYPE_RAW and self._own:
            out["response_format"] = jsontools.loads(form.raw)
        elif form.type == pb.ResponseFormat.TYPE_RAW:
            raise unsupported("this vendor knows no such form of the answer", "response_format")

    def _thinking(self, reasoning: pb.ReasoningOptions, out: dict[str, Any]) -> None:
        """A switch and a budget (https://help.aliyun.com/en/model-studio/deep-thinking).

        | asked for                        | sent                                     |
        |----------------------------------|------------------------------------------|
        | effort `none`, or not enabled    | enable_thinking false                    |
        | any other effort, or enabled     | enable_thinking true                     |
        | a bound in tokens                | enable_thinking true, thinking_budget it |
        """
        if reasoning.summary:
            self._dropped.append("reasoning.summary")
        if reasoning.effort == "none" or (reasoning.HasField("enabled") and not reasoning.enabled):
            out["enable_thinking"] = False
        elif reasoning.effort or reasoning.enabled or reasoning.HasField("max_tokens"):
            out["enable_thinking"] = True
            if reasoning.HasField("max_tokens"):
                out["thinking_budget"] = reasoning.max_tokens
