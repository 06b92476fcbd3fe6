"""What the models of a vendor refuse, as data: which requests have to change before they are sent, and how.

Each vendor's file has a table of `Traits`, each for the models whose ids match one of its patterns; those that match a
model are merged. They are applied in two ways: `apply` to a conversation in the contract's form, before it is written
in the vendor's dialect, and `edit` to the bytes of a client that speaks that dialect already.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from google.protobuf.message import Message as AnyMessage

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatRequest, Part
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import jsontools
from polyroute.mesh.errors import MeshError

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
NONE: Final = frozenset[str]()


def nothing() -> Mapping[str, Any]:
    """A default: no entries."""
    return NOTHING


# Parameters by the name that callers know, and where a conversation has them.
_PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "max_tokens": ("max_output_tokens",),
    "max_completion_tokens": ("max_output_tokens",),
    "n": ("choices",),
    "parallel_tool_calls": ("parallel_tool_calls",),
    "reasoning_effort": ("reasoning", "effort"),
    "response_format": ("response_format",),
    "stop": ("stop",),
    "tool_choice": ("tool_choice",),
    "user": ("user",),
    **{member.name: ("sampling", member.name) for member in pb.Sampling.DESCRIPTOR.fields},
}
_THINKING: Final = "reasoning_effort"


class Edited(NamedTuple):
    """A body that was changed for a vendor.

    Attributes:
        body: The bytes to send.
        dropped: Names of the members that were left out.
    """

    body: bytes
    dropped: list[str]


@dataclass(frozen=True)
class Edit:
    """A change of the outermost members of a JSON body.

    Attributes:
        drop: Members that are left out.
        rename: Members that the vendor calls otherwise; one that is there under its new name already keeps that value.
        put: Members that are set, as JSON.
    """

    drop: frozenset[str] = NONE
    rename: Mapping[str, str] = field(default_factory=nothing)
    put: Mapping[str, bytes] = field(default_factory=nothing)

    @cached_property
    def _named(self) -> re.Pattern[bytes] | None:
        names = frozenset({*self.drop, *self.rename})
        return jsontools.quoted(names) if names else None

    def apply(self, body: bytes) -> Edited:
        """The changed body, and which of `drop` it held; the same bytes when nothing has to change.

        Raises:
            MeshError: REASON_INVALID_REQUEST when the body is no JSON object.
        """
        if not self.put and (self._named is None or not jsontools.holds(body, self._named)):
            return Edited(body, [])
        members = jsontools.members_of(body)
        held = sorted(self.drop & members.keys())
        moved = {new: bytes(members[old]) for old, new in self.rename.items() if old in members and new not in members}
        gone = {*held, *(old for old in self.rename if old in members)}
        changes = {**moved, **self.put}
        if not gone and all(bytes(members.get(name, b"")) == value for name, value in changes.items()):
            return Edited(body, [])
        return Edited(jsontools.rewrite(body, changes, gone - changes.keys()), held)


UNCHANGED: Final = Edit()


@dataclass(frozen=True)
class Traits:
    """What some models refuse. Parameters go by their names in `openai.chat`, whatever the vendor's dialect.

    Attributes:
        models: Patterns (`*`, `?`, `[a-z]`) of upstream model ids, lower case; none means every model.
        refused: Parameters that these models refuse.
        refused_thinking: Parameters that they refuse while they think: when an effort other than `none` is asked for.
        thinks_unasked: They think when no effort is asked for.
        not_with: Parameter -> another, in whose presence the first is refused.
        renamed: Members of a client's body that these models know by another name.
        system: They take instructions; otherwise instructions are sent as the user's words.
        images: They take pictures: `any`, `data` (not by address) or `none`.
        audio: They take sound.
        files: They take documents.
        tools: They call tools.
        tools_in: The dialect in which they take tools, when it is not each of the vendor's.
        options: Dialect -> members of its `Options` for these models, where they differ from the vendor's.
    """

    models: tuple[str, ...] = ()
    refused: frozenset[str] = NONE
    refused_thinking: frozenset[str] = NONE
    thinks_unasked: bool = False
    not_with: Mapping[str, str] = field(default_factory=nothing)
    renamed: Mapping[str, str] = field(default_factory=nothing)
    system: bool = True
    images: str = "any"
    audio: bool = True
    files: bool = True
    tools: bool = True
    tools_in: str = ""
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=nothing)

    @property
    def plain(self) -> bool:
        """Whether no request has to change and none is refused."""
        return self is ANYTHING

    def apply(self, request: ChatRequest) -> tuple[ChatRequest, list[str]]:
        """The request as these models take it, and the names of parameters that were left out.

        The request itself is not changed: another attempt may need it. It is the answer when nothing has to change.

        Raises:
            MeshError: FAULT_UNSUPPORTED when content, not a mere parameter, would be lost; metadata `param`.
        """
        if self.plain:
            return request, []
        self._check(request)
        gone = sorted(name for name in self._unwanted(request) if _has(request, name))
        instructed = not self.system and any(message.role in _INSTRUCTIONS for message in request.messages)
        if not gone and not instructed:
            return request, []
        changed = ChatRequest()
        changed.CopyFrom(request)
        for name in gone:
            _clear(changed, name)
        if instructed:
            for message in changed.messages:
                if message.role in _INSTRUCTIONS:
                    message.role = pb.ROLE_USER
        return changed, gone

    def _unwanted(self, request: ChatRequest) -> Iterator[str]:
        yield from self.refused
        if self.refused_thinking and _thinks(request.reasoning.effort, unasked=self.thinks_unasked):
            yield from self.refused_thinking
        yield from (name for name, other in self.not_with.items() if _has(request, other))

    def _check(self, request: ChatRequest) -> None:
        if not self.tools and request.tools:
            raise _unsupported("this model calls no tools", "tools")
        if self.images == "any" and self.audio and self.files:
            return
        for number, message in enumerate(request.messages):
            for part in _parts(message.parts):
                self._check_part(part, f"messages[{number}].content")

    def _check_part(self, part: Part, where: str) -> None:
        kind = part.WhichOneof("part")
        if kind == "image" and self.images == "none":
            raise _unsupported("this model takes no pictures", where)
        if kind == "image" and self.images == "data" and part.image.media.WhichOneof("source") == "url":
            raise _unsupported("this model takes pictures as data, not by their address", where)
        if kind == "audio" and not self.audio:
            raise _unsupported("this model takes no sound", where)
        if kind == "file" and not self.files:
            raise _unsupported("this model takes no documents", where)

    def edit(self, body: bytes) -> Edited:
        """A client's body as these models take it, and the names of members that were left out.

        Raises:
            MeshError: REASON_INVALID_REQUEST when the body is no JSON object.
        """
        drop = self.refused
        if self.refused_thinking and _thinks(_effort(body), unasked=self.thinks_unasked):
            drop |= self.refused_thinking
        if self.not_with:
            drop |= {
                name
                for name, other in self.not_with.items()
                if b'"%b"' % other.encode() in body and other in _top(body)
            }
        return Edit(drop, self.renamed).apply(body)


ANYTHING: Final = Traits()
_INSTRUCTIONS: Final = frozenset({pb.ROLE_SYSTEM, pb.ROLE_DEVELOPER})


def merged(table: Iterable[Traits], model: str) -> Traits:
    """The traits of one model: all that match it, together; of single values the last that is not the default."""
    name = model.lower()
    found = [traits for traits in table if not traits.models or any(fnmatchcase(name, one) for one in traits.models)]
    if not found:
        return ANYTHING
    return Traits(
        refused=frozenset[str]().union(*(one.refused for one in found)),
        refused_thinking=frozenset[str]().union(*(one.refused_thinking for one in found)),
        thinks_unasked=any(one.thinks_unasked for one in found),
        not_with={name: other for one in found for name, other in one.not_with.items()},
        renamed={name: other for one in found for name, other in one.renamed.items()},
        system=all(one.system for one in found),
        images=min((one.images for one in found), key=("none", "data", "any").index),
        audio=all(one.audio for one in found),
        files=all(one.files for one in found),
        tools=all(one.tools for one in found),
        tools_in=next((one.tools_in for one in reversed(found) if one.tools_in), ""),
        options=_options(found),
    )


def _options(found: Iterable[Traits]) -> Mapping[str, Mapping[str, Any]]:
    options: dict[str, dict[str, Any]] = {}
    for traits in found:
        for dialect, members in traits.options.items():
            options.setdefault(dialect, {}).update(members)
    return options


def _unsupported(message: str, param: str) -> MeshError:
    return MeshError.upstream(errors_pb2.FAULT_UNSUPPORTED, message, param=param)


def _parts(parts: Iterable[Part]) -> Iterator[Part]:
    """The pieces of a message, those inside of tool results included."""
    for part in parts:
        yield part
        if part.HasField("tool_result"):
            yield from part.tool_result.parts


def _thinks(effort: str, *, unasked: bool) -> bool:
    return effort != "none" if effort else unasked


def _effort(body: bytes) -> str:
    """The effort that a body asks for, in either of OpenAI's ways; empty when it says nothing."""
    if b'"reasoning' not in body:
        return ""
    members = _top(body)
    value = jsontools.loads(bytes(members.get(_THINKING, b"null")))
    if value is None and "reasoning" in members:
        inner = jsontools.loads(bytes(members["reasoning"]))
        value = inner.get("effort") if isinstance(inner, dict) else None
    return value if isinstance(value, str) else ""


def _top(body: bytes) -> Mapping[str, Any]:
    return jsontools.members_of(body)


def _holder(request: ChatRequest, name: str) -> tuple[AnyMessage, str] | None:
    """The message that has a parameter, and its name there; None when only extensions can have it."""
    place = _PLACES.get(name)
    if place is None:
        return None
    holder: AnyMessage = request if len(place) == 1 else getattr(request, place[0])
    return holder, place[-1]


def _has(request: ChatRequest, name: str) -> bool:
    found = _holder(request, name)
    if found is None:
        return name in request.extensions
    holder, member = found
    if holder.DESCRIPTOR.fields_by_name[member].has_presence:
        return holder.HasField(member)
    return bool(getattr(holder, member))


def _clear(request: ChatRequest, name: str) -> None:
    found = _holder(request, name)
    if found is None:
        del request.extensions[name]
    else:
        found[0].ClearField(found[1])
