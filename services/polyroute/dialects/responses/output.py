"""The output of an answer that is being written: items, their entries, and the numbered events that tell of both."""

from typing import Any, Final

from polyroute.api.chat.v1.chat_pb2 import Part
from polyroute.dialects import jsontools
from polyroute.dialects.responses.common import carry, made_id, text_of
from polyroute.dialects.responses.drafts import ENTRIES, Call, Entry, OpenItem, index_of, part_event

_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "custom_tool_call": "ctc",
    "local_shell_call": "lsh",
    "shell_call": "sh",
    "apply_patch_call": "apc",
}


class Output:
    """What goes out of one answer.

    Attributes:
        answer_id: The answer's id, of which ids of items are made; empty until it has begun.
        items: The items that have been announced, which the answer's last event holds once more.
        events: Events that nobody has taken yet.
    """

    def __init__(self) -> None:
        self.answer_id = ""
        self.items: list[dict[str, Any]] = []
        self.events: list[bytes] = []
        self._sequence = 0

    def emit(self, kind: str, **members: Any) -> None:
        """Sends an event."""
        members = {"type": kind, "sequence_number": self._sequence, **members}
        self._sequence += 1
        self.events.append(b"event: " + kind.encode() + b"\ndata: " + jsontools.dumps(members) + b"\n\n")

    def about(self, opened: OpenItem | Call, kind: str, **members: Any) -> None:
        """Sends an event about an item."""
        self.emit(kind, item_id=opened.whole["id"], output_index=opened.index, **members)

    def new_id(self, kind: str, known: object) -> str:
        """The id of the item that comes next: the one that is `known`, or one that is made."""
        return text_of(known) or made_id(_PREFIXES.get(kind, "item"), self.answer_id, len(self.items))

    def announce(self, whole: dict[str, Any]) -> int:
        """Tells of a new item; its place."""
        self.items.append(whole)
        index = len(self.items) - 1
        self.emit("response.output_item.added", output_index=index, item=dict(whole))
        return index

    def open_entry(self, opened: OpenItem, kind: str) -> Entry:
        """Opens an entry of an item, after the one before it."""
        self.close_entry(opened)
        place = "summary" if kind == "summary_text" else "content"
        listed = opened.whole.setdefault(place, [])
        whole: dict[str, Any] = {"type": kind, ENTRIES[kind][0]: ""}
        if kind == "output_text":
            whole |= {"annotations": [], "logprobs": []}
        entry = Entry(kind, len(listed), whole)
        listed.append(whole)
        opened.entry, opened.sealed = entry, False
        self.about(opened, f"{part_event(kind)}.added", **{index_of(kind): entry.index}, part=dict(whole))
        return entry

    def close_entry(self, opened: OpenItem) -> None:
        """Closes the entry of an item that is open, if one is."""
        entry = opened.entry
        if entry is None:
            return
        opened.entry = None
        member, name = ENTRIES[entry.kind]
        entry.whole[member] = text = "".join(entry.pieces)
        place = {index_of(entry.kind): entry.index}
        tokens = {"logprobs": entry.whole["logprobs"]} if entry.kind == "output_text" else {}
        self.about(opened, f"{name}.done", **place, **{member: text}, **tokens)
        self.about(opened, f"{part_event(entry.kind)}.done", **place, part=entry.whole)

    def add_entry(self, opened: OpenItem, whole: dict[str, Any]) -> None:
        """Adds an entry of a message that comes all at once."""
        self.close_entry(opened)
        listed = opened.whole["content"]
        place = len(listed)
        listed.append(whole)
        for event in ("added", "done"):
            self.about(opened, f"response.content_part.{event}", content_index=place, part=whole)

    def carry(self, part: Part) -> None:
        """Adds a state of another dialect, in an item of its own that clients send back as they got it."""
        whole = {
            "id": self.new_id("reasoning", ""),
            "type": "reasoning",
            "summary": [],
            "encrypted_content": carry(part),
        }
        index = self.announce(whole)
        self.emit("response.output_item.done", output_index=index, item=whole)
