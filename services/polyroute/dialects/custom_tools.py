"""Tools that take free text, for vendors whose format has only functions: a declared mapping, there and back.

A custom tool becomes a function of the same name with one property, `input`; what its text has to look like, which such
vendors cannot enforce, is said in its description. A call of it comes back as a call of the custom tool, with the text
that stood in `input`, as it is made.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, ChatRequest, ChatResponse, Tool
from polyroute.dialects import jsontools
from polyroute.dialects.dialect import BrokenStreamError, Outbound, SseEvent, StreamReader
from polyroute.dialects.wrapped import Wrapped

INPUT: Final = "input"
SCHEMA: Final = {
    "type": "object",
    "properties": {INPUT: {"type": "string", "description": "What the tool takes: free text."}},
    "required": [INPUT],
    "additionalProperties": False,
}
FORMAT: Final = "custom.format"  # the extension that says what the text looks like
_SYNTAXES: Final = {"lark": "Lark grammar", "regex": "regular expression"}

_BEGIN: Final = re.compile(r'\s*\{\s*"input"\s*:\s*"')
# What of a JSON text's inside may be decoded by itself: no escape that is cut off, and no half of a surrogate pair.
_INSIDE: Final = re.compile(
    r'(?:[^"\\]|\\["\\/bfnrt]|\\u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}'
    r"|[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}))*"
)
_MOST_BEGINNING: Final = 64  # characters; what has not begun as agreed by then never will


def as_functions(request: ChatRequest) -> tuple[ChatRequest, frozenset[str]]:
    """The conversation with functions in the place of its custom tools, and their names.

    Args:
        request: The conversation; not changed, and the answer itself when it has no such tool.
    """
    names = frozenset(tool.name for tool in request.tools if tool.kind == pb.TOOL_KIND_CUSTOM)
    if not names and not any(_calls_custom(message) for message in request.messages):
        return request, names
    changed = ChatRequest()
    changed.CopyFrom(request)
    for tool in changed.tools:
        if tool.kind == pb.TOOL_KIND_CUSTOM:
            _declare(tool)
    for message in changed.messages:
        for part in message.parts:
            if _is_custom(part):
                call = part.tool_call
                call.kind = pb.TOOL_KIND_FUNCTION
                call.arguments = jsontools.dumps({INPUT: call.arguments}).decode()
    if changed.tool_choice.raw:
        changed.tool_choice.raw = jsontools.dumps(_as_function(jsontools.loads(changed.tool_choice.raw)))
    return changed, names


def _calls_custom(message: pb.Message) -> bool:
    return message.role == pb.ROLE_ASSISTANT and any(_is_custom(part) for part in message.parts)


def _is_custom(part: pb.Part) -> bool:
    return part.HasField("tool_call") and part.tool_call.kind == pb.TOOL_KIND_CUSTOM


def _declare(tool: Tool) -> None:
    tool.kind = pb.TOOL_KIND_FUNCTION
    tool.parameters = jsontools.dumps(SCHEMA)
    form = jsontools.loads(tool.extensions.pop(FORMAT, b"null"))
    tool.description = "\n\n".join(filter(None, (tool.description, _in_words(form))))


def _in_words(form: object) -> str:
    """What a tool's text has to look like, for the model; empty when it may be anything."""
    inner = form.get("grammar") if isinstance(form, Mapping) else None
    if not isinstance(inner, Mapping):
        return ""
    syntax = str(inner.get("syntax", ""))
    named = _SYNTAXES.get(syntax, f"grammar ({syntax})" if syntax else "grammar")
    return f"`{INPUT}` must match this {named}:\n{inner.get('definition', '')}"


def _as_function(choice: Any) -> Any:
    """A choice among tools that names custom ones, in words for functions."""
    if isinstance(choice, list):
        return [_as_function(item) for item in choice]
    if not isinstance(choice, dict):
        return choice
    if choice.get("type") == "custom" and isinstance(choice.get("custom"), dict):
        return {"type": "function", "function": choice["custom"]}
    return {name: _as_function(item) for name, item in choice.items()}


def text_in(arguments: str) -> str:
    """The text in a function's arguments: that of `input`, of the only member, or all of them when they are no such."""
    try:
        value = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return arguments
    if isinstance(value, dict):
        found = value.get(INPUT, next(iter(value.values())) if len(value) == 1 else None)
        if isinstance(found, str):
            return found
    return value if isinstance(value, str) else arguments


