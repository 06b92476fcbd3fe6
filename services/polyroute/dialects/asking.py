"""What the dialects that only vendors speak share when they write a request and read a vendor's JSON."""

from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Part, Tool, ToolCall, ToolResult
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.dialects import jsontools
from polyroute.dialects.openai.common import made_call_id
from polyroute.mesh.errors import MeshError

_SAMPLING: Final = tuple(field.name for field in pb.Sampling.DESCRIPTOR.fields if field.name != "logit_bias")
_MOST: Final = 1 << 62  # beyond it a figure is no count of tokens
_NO_ARGUMENTS: Final = {"type": "object", "properties": {}}
# What reading a value of a type that the contract does not take raises; RecursionError for nesting.
WRONG_TYPES: Final = (TypeError, ValueError, AttributeError, KeyError, RecursionError)


def unsupported(message: str, param: str = "messages") -> MeshError:
    """Content of a request that a vendor's format cannot hold; another deployment may take it."""
    return MeshError.upstream(errors_pb2.FAULT_UNSUPPORTED, message, param=param)


def bad_answer(message: str) -> MeshError:
    """A vendor's answer that cannot be read."""
    return MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, message)


def reclassed(error: MeshError, fault: Fault.ValueType) -> MeshError:
    """The same error with another fault."""
    metadata = {name: value for name, value in error.metadata.items() if name != "fault"}
    return MeshError.upstream(fault, error.message, retry_after=error.retry_after, **metadata)


def text_of(value: object) -> str:
    """A text, or nothing."""
    return value if isinstance(value, str) else ""


def object_in(value: object) -> dict[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def objects_in(value: object) -> list[dict[str, Any]]:
    """The objects of a list; an object that stands alone counts as a list of one."""
    if isinstance(value, dict):
        return [value]
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def count_in(value: object) -> int:
    """A number of tokens or other units; 0 for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST:
        return int(value)
    return 0


class Calls:
    """The tool calls of a conversation as it is written: an id for each, and for each result the call it answers.

    Ids are made from the place of a call in the conversation, so that the same conversation gives the same ones.
    """

    def __init__(self) -> None:
        self._count = 0
        self._names: dict[str, str] = {}
        self._waiting: deque[str] = deque()  # made ids whose results name none

    def id_of(self, call: ToolCall) -> str:
        """The call's id, made where it has none."""
        self._count += 1
        call_id = call.id or made_call_id("conversation", self._count, call.name)
        self._names[call_id] = call.name
        if not call.id:
            self._waiting.append(call_id)
        return call_id

    def answered_by(self, result: ToolResult) -> tuple[str, str]:
        """Id and name of the call that a result answers; a name may be empty."""
        call_id = result.tool_call_id
        if not call_id and self._waiting:
            named = [waiting for waiting in self._waiting if self._names[waiting] == result.name]
            call_id = named[0] if named else self._waiting[0]
            self._waiting.remove(call_id)
        return call_id, result.name or self._names.get(call_id, "")


def put_sampling(request: ChatRequest, names: Mapping[str, str], out: dict[str, Any], dropped: list[str]) -> None:
    """Writes the sampling that a format has a name for, by that name; the rest is dropped."""
    sampling = request.sampling
    for name in _SAMPLING:
        if not sampling.HasField(name):  # type: ignore[arg-type] # a name out of the message's own description
            continue
        if name in names:
            out[names[name]] = getattr(sampling, name)
        else:
            dropped.append(name)
    if sampling.logit_bias:
        dropped.append("logit_bias")


def leave_out(request: ChatRequest, dropped: list[str], *, choices: bool = True, parallel: bool = True) -> None:
    """Names what no member can say: whose call it is, several answers, one call at a time.

    Args:
        request: The conversation.
        dropped: Gets the names.
        choices: The format cannot give several answers.
        parallel: The format cannot forbid several calls in one answer.
    """
    if request.user:
        dropped.append("user")
    if request.metadata:
        dropped.append("metadata")
    if choices and request.choices > 1:
        dropped.append("n")
    if parallel and request.HasField("parallel_tool_calls") and not request.parallel_tool_calls:
        dropped.append("parallel_tool_calls")


@contextmanager
def json_of_callers() -> Generator[None]:
    """Members that a caller gave as JSON (schemas, extensions) are refused when they are none."""
    try:
        yield
    except (ValueError, RecursionError):
        raise jsontools.invalid("a schema or an extension of the request is not valid JSON") from None


def put_extensions(
    extensions: Mapping[str, bytes], target: dict[str, Any], dropped: list[str], *, own: bool, where: str = ""
) -> None:
    """Adds extensions of the format itself, never over what is there; those of another format are dropped.

    Args:
        extensions: What the contract does not model.
        target: The JSON object they belong to.
        dropped: Gets the names of those that are not added.
        own: They are of this format.
        where: Prefix of those names, such as `messages.`.
    """
    for name in sorted(extensions):
        if not own:
            dropped.append(f"{where}{name}")
        elif name not in target:
            target[name] = jsontools.loads(extensions[name])


def function_of(tool: Tool, dropped: list[str], *, own: bool) -> dict[str, Any]:
    """A tool as `{"type": "function", "function": {...}}`, without `strict`.

    Raises:
        MeshError: FAULT_UNSUPPORTED for a tool that takes free text.
    """
    if tool.kind == pb.TOOL_KIND_CUSTOM:
        raise unsupported("a tool that takes free text cannot be offered to this vendor", "tools")
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    # vendors refuse a function without a schema
    function["parameters"] = jsontools.loads(tool.parameters) if tool.parameters else _NO_ARGUMENTS
    out = {"type": "function", "function": function}
    put_extensions(tool.extensions, out, dropped, own=own, where="tools.")
    return out


def strict_tools(request: ChatRequest) -> list[bool]:
    """For each tool whether its schema must be followed exactly."""
    return [tool.HasField("strict") and tool.strict for tool in request.tools]


def said(parts: Iterable[Part], who: str) -> str:
    """The text of parts that may be nothing else.

    Raises:
        MeshError: FAULT_UNSUPPORTED for any other part.
    """
    texts = []
    for part in parts:
        kind = part.WhichOneof("part")
        if kind not in ("text", "refusal"):
            raise unsupported(f"this vendor takes no {kind} in {who}")
        texts.append(part.text.text if kind == "text" else part.refusal.text)
    return "\n".join(texts) if len(texts) > 1 else "".join(texts)


def add_text(parts: list[Part], text: str) -> None:
    """Adds text to the last part if that is text too, as the pieces of a stream are put together."""
    if not text:
        return
    if parts and parts[-1].HasField("text") and not parts[-1].HasField("state"):
        parts[-1].text.text += text
    else:
        parts.append(Part(text=pb.TextPart(text=text)))
