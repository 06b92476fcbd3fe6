"""Items of a stream that is being written, before they are whole."""

from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Part, VendorState

HELD: Final = -1  # the place of a call that nobody has been told of
# Kind of an entry -> the member with its words, and the beginning of the names of its events.
ENTRIES: Final = {
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
    "summary_text": ("text", "response.reasoning_summary_text"),
}


@dataclass(slots=True)
class Entry:
    """An entry of a list of an item (`content`, `summary`) in the making."""

    kind: str
    index: int
    whole: dict[str, Any]
    pieces: list[str] = field(default_factory=list)


@dataclass(slots=True)
class OpenItem:
    """A message, or reasoning, in the making."""

    kind: str
    index: int
    whole: dict[str, Any]
    entry: Entry | None = None
    sealed: bool = False  # a state ended its last text
    carriers: list[Part] = field(default_factory=list)  # states of other dialects on its texts


@dataclass(slots=True)
class Call:
    """A call in the making."""

    index: int
    whole: dict[str, Any]
    pieces: list[str] = field(default_factory=list)
    state: VendorState | None = None
    done: bool = False


def part_event(kind: str) -> str:
    """How the names of the events begin that open and close an entry of a kind."""
    return "response.reasoning_summary_part" if kind == "summary_text" else "response.content_part"


def index_of(kind: str) -> str:
    """The member of events that says which entry of a kind they are about."""
    return "summary_index" if kind == "summary_text" else "content_index"


def call_event(whole: dict[str, Any]) -> str:
    """How the names of the events begin that say what a call is made with."""
    custom = whole["type"] == "custom_tool_call"
    return "response.custom_tool_call_input" if custom else "response.function_call_arguments"
