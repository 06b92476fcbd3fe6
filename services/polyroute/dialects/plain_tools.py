"""Tools in namespaces and tools of the caller's machine, for vendors that have neither: functions, there and back.

A tool of a namespace goes by `namespace__name`, as Codex flattens such names where they cannot be told apart; a shell
and its like by the name of their type, with a schema. The names keep to what every vendor takes, and no two are the
same. A call comes back as one of the tool that the caller declared. Nothing is told from how a name looks: what it
stands for is looked up among the names that were given.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatRequest, ChatResponse, Tool, ToolCall, ToolCallDelta, ToolKind
from polyroute.api.modality.v1.modality_pb2 import CountTokensTask, Task
from polyroute.dialects import custom_tools, jsontools
from polyroute.dialects.dialect import BrokenStreamError, Outbound, SseEvent, StreamReader
from polyroute.dialects.machine_tools import MACHINE_TOOLS
from polyroute.dialects.wrapped import Wrapped

_LONGEST: Final = 64  # characters of a name, which vendors agree on
_REFUSED: Final = re.compile(r"[^a-zA-Z0-9_-]")
_LETTER: Final = re.compile(r"[a-zA-Z_]")
_TOOLS: Final = "tools"  # the extension with tools that the contract does not model
_NAMED: Final = ("function", "custom")
_KNOWING: Final = "openai.responses"  # the format that has such tools; what it lists beside them are its vendor's own
_LOCAL: Final = b'{"type":"local"}'


class Original(NamedTuple):
    """A tool as its caller declared it.

    Attributes:
        namespace: Empty when it has none.
        name: In its namespace.
        kind: One of the caller's machine, or FUNCTION for all others.
    """

    namespace: str
    name: str
    kind: ToolKind.ValueType

    @classmethod
    def of(cls, named: Tool | ToolCall) -> "Original":
        """The tool that is declared or called."""
        kind = named.kind if named.kind in MACHINE_TOOLS else pb.TOOL_KIND_FUNCTION
        return cls(named.namespace, named.name, kind)

    @property
    def plain(self) -> bool:
        """A vendor knows it as it is."""
        return not self.namespace and self.kind not in MACHINE_TOOLS


class _Names:
    """The names under which a vendor hears of tools; those of plain tools are their own."""

    def __init__(self, request: ChatRequest) -> None:
        self.originals: dict[str, Original] = {}
        self._given: dict[Original, str] = {}
        tools = [Original.of(tool) for tool in request.tools]
        self._taken = {tool.name for tool in tools if tool.plain}
        for tool in tools:
            self.of(tool)

    def of(self, tool: Original) -> str:
        """The name of a tool, which stays the same for a conversation."""
        if tool.plain:
            return tool.name
        if tool not in self._given:
            name, tries = _flat(tool), 0
            while name in self._taken:
                tries += 1
                name = _marked(_flat(tool), tool, tries)
            self._taken.add(name)
            self._given[tool] = name
            self.originals[name] = tool
        return self._given[tool]

    def chosen(self, name: str, namespace: str = "") -> str:
        """The name of the tool that a choice means; a tool that stands for itself comes first."""
        if not namespace and name in self._taken and name not in self.originals:
            return name
        found = (
            given
            for tool, given in self._given.items()
            if tool.name == name and (not namespace or tool.namespace == namespace)
        )
        return next(found, name)


def _flat(tool: Original) -> str:
    joined = f"{tool.namespace.rstrip('_')}__{tool.name.lstrip('_')}" if tool.namespace else tool.name
    clean = _REFUSED.sub("_", joined)
    clean = clean if _LETTER.match(clean) else f"_{clean}"
    return clean if clean == joined and len(clean) <= _LONGEST else _marked(clean, tool)


def _marked(name: str, *seed: object) -> str:
    """A name with a mark of what it stands for, where the name alone does not say it."""
    mark = hashlib.blake2b(repr(seed).encode(), digest_size=4).hexdigest()
    return f"{name[: _LONGEST - len(mark) - 1]}_{mark}"


def as_functions(request: ChatRequest, *, source: str, target: str) -> tuple[ChatRequest, Mapping[str, Original]]:
    """The conversation with functions in the place of its tools that vendors do not know, and what they stand for.

    Args:
        request: The conversation; not changed, and the answer itself when it has no such tool.
        source: Dialect the request came in; empty for a typed one.
        target: Dialect it will be written in.
    """
    if target == _KNOWING:
        return request, {}
    leftover = source == _KNOWING and _TOOLS in request.extensions
    if not leftover and not any(_is_new(tool) for tool in request.tools) and not any(_calls(request)):
        return request, {}
    changed = ChatRequest()
    changed.CopyFrom(request)
    if leftover:
        _name_leftover(changed)
    names = _Names(changed)
    for tool in changed.tools:
        _declare(tool, names)
    called: dict[str, str] = {}
    for call in _calls(changed):
        call.name = called[call.id] = names.of(Original.of(call))
        call.namespace = ""
        call.kind = pb.TOOL_KIND_FUNCTION if call.kind in MACHINE_TOOLS else call.kind
    for message in changed.messages:
        for part in message.parts:
            if part.HasField("tool_result") and part.tool_result.name and part.tool_result.tool_call_id in called:
                part.tool_result.name = called[part.tool_result.tool_call_id]
    _choose(changed.tool_choice, names)
    return changed, names.originals


def counted(task: Task) -> Task:
    """A task to count the tokens of a conversation, all its tools as functions; any other task as it is."""
    if not task.HasField("count_tokens"):
        return task
    chat, _ = as_functions(task.count_tokens.chat, source="", target="")
    chat, _ = custom_tools.as_functions(chat)
    return task if chat is task.count_tokens.chat else Task(count_tokens=CountTokensTask(chat=chat))


def _is_new(named: Tool | ToolCall) -> bool:
    return bool(named.namespace) or named.kind in MACHINE_TOOLS


def _calls(request: ChatRequest) -> Iterator[ToolCall]:
    """The calls of tools that vendors do not know."""
    for message in request.messages:
        if message.role == pb.ROLE_ASSISTANT:
            for part in message.parts:
                if part.HasField("tool_call") and _is_new(part.tool_call):
                    yield part.tool_call


def _declare(tool: Tool, names: _Names) -> None:
    """Says of a tool in words of functions what it is."""
    if not _is_new(tool):
        return
    original = Original.of(tool)
    told = MACHINE_TOOLS.get(tool.kind)
    if told:
        tool.kind = pb.TOOL_KIND_FUNCTION
        tool.parameters = tool.parameters or jsontools.dumps(told.schema)
        if tool.extensions.get("environment", b"") == _LOCAL:  # what a function is anyway
            del tool.extensions["environment"]
    said = (tool.description or (told.description if told else ""), tool.namespace_description)
    tool.description = "\n\n".join(filter(None, said))
    tool.name = names.of(original)
    tool.namespace = tool.namespace_description = ""


def _choose(choice: pb.ToolChoice, names: _Names) -> None:
    if choice.mode == pb.ToolChoice.MODE_NAMED:
        choice.name = names.chosen(choice.name)
    if not choice.raw:
        return
    value = _chosen(jsontools.loads(choice.raw), names)
    named = value.get(value.get("type")) if isinstance(value, dict) and value.get("type") in _NAMED else None
    if isinstance(named, dict):
        choice.raw, choice.mode, choice.name = b"", pb.ToolChoice.MODE_NAMED, named["name"]
    else:
        choice.raw = jsontools.dumps(value)


def _chosen(value: Any, names: _Names) -> Any:
    """A choice among tools by the names that the vendor knows, in the form of `openai.chat`."""
    if isinstance(value, list):
        return [_chosen(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    named = value.get(kind, value) if kind in _NAMED else None
    if isinstance(named, dict) and isinstance(named.get("name"), str):
        return {"type": kind, kind: {"name": names.chosen(named["name"], str(named.get("namespace") or ""))}}
    if value.keys() == {"type"} and isinstance(kind, str) and names.chosen(kind) in names.originals:
        return {"type": "function", "function": {"name": names.chosen(kind)}}
    return {name: _chosen(item, names) for name, item in value.items()}


def _name_leftover(request: ChatRequest) -> None:
    """Puts each tool that is another vendor's under a name of its own, by which it is told as dropped."""
    kept = jsontools.loads(request.extensions.pop(_TOOLS))
    for tool in kept if isinstance(kept, list) else ():
        for name in _left(tool, _TOOLS):
            request.extensions[name] = b"null"


