"""Vendors that are away, late, broken or hostile: every wait ends, and each way to fail has its fault."""

import asyncio
import gzip
import socket
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from contextlib import aclosing
from time import monotonic
from typing import Any

import pytest

from bench.script import Script
from bench.vendor import Vendor
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.providers.conversation import converse
from polyroute.providers.http import Address, Pool
from polyroute.providers.transport import Limits, Transport
from tests.rpc.providers.wire import (
    ANSWER,
    DONE,
    END,
    FINISH,
    LONG,
    PATIENT,
    SHORT,
    SOON,
    STREAM,
    Do,
    Heard,
    Step,
    account,
    attempt,
    chunk,
    delta,
    head,
    request,
    stream,
    whole,
    wire,
)

HASTY = Limits(connect=LONG, first_token=SHORT, inter_token=SHORT, total=LONG)


async def fault(*script: Any, streamed: bool = True, limits: Limits = PATIENT) -> tuple[str, bytes]:
    """How an attempt at a vendor that does this ends, and what it said before."""
    async with wire(script) as vendor:
        heard = await attempt(request(stream=streamed), account(vendor.url), limits)
    assert isinstance(heard.error, MeshError), heard
    assert ("acme", "acme/up") == (heard.error.metadata["provider"], heard.error.metadata["deployment"])
    return pb.Fault.Name(heard.error.fault), heard.data


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


async def test_the_system_asks_a_silent_vendor_whether_it_is_there() -> None:
    """TCP keepalive is on, and begins before what lies between forgets the connection."""
    async with wire([whole(ANSWER)]) as vendor:
        pool = Pool(idle_seconds=1)
        port = int(vendor.url.split(":")[2].partition("/")[0])
        connection = await pool.acquire(Address("127.0.0.1", port, tls=False))
        assert connection._transport is not None
        connected = connection._transport.get_extra_info("socket")
        on = connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        first = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        connection.close()

    assert (1, 30) == (on, first)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "no-such-host.invalid"])
async def test_vendor_that_is_not_there(closed_port: int, host: str) -> None:
    """Nothing was sent: any other try is free of doubt."""
    heard = await attempt(request(), account(f"http://{host}:{closed_port}/v1"))

    assert pb.FAULT_CONNECT == heard.error.fault


async def test_vendor_that_does_not_speak_tls() -> None:
    """A failed handshake sent nothing either."""

    def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        heard = await attempt(request(), account(f"https://127.0.0.1:{port}/v1"))

    assert pb.FAULT_CONNECT == heard.error.fault