class TextInArguments:
    """Takes the text out of a function's arguments as they come, in pieces that may end anywhere."""

    def __init__(self) -> None:
        self._held = ""  # not decoded yet; before the text has begun, all of it
        self._inside = False
        self._other = False  # they do not begin as agreed: they are read when they are whole
        self._over = False

    def feed(self, piece: str) -> str:
        """More of the text."""
        if self._over:
            return ""
        self._held += piece
        if not self._inside and not self._other:
            self._begin()
        return self._decoded() if self._inside else ""

    def close(self) -> str:
        """The rest of it."""
        if self._inside or self._over:
            return ""  # cut off: what cannot be decoded is no text
        held, self._held = self._held, ""
        return text_in(held) if held.strip() else ""

    def _begin(self) -> None:
        found = _BEGIN.match(self._held)
        if found is not None:
            self._inside = True
            self._held = self._held[found.end() :]
        elif len(self._held) > _MOST_BEGINNING:
            self._other = True

    def _decoded(self) -> str:
        found = _INSIDE.match(self._held)
        end = found.end() if found else 0
        inside, self._held = self._held[:end], self._held[end:]
        if self._held.startswith('"'):
            self._over, self._inside, self._held = True, False, ""
        return _unescaped(inside)


def _unescaped(inside: str) -> str:
    if "\\" not in inside:
        return inside
    # JSON forbids bare control characters in a text, models write them all the same
    clean = re.sub(r"[\x00-\x1f]", lambda found: f"\\u{ord(found[0]):04x}", inside)
    return str(orjson.loads(f'"{clean}"'))


class CustomTools(Wrapped):
    """A vendor's format without custom tools, as one that has them: calls of these names are calls of such tools.

    Args:
        inner: The format.
        names: Of the tools.
    """

    def __init__(self, inner: Outbound, names: frozenset[str]) -> None:
        super().__init__(inner)
        self._names = names

    def read_answer(self, body: bytes) -> ChatResponse:
        """A whole answer, with calls of custom tools."""
        response = self._inner.read_answer(body)
        for choice in response.choices:
            for part in choice.message.parts:
                if part.HasField("tool_call") and part.tool_call.name in self._names:
                    part.tool_call.kind = pb.TOOL_KIND_CUSTOM
                    part.tool_call.arguments = text_in(part.tool_call.arguments)
        return response

    def reader(self) -> StreamReader:
        """A reader for one stream, with calls of custom tools."""
        return _Reader(self._inner.reader(), self._names)


class _Reader(StreamReader):
    def __init__(self, inner: StreamReader, names: frozenset[str]) -> None:
        self._inner = inner
        self._names = names
        self._open: dict[tuple[int, int], TextInArguments] = {}

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        try:
            return self._restored(self._inner.feed(events))
        except BrokenStreamError as broken:
            broken.events = tuple(self._restored(broken.events))
            raise

    def finish(self) -> list[ChatEvent]:
        return [*self._restored(self._inner.finish()), *self._rest()]

    def _restored(self, events: Iterable[ChatEvent]) -> list[ChatEvent]:
        out: list[ChatEvent] = []
        for event in events:
            if event.HasField("tool_call"):
                self._call(event)
                call = event.tool_call
                if not (call.arguments or call.name or call.id or call.HasField("state") or event.extensions):
                    continue
            elif event.HasField("finished"):
                out += self._rest(event.choice)
            out.append(event)
        return out

    def _call(self, event: ChatEvent) -> None:
        call = event.tool_call
        place = event.choice, call.index
        if call.name in self._names and place not in self._open:
            call.kind = pb.TOOL_KIND_CUSTOM
            self._open[place] = TextInArguments()
        if place in self._open:
            call.arguments = self._open[place].feed(call.arguments)

    def _rest(self, choice: int | None = None) -> list[ChatEvent]:
        """What calls that ended in another form than agreed have still to say."""
        out: list[ChatEvent] = []
        for place in [place for place in self._open if choice is None or place[0] == choice]:
            text = self._open.pop(place).close()
            if text:
                out.append(ChatEvent(choice=place[0], tool_call=pb.ToolCallDelta(index=place[1], arguments=text)))
        return out
