"""`openai.responses` streams into steps of an answer.

An event says to which item it belongs by `output_index`, and vendors agree on nothing else: ids change between the
first and the last mention of an item, pieces may be missing where the whole follows, the last event may list no items
or one that was never announced. Here is found out which item an event is about; `stream_items` says what of it is new.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from polyroute.api.chat.v1 import chat_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import ChatEvent
from polyroute.api.errors.v1 import errors_pb2
from polyroute.dialects import faults, jsontools, sse
from polyroute.dialects.dialect import BrokenStreamError, SseEvent
from polyroute.dialects.events import take_apart
from polyroute.dialects.openai.chat_answer import seconds_of
from polyroute.dialects.responses import answer, items
from polyroute.dialects.responses.common import (
    UNFINISHED,
    bad_answer,
    check_answer,
    finish_of,
    objects,
    text_of,
    told,
    usage_from,
)
from polyroute.dialects.responses.stream_items import Item, Progress, kind_in
from polyroute.mesh.errors import MeshError

TERMINAL: Final = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
    "response.cancelled": "cancelled",
}
_BEGINNING: Final = frozenset({"response.created", "response.in_progress", "response.queued"})


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


class ResponsesReader:
    """Reads one stream; see `dialect.StreamReader`."""

    def __init__(self) -> None:
        self._started = False
        self._done = False
        self._progress = Progress()
        self._items: dict[int, Item] = {}
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
        self._progress.out = out
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
        self._progress.id = response.get("id") or ""
        start = pb.AnswerStart(
            id=self._progress.id, model=response.get("model") or "", create_time=seconds_of(response.get("created_at"))
        )
        self._progress.out.append(ChatEvent(start=start))

    def _whole(self, value: dict[str, Any]) -> None:
        """An answer that came whole where a stream was asked for."""
        check_answer(value)
        self._progress.out += take_apart(answer.response_of(value))
        self._done = True

    def _added(self, event: dict[str, Any]) -> None:
        item = _object(event.get("item"))
        index = event.get("output_index")
        if not isinstance(index, int):
            index = max(self._items, default=-1) + 1
        if index not in self._items:
            self._items[index] = Item(self._progress, index, kind_in(item), item)
        else:
            self._items[index].value = item
        self._items[index].announce()

    def _find(self, event: dict[str, Any], kind: str) -> Item:
        """The item of an event: by its place, by its id, the last one of its kind; else one never announced."""
        index = event.get("output_index")
        if isinstance(index, int):
            return self._items.get(index) or self._new(index, kind)
        its_id = event.get("item_id") or _id_of(event.get("item"))
        alike = [item for item in self._items.values() if item.kind == kind]
        for item in reversed(alike):
            if its_id and item.value.get("id") == its_id:
                return item
        for item in reversed(alike):
            if not item.done:
                return item
        return self._new(max(self._items, default=-1) + 1, kind)

    def _new(self, index: int, kind: str) -> Item:
        item = self._items[index] = Item(self._progress, index, kind, {})
        return item

    def _delta(self, event: dict[str, Any], said: _Said) -> None:
        item = self._find(event, said.item)
        text = event.get("delta")
        if text and not item.done:
            item.say((said.place, _index(event, said.number)), text)
        if event.get("logprobs"):
            item.weigh(event["logprobs"])

    def _text_done(self, event: dict[str, Any], said: _Said) -> None:
        item = self._find(event, said.item)
        if not item.done:
            item.rest((said.place, _index(event, said.number)), event.get(said.whole))
        if not item.weighed:
            item.weigh(event.get("logprobs"))

    def _entry(self, event: dict[str, Any]) -> None:
        part = event.get("part")
        if isinstance(part, dict) and part.get("type") in ("output_text", "text"):
            self._find(event, "message").entries[_index(event, "content_index")] = part

    def _entry_done(self, event: dict[str, Any]) -> None:
        part = event.get("part")
        if isinstance(part, dict) and items.is_opaque_entry(part):
            self._find(event, "message").say_entry(_index(event, "content_index"), part)
        else:
            self._entry(event)

    def _hear(self, event: dict[str, Any]) -> None:
        """A piece of sound; its events name no item."""
        data = jsontools.unpacked(text_of(event.get("delta")))
        if data:
            self._progress.heard = True
            self._progress.out.append(ChatEvent(audio=pb.AudioDelta(data=data)))

    def _hear_words(self, event: dict[str, Any]) -> None:
        """A piece of what is said."""
        words = text_of(event.get("delta"))
        if words:
            self._progress.heard_words = True
            self._progress.out.append(ChatEvent(audio=pb.AudioDelta(transcript=words)))

    def _annotation(self, event: dict[str, Any]) -> None:
        item = self._find(event, "message")
        item.notes.setdefault(_index(event, "content_index"), []).append(event.get("annotation"))

    def _item_done(self, event: dict[str, Any]) -> None:
        whole = _object(event.get("item"))
        self._find(event, kind_in(whole)).close(whole)

    def _end(self, event: dict[str, Any], status: str) -> None:
        response = {"status": status, **_object(event.get("response"))}
        if response["status"] in UNFINISHED or not response["status"]:
            response["status"] = status
        if not isinstance(response.get("output"), list):
            response["output"] = []
        check_answer(response)
        self._begin(response)
        self._complete(list(objects(response["output"])))
        reason, word = finish_of(response["status"], response.get("incomplete_details"), calls=self._progress.calls > 0)
        finished = ChatEvent(finished=pb.ChoiceFinished(reason=reason, vendor_reason=word))
        for name, raw in answer.extensions_of(response).items():
            finished.extensions[name] = raw
        for name, value in told(event, "type", "response", "sequence_number", "obfuscation").items():
            finished.extensions[name] = jsontools.dumps(value)
        if self._progress.cited:
            finished.extensions["delta.annotations"] = jsontools.dumps(self._progress.cited)
        self._progress.out.append(finished)
        usage = usage_from(response.get("usage"))
        if usage:
            self._progress.out.append(ChatEvent(usage=usage))
        self._done = True

    def _complete(self, output: list[dict[str, Any]]) -> None:
        """Says what of the finished answer has not been said: open items, and items that were never announced."""
        for place, whole in enumerate(output):
            kind = kind_in(whole)
            item = self._items.get(place)
            if item is not None and item.kind == kind:
                item.close(whole)
            elif not self._knows(whole, kind, output):
                place = place if item is None else max(self._items) + 1
                self._new(place, kind).close(whole)
        for item in self._items.values():
            if not item.done and item.call < 0 and item.kind in items.CALLS:
                raise bad_answer("the provider sent pieces of a call that it never named")

    def _knows(self, whole: Mapping[str, Any], kind: str, output: list[dict[str, Any]]) -> bool:
        """Whether an item of the finished answer is one of those in the stream, under whatever place and id."""
        alike = [item.value for item in self._items.values() if item.kind == kind]
        names = {_id_of(item) for item in alike} | {item.get("call_id") for item in alike}
        if (names - {None, ""}) & {_id_of(whole), whole.get("call_id")}:
            return True
        return len(alike) >= sum(kind_in(other) == kind for other in output)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_answer("the provider sent an event of a wrong form")
    return value


def _id_of(item: object) -> str:
    return text_of(item.get("id")) if isinstance(item, dict) else ""


def _index(event: Mapping[str, Any], name: str) -> int:
    index = event.get(name) if name else 0
    return index if isinstance(index, int) else 0
