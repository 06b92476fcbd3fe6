"""Items of a stream that is being read, before they are whole.

Vendors repeat themselves: a piece of a text comes, then the whole text, then the whole item, and all items once more at
the end; any of these may be missing. So what has been said of an item is remembered, and a whole adds only the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, Part
from polyroute.dialects.responses import actions, answer, items
from polyroute.dialects.responses.common import (
    SEPARATOR,
    arguments_of,
    bad_answer,
    carried,
    objects,
    state_of,
    text_of,
    told,
)

_MOST_SEPARATORS: Final = 16

Key = tuple[str, int]  # of a text in an item: the list or member in which it stands, and which entry of it


@dataclass(slots=True)
class Progress:
    """How far an answer has been told, which all of its items share.

    Attributes:
        out: The steps of the batch at hand.
        id: The answer's id; empty until it has begun.
        calls: How many of its calls have been announced.
        cited: What its texts cite.
        heard: Sound has come in pieces.
        heard_words: And its transcript.
    """

    out: list[ChatEvent] = field(default_factory=list)
    id: str = ""
    calls: int = 0
    cited: list[dict[str, Any]] = field(default_factory=list)
    heard: bool = False
    heard_words: bool = False


@dataclass(slots=True)
class Item:
    """An item in the making; what it says goes into the answer's steps."""

    progress: Progress
    index: int
    kind: str
    value: Mapping[str, Any]  # as last told
    call: int = -1  # which of the answer's calls; -1 until its name is known
    said: dict[Key, list[str]] = field(default_factory=dict)
    entries: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # of `content`, as last told
    notes: dict[int, list[Any]] = field(default_factory=dict)  # annotations that came one by one
    last: Key | None = None  # the text that was said last
    weighed: bool = False  # log probabilities have come
    done: bool = False

    def announce(self) -> None:
        """The first piece of a call, once it has a name."""
        if self.kind not in items.CALLS or self.call >= 0 or not self.value.get("name"):
            return
        self.call = self.progress.calls
        self.progress.calls += 1
        step = items.read_call({"type": self.kind, **self.value}, (self.progress.id, self.index)).tool_call
        delta = pb.ToolCallDelta(index=self.call, id=step.id, name=step.name, kind=step.kind, namespace=step.namespace)
        self.progress.out.append(ChatEvent(tool_call=delta))

    def weigh(self, tokens: object) -> None:
        """Says the log probabilities of its text, if these are any."""
        if isinstance(tokens, list) and tokens:
            self.weighed = True
            self.progress.out.append(ChatEvent(logprobs=answer.logprobs_of(tokens)))

    def rest(self, key: Key, whole: object) -> None:
        """Says what of a whole text has not been said."""
        text = arguments_of(whole) if key[0] == "arguments" else text_of(whole)
        said = "".join(self.said.get(key, ()))
        if text.startswith(said) and (len(text) > len(said) or key not in self.said):
            self.say(key, text[len(said) :])

    def say(self, key: Key, text: str) -> None:
        """Says a piece of a text, and remembers it."""
        place = key[0]
        if place == "arguments":
            if self.call < 0:
                return  # nobody knows yet whose they are; they come whole with the item
            if text:
                self.progress.out.append(ChatEvent(tool_call=pb.ToolCallDelta(index=self.call, arguments=text)))
        elif place in ("content", "summary"):
            self._think(key, text)
        else:
            if self.last and self.last != key:
                self._seal_text({"id": self.value.get("id")})
            if place == "text":
                self.progress.out.append(ChatEvent(text=pb.TextDelta(text=text)))
            else:
                self.progress.out.append(ChatEvent(refusal=pb.RefusalDelta(text=text)))
        self.said.setdefault(key, []).append(text)
        self.last = key

    def _think(self, key: Key, text: str) -> None:
        place, index = key
        before = max((number for name, number in self.said if name == place), default=0)
        gap = SEPARATOR * min(max(0, index - before), _MOST_SEPARATORS)
        if gap or text:
            self.progress.out.append(
                ChatEvent(reasoning=pb.ReasoningDelta(text=gap + text, summary=place == "summary"))
            )

    def say_entry(self, index: int, part: Mapping[str, Any]) -> None:
        """Says an entry of `content` that is no text: sound, or one that the contract does not model; once."""
        key = ("other", index)
        if self.kind != "message" or key in self.said:
            return
        self._seal_text({"id": self.value.get("id")})
        self.said[key] = []
        self.last = key
        told = items.read_content_part(part)
        if told.HasField("audio"):
            self._sound(told.audio)
        else:
            self.progress.out.append(ChatEvent(reasoning=pb.ReasoningDelta(state=told.state)))

    def _sound(self, whole: pb.AudioPart) -> None:
        """Says of whole sound what has not come in pieces."""
        step = pb.AudioDelta()
        if not self.progress.heard:
            step.data = whole.media.data
        if not self.progress.heard_words:
            step.transcript = whole.transcript
        self.progress.heard = self.progress.heard_words = False
        if step.data or step.transcript:
            self.progress.out.append(ChatEvent(audio=step))

    def _seal_text(self, outer: Mapping[str, Any]) -> None:
        """Ends the text that was said last with what its message and its entry say beyond it."""
        if not self.last or self.last[0] != "text":
            return
        index = self.last[1]
        entry = dict(self.entries.get(index, {}))
        entry.pop("logprobs", None)
        if self.notes.get(index) and not entry.get("annotations"):
            entry["annotations"] = self.notes[index]
        part = Part(text=pb.TextPart())
        items.seal(part, told(outer), entry)
        self.progress.cited += answer.cited_in(entry.get("annotations"))
        if part.HasField("state"):
            self.progress.out.append(ChatEvent(text=pb.TextDelta(state=part.state)))

    def close(self, whole: Mapping[str, Any]) -> None:
        """Says what is missing of an item now that it is whole, and seals it.

        Raises:
            MeshError: FAULT_BAD_ANSWER for a call that has no name.
        """
        if self.done:
            return
        self.kind = kind_in(whole) or self.kind
        if self.kind == "message":
            self._close_message(whole)
        elif self.kind in items.CALLS:
            self._close_call(whole)
        elif self.kind == items.REASONING:
            self._close_reasoning(whole)
        elif self.kind in actions.OF_CALL:
            self._close_action(whole)
        else:
            self._close_other(whole)
        self.value = whole
        self.done = True

    def _close_message(self, whole: Mapping[str, Any]) -> None:
        content = whole.get("content")
        if isinstance(content, str):
            content = [{"type": "output_text", "text": content}]
        entries = [(items.read_content_part(entry), entry) for entry in objects(content)]
        places = [
            "other" if part.HasField("state") or part.HasField("audio") else part.WhichOneof("part") or ""
            for part, _ in entries
        ]
        keys = _keys(places, self.said)
        for key, (part, entry) in zip(keys, entries, strict=True):
            if part.HasField("text"):
                self.entries[key[1]] = entry
                self.rest(key, part.text.text)
                if not self.weighed:
                    self.weigh(entry.get("logprobs"))
            elif part.HasField("refusal"):
                self.rest(key, part.refusal.text)
            else:
                self.say_entry(key[1], entry)
        self._seal_text(items.item_state(whole))

    def _close_call(self, whole: Mapping[str, Any]) -> None:
        self.value = {**whole, "type": self.kind}
        self.announce()
        if self.call < 0:
            raise bad_answer("the provider sent a call without a name")
        self.rest(("arguments", 0), whole.get(items.CALLS[self.kind]))
        state = items.call_state(self.value)
        if state:
            sealed = pb.ToolCallDelta(index=self.call, state=state_of(self.kind, state))
            self.progress.out.append(ChatEvent(tool_call=sealed))

    def _close_reasoning(self, whole: Mapping[str, Any]) -> None:
        for place in ("summary", "content"):
            texts = items.texts_of(whole.get(place))
            said = "".join(piece for key, pieces in self.said.items() if key[0] == place for piece in pieces)
            # cut into other paragraphs than it was said in, it is still the same
            if any(texts) and said not in ("".join(texts), SEPARATOR.join(texts)):
                for key, text in zip(_keys([place] * len(texts), self.said), texts, strict=True):
                    self.rest(key, text)
        kept = carried(whole.get("encrypted_content"))
        step = pb.ReasoningDelta(state=state_of(items.REASONING, items.reasoning_state(whole)))
        if kept:
            step = pb.ReasoningDelta(redacted=kept.reasoning.redacted, state=kept.state)
        self.progress.out.append(ChatEvent(reasoning=step))

    def _close_action(self, whole: Mapping[str, Any]) -> None:
        (part,) = items.read_item(whole, ())
        if not part.HasField("tool_call"):  # it runs at the vendor
            self._close_other(whole)
            return
        call = part.tool_call
        self.call = self.progress.calls
        self.progress.calls += 1
        step = pb.ToolCallDelta(
            index=self.call, id=call.id, name=call.name, arguments=call.arguments, kind=call.kind, state=part.state
        )
        self.progress.out.append(ChatEvent(tool_call=step))

    def _close_other(self, whole: Mapping[str, Any]) -> None:
        for part in items.read_item(whole, ()):
            if part.HasField("image"):
                self.progress.out.append(ChatEvent(image=part.image))
            else:
                self.progress.out.append(ChatEvent(reasoning=pb.ReasoningDelta(state=part.state)))


def _keys(places: list[str], said: Mapping[Key, list[str]]) -> list[Key]:
    """Under which keys the entries of a whole item were said, since some vendors count them from another number."""
    keys = [(place, index) for index, place in enumerate(places)]
    for place in set(places):
        theirs = [key for key in said if key[0] == place]
        mine = [key for key in keys if key[0] == place]
        if len(theirs) == len(mine) and theirs != mine:
            moved = dict(zip(mine, sorted(theirs), strict=True))
            keys = [moved.get(key, key) for key in keys]
    return keys


def kind_in(item: Mapping[str, Any]) -> str:
    """The kind of an item as a vendor tells it; a message may leave it out."""
    return text_of(item.get("type")) or ("message" if "role" in item else "")
