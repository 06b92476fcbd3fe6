"""Metering of `openai.responses` answers that pass on as they are.

Nearly all events are a piece of text: of them only the type and the piece are decoded. The event that ends the answer
repeats all of it, of which only the figures are.
"""

from typing import Any, Final

import msgspec

from polyroute.dialects import faults, jsontools, sse
from polyroute.dialects.dialect import AnswerFacts, BrokenStreamError, Metered, SseEvent
from polyroute.dialects.openai.meter import object_of
from polyroute.dialects.responses import actions, items
from polyroute.dialects.responses.common import (
    arguments_of,
    bad_answer,
    check_answer,
    finish_of,
    objects,
    text_of,
    usage_from,
)
from polyroute.dialects.responses.stream_reader import TERMINAL
from polyroute.mesh.errors import MeshError

_ADDED: Final = "response.output_item.added"
_ITEM_DONE: Final = "response.output_item.done"
_ERROR: Final = "error"
_PICTURE: Final = "response.image_generation_call.partial_image"
# What a meter looks at beside pieces; of everything else it knows nothing and passes it on.
_LOOKED_AT: Final = frozenset({_ADDED, _ITEM_DONE, _ERROR, _PICTURE, *TERMINAL})


class _Head(msgspec.Struct, gc=False):
    type: str = ""
    delta: str | None = None


class _Response(msgspec.Struct, gc=False):
    id: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    environment: Any = None

    @property
    def waits(self) -> bool:
        """It is a call that its caller answers."""
        return items.is_call({"type": self.type, "environment": self.environment})


class _Added(msgspec.Struct, gc=False):
    item: _Item | None = None


class _Ended(msgspec.Struct, gc=False):
    id: str | None = None
    status: str | None = None
    error: Any = None
    incomplete_details: Any = None
    usage: Any = None
    output: list[_Item] | None = None


class _End(msgspec.Struct, gc=False):
    response: _Ended


_head: Final = msgspec.json.Decoder(_Head).decode
_added: Final = msgspec.json.Decoder(_Added).decode
_end: Final = msgspec.json.Decoder(_End).decode
_whole: Final = msgspec.json.Decoder(_Response).decode


class ResponsesMeter:
    """The meter of one stream; usage is part of every answer, so there is none to hide."""

    __slots__ = ("_calls", "_said", "_spoke")

    def __init__(self) -> None:
        self._calls = False
        self._spoke = False  # something of the item at hand has been counted
        self._said = False  # anything has been counted

    def feed(self, events: list[SseEvent]) -> Metered:
        """Reads one batch; see `dialect.Meter`."""
        out = Metered()
        pieces: list[bytes] = []
        content_events = text_chars = 0
        broken: MeshError | None = None
        try:
            for name, data in events:
                try:
                    head = _head(data)
                    kind, chars = head.type or name, len(head.delta) if head.delta else 0
                except jsontools.BAD_JSON:
                    if data.strip() == sse.DONE:
                        continue  # no part of this format, and the end was said before it
                    kind, chars = _odd(data, name)
                if chars:
                    self._spoke = True
                elif kind in _LOOKED_AT or not kind:
                    chars = self._look(kind, data, out)
                pieces.append(_framed(kind, data))
                if chars:
                    content_events += 1
                    text_chars += chars
                    self._said = True
                if out.done:
                    break
        except MeshError as error:
            broken = error
        out.content_events, out.text_chars = content_events, text_chars
        out.data = b"".join(pieces)
        if broken:
            raise BrokenStreamError.of(broken, metered=out)
        return out

    def _look(self, kind: str, data: bytes, out: Metered) -> int:
        """Reads an event that is no piece of text; characters of content that it holds."""
        try:
            if kind == _ADDED:
                return self._begin_item(data)
            if kind in TERMINAL:
                self._end(_end(data).response, TERMINAL[kind], out)
                return 0 if self._said else _chars_at_the_end(data)
        except jsontools.BAD_JSON:
            return self._look_slowly(kind, data, out)
        if kind == _ITEM_DONE:
            return self._end_item(data)
        if kind == _PICTURE:
            return 1
        value = jsontools.loads(data)
        if kind == _ERROR or value.get("error"):
            raise faults.fault_in(value)
        raise bad_answer("the provider sent an event without a type")

    def _begin_item(self, data: bytes) -> int:
        item = _added(data).item
        self._spoke = item is not None and item.type in items.CALLS
        self._calls = self._calls or self._spoke
        return int(self._spoke)

    def _end_item(self, data: bytes) -> int:
        """Content of an item that came without pieces."""
        item = jsontools.loads(data).get("item")
        spoke, self._spoke = self._spoke, False
        if not isinstance(item, dict):
            return 0
        self._calls = self._calls or items.is_call(item)
        return 0 if spoke else chars_of(item)

    def _end(self, response: _Ended, status: str, out: Metered) -> None:
        told = response.status if response.status in ("failed", "cancelled", "completed", "incomplete") else status
        check_answer({"status": told, "error": response.error, "output": []})
        calls = self._calls or any(item.waits for item in response.output or ())
        out.finish, _ = finish_of(told, response.incomplete_details, calls=calls)
        out.usage = usage_from(response.usage)
        out.done = True

    def _look_slowly(self, kind: str, data: bytes, out: Metered) -> int:
        """The same for an event in which a member that nobody needs has a type that the structs do not foresee."""
        value = jsontools.loads(data)
        if kind == _ADDED:
            self._spoke = False
            return 0
        response = value.get("response")
        if not isinstance(response, dict):
            raise bad_answer("the provider sent an event of a wrong form")
        if kind in TERMINAL:
            ended = _Ended(
                id=text_of(response.get("id")),
                status=text_of(response.get("status")),
                error=response.get("error"),
                incomplete_details=response.get("incomplete_details"),
                usage=response.get("usage"),
                output=[
                    _Item(text_of(item.get("type")), item.get("environment"))
                    for item in objects(response.get("output"))
                ],
            )
            self._end(ended, TERMINAL[kind], out)
        return 0


