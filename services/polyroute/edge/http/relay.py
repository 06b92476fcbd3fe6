"""A vendor's own API under a Polyroute key: the request and the answer pass as they are, and the call is on record.

`/passthrough/{provider}/...` reaches whatever the vendor has below its address. Files, batches and stored responses are
kept by one vendor; their paths lead to the provider that the caller names, or to the only one that has such a thing.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.providers.v1.providers_pb2 import RelayRequest
from polyroute.edge.call import Relayed
from polyroute.edge.http.access import ANY, Access, Declared
from polyroute.edge.http.body import Receive, Scope, Send
from polyroute.edge.http.door import Asked, Door, credential
from polyroute.edge.http.manners import OPENAI
from polyroute.edge.http.pins import split
from polyroute.edge.permits import models_in
from polyroute.edge.turnstile import HEADER as CRITICALITY
from polyroute.mesh.errors import MeshError

PASSTHROUGH: Final = "/passthrough/"
PROVIDER_HEADER: Final = "x-polyroute-provider"
KEPT: Final = ("files", "batches", "uploads", "responses", "conversations", "vector_stores", "messages/batches")
PREFIXES: Final = ("/v1", "", "/openai/v1", "/openai")  # the last two as Azure's clients have them
_KEPT: Final = re.compile(rf"(?:{'|'.join(PREFIXES)})(/(?:{'|'.join(KEPT)})(?:/.*)?)")
# Of the caller's headers only these are the vendor's business; credentials above all are not.
_FORWARDED: Final = frozenset({"content-type", "accept", "anthropic-version", "anthropic-beta", "openai-beta"})
_MODEL_CHARS: Final = 256
_CLIMBING: Final = re.compile(r"[/\\]\.{1,2}(?:[/\\;]|$)")  # `\` and `;` as some servers read them


class _Named(msgspec.Struct):
    model: Any = None


class RelayDoor:
    """Passes requests to vendors' own APIs.

    Args:
        door: What it has in common with the other doors.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    @property
    def declared(self) -> Iterator[Declared]:
        """Its paths, and who may use them."""
        yield Declared(ANY, f"{PASSTHROUGH}{{provider}}/{{path}}", Access.KEY)
        for kept in KEPT:
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
            provider, path = _destination(asked)
            query = scope.get("query_string", b"").decode("latin-1")
            request = RelayRequest(
                provider=provider,
                method=scope["method"],
                path=path + (f"?{query}" if query else ""),
                headers={name: asked.headers[name] for name in _FORWARDED if name in asked.headers},
                body=asked.body,
            )
            facts = RequestFacts(operation=chat_pb2.OPERATION_RELAY, model=_model(asked, provider, request.path))
            relayed = Relayed(credential(asked.headers), facts, request, asked.deadline, asked.trail)
            relayed.route, relayed.source = scope["path"], asked.source
            relayed.criticality = asked.headers.get(CRITICALITY, "")
            await self._answer(relayed, asked)

        await self._door.exchange(scope, receive, OPENAI, work)

    async def _answer(self, relayed: Relayed, asked: Asked) -> None:
        exchange = asked.exchange
        async for response in self._door.flow.relay(relayed):
            if response.status:
                exchange.open(*_opening(response.headers), status=response.status)
            if response.data or response.last:
                await exchange.raw(response.data, last=response.last)


def _written(scope: Scope) -> str:
    raw: bytes = scope["raw_path"]
    return raw.decode("latin-1")


def _destination(asked: Asked) -> tuple[str, str]:
    """The provider and the path below its address; no provider when the caller names none."""
    provider, path = _parted(asked)
    if _CLIMBING.search(unquote(unquote(path))):  # twice, as a vendor behind a proxy may
        raise MeshError(pb.REASON_INVALID_REQUEST, "the path must not climb", metadata={"param": "path"})
    return provider, path


def _parted(asked: Asked) -> tuple[str, str]:
    path = _written(asked.scope)
    if path.startswith(PASSTHROUGH):
        provider, slash, rest = path.removeprefix(PASSTHROUGH).partition("/")
        if not provider or not slash:
            raise MeshError(pb.REASON_NOT_FOUND, "name a provider and a path: /passthrough/{provider}/...")
        return provider, "/" + rest
    found = _KEPT.fullmatch(path)
    assert found is not None  # noqa: S101 - `takes` said so
    pieces = found[1].split("/")
    kept, keeper = split(unquote(pieces[2])) if len(pieces) > 2 else ("", "")
    if keeper:
        pieces[2] = quote(kept, safe="")
    return keeper or asked.headers.get(PROVIDER_HEADER, ""), "/".join(pieces)


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
