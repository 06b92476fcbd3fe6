"""Reads a request's body, within its bounds, opened when it is compressed."""

import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_RATIO: Final = 20  # opened to compressed; JSON reaches about 10
_RATIO_FLOOR: Final = 64 * 1024  # below this a high ratio harms nobody
MUCH: Final = 64 * 1024  # bytes; what is no longer is read whoever sends it
_WINDOWS: Final = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}


class ClientGoneError(Exception):
    """The client left before its request was whole."""


def headers_of(scope: Scope) -> dict[str, str]:
    """The request's headers by lower-case name; of a repeated one the first counts."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return headers


def sends_much(headers: Mapping[str, str]) -> bool:
    """Whether a body follows that is large, or may be."""
    declared = headers.get("content-length", "")
    return "transfer-encoding" in headers or (declared.isdigit() and int(declared) > MUCH)


async def read_body(receive: Receive, headers: Mapping[str, str], most: int, most_opened: int) -> bytes:
    """The whole body.

    Args:
        receive: ASGI.
        headers: The request's headers.
        most: Most bytes as sent.
        most_opened: Most bytes when opened.

    Raises:
        MeshError: REASON_TOO_LARGE, REASON_INVALID_REQUEST for a content-encoding that is unknown or broken.
        ClientGoneError: The client left.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise _too_large(most)
    message = await receive()
    body = message.get("body", b"")
    if message.get("more_body"):
        body = await _rest(receive, bytearray(body), most)
    elif message["type"] == "http.disconnect":
        raise ClientGoneError
    if len(body) > most:
        raise _too_large(most)
    encoding = headers.get("content-encoding", "").lower()
    return bytes(body) if encoding in ("", "identity") else _opened(bytes(body), encoding, most_opened)


async def _rest(receive: Receive, body: bytearray, most: int) -> bytearray:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > most:
            raise _too_large(most)
        if not message.get("more_body"):
            return body


def _opened(body: bytes, encoding: str, most: int) -> bytes:
    window = _WINDOWS.get(encoding)
    if window is None:
        raise MeshError(
            pb.REASON_INVALID_REQUEST,
            f"content-encoding {encoding[:32]!r} is not supported: use gzip, deflate or none",
            metadata={"param": "content-encoding"},
        )
    bound = min(most, max(_RATIO_FLOOR, MAX_RATIO * len(body)))
    machine = zlib.decompressobj(window)
    try:
        opened = machine.decompress(body, bound + 1)
    except zlib.error:
        raise MeshError(
            pb.REASON_INVALID_REQUEST, f"the body is not {encoding}", metadata={"param": "content-encoding"}
        ) from None
    if len(opened) > bound:
        raise _too_large(bound)
    if not machine.eof:
        raise MeshError(pb.REASON_INVALID_REQUEST, f"the {encoding} body is cut off")
    if machine.unused_data:
        raise MeshError(pb.REASON_INVALID_REQUEST, f"something follows the end of the {encoding} body")
    return opened


def _too_large(most: int) -> MeshError:
    return MeshError(
        pb.REASON_TOO_LARGE, f"the request body is larger than {most} bytes", metadata={"limit": str(most)}
    )