def _odd(data: bytes, name: str) -> tuple[str, int]:
    """The type of an event whose `delta` is no text, and the characters of it."""
    try:
        value = jsontools.loads(data)
    except ValueError:
        raise bad_answer("the provider sent broken JSON in its stream") from None
    if not isinstance(value, dict):
        raise bad_answer("the provider sent an event that is no object")
    kind = value.get("type") or name
    if not isinstance(kind, str):
        raise bad_answer("the provider sent an event of a wrong form")
    return kind, len(text_of(value.get("delta")))


def _framed(kind: str, data: bytes) -> bytes:
    """One canonical event under the name that its type is; a line feed in JSON is white space between tokens."""
    if b"\n" in data:
        data = b" ".join(data.split(b"\n"))
    if "\n" in kind or "\r" in kind:
        kind = ""
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _chars_at_the_end(data: bytes) -> int:
    """Content of an answer that came in its last event only."""
    response = jsontools.loads(data).get("response")
    return sum(chars_of(item) for item in objects(response.get("output")))


def chars_of(item: dict[str, Any]) -> int:
    """Characters of an item that are content; at least 1 for a call, a picture, and anything with text."""
    kind = text_of(item.get("type"))
    if kind in items.CALLS:
        said = arguments_of(item.get(items.CALLS[kind]))
        return 1 + len(text_of(item.get("name"))) + len(said)
    if kind in actions.OF_CALL and actions.is_local(item):
        return 1 + len(jsontools.dumps(item.get(actions.OF_CALL[kind].member)))
    if kind == items.IMAGE:
        return int(bool(item.get("result")))
    chars = sum(len(text) for name in ("summary", "content") for text in items.texts_of(item.get(name)))
    return chars + sum(len(text_of(entry.get("refusal"))) for entry in objects(item.get("content")))


def read_answer_facts(body: bytes) -> AnswerFacts:
    """What metering needs of a whole answer; see `dialect.Dialect.read_answer_facts`."""
    value = object_of(body)
    check_answer(value)
    output = list(objects(value.get("output")))
    calls = any(items.is_call(item) for item in output)
    finish, _ = finish_of(value.get("status"), value.get("incomplete_details"), calls=calls)
    chars = sum(chars_of(item) for item in output) or len(text_of(value.get("output_text")))
    thought = value.get("reasoning")
    if isinstance(thought, str) and not any(item.get("type") == items.REASONING for item in output):
        chars += len(thought)
    try:
        return AnswerFacts(usage_from(value.get("usage")), finish, chars)
    except (TypeError, ValueError) as error:  # figures that the contract does not take
        raise bad_answer("the usage in the provider's answer has a wrong form") from error
