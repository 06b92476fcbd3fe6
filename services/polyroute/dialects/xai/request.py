"""`xai.grpc` requests: a conversation into a `GetCompletionsRequest`. https://docs.x.ai/docs/grpc-reference."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message as Proto

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Part
from polyroute.dialects import drawn, jsontools
from polyroute.dialects.asking import Calls, json_of_callers, said, unsupported
from polyroute.dialects.openai.parts import media_url
from polyroute.dialects.xai.common import NAME, SEALED, SERVER_CALLS
from xai.api.v1 import chat_pb2, image_pb2
from xai.api.v1.chat_pb2 import GetCompletionsRequest

_ROLES: Final = {
    pb.ROLE_SYSTEM: chat_pb2.ROLE_SYSTEM,
    pb.ROLE_DEVELOPER: chat_pb2.ROLE_DEVELOPER,
    pb.ROLE_USER: chat_pb2.ROLE_USER,
    pb.ROLE_ASSISTANT: chat_pb2.ROLE_ASSISTANT,
    pb.ROLE_TOOL: chat_pb2.ROLE_TOOL,
}
_DETAILS: Final = {"auto": image_pb2.DETAIL_AUTO, "low": image_pb2.DETAIL_LOW, "high": image_pb2.DETAIL_HIGH}
_SAMPLING: Final = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "logprobs")
_NUMBERS: Final = ("seed", "top_logprobs")
_INT32: Final = 2**31
_MODES: Final = {
    pb.ToolChoice.MODE_AUTO: chat_pb2.TOOL_MODE_AUTO,
    pb.ToolChoice.MODE_NONE: chat_pb2.TOOL_MODE_NONE,
    pb.ToolChoice.MODE_REQUIRED: chat_pb2.TOOL_MODE_REQUIRED,
}
# The vendor's words of the contract's; `minimal` and `max` are the nearest that there is.
_EFFORTS: Final = {
    "none": chat_pb2.EFFORT_NONE,
    "minimal": chat_pb2.EFFORT_LOW,
    "low": chat_pb2.EFFORT_LOW,
    "medium": chat_pb2.EFFORT_MEDIUM,
    "high": chat_pb2.EFFORT_HIGH,
    "xhigh": chat_pb2.EFFORT_XHIGH,
    "max": chat_pb2.EFFORT_XHIGH,
}
_NO_ARGUMENTS: Final = '{"type":"object","properties":{}}'  # the vendor refuses a function without a schema
_OURS: Final = frozenset({"model", "messages"})  # members of a request that no extension may touch


class Writer:
    """Writes one request.

    Args:
        request: The conversation.
        own: Its extensions and file ids are of this dialect.
    """

    def __init__(self, request: ChatRequest, *, own: bool) -> None:
        self._request = request
        self._own = own
        self._calls = Calls()
        self._dropped: list[str] = []
        self._out = GetCompletionsRequest()

    def body(self, *, model: str) -> tuple[bytes, list[str]]:
        """The request, and the parameters that were left out."""
        request, out = self._request, self._out
        out.model, out.user = model, request.user
        for message in drawn.shown_by_users(request.messages, self._dropped):
            self._message(message)
        for tool in request.tools:
            self._tool(tool)
        self._choice(request.tool_choice)
        if request.HasField("parallel_tool_calls"):
            out.parallel_tool_calls = request.parallel_tool_calls
        if request.HasField("max_output_tokens"):
            self._number("max_tokens", request.max_output_tokens)
        if request.choices > 1:
            self._number("n", request.choices)
        out.stop.extend(request.stop)
        self._sampling(request.sampling)
        if request.HasField("response_format"):
            self._format(request.response_format)
        self._thinking(request.reasoning)
        if request.metadata:
            self._dropped.append("metadata")
        self._extend(out, request.extensions)
        return out.SerializeToString(), list(dict.fromkeys(self._dropped))

    def _message(self, message: pb.Message) -> None:
        others = [part for part in message.parts if not part.HasField("tool_result")]
        for part in message.parts:
            if part.HasField("tool_result"):
                self._result(part.tool_result)
        if message.role == pb.ROLE_TOOL and not others:
            return
        out = self._out.messages.add(role=_ROLES.get(message.role, chat_pb2.ROLE_USER))
        if message.name and message.role == pb.ROLE_USER:
            out.name = message.name
        elif message.name:  # the vendor takes names of users only
            self._dropped.append("messages.name")
        if message.role == pb.ROLE_ASSISTANT:
            others = self._assistant(others, out)
        out.content.extend(self._content(part) for part in others)
        if not out.content:  # there has to be one
            out.content.add(text="")
        self._extend_message(out, message.extensions)

    def _result(self, result: pb.ToolResult) -> None:
        call_id, _ = self._calls.answered_by(result)
        out = self._out.messages.add(role=chat_pb2.ROLE_TOOL)
        out.content.add(text=said(result.parts, "a tool's result"))
        if call_id:
            out.tool_call_id = call_id

    def _assistant(self, parts: Iterable[Part], out: chat_pb2.Message) -> list[Part]:
        """Writes calls and reasoning; returns what is left."""
        left: list[Part] = []
        thoughts: list[Part] = []
        for part in parts:
            kind = part.WhichOneof("part")
            if kind == "tool_call":
                self._call(part, out)
            elif kind != "reasoning":
                left.append(part)
            elif part.state.dialect == NAME:
                thoughts.append(part)
            else:  # of another vendor's model, which this one never thought
                self._dropped.append("messages.reasoning")
        text = "".join(part.reasoning.text for part in thoughts)
        if text:
            out.reasoning_content = text
        sealed = b"".join(part.state.data for part in thoughts if part.state.kind == SEALED)
        out.encrypted_content = sealed.decode("utf-8", "replace")
        return left

    def _call(self, part: Part, out: chat_pb2.Message) -> None:
        call = part.tool_call
        if call.kind == pb.TOOL_KIND_CUSTOM:
            raise unsupported("a call of a tool that takes free text cannot be told to this vendor")
        function = chat_pb2.FunctionCall(name=call.name, arguments=call.arguments or "{}")
        kind = chat_pb2.TOOL_CALL_TYPE_CLIENT_SIDE_TOOL
        out.tool_calls.add(id=self._calls.id_of(call), type=kind, function=function)

    def _content(self, part: Part) -> chat_pb2.Content:
        kind = part.WhichOneof("part")
        for name in part.extensions:
            self._dropped.append(f"messages.content.{name}")
        if kind == "text":
            return chat_pb2.Content(text=part.text.text)
        if kind == "refusal":
            return chat_pb2.Content(text=part.refusal.text)
        if kind == "image":
            return chat_pb2.Content(image_url=self._picture(part.image))
        if kind == "file":
            return chat_pb2.Content(file=self._file(part.file))
        raise unsupported(f"this vendor takes no {kind} in a conversation")

    def _picture(self, image: pb.ImagePart) -> image_pb2.ImageUrlContent:
        detail = _DETAILS.get(image.detail, image_pb2.DETAIL_INVALID)
        if image.media.WhichOneof("source") == "file_id":
            return image_pb2.ImageUrlContent(file_id=self._held(image.media), detail=detail)
        return image_pb2.ImageUrlContent(image_url=media_url(image.media, "image/png"), detail=detail)

    def _file(self, file: pb.FilePart) -> chat_pb2.FileContent:
        media = file.media
        out = chat_pb2.FileContent(filename=file.filename, mime_type=media.media_type)
        source = media.WhichOneof("source")
        if source == "file_id":
            out.file_id = self._held(media)
        elif source == "data":
            out.data = media.data
        else:
            out.url = media.url
        return out

    def _held(self, media: pb.Media) -> str:
        if not self._own:
            raise unsupported("a file held by another vendor cannot be sent to this one")
        return media.file_id

    def _tool(self, tool: pb.Tool) -> None:
        if tool.kind == pb.TOOL_KIND_CUSTOM:
            raise unsupported("a tool that takes free text cannot be offered to this vendor", "tools")
        if tool.strict:  # the member is there, and without meaning
            self._dropped.append("tools.strict")
        self._dropped += [f"tools.{name}" for name in tool.extensions]
        schema = jsontools.dumps(jsontools.loads(tool.parameters)).decode() if tool.parameters else _NO_ARGUMENTS
        self._out.tools.add(function=chat_pb2.Function(name=tool.name, description=tool.description, parameters=schema))

    def _choice(self, choice: pb.ToolChoice) -> None:
        if choice.raw:
            self._dropped.append("tool_choice")
        elif choice.mode == pb.ToolChoice.MODE_NAMED:
            self._out.tool_choice.function_name = choice.name
        elif choice.mode in _MODES:
            self._out.tool_choice.mode = _MODES[choice.mode]

    def _sampling(self, sampling: pb.Sampling) -> None:
        for field, value in sampling.ListFields():
            if field.name in _NUMBERS:
                self._number(field.name, value)
            elif field.name in _SAMPLING:
                setattr(self._out, field.name, value)
            else:
                self._dropped.append(field.name)

    def _number(self, name: str, value: int) -> None:
        """A member that holds 32 bits; what needs more is left out."""
        if -_INT32 <= value < _INT32:
            setattr(self._out, name, value)
        else:
            self._dropped.append(name)

    def _format(self, form: pb.ResponseFormat) -> None:
        out = self._out.response_format
        if form.type == pb.ResponseFormat.TYPE_TEXT:
            out.format_type = chat_pb2.FORMAT_TYPE_TEXT
        elif form.type == pb.ResponseFormat.TYPE_JSON_OBJECT or (
            form.type == pb.ResponseFormat.TYPE_JSON_SCHEMA and not form.schema
        ):
            out.format_type = chat_pb2.FORMAT_TYPE_JSON_OBJECT
        elif form.type == pb.ResponseFormat.TYPE_JSON_SCHEMA:
            out.format_type = chat_pb2.FORMAT_TYPE_JSON_SCHEMA
            out.schema = jsontools.dumps(jsontools.loads(form.schema)).decode()
        elif form.type == pb.ResponseFormat.TYPE_RAW:
            raise unsupported("this vendor knows no such form of the answer", "response_format")
        if form.description:
            self._dropped.append("response_format.description")

    def _thinking(self, reasoning: pb.ReasoningOptions) -> None:
        """An effort is all there is. With one, and with earlier reasoning in encrypted form, more of that is asked for.

        | asked for                          | sent              |
        |------------------------------------|-------------------|
        | effort `none`, or not enabled      | EFFORT_NONE       |
        | `minimal`, `low`                   | EFFORT_LOW        |
        | `medium`, `high`                   | the same          |
        | `xhigh`, `max`                     | EFFORT_XHIGH      |
        | enabled, without an effort         | nothing           |
        """
        effort = reasoning.effort
        if not effort and reasoning.HasField("enabled") and not reasoning.enabled:
            effort = "none"
        if effort in _EFFORTS:
            self._out.reasoning_effort = _EFFORTS[effort]
        elif effort:
            self._dropped.append("reasoning_effort")
        if reasoning.HasField("max_tokens"):
            self._dropped.append("reasoning.max_tokens")
        if reasoning.summary:
            self._dropped.append("reasoning.summary")
        if self._own and "use_encrypted_content" in self._request.extensions:
            return
        thinks = effort not in ("", "none") or reasoning.enabled
        if thinks or any(message.encrypted_content for message in self._out.messages):
            self._out.use_encrypted_content = True

    def _extend(self, out: GetCompletionsRequest, extensions: Mapping[str, bytes]) -> None:
        """Adds members by their published names, in the JSON form of protobuf; never over what is there.

        Lists grow: the vendor's own tools go beside the caller's functions.

        Raises:
            MeshError: REASON_INVALID_REQUEST when a value is not of its member's type.
        """
        known = out.DESCRIPTOR.fields_by_name
        for name, raw in sorted(extensions.items()):
            field = known.get(name) if self._own and name not in _OURS else None
            if field is None:
                self._dropped.append(name)
            elif field.is_repeated or all(field.number != taken.number for taken, _ in out.ListFields()):
                _merge(out, name, jsontools.loads(raw), name)

    def _extend_message(self, out: chat_pb2.Message, extensions: Mapping[str, bytes]) -> None:
        """The vendor's own calls of its own tools go back to it; nothing else of a message does."""
        for name, raw in extensions.items():
            if name == SERVER_CALLS and self._own:
                _merge(out, "tool_calls", jsontools.loads(raw), f"messages.{name}")
            else:
                self._dropped.append(f"messages.{name}")


def write_request(request: ChatRequest, *, model: str, source: str) -> tuple[bytes, list[str]]:
    """See `dialect.Outbound.write_request`."""
    with json_of_callers():
        return Writer(request, own=source in ("", NAME)).body(model=model)


def _merge(out: Proto, name: str, value: Any, param: str) -> None:
    try:
        out.MergeFrom(ParseDict({name: value}, type(out)()))
    except ParseError:
        raise jsontools.invalid(f"{param} is not of the form that the vendor's contract gives it", param) from None
