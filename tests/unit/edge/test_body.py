"""A request's body: whole, within its bounds, opened when it is compressed."""

import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.http.body import ClientGoneError, headers_of, read_body
from polyroute.mesh.errors import MeshError

MOST = 10_000
OPENED = 200_000
GONE = {"type": "http.disconnect"}
TEXT = bytes(range(256)) * 30  # does not compress much


class Sender:
    """A client that sends its body in pieces."""

    def __init__(self, *pieces: bytes, then: MutableMapping[str, Any] | None = None) -> None:
        self.left: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": number < len(pieces) or then is not None}
            for number, piece in enumerate(pieces, start=1)
        ]
        self.left += [dict(then)] if then is not None else []

    async def __call__(self) -> MutableMapping[str, Any]:
        return self.left.pop(0)


async def read(sender: Sender, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await read_body(sender, named, MOST, OPENED)


async def refused(sender: Sender, **headers: str) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await read(sender, **headers)
    return caught.value


@given(pieces=st.lists(st.binary(max_size=50), min_size=1, max_size=8))
async def test_body_is_put_together(pieces: list[bytes]) -> None:
    """However the network cut it."""
    assert b"".join(pieces) == await read(Sender(*pieces))


async def test_largest_body() -> None:
    """The bound is what may still come."""
    assert b"x" * MOST == await read(Sender(b"x" * MOST), content_length=str(MOST))


@pytest.mark.parametrize(
    ("sender", "headers"),
    [
        (Sender(), {"content_length": str(MOST + 1)}),  # refused before a byte of it is read
        (Sender(b"x" * (MOST + 1)), {}),
        (Sender(b"x" * MOST, b"x", b"never read"), {}),  # chunked: no length was declared
        (Sender(b"x" * MOST, b"x", b"never read"), {"content_length": "5"}),
    ],
    ids=["declared", "one piece", "chunked", "lied"],
)
async def test_larger_body(sender: Sender, headers: Mapping[str, str]) -> None:
    """Refused as soon as it is known, and the limit is named."""
    error = await refused(sender, **headers)

    assert (pb.REASON_TOO_LARGE, str(MOST)) == (error.reason, error.metadata["limit"])
    assert not sender.left or [b"never read"] == [message["body"] for message in sender.left]


@pytest.mark.parametrize("pieces", [(), (b"x",), (b"x", b"y")])
async def test_client_that_leaves(pieces: tuple[bytes, ...]) -> None:
    """Half a request is none."""
    with pytest.raises(ClientGoneError):
        await read(Sender(*pieces, then=GONE))


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("GZIP", gzip.compress)]
)
async def test_compressed_body(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """Opened; the name is case-insensitive."""
    assert TEXT == await read(Sender(pack(TEXT)), content_encoding=encoding)


@pytest.mark.parametrize("encoding", ["", "identity"])
async def test_plain_body(encoding: str) -> None:
    """Nothing to open."""
    assert TEXT == await read(Sender(TEXT), content_encoding=encoding)


async def test_a_little_that_opens_to_much_harms_nobody() -> None:
    """JSON of a few kilobytes may repeat itself."""
    assert b" " * 60_000 == await read(Sender(gzip.compress(b" " * 60_000)), content_encoding="gzip")


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_bomb(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """Refused without the memory that it would take."""
    bomb = pack(bytes(8_000_000))
    tracemalloc.start()
    try:
        error = await refused(Sender(bomb), content_encoding=encoding)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert pb.REASON_TOO_LARGE == error.reason
    assert peak < 1_000_000


async def test_opened_body_has_a_bound_of_its_own() -> None:
    """Also where the ratio is harmless."""
    large = zlib.compress(random.Random(1).randbytes(100_001))
    with pytest.raises(MeshError) as caught:
        await read_body(Sender(large), {"content-encoding": "deflate"}, 10**6, 100_000)

    assert (pb.REASON_TOO_LARGE, "100000") == (caught.value.reason, caught.value.metadata["limit"])


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (TEXT, "gzip"),
        (gzip.compress(TEXT)[:-9], "gzip"),
        (gzip.compress(TEXT) + b"more", "gzip"),
        (gzip.compress(b'{"a":1}') + gzip.compress(b'{"b":2}'), "gzip"),
        (gzip.compress(TEXT)[:-8] + bytes(8), "gzip"),
        (zlib.compress(TEXT)[:-4], "deflate"),
        (TEXT, "br"),
        (gzip.compress(TEXT), "gzip, gzip"),
        (b"", "gzip"),
    ],
    ids=["plain", "cut", "followed", "two", "wrong sum", "cut deflate", "unknown", "twice", "empty"],
)
async def test_broken_compression(body: bytes, encoding: str) -> None:
    """Refused as the client's mistake: nothing of a body is dropped in silence."""
    assert pb.REASON_INVALID_REQUEST == (await refused(Sender(body), content_encoding=encoding)).reason


def test_first_of_repeated_headers_counts() -> None:
    """Two credentials are one, and it is always the same one."""
    pairs = [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b"), (b"x-n\xe4me", b"\xff")]

    assert {"authorization": "Bearer a", "x-n\xe4me": "\xff"} == headers_of({"headers": pairs})
