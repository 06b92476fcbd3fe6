"""A vendor's own API under a Polyroute key: the request and the answer pass as they are, and the call is on record.

`/passthrough/{provider}/...` reaches whatever the vendor has below its address. Files, batches and stored responses are
kept by one vendor; their paths lead to the provider that has what they name, else to the one that the caller names, or
to the only one there is. What their answers name is marked as the project's.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import unquote

import msgspec

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.providers.v1.providers_pb2 import RelayRequest, RelayResponse
from polyroute.dialects.multipart import is_form
from polyroute.edge import references
from polyroute.edge.call import Relayed
from polyroute.edge.http.access import ANY, Access, Declared
from polyroute.edge.http.body import Receive, Scope, Send
from polyroute.edge.http.door import Asked, Door, credential
from polyroute.edge.http.kept import KINDS, Aim, aim, last_of, marked, names_in
from polyroute.edge.http.manners import OPENAI
from polyroute.edge.http.pins import Keeper, Pin
from polyroute.edge.http.vendor_lists import Page
from polyroute.edge.marks import Named
from polyroute.edge.paths import PREFIXES
from polyroute.edge.permits import models_in
from polyroute.edge.pinning import missing
from polyroute.edge.things import Things
from polyroute.edge.trail import Trail
from polyroute.edge.turnstile import HEADER as CRITICALITY
from polyroute.mesh.errors import MeshError
from polyroute.mesh.scope import new_request_id

PASSTHROUGH: Final = "/passthrough/"
PROVIDER_HEADER: Final = "x-polyroute-provider"
_KEPT: Final = re.compile(rf"(?:{'|'.join(PREFIXES)})(/(?:{'|'.join(KINDS)})(?:/.*)?)")
# Of the caller's headers only these are the vendor's business; credentials above all are not.
_FORWARDED: Final = frozenset({"content-type", "accept", "anthropic-version", "anthropic-beta", "openai-beta"})
_MODEL_CHARS: Final = 256
MOST_PAGES: Final = 100  # of a vendor's list that are looked through for one that has something of the project's
LARGEST: Final = 32 * 1024 * 1024  # bytes of an answer whose ids are marked
_CLIMBING: Final = re.compile(r"[/\\]\.{1,2}(?:[/\\;]|$)")  # `\` and `;` as some servers read them


class _Named(msgspec.Struct):
    model: Any = None


class RelayDoor:
    """Passes requests to vendors' own APIs.

    Args:
        door: What it has in common with the other doors.
        things: What is whose, by which lists are shown; None shows to everybody all that a vendor keeps.
    """

    def __init__(self, door: Door, things: Things | None) -> None:
        self._door = door
        self._things = things

    @property
    def declared(self) -> Iterator[Declared]:
        """Its paths, and who may use them."""
        yield Declared(ANY, f"{PASSTHROUGH}{{provider}}/{{path}}", Access.KEY)
        for kept in KINDS:
            for prefix in PREFIXES:
                if kept != "responses":  # that path itself is OpenAI's door
                    yield Declared(ANY, f"{prefix}/{kept}", Access.KEY)
                yield Declared(ANY, f"{prefix}/{kept}/{{path}}", Access.KEY)

    def takes(self, scope: Scope) -> bool:
        """Whether a request's path, as it was written, leads to a vendor's own API."""
        path = _written(scope)
        return path.startswith(PASSTHROUGH) or _KEPT.fullmatch(path) is not None

    async def relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Any method at `/passthrough/{provider}/...` and at the paths of things that a vendor keeps."""

        async def work(asked: Asked) -> None:
            relayed, aimed = _relayed(asked)
            if aimed.kept:
                await self._keep(relayed, asked, aimed)
            else:
                await self._answer(relayed, asked)

        await self._door.exchange(scope, receive, OPENAI, work)

    async def _answer(self, relayed: Relayed, asked: Asked) -> None:
        exchange = asked.exchange
        async for response in self._door.flow.relay(relayed):
            if response.status:
                exchange.open(*_opening(response.headers), status=response.status)
            if response.data or response.last:
                await exchange.raw(response.data, last=response.last)

    async def _keep(self, relayed: Relayed, asked: Asked, aimed: Aim) -> None:
        """Answers with marks on what the answer names; contents of files pass as they are."""
        exchange = asked.exchange
        touch: Touch | None = None
        head, held = RelayResponse(), bytearray()
        async for response in self._door.flow.relay(relayed):
            if response.status:
                head, touch = response, _touch(response, asked, aimed)
                if touch is not None:
                    exchange.open(*_opening(head.headers), status=head.status)
            if touch is None:
                _hold(held, response.data)
            elif (data := touch.feed(response.data) + (touch.rest() if response.last else b"")) or response.last:
                await exchange.raw(data, last=response.last)
        if touch is None:
            body = await self._marked(relayed, head, bytes(held), aimed)
            exchange.open(*_opening(head.headers), status=head.status)
            await exchange.raw(body, last=True)

    async def _marked(self, relayed: Relayed, head: RelayResponse, body: bytes, aimed: Aim) -> bytes:
        keeper = Keeper(relayed.trail.mark_key, head.provider, head.key_mark)
        if self._things is None:
            return marked(body, keeper, items=aimed.items)
        if aimed.listed:
            return await self._listed(relayed, body, aimed, keeper)
        if aimed.listable:
            names = map(last_of, names_in(body, items=aimed.items))
            await self._things.remember(keeper.mark_key, keeper.provider, keeper.key_mark, names)
        return marked(body, keeper, items=aimed.items)

    async def _listed(self, relayed: Relayed, body: bytes, aimed: Aim, keeper: Keeper) -> bytes:
        """A page of the project's own; where the vendor's has none of it, the next that has some.

        Raises:
            MeshError: REASON_SERVICE_UNAVAILABLE, nobody can say whose things are; FAULT_BAD_ANSWER, it is no list.
        """
        assert self._things is not None  # noqa: S101 - or nothing is filtered
        page, query = _page(body), aimed.query
        own = await self._things.find(keeper.mark_key, keeper.provider, page.names)
        for _ in range(MOST_PAGES):
            following = None if own else page.following(query)
            if following is None:
                break
            query = following
            page = _page(await self._next(relayed, f"{aimed.path}?{query}", keeper))
            own = await self._things.find(keeper.mark_key, keeper.provider, page.names)
        return page.shown(own, keeper)

    async def _next(self, relayed: Relayed, path: str, keeper: Keeper) -> bytes:
        """Another page of the same key: a call of its own."""
        request = RelayRequest()
        request.CopyFrom(relayed.request)
        request.path, request.provider, request.key_mark = path, keeper.provider, keeper.key_mark
        trail = Trail(new_request_id())
        call = Relayed(relayed.credential, relayed.facts, request, relayed.deadline, trail)
        call.route, call.source, call.criticality = relayed.route, relayed.source, relayed.criticality
        held = bytearray()
        async for response in self._door.flow.relay(call):
            _hold(held, response.data)
        return bytes(held)