def _left(tool: object, where: str) -> Iterator[str]:
    if not isinstance(tool, dict):
        return
    inner = tool.get("tools")
    if tool.get("type") == "namespace" and isinstance(inner, list):
        for one in inner:
            yield from _left(one, f"{where}.{tool.get('name')}")
    else:
        yield f"{where}.{tool.get('type')}"


class PlainTools(Wrapped):
    """A vendor's format that knows functions, as one in which the caller's own tools are called.

    Args:
        inner: The format.
        originals: What the names of functions stand for.
    """

    def __init__(self, inner: Outbound, originals: Mapping[str, Original]) -> None:
        super().__init__(inner)
        self._originals = originals

    def read_answer(self, body: bytes) -> ChatResponse:
        """A whole answer, with calls of the caller's tools."""
        response = self._inner.read_answer(body)
        for choice in response.choices:
            for part in choice.message.parts:
                if part.HasField("tool_call"):
                    _restore(part.tool_call, self._originals)
        return response

    def reader(self) -> StreamReader:
        """A reader for one stream, with calls of the caller's tools."""
        return _Reader(self._inner.reader(), self._originals)


def _restore(call: ToolCall | ToolCallDelta, originals: Mapping[str, Original]) -> None:
    original = originals.get(call.name)
    if original is None:
        return
    call.name, call.namespace = original.name, original.namespace
    if original.kind in MACHINE_TOOLS:
        call.kind = original.kind


class _Reader(StreamReader):
    def __init__(self, inner: StreamReader, originals: Mapping[str, Original]) -> None:
        self._inner = inner
        self._originals = originals

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        try:
            return self._restored(self._inner.feed(events))
        except BrokenStreamError as broken:
            broken.events = tuple(self._restored(broken.events))
            raise

    def finish(self) -> list[ChatEvent]:
        return self._restored(self._inner.finish())

    def _restored(self, events: Iterable[ChatEvent]) -> list[ChatEvent]:
        out = list(events)
        for event in out:
            if event.HasField("tool_call"):
                _restore(event.tool_call, self._originals)
        return out
