"""`openai.responses` streams into steps of an answer.

An event says to which item it belongs by `output_index`, and vendors agree on nothing else: ids change between the
first and the last mention of an item, pieces may be missing where the whole follows, the last event may list no items
or one that was never announced. So what has been said of an item is remembered, and every event that holds a whole
adds only what is missing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent, Part
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults, jsontools, sse
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import take_apart
from polyroute.dialects.openai.chat_answer import seconds_of
from polyroute.dialects.responses import answer, items
from polyroute.dialects.responses.common import (
    SEPARATOR,
    UNFINISHED,
    arguments_of,
    bad_answer,
    carried,
    check_answer,
    finish_of,
    objects,
    state_of,
    text_of,
    told,
    usage_from,
)
from polyroute.mesh.errors import MeshError

TERMINAL: Final = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
_BEGINNING: Final = frozenset({"response.created", "response.in_progress", "response.queued"})
_MOST_SEPARATORS: Final = 16


class _Said(NamedTuple):
    """What an event with text is about.

    Attributes:
        item: The kind of its item.
        place: The list or member in which the text stands.
        number: The event's member that says which entry of the list; empty when it is no list.
        whole: The member of the closing event that holds the whole text.
    """

    item: str
    place: str
    number: str
    whole: str


_TEXTS: Final[Mapping[str, _Said]] = {
    "response.output_text": _Said("message", "text", "content_index", "text"),
    "response.refusal": _Said("message", "refusal", "content_index", "refusal"),
    "response.reasoning_text": _Said("reasoning", "content", "content_index", "text"),
    "response.reasoning": _Said("reasoning", "content", "content_index", "text"),
    "response.reasoning_summary_text": _Said("reasoning", "summary", "summary_index", "text"),
    "response.function_call_arguments": _Said("function_call", "arguments", "", "arguments"),
    "response.custom_tool_call_input": _Said("custom_tool_call", "arguments", "", "input"),
}
_DELTAS: Final = {f"{name}.delta": said for name, said in _TEXTS.items()}
_WHOLES: Final = {f"{name}.done": said for name, said in _TEXTS.items()}


@dataclass(slots=True)
class _Item:
    """An item in the making."""

    index: int
    kind: str
    item: Mapping[str, Any]  # as last told
    call: int = -1  # which of the answer's calls; -1 until its name is known
    said: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    entries: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # of `content`, as last told
    notes: dict[int, list[Any]] = field(default_factory=dict)  # annotations that came one by one
    last: tuple[str, int] | None = None  # the text that was said last
    weighed: bool = False  # log probabilities have come
    done: bool = False


class ResponsesReader:
    """Reads one stream; see `dialect.StreamReader`."""

    def __init__(self) -> None:
        self._id = ""
        self._started = False
        self._done = False
        self._calls = 0
        self._items: dict[int, _Item] = {}
        self._cited: list[dict[str, Any]] = []
        self._heard = False  # sound has come in pieces
        self._heard_words = False  # and its transcript
        self._out: list[ChatEvent] = []
        self._handlers: Final[Mapping[str, Callable[[dict[str, Any]], None]]] = {
            "response.output_item.added": self._added,
            "response.output_item.done": self._item_done,
            "response.content_part.added": self._entry,
            "response.content_part.done": self._entry_done,
            "response.output_text.annotation.added": self._annotation,
            "response.audio.delta": self._hear,
            "response.audio.transcript.delta": self._hear_words,
        }

    def feed(self, events: list[SseEvent]) -> list[ChatEvent]:
        """Reads one batch; see `dialect.StreamReader`."""
        out: list[ChatEvent] = []
        self._out = out
        try:
            for name, data in events:
                if self._done:
                    break
                self._event(name, data)
        except MeshError as error:
            raise BrokenStreamError.of(error, events=out) from None
        except (TypeError, ValueError, AttributeError) as error:  # a member of a type that the contract does not take
            raise BrokenStreamError.of(bad_answer("the provider sent an event of a wrong form"), events=out) from error
        return out

    def finish(self) -> list[ChatEvent]:
        """Nothing more; see `dialect.StreamReader`."""
        if not self._done:
            raise MeshError.upstream(
                errors_pb2.FAULT_TRUNCATED, "the provider's stream ended before the answer was complete"
            )
        return []

    def _event(self, name: str, data: bytes) -> None:
        if data.strip() == sse.DONE:  # some vendors add it; the end was said before it, or never
            return
        try:
            event = jsontools.loads(data)
        except ValueError:
            raise bad_answer("the provider sent broken JSON in its stream") from None
        if not isinstance(event, dict):
            raise bad_answer("the provider sent an event that is no object")
        kind = event.get("type") or name
        said = _DELTAS.get(kind) if isinstance(kind, str) else None
        if said:
            self._delta(event, said)
        elif kind == "error" or (not kind and event.get("error")):
            raise faults.fault_in(event)
        elif not kind:
            self._whole(event)
        else:
            self._other(kind, event)

    def _other(self, kind: str, event: dict[str, Any]) -> None:
        if kind in _WHOLES:
            self._text_done(event, _WHOLES[kind])
        elif kind in _BEGINNING:
            self._begin(event.get("response"))
        elif kind in TERMINAL:
            self._end(event, TERMINAL[kind])
        elif kind in self._handlers:
            self._handlers[kind](event)

    def _begin(self, response: object) -> None:
        if self._started or not isinstance(response, dict):
            return
        self._started = True
        self._id = response.get("id") or ""
        start = pb.AnswerStart(
            id=self._id, model=response.get("model") or "", create_time=seconds_of(response.get("created_at"))
        )
        self._out.append(ChatEvent(start=start))

    def _whole(self, value: dict[str, Any]) -> None:
        """An answer that came whole where a stream was asked for."""
        check_answer(value)
        self._out += take_apart(answer.response_of(value))
        self._done = True

    def _added(self, event: dict[str, Any]) -> None:
        item = _object(event.get("item"))
        index = event.get("output_index")
        if not isinstance(index, int):
            index = max(self._items, default=-1) + 1
        if index not in self._items:
            self._items[index] = _Item(index, _kind_of(item), item)
        else:
            self._items[index].item = item
        self._announce(self._items[index])

    def _announce(self, item: _Item) -> None:
        """The first piece of a call, once it has a name."""
        if item.kind not in items.CALLS or item.call >= 0 or not item.item.get("name"):
            return
        item.call = self._calls
        self._calls += 1
        step = items.read_call({"type": item.kind, **item.item}, (self._id, item.index)).tool_call
        delta = pb.ToolCallDelta(index=item.call, id=step.id, name=step.name, kind=step.kind)
        self._out.append(ChatEvent(tool_call=delta))

    def _find(self, event: dict[str, Any], kind: str) -> _Item:
        """The item of an event: by its place, by its id, the last one of its kind; else one never announced."""
        index = event.get("output_index")
        if isinstance(index, int):
            return self._items.get(index) or self._new(index, kind)
        its_id = event.get("item_id") or _id_of(event.get("item"))
        alike = [item for item in self._items.values() if item.kind == kind]
        for item in reversed(alike):
            if its_id and item.item.get("id") == its_id:
                return item
        for item in reversed(alike):
            if not item.done:
                return item
        return self._new(max(self._items, default=-1) + 1, kind)

    def _new(self, index: int, kind: str) -> _Item:
        item = self._items[index] = _Item(index, kind, {})
        return item

    def _delta(self, event: dict[str, Any], said: _Said) -> None:
        item = self._find(event, said.item)
        text = event.get("delta")
        if text and not item.done:
            self._say(item, (said.place, _index(event, said.number)), text)
        if event.get("logprobs"):
            self._weigh(item, event["logprobs"])

    def _weigh(self, item: _Item, tokens: object) -> None:
        if isinstance(tokens, list) and tokens:
            item.weighed = True
            self._out.append(ChatEvent(logprobs=answer.logprobs_of(tokens)))

    def _text_done(self, event: dict[str, Any], said: _Said) -> None:
        item = self._find(event, said.item)
        if not item.done:
            self._rest(item, (said.place, _index(event, said.number)), event.get(said.whole))
        if not item.weighed:
            self._weigh(item, event.get("logprobs"))

    def _rest(self, item: _Item, key: tuple[str, int], whole: object) -> None:
        """Says what of a whole text has not been said."""
        text = arguments_of(whole) if key[0] == "arguments" else text_of(whole)
        said = "".join(item.said.get(key, ()))
        if text.startswith(said) and (len(text) > len(said) or key not in item.said):
            self._say(item, key, text[len(said) :])

    def _say(self, item: _Item, key: tuple[str, int], text: str) -> None:
        place = key[0]
        if place == "arguments":
            if item.call < 0:
                return  # nobody knows yet whose they are; they come whole with the item
            if text:
                self._out.append(ChatEvent(tool_call=pb.ToolCallDelta(index=item.call, arguments=text)))
        elif place in ("content", "summary"):
            self._think(item, key, text)
        else:
            if item.last and item.last != key:
                self._seal_text(item, {"id": item.item.get("id")})
            if place == "text":
                self._out.append(ChatEvent(text=pb.TextDelta(text=text)))
            else:
                self._out.append(ChatEvent(refusal=pb.RefusalDelta(text=text)))
        item.said.setdefault(key, []).append(text)
        item.last = key

    def _think(self, item: _Item, key: tuple[str, int], text: str) -> None:
        place, index = key
        before = max((number for name, number in item.said if name == place), default=0)
        gap = SEPARATOR * min(max(0, index - before), _MOST_SEPARATORS)
        if gap or text:
            self._out.append(ChatEvent(reasoning=pb.ReasoningDelta(text=gap + text, summary=place == "summary")))

    def _entry(self, event: dict[str, Any]) -> None:
        part = event.get("part")
        if isinstance(part, dict) and part.get("type") in ("output_text", "text"):
            self._find(event, "message").entries[_index(event, "content_index")] = part

    def _entry_done(self, event: dict[str, Any]) -> None:
        part = event.get("part")
        if isinstance(part, dict) and items.is_opaque_entry(part):
            self._say_entry(self._find(event, "message"), _index(event, "content_index"), part)
        else:
            self._entry(event)

    def _say_entry(self, item: _Item, index: int, part: Mapping[str, Any]) -> None:
        """An entry of `content` that is no text: sound, or one that the contract does not model; once."""
        key = ("other", index)
        if item.kind != "message" or key in item.said:
            return
        self._seal_text(item, {"id": item.item.get("id")})
        item.said[key] = []
        item.last = key
        told = items.read_content_part(part)
        if told.HasField("audio"):
            self._sound(told.audio)
        else:
            self._out.append(ChatEvent(reasoning=pb.ReasoningDelta(state=told.state)))

    def _hear(self, event: dict[str, Any]) -> None:
        """A piece of sound; its events name no item."""
        data = jsontools.unpacked(text_of(event.get("delta")))
        if data:
            self._heard = True
            self._out.append(ChatEvent(audio=pb.AudioDelta(data=data)))

    def _hear_words(self, event: dict[str, Any]) -> None:
        """A piece of what is said."""
        words = text_of(event.get("delta"))
        if words:
            self._heard_words = True
            self._out.append(ChatEvent(audio=pb.AudioDelta(transcript=words)))

    def _sound(self, whole: pb.AudioPart) -> None:
        """Says of whole sound what has not come in pieces."""
        step = pb.AudioDelta()
        if not self._heard:
            step.data = whole.media.data
        if not self._heard_words:
            step.transcript = whole.transcript
        self._heard = self._heard_words = False
        if step.data or step.transcript:
            self._out.append(ChatEvent(audio=step))

    def _annotation(self, event: dict[str, Any]) -> None:
        item = self._find(event, "message")
        item.notes.setdefault(_index(event, "content_index"), []).append(event.get("annotation"))

    def _seal_text(self, item: _Item, outer: Mapping[str, Any]) -> None:
        """Ends the text that was said last with what its message and its entry say beyond it."""
        if not item.last or item.last[0] != "text":
            return
        index = item.last[1]
        entry = dict(item.entries.get(index, {}))
        entry.pop("logprobs", None)
        if item.notes.get(index) and not entry.get("annotations"):
            entry["annotations"] = item.notes[index]
        part = Part(text=pb.TextPart())
        items.seal(part, told(outer), entry)
        self._cited += answer.cited_in(entry.get("annotations"))
        if part.HasField("state"):
            self._out.append(ChatEvent(text=pb.TextDelta(state=part.state)))

    def _item_done(self, event: dict[str, Any]) -> None:
        whole = _object(event.get("item"))
        self._close(self._find(event, _kind_of(whole)), whole)

    def _close(self, item: _Item, whole: Mapping[str, Any]) -> None:
        """Says what is missing of an item, and seals it."""
        if item.done:
            return
        item.kind = _kind_of(whole) or item.kind
        if item.kind == "message":
            self._close_message(item, whole)
        elif item.kind in items.CALLS:
            self._close_call(item, whole)
        elif item.kind == items.REASONING:
            self._close_reasoning(item, whole)
        else:
            self._close_other(whole)
        item.item = whole
        item.done = True

    def _close_message(self, item: _Item, whole: Mapping[str, Any]) -> None:
        content = whole.get("content")
        if isinstance(content, str):
            content = [{"type": "output_text", "text": content}]
        entries = [(items.read_content_part(entry), entry) for entry in objects(content)]
        places = [
            "other" if part.HasField("state") or part.HasField("audio") else part.WhichOneof("part") or ""
            for part, _ in entries
        ]
        keys = _keys(places, item)
        for key, (part, entry) in zip(keys, entries, strict=True):
            if part.HasField("text"):
                item.entries[key[1]] = entry
                self._rest(item, key, part.text.text)
                if not item.weighed:
                    self._weigh(item, entry.get("logprobs"))
            elif part.HasField("refusal"):
                self._rest(item, key, part.refusal.text)
            else:
                self._say_entry(item, key[1], entry)
        self._seal_text(item, items.item_state(whole))

    def _close_call(self, item: _Item, whole: Mapping[str, Any]) -> None:
        item.item = {**whole, "type": item.kind}
        self._announce(item)
        if item.call < 0:
            raise bad_answer("the provider sent a call without a name")
        self._rest(item, ("arguments", 0), whole.get(items.CALLS[item.kind]))
        state = items.call_state(item.item)
        if state:
            sealed = pb.ToolCallDelta(index=item.call, state=state_of(item.kind, state))
            self._out.append(ChatEvent(tool_call=sealed))

    def _close_reasoning(self, item: _Item, whole: Mapping[str, Any]) -> None:
        for place in ("summary", "content"):
            texts = items.texts_of(whole.get(place))
            said = "".join(piece for key, pieces in item.said.items() if key[0] == place for piece in pieces)
            # cut into other paragraphs than it was said in, it is still the same
            if any(texts) and said not in ("".join(texts), SEPARATOR.join(texts)):
                for key, text in zip(_keys([place] * len(texts), item), texts, strict=True):
                    self._rest(item, key, text)
        kept = carried(whole.get("encrypted_content"))
        step = pb.ReasoningDelta(state=state_of(items.REASONING, items.reasoning_state(whole)))
        if kept:
            step = pb.ReasoningDelta(redacted=kept.reasoning.redacted, state=kept.state)
        self._out.append(ChatEvent(reasoning=step))

    def _close_other(self, whole: Mapping[str, Any]) -> None:
        for part in items.read_item(whole, ()):
            if part.HasField("image"):
                self._out.append(ChatEvent(image=part.image))
            else:
                self._out.append(ChatEvent(reasoning=pb.ReasoningDelta(state=part.state)))

    def _end(self, event: dict[str, Any], status: str) -> None:
        response = {"status": status, **_object(event.get("response"))}
        if response["status"] in UNFINISHED or not response["status"]:
            response["status"] = status
        if not isinstance(response.get("output"), list):
            response["output"] = []
        check_answer(response)
        self._begin(response)
        self._complete(list(objects(response["output"])))
        reason, word = finish_of(response["status"], response.get("incomplete_details"), calls=self._calls > 0)
        finished = ChatEvent(finished=pb.ChoiceFinished(reason=reason, vendor_reason=word))
        for name, raw in answer.extensions_of(response).items():
            finished.extensions[name] = raw
        for name, value in told(event, "type", "response", "sequence_number", "obfuscation").items():
            finished.extensions[name] = jsontools.dumps(value)
        if self._cited:
            finished.extensions["delta.annotations"] = jsontools.dumps(self._cited)
        self._out.append(finished)
        usage = usage_from(response.get("usage"))
        if usage:
            self._out.append(ChatEvent(usage=usage))
        self._done = True

    def _complete(self, output: list[dict[str, Any]]) -> None:
        """Says what of the finished answer has not been said: open items, and items that were never announced."""
        for place, whole in enumerate(output):
            kind = _kind_of(whole)
            item = self._items.get(place)
            if item is not None and item.kind == kind:
                self._close(item, whole)
            elif not self._knows(whole, kind, output):
                place = place if item is None else max(self._items) + 1
                self._close(self._new(place, kind), whole)
        for item in self._items.values():
            if not item.done and item.call < 0 and item.kind in items.CALLS:
                raise bad_answer("the provider sent pieces of a call that it never named")

    def _knows(self, whole: Mapping[str, Any], kind: str, output: list[dict[str, Any]]) -> bool:
        """Whether an item of the finished answer is one of those in the stream, under whatever place and id."""
        alike = [item.item for item in self._items.values() if item.kind == kind]
        names = {_id_of(item) for item in alike} | {item.get("call_id") for item in alike}
        if (names - {None, ""}) & {_id_of(whole), whole.get("call_id")}:
            return True
        return len(alike) >= sum(_kind_of(other) == kind for other in output)


def _place_of(part: Part) -> str:
    """Under which place an entry of a message was said."""
    return "other" if part.HasField("state") or part.HasField("audio") else part.WhichOneof("part") or ""


def _keys(places: list[str], item: _Item) -> list[tuple[str, int]]:
    """Under which keys the entries of a whole item were said, since some vendors count them from another number."""
    keys = [(place, index) for index, place in enumerate(places)]
    for place in set(places):
        said = [key for key in item.said if key[0] == place]
        mine = [key for key in keys if key[0] == place]
        if len(said) == len(mine) and said != mine:
            moved = dict(zip(mine, sorted(said), strict=True))
            keys = [moved.get(key, key) for key in keys]
    return keys


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_answer("the provider sent an event of a wrong form")
    return value


def _kind_of(item: Mapping[str, Any]) -> str:
    return text_of(item.get("type")) or ("message" if "role" in item else "")


def _id_of(item: object) -> str:
    return text_of(item.get("id")) if isinstance(item, dict) else ""


def _index(event: Mapping[str, Any], name: str) -> int:
    index = event.get(name) if name else 0
    return index if isinstance(index, int) else 0