def _page(body: bytes) -> Page:
    page = Page.read(body)
    if page is None:
        raise MeshError.upstream(pb.FAULT_BAD_ANSWER, "the vendor's answer is no list")
    return page


def _hold(held: bytearray, data: bytes) -> None:
    if len(held) + len(data) > LARGEST:
        raise MeshError.upstream(pb.FAULT_BAD_ANSWER, f"the answer is longer than {LARGEST} bytes")
    held += data


def _written(scope: Scope) -> str:
    raw: bytes = scope["raw_path"]
    return raw.decode("latin-1")


def _relayed(asked: Asked) -> tuple[Relayed, Aim]:
    """The request that is to be passed on, in the vendor's words, and what it is about.

    Raises:
        MeshError: REASON_INVALID_REQUEST; REASON_NOT_FOUND, another provider has what it names.
    """
    scope = asked.scope
    below, path = _parted(asked)
    if _CLIMBING.search(unquote(unquote(path))):  # twice, as a vendor behind a proxy may
        raise MeshError(pb.REASON_INVALID_REQUEST, "the path must not climb", metadata={"param": "path"})
    aimed = aim(path, scope.get("query_string", b"").decode("latin-1"), scope["method"])
    inside = _in_body(asked)
    found = (*aimed.found, *inside)
    keeper = next((one.provider for one in found if one.provider), "")
    if below and keeper not in ("", below):
        raise missing(next(one for one in found if one.provider))
    provider = below or keeper or asked.headers.get(PROVIDER_HEADER, "")
    request = RelayRequest(
        provider=provider,
        method=scope["method"],
        path=aimed.path + (f"?{aimed.query}" if aimed.query else ""),
        headers={name: asked.headers[name] for name in _FORWARDED if name in asked.headers},
        body=references.without_marks(asked.body, inside),
    )
    facts = RequestFacts(operation=chat_pb2.OPERATION_RELAY, model=_model(asked, provider, request.path))
    relayed = Relayed(credential(asked.headers), facts, request, asked.deadline, asked.trail, found)
    relayed.route, relayed.source = scope["path"], asked.source
    relayed.criticality = asked.headers.get(CRITICALITY, "")
    return relayed, aimed