async def test_vendor_that_does_not_accept() -> None:
    """Connecting has a bound of its own."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        port = deaf.getsockname()[1]
        fill = [socket.socket() for _ in range(3)]
        for one in fill:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        began = monotonic()
        heard = await attempt(request(), account(f"http://127.0.0.1:{port}/v1"), Limits(connect=SHORT))
        for one in fill:
            one.close()

    assert pb.FAULT_CONNECT == heard.error.fault
    assert monotonic() - began < SOON


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([Do.RESET], "FAULT_AMBIGUOUS"),
        ([Do.CLOSE], "FAULT_AMBIGUOUS"),
        ([b"HTTP/1.1 200", Do.RESET], "FAULT_AMBIGUOUS"),
        ([b"ssh-2.0 hello\r\n", Do.CLOSE], "FAULT_AMBIGUOUS"),
        ([b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000, Do.WAIT], "FAULT_AMBIGUOUS"),
        ([STREAM, Do.RESET], "FAULT_TRUNCATED"),
        ([STREAM, Do.CLOSE], "FAULT_TRUNCATED"),
        ([STREAM, END], "FAULT_TRUNCATED"),
        ([STREAM, b"no-size\r\n"], "FAULT_TRUNCATED"),
        ([STREAM, chunk(b"<html>no</html>\n\n"), END], "FAULT_BAD_ANSWER"),
        ([STREAM, chunk(b"data: {broken\n\n"), END], "FAULT_BAD_ANSWER"),
        ([STREAM, chunk(b'data: {"error":{"message":"x","code":"server_error"}}\n\n'), END], "FAULT_SERVER"),
        ([head(content_length=0)], "FAULT_BAD_ANSWER"),
        ([whole(b"<html>no</html>")], "FAULT_BAD_ANSWER"),
        ([whole(b'{"error":{"message":"x","type":"server_error"}}')], "FAULT_SERVER"),
        ([head(content_length=len(ANSWER) + 1) + ANSWER, Do.CLOSE], "FAULT_TRUNCATED"),
        ([head(content_length=len(ANSWER) - 1) + ANSWER, Do.CLOSE], "FAULT_BAD_ANSWER"),
        ([head(content_length=5, transfer_encoding="chunked"), chunk(ANSWER), END], "FAULT_AMBIGUOUS"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], "FAULT_BAD_ANSWER"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"], "FAULT_AMBIGUOUS"),
        ([head(content_length=7, content_encoding="gzip") + b"notgzip"], "FAULT_TRUNCATED"),
    ],
    ids=[
        "reset",
        "closed",
        "reset in the headers",
        "no http",
        "endless headers",
        "reset after the headers",
        "closed after the headers",
        "empty stream",
        "no chunk",
        "html in a stream",
        "broken json",
        "error is the first event",
        "nothing",
        "html",
        "error in a 200",
        "too short",
        "too long",
        "length and chunks",
        "no content",
        "another protocol",
        "not compressed",
    ],
)
async def test_broken_before_any_content(script: Sequence[Step], expected: str) -> None:
    """Nothing is handed out; the fault says whether the request may have been charged."""
    assert (expected, b"") == await fault(*script)


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ([Do.RESET], "FAULT_TRUNCATED"),
        ([Do.CLOSE], "FAULT_TRUNCATED"),
        ([END], "FAULT_TRUNCATED"),
        ([b"garbage"], "FAULT_TRUNCATED"),
        ([chunk(b"data: {broken\n\n"), END], "FAULT_BAD_ANSWER"),
        ([chunk(b'data: {"error":{"message":"x","code":"rate_limit_exceeded"}}\n\n'), END], "FAULT_RATE"),
        ([chunk(b"data: {"), END], "FAULT_TRUNCATED"),
    ],
    ids=["reset", "closed", "ended", "no chunk", "broken json", "error", "cut event"],
)
async def test_broken_after_content(rest: Sequence[Step], expected: str) -> None:
    """What came before the break is handed out as it was."""
    assert (expected, delta("one")) == await fault(STREAM, chunk(delta("one")), 0.01, *rest)


@pytest.mark.parametrize(
    "script",
    [
        [Do.WAIT],
        [STREAM, Do.WAIT],
        [STREAM, chunk(b'data: {"choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'), Do.WAIT],
        [STREAM, *([chunk(b": ping\n\n"), SHORT / 4] * 200), Do.WAIT],
        [head(content_length=9), Do.WAIT],
        [head(content_length=999), *([b" ", SHORT / 4] * 200), Do.WAIT],
    ],
    ids=["headers", "first event", "first content", "only pings", "body", "body that drips"],
)
async def test_first_token_has_a_bound(script: Sequence[Step]) -> None:
    """From sending to the first content, whatever is sent instead of it."""
    began = monotonic()

    assert "FAULT_STALL" == (await fault(*script, limits=HASTY))[0]
    assert monotonic() - began < SOON


async def test_next_token_has_a_bound() -> None:
    """It counts from the last event; what came is handed out."""
    steps = [STREAM, chunk(delta("a")), SHORT / 2, chunk(delta("b")), SHORT / 2, chunk(delta("c")), Do.WAIT]

    assert ("FAULT_STALL", delta("a") + delta("b") + delta("c")) == await fault(*steps, limits=HASTY)


async def test_pings_put_the_bound_off_only_so_often() -> None:
    """A vendor that only says that it is alive says nothing."""
    began = monotonic()
    steps = [STREAM, chunk(delta("a")), *([chunk(b": ping\n\n"), SHORT / 2] * 100), Do.WAIT]

    assert "FAULT_STALL" == (await fault(*steps, limits=HASTY))[0]
    assert monotonic() - began < SOON


async def test_whole_attempt_has_a_bound() -> None:
    """However busy the stream is."""
    limits = Limits(connect=LONG, first_token=LONG, inter_token=LONG, total=SHORT * 2)
    steps = [STREAM, *([chunk(delta("a")), SHORT / 5] * 100)]

    assert "FAULT_STALL" == (await fault(*steps, limits=limits))[0]


async def test_leaving_is_not_a_fault() -> None:
    """A cancellation stays one, and the vendor's work ends."""
    async with wire([STREAM, Do.WAIT]) as vendor:
        asking = asyncio.create_task(attempt(request(), account(vendor.url)))
        while not vendor.requests:
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(0.25):
            while not vendor.left:
                await asyncio.sleep(0.001)


