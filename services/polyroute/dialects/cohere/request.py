"""`cohere.chat` requests: a conversation into JSON. https://docs.cohere.com/reference/chat."""

from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Message, Part, ToolChoice
from polyroute.dialects import drawn, jsontools
from polyroute.dialects.asking import (
    Calls,
    function_of,
    json_of_callers,
    leave_out,
    put_extensions,
    put_sampling,
    said,
    strict_tools,
    unsupported,
)
from polyroute.dialects.cohere.common import NAME, THINKING, TOOL_PLAN
from polyroute.dialects.openai.parts import media_url

_SAMPLING: Final = {
    "temperature": "temperature",
    "top_p": "p",
    "top_k": "k",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "seed": "seed",
    "logprobs": "logprobs",
}
_P_RANGE: Final = (0.01, 0.99)  # as the reference says; 1, the usual default elsewhere, means the upper end
_PENALTIES: Final = ("frequency_penalty", "presence_penalty")  # from 0 to 1 here
_ROLES: Final = {pb.ROLE_SYSTEM: "system", pb.ROLE_DEVELOPER: "system", pb.ROLE_USER: "user"}


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
        shown = drawn.shown_by_users(request.messages, self._dropped)
        messages = [written for message in shown for written in self._message(message)]
        out: dict[str, Any] = {"model": model, "messages": messages, "stream": stream}
        self._tools(out)
        if request.HasField("max_output_tokens"):
            out["max_tokens"] = request.max_output_tokens
        if request.stop:
            out["stop_sequences"] = list(request.stop)
        self._sampling(out)
        if request.HasField("response_format"):
            self._format(request.response_format, out)
        self._thinking(request.reasoning, out)
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
        out: dict[str, Any]
        if message.role == pb.ROLE_ASSISTANT:
            out = self._assistant(others)
        elif message.role == pb.ROLE_USER:
            out = {"role": "user", "content": self._content(others)}
        else:
            out = {"role": _ROLES.get(message.role, "tool"), "content": said(others, "instructions")}
        put_extensions(message.extensions, out, self._dropped, own=self._own, where="messages.")
        return [*results, out]

    def _result(self, result: pb.ToolResult) -> dict[str, Any]:
        call_id, _ = self._calls.answered_by(result)
        return {"role": "tool", "tool_call_id": call_id, "content": said(result.parts, "a tool's result")}

    def _assistant(self, content: list[Part]) -> dict[str, Any]:
        out: dict[str, Any] = {"role": "assistant"}
        plan = ""
        calls = []
        shown: list[Part] = []
        for part in content:
            kind = part.WhichOneof("part")
            if kind == "tool_call":
                calls.append(self._call(part))
            elif kind != "reasoning":
                shown.append(part)
            elif part.state.dialect == NAME and part.state.kind == TOOL_PLAN:
                plan += part.reasoning.text
            elif part.state.dialect == NAME and part.state.kind == THINKING:
                shown.append(part)
            else:  # of another vendor's model, which this one never thought
                self._dropped.append("messages.reasoning")
        if shown or not calls:
            out["content"] = self._content(shown)
        if plan:
            out["tool_plan"] = plan
        if calls:
            out["tool_calls"] = calls
        return out

    def _content(self, shown: list[Part]) -> Any:
        if not shown:
            return ""
        if len(shown) == 1 and shown[0].HasField("text") and not shown[0].extensions:
            return shown[0].text.text
        return [self._entry(part) for part in shown]

    def _entry(self, part: Part) -> dict[str, Any]:
        kind = part.WhichOneof("part")
        out: dict[str, Any]
        if kind == "text":
            out = {"type": "text", "text": part.text.text}
        elif kind == "refusal":
            out = {"type": "text", "text": part.refusal.text}
        elif kind == "reasoning":
            out = {"type": "thinking", "thinking": part.reasoning.text}
        elif kind == "image" and part.image.media.WhichOneof("source") in ("url", "data"):
            image = {"url": media_url(part.image.media, "image/png")}
            out = {"type": "image_url", "image_url": image | _named("detail", part.image.detail)}
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

    def _tools(self, out: dict[str, Any]) -> None:
        request = self._request
        choice = request.tool_choice
        offered = list(request.tools)
        if choice.mode == ToolChoice.MODE_NAMED and not choice.raw:
            # one tool cannot be named here, but a tool that is alone and required is the one that is called
            offered = [tool for tool in offered if tool.name == choice.name] or offered
        if offered:
            out["tools"] = [function_of(tool, self._dropped, own=self._own) for tool in offered]
        if choice.raw:
            self._dropped.append("tool_choice")
        elif choice.mode == ToolChoice.MODE_NONE:
            out["tool_choice"] = "NONE"
        elif choice.mode in (ToolChoice.MODE_REQUIRED, ToolChoice.MODE_NAMED):
            out["tool_choice"] = "REQUIRED"
        strict = strict_tools(request)
        if strict and all(strict):
            out["strict_tools"] = True
        elif any(strict):
            self._dropped.append("tools.strict")

    def _sampling(self, out: dict[str, Any]) -> None:
        put_sampling(self._request, _SAMPLING, out, self._dropped)
        if "p" in out:
            low, high = _P_RANGE
            out["p"] = min(max(out["p"], low), high)
        for name in _PENALTIES:
            if name in out and not 0 <= out[name] <= 1:
                del out[name]
                self._dropped.append(name)
        if all(name in out for name in _PENALTIES):  # only one of them may be sent; zero says nothing
            spare = next((name for name in _PENALTIES if not out[name]), _PENALTIES[-1])
            if out.pop(spare):
                self._dropped.append(spare)

    def _format(self, form: pb.ResponseFormat, out: dict[str, Any]) -> None:
        if form.type == pb.ResponseFormat.TYPE_JSON_OBJECT:
            out["response_format"] = {"type": "json_object"}
        elif form.type == pb.ResponseFormat.TYPE_JSON_SCHEMA:
            schema = {"json_schema": jsontools.loads(form.schema)} if form.schema else {}
            out["response_format"] = {"type": "json_object"} | schema
            if form.description:
                self._dropped.append("response_format.description")
        elif form.type == pb.ResponseFormat.TYPE_RAW and self._own:
            out["response_format"] = jsontools.loads(form.raw)
        elif form.type == pb.ResponseFormat.TYPE_RAW:
            raise unsupported("this vendor knows no such form of the answer", "response_format")

    def _thinking(self, reasoning: pb.ReasoningOptions, out: dict[str, Any]) -> None:
        """A switch and a budget are all there is (https://docs.cohere.com/docs/reasoning).

        | asked for                        | sent                              |
        |----------------------------------|-----------------------------------|
        | effort `none`, or not enabled    | disabled                          |
        | any other effort, or enabled     | enabled                           |
        | a bound in tokens                | enabled, with it as token_budget  |
        """
        if reasoning.summary:
            self._dropped.append("reasoning.summary")
        if reasoning.effort == "none" or (reasoning.HasField("enabled") and not reasoning.enabled):
            out["thinking"] = {"type": "disabled"}
        elif reasoning.HasField("max_tokens"):
            out["thinking"] = {"type": "enabled", "token_budget": reasoning.max_tokens}
        elif reasoning.effort or reasoning.enabled:
            out["thinking"] = {"type": "enabled"}


def write_request(request: ChatRequest, *, model: str, stream: bool, source: str) -> tuple[bytes, list[str]]:
    """See `dialect.Outbound.write_request`."""
    with json_of_callers():
        return Writer(request, own=source in ("", NAME)).body(model=model, stream=stream)


def _named(name: str, value: str) -> dict[str, str]:
    return {name: value} if value else {}