def _parted(asked: Asked) -> tuple[str, str]:
    """The provider below which a path is, empty where none is named, and the path below its address."""
    path = _written(asked.scope)
    if path.startswith(PASSTHROUGH):
        provider, slash, rest = path.removeprefix(PASSTHROUGH).partition("/")
        if not provider or not slash:
            raise MeshError(pb.REASON_NOT_FOUND, "name a provider and a path: /passthrough/{provider}/...")
        return provider, "/" + rest
    found = _KEPT.fullmatch(path)
    assert found is not None  # noqa: S101 - `takes` said so
    return "", found[1]


def _in_body(asked: Asked) -> Sequence[Named]:
    """What the body refers to; nothing when it is no JSON, whatever the client calls it."""
    if not asked.body or is_form(asked.content_type):
        return ()
    try:
        return references.in_body(asked.body)
    except MeshError:
        if "json" in asked.content_type:
            raise
        return ()


def _model(asked: Asked, provider: str, path: str) -> str:
    """The model that the path or else a JSON body names, as the catalog would call it, for the price of the call."""
    model: Any = next(iter(models_in(path)), None)
    if model is None and asked.body and "json" in asked.content_type:
        try:
            model = msgspec.json.decode(asked.body, type=_Named).model
        except (msgspec.DecodeError, UnicodeDecodeError):
            model = None  # whatever it is, it is the vendor's to refuse
    return f"{provider}/{model}"[:_MODEL_CHARS] if isinstance(model, str) and model else f"{provider or 'any'}/*"


def _opening(headers: Mapping[str, str]) -> tuple[str, list[tuple[bytes, bytes]]]:
    kind = headers.get("content-type", "application/octet-stream")
    rest = [(name.encode(), value.encode("latin-1")) for name, value in headers.items() if name != "content-type"]
    return kind, rest


class Touch(Protocol):
    """Changes an answer on its way."""

    def feed(self, data: bytes) -> bytes:
        """What of the next bytes can go on, changed."""

    def rest(self) -> bytes:
        """What was held back."""


class Untouched:
    """An answer that passes as it is."""

    def feed(self, data: bytes) -> bytes:
        """See `Touch.feed`."""
        return data

    def rest(self) -> bytes:
        """See `Touch.rest`."""
        return b""


class Events:
    """A stream of events, of which only whole ones can be changed.

    Args:
        change: Of some of them.
    """

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        self._change = change
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """See `Touch.feed`."""
        _hold(self._held, data)
        end = max(self._held.rfind(b"\n\n") + 2, self._held.rfind(b"\r\n\r\n") + 4)
        if end < 4:
            return b""
        events, self._held = bytes(self._held[:end]), self._held[end:]
        return self._change(events)

    def rest(self) -> bytes:
        """See `Touch.rest`."""
        return self._change(bytes(self._held))


def _touch(response: RelayResponse, asked: Asked, aimed: Aim) -> Touch | None:
    """How an answer changes on its way; None for one that must be there to its end."""
    kind = response.headers.get("content-type", "")
    if response.status >= 300 or not (asked.trail.mark_key or aimed.listed):
        return Untouched()
    if "event-stream" in kind:
        return Events(Pin(asked.trail))
    whole = kind.partition(";")[0].strip().endswith("json") and not aimed.content
    return None if whole or aimed.listed else Untouched()