async def test_leaving_at_the_moment_of_a_stall_is_leaving() -> None:
    """Otherwise another attempt would be made for somebody who has gone."""
    async with wire([Do.WAIT]) as vendor:
        asking = asyncio.create_task(attempt(request(), account(vendor.url), HASTY))
        loop = asyncio.get_running_loop()

        def leave() -> None:
            if asking.cancelling():  # the bound has just cancelled the wait
                asking.cancel()
            else:
                loop.call_soon(leave)

        loop.call_soon(leave)
        outcomes = await asyncio.gather(asking, return_exceptions=True)

    assert isinstance(outcomes[0], asyncio.CancelledError)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_redirect_is_not_followed(status: str) -> None:
    """The request holds our key: it goes where the configuration says and nowhere else."""
    async with wire() as other, wire([whole(b"", status, location=other.url)]) as vendor:
        heard = await attempt(request(), account(vendor.url))

        assert isinstance(heard.error, MeshError)
        assert [] == other.requests


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_answer(encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """It was not asked for, and is read all the same, however it is cut."""
    packed = pack(ANSWER)
    pieces = [packed[at : at + 7] for at in range(0, len(packed), 7)]
    script: list[Step] = [head(content_length=len(packed), content_encoding=encoding)]
    for piece in pieces:
        script += [piece, 0.0005]
    async with wire(script) as vendor:
        heard = await attempt(request(stream=False), account(vendor.url))

    assert (None, ANSWER) == (heard.error, heard.data)


async def test_compressed_stream() -> None:
    """Events come out as they go in."""
    machine = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    events = [delta("one "), delta("two"), FINISH, DONE]
    pieces = [machine.compress(event) + machine.flush(zlib.Z_SYNC_FLUSH) for event in events]
    script: list[Step] = [head("text/event-stream", transfer_encoding="chunked", content_encoding="gzip")]
    for piece in [pieces[0][:10], pieces[0][10:], *pieces[1:], machine.flush()]:
        script += [chunk(piece), 0.001]
    async with wire([*script, END]) as vendor:
        heard = await attempt(request(), account(vendor.url))

    assert (None, b"".join(events[:3])) == (heard.error, heard.data)


async def test_bomb() -> None:
    """A kilobyte that opens to a gigabyte is no answer."""
    bomb = gzip.compress(bytes(100_000_000))
    async with wire([head(content_length=len(bomb), content_encoding="gzip") + bomb, Do.WAIT]) as vendor:
        tracemalloc.start()
        heard = await attempt(request(stream=False), account(vendor.url))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert pb.FAULT_TRUNCATED == heard.error.fault
    assert peak < 50_000_000


async def test_line_without_an_end() -> None:
    """An event is bounded in size: memory does not grow with what a vendor sends."""
    async with wire([STREAM, *([chunk(b"data: " + b"x" * 1_000_000)] * 50), Do.WAIT]) as vendor:
        heard = await attempt(request(), account(vendor.url))

    assert pb.FAULT_BAD_ANSWER == heard.error.fault


async def test_answer_without_an_end() -> None:
    """So is a whole answer."""
    flood = [head(transfer_encoding="chunked"), *([chunk(bytes(4_000_000))] * 30), Do.WAIT]
    async with wire(flood) as vendor:
        heard = await attempt(request(stream=False), account(vendor.url))

    assert pb.FAULT_BAD_ANSWER == heard.error.fault


async def test_answer_that_ends_with_its_connection() -> None:
    """HTTP/1.0 servers and some proxies give no length."""
    async with wire([head() + ANSWER, Do.CLOSE], [head("text/event-stream"), delta("a") + FINISH, Do.CLOSE]) as vendor:
        body = await attempt(request(stream=False), account(vendor.url))
        events = await attempt(request(), account(vendor.url))

    assert (ANSWER, delta("a") + FINISH) == (body.data, events.data)


async def test_interim_answers_are_passed_over() -> None:
    """100 and 103 come before the answer."""
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with wire([b"HTTP/1.1 100 Continue\r\n\r\n", interim, whole(ANSWER)]) as vendor:
        heard = await attempt(request(stream=False), account(vendor.url))

    assert (None, ANSWER) == (heard.error, heard.data)


async def test_whole_error_body_is_read() -> None:
    """It decides the fault, and often comes after the headers."""
    body = b'{"error":{"message":"' + b"x" * 3000 + b'","code":"insufficient_quota"}}'
    script = [head(status="429 Too Many Requests", content_length=len(body)), 0.01, body[:1500], 0.01, body[1500:]]

    assert "FAULT_QUOTA" == (await fault(*script))[0]


async def test_error_body_without_an_end() -> None:
    """The status alone says enough."""
    script = [head(status="503 Service Unavailable", content_length=99), b"{", Do.WAIT]

    assert "FAULT_SERVER" == (await fault(*script, limits=HASTY))[0]


class TestConnections:
    async def test_one_connection_serves_many_calls(self) -> None:
        """After whole answers, streams and refusals alike."""
        transport = Transport()
        async with Vendor() as vendor:
            at = account(vendor.url)
            vendor.inject(Script(), Script(chunks=0), Script(status=503), Script(), Script(usage=False))
            streamed = (True, True, True, False, True)
            heard = [await attempt(request(stream=one), at, transport=transport) for one in streamed]

            assert (5, 1) == (vendor.requests, len(vendor.connections))
            assert [False, False, True, False, False] == [one.error is not None for one in heard]
            await transport.close()

    async def test_end_marker_is_not_the_end_of_the_body(self) -> None:
        """What follows it is read, so that the connection can be used again."""
        transport = Transport()
        script = [STREAM, chunk(delta("a")), chunk(FINISH), chunk(DONE), 0.02, END]
        async with wire(script, stream(delta("b"), FINISH, DONE)) as vendor:
            heard = [await attempt(request(), account(vendor.url), transport=transport) for _ in range(2)]
            await transport.close()

            assert ([None, None], 1) == ([one.error for one in heard], vendor.connections)

    async def test_connection_of_a_broken_attempt_is_closed(self) -> None:
        """The vendor's work ends, and nobody gets the rest of another's answer."""
        transport = Transport()
        async with wire([STREAM, chunk(delta("a")), Do.WAIT], stream(delta("b"), FINISH, DONE)) as vendor:
            async with aclosing(converse(request(), account(vendor.url), transport, PATIENT)) as responses:
                await anext(responses)
            heard = await attempt(request(), account(vendor.url), transport=transport)
            await transport.close()

            assert (delta("b") + FINISH, 2) == (heard.data, vendor.connections)

    async def test_kept_connection_that_the_vendor_closed(self) -> None:
        """It is noticed before anything is sent on it."""
        transport = Transport()
        async with wire([whole(ANSWER), Do.CLOSE], [whole(ANSWER)]) as vendor:
            first = await attempt(request(stream=False), account(vendor.url), transport=transport)
            await asyncio.sleep(0.02)
            second = await attempt(request(stream=False), account(vendor.url), transport=transport)
            await transport.close()

            assert (None, None, 2) == (first.error, second.error, vendor.connections)

    @pytest.mark.parametrize("extra", [whole(b'{"stolen":1}'), b"HTTP/1.1 200 OK\r\ncontent-le", b"\x00\x01"])
    @pytest.mark.parametrize("pause", [None, 0.02])
    async def test_bytes_that_nobody_asked_for(self, extra: bytes, pause: float | None) -> None:
        """They are no part of this answer, nor of the next one."""
        transport = Transport()
        script = [whole(ANSWER), pause, extra] if pause else [whole(ANSWER) + extra]
        async with wire(script, [whole(ANSWER)]) as vendor:
            heard: list[Heard] = []
            for _ in range(2):
                heard.append(await attempt(request(stream=False), account(vendor.url), transport=transport))
                await asyncio.sleep(0.04)
            await transport.close()

            assert [ANSWER, ANSWER] == [one.data for one in heard]
            assert 2 == vendor.connections

    async def test_vendor_that_asks_to_close(self) -> None:
        """Is not asked twice on one connection."""
        transport = Transport()
        closing = whole(ANSWER, connection="close")
        async with wire([closing], [closing]) as vendor:
            for _ in range(2):
                await attempt(request(stream=False), account(vendor.url), transport=transport)
            await transport.close()

            assert 2 == vendor.connections

    async def test_connections_have_a_bound(self) -> None:
        """Who finds none in time says so; who waits gets the one that comes back."""
        transport = Transport(connections=1)
        hasty = Limits(connect=SHORT, first_token=LONG, inter_token=LONG, total=LONG)
        slow = [STREAM, chunk(delta("a")), SHORT * 2, chunk(FINISH), chunk(DONE), END]
        async with wire(slow, [whole(ANSWER)]) as vendor:
            at = account(vendor.url)
            first = asyncio.create_task(attempt(request(), at, transport=transport))
            await asyncio.sleep(0.01)
            late = await attempt(request(stream=False), at, hasty, transport)
            patient = await attempt(request(stream=False), at, transport=transport)
            await first
            await transport.close()

            assert (pb.FAULT_CONNECT, None, 1) == (late.error.fault, patient.error, vendor.connections)

    async def test_slow_reader_slows_the_vendor(self) -> None:
        """What nobody reads stays at the vendor's."""
        transport = Transport()
        async with Vendor(script=Script(chunks=1_000_000)) as vendor:
            async with aclosing(converse(request(), account(vendor.url), transport, PATIENT)) as responses:
                await anext(responses)
                await asyncio.sleep(0.1)
                [connection] = vendor.connections
                waiting = not connection._writable
            await transport.close()

        assert waiting
