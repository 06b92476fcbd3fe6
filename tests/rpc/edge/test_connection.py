"""The HTTP door over real sockets: clients that are slow, greedy, gone or malicious; the roles behind it are fakes."""

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.edge.admin.gateway import Administration
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.config import EdgeConfig
from polyroute.edge.http import door as doors
from polyroute.edge.http import server
from polyroute.edge.http.admin import AdminDoor, Reach
from polyroute.edge.http.app import App, Doors
from polyroute.edge.http.connection import BoundedConnection
from polyroute.edge.http.pages import Pages
from polyroute.edge.idempotency.claims import Claims
from polyroute.edge.idempotency.once import Once
from polyroute.mesh.config import MeshConfig
from polyroute.mesh.node import Node
from tests.unit.edge.peers import KEY, House, Step, Wait, finished, said, started

SHORT = 0.15  # s: a bound that is waited for
SOON = 1.8  # s: by then a short bound has been noticed on any machine
LONG = 30.0  # s: one that must not matter
BODY = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
ANSWER: Sequence[Step] = (started(b"data: role\n\n"), said(b"data: one\n\n"), finished(b"data: two\n\n"))
DONE = b"data: [DONE]\n\n"


def request(body: bytes = BODY, *headers: str, version: str = "1.1") -> bytes:
    """A request's bytes."""
    lines = [
        f"POST /v1/chat/completions HTTP/{version}",
        "host: gateway",
        f"authorization: Bearer {KEY}",
        *(headers or (f"content-length: {len(body)}",)),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Client:
    """One raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    began: float = field(default_factory=monotonic)
    over: asyncio.Task[bytes] = field(init=False)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes) -> None:
        """A byte every few milliseconds, until the other side has had enough."""
        try:
            for byte in data:
                await self.send(bytes([byte]))
                await asyncio.sleep(SHORT / 10)
        except ConnectionError:
            return

    async def push(self, data: bytes) -> int:
        """How many times the other side takes `data`, at most 1000."""
        for taken in range(1000):
            try:
                await self.send(data)
                await asyncio.sleep(0)
            except ConnectionError:
                return taken
        return 1000

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(3):
            return await self.reader.readuntil(end)

    def reading(self) -> asyncio.Task[bytes]:
        """Reads on while the door closes."""
        self.over = asyncio.create_task(self.rest())
        return self.over

    async def rest(self) -> bytes:
        """Everything until the other side closes."""
        async with asyncio.timeout(3):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    @property
    def seconds(self) -> float:
        return monotonic() - self.began

    def leave(self) -> None:
        self.writer.transport.abort()


@dataclass
class Door:
    """A door that is open."""

    house: House
    address: tuple[str, int]
    clients: list[Client] = field(default_factory=list)

    async def client(self, **options: Any) -> Client:
        client = Client(*await asyncio.open_connection(*self.address, **options))
        self.clients.append(client)
        return client

    async def close(self) -> None:
        """Takes every client away."""
        while self.clients:
            client = self.clients.pop()
            client.leave()
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()

    async def eventually(self, seen: Callable[[], bool], seconds: float = 2.0) -> float:
        """How long it takes until it is so."""
        began = monotonic()
        async with asyncio.timeout(seconds):
            while not seen():
                await asyncio.sleep(0.002)
        return monotonic() - began

    @property
    def outcomes(self) -> list[int]:
        return [record.outcome for record in self.house.spool.records]


def connections() -> int:
    """How many are in memory."""
    gc.collect()
    return sum(issubclass(type(one), BoundedConnection) for one in gc.get_objects())


@asynccontextmanager
async def opened(
    folder: Path, scripts: Sequence[Sequence[Step]] = (), *, grace: float = 1, leave: bool = True, **bounds: float
) -> AsyncGenerator[Door]:
    """The door with these bounds; all others are long."""
    times = {f"{name}_seconds": LONG for name in ("header", "body", "stall", "keep_alive", "ping")}
    config = EdgeConfig.model_validate({"http": {**times, **bounds}})
    house = House(scripts)
    node = Node(MeshConfig(), frozenset(), folder)
    once = Once(Authorizer(house.auth.stub(), 5.0, monotonic), Claims(None, timeout=1, lease=1), grace=grace)
    admin = AdminDoor(Administration(node.channel), Reach.NOBODY)
    app = App(Doors.of(doors.Door(house.flow, config, once)), Pages(node, house.flow, None, None), admin)
    listening = server.bind("127.0.0.1:0", shared=False)
    door = Door(house, listening.getsockname())
    try:
        async with server.serving(app, config.http, listening, grace=grace):
            yield door
            if leave:
                await door.close()
        await asyncio.gather(*(client.over for client in door.clients))
    finally:
        listening.close()
        await door.close()


class TestSlowClients:
    async def test_silence(self, tmp_path: Path) -> None:
        """Whoever connects and says nothing is shown the door."""
        async with opened(tmp_path, header_seconds=SHORT) as door:
            client = await door.client()
            answer = await client.rest()

        assert b"HTTP/1.1 408 " == answer[:13]
        assert SHORT <= client.seconds + 0.01 < SOON

    async def test_headers_that_drip(self, tmp_path: Path) -> None:
        """The bound is for all of them, not for each byte."""
        async with opened(tmp_path, header_seconds=SHORT) as door:
            client = await door.client()
            dripping = asyncio.create_task(client.drip(request()))
            await client.rest()
            dripping.cancel()

            assert client.seconds < SOON
            assert 0 == door.house.auth.asked

    @pytest.mark.parametrize("before", [b"", request()], ids=["new", "kept"])
    async def test_blank_lines(self, tmp_path: Path, before: bytes) -> None:
        """A parser skips them; they are no request, and buy no time."""
        async with opened(tmp_path, [ANSWER], header_seconds=SHORT) as door:
            client = await door.client()
            if before:
                await client.send(before)
                await client.until(b"0\r\n\r\n")
            client.began = monotonic()
            await client.send(b"\r\n\r\n")
            await client.rest()

            assert client.seconds < SOON

    async def test_body_that_drips(self, tmp_path: Path) -> None:
        """Bytes do not buy time here either."""
        async with opened(tmp_path, body_seconds=SHORT) as door:
            client = await door.client()
            await client.send(request()[: -len(BODY)])
            dripping = asyncio.create_task(client.drip(BODY))
            await client.rest()
            dripping.cancel()

            assert client.seconds < SOON
            assert ([], 0) == (door.house.tried, door.house.auth.asked)

    async def test_body_has_its_own_time(self, tmp_path: Path) -> None:
        """Longer than the headers', also when nothing of it came with them."""
        async with opened(tmp_path, [ANSWER], header_seconds=SHORT) as door:
            client = await door.client()
            await client.send(request()[: -len(BODY)])
            await asyncio.sleep(SHORT * 1.5)
            await client.send(BODY)

            assert DONE in await client.until(b"0\r\n\r\n")

    async def test_time_counts_anew_for_every_request(self, tmp_path: Path) -> None:
        """A connection that is kept has not used up its time."""
        async with opened(tmp_path, [ANSWER, ANSWER], header_seconds=SHORT) as door:
            client = await door.client()
            for _ in range(2):
                await client.send(request())
                await client.until(b"0\r\n\r\n")
                await asyncio.sleep(SHORT * 1.5)

            assert 2 == len(door.house.tried)

    async def test_idle_connection_is_given_up(self, tmp_path: Path) -> None:
        """After its keep-alive time, without a word."""
        async with opened(tmp_path, [ANSWER], keep_alive_seconds=1) as door:
            client = await door.client()
            await client.send(request())
            await client.until(b"0\r\n\r\n")

            assert b"" == await client.rest()

    async def test_long_answer_is_not_bounded_by_the_request(self, tmp_path: Path) -> None:
        """The times for headers and body are over when the request is here."""
        gate = Wait()
        script = (*ANSWER[:2], gate, ANSWER[2])
        async with opened(tmp_path, [script], header_seconds=SHORT, body_seconds=SHORT) as door:
            client = await door.client()
            await client.send(request())
            await asyncio.sleep(SHORT * 2)
            gate.set()

            assert DONE in await client.until(b"0\r\n\r\n")


class TestReadersThatStop:
    async def test_the_vendor_is_not_read_any_further(self, tmp_path: Path) -> None:
        """What nobody reads is not bought, and not kept in memory."""
        flood = [started(), *(said(b"x" * 65_536) for _ in range(2000))]
        async with opened(tmp_path, [flood]) as door:
            client = await door.client(limit=1024)
            await client.send(request())
            await door.eventually(lambda: door.house.providers.said > 1)
            await asyncio.sleep(0.2)
            before = door.house.providers.said
            await asyncio.sleep(0.2)

            assert before == door.house.providers.said < 200

    async def test_they_are_given_up(self, tmp_path: Path) -> None:
        """The vendor's work ends, and what was delivered is on record."""
        flood = [started(), *(said(b"x" * 65_536) for _ in range(2000))]
        async with opened(tmp_path, [flood], stall_seconds=SHORT) as door:
            client = await door.client(limit=1024)
            await client.send(request())
            await door.eventually(lambda: len(door.outcomes) == 1)

            assert [metrics_pb2.OUTCOME_CANCELLED] == door.outcomes
            assert (0, True) == (door.house.providers.open, door.house.record.usage.output_tokens > 0)


class TestClientsThatLeave:
    @pytest.mark.parametrize("before", ["content", "after content"])
    async def test_the_vendors_work_ends_at_once(self, tmp_path: Path, before: str) -> None:
        """Within a quarter of a second, before the first token and after it."""
        script: list[Step] = [started(), Wait()] if before == "content" else [*ANSWER[:2], Wait()]
        async with opened(tmp_path, [script]) as door:
            client = await door.client()
            await client.send(request())
            await door.eventually(lambda: door.house.providers.said == len(script))
            client.leave()
            took = await door.eventually(lambda: door.house.providers.open == 0 and door.outcomes != [])

            assert took < 0.25
            assert [metrics_pb2.OUTCOME_CANCELLED] == door.outcomes

    async def test_half_closing_is_leaving(self, tmp_path: Path) -> None:
        """A client that will never send again is not waited for."""
        async with opened(tmp_path, [[*ANSWER[:2], Wait()]]) as door:
            client = await door.client()
            await client.send(request())
            await door.eventually(lambda: door.house.providers.said == 3)
            client.writer.write_eof()
            await door.eventually(lambda: door.outcomes == [metrics_pb2.OUTCOME_CANCELLED])

            assert 0 == door.house.providers.open

    async def test_nothing_of_them_stays(self, tmp_path: Path) -> None:
        """Though their connections would have been kept for long, and were not even closed but reset."""
        async with opened(tmp_path, [ANSWER]) as door:
            client = await door.client()
            await client.send(request())
            await client.until(b"0\r\n\r\n")
            before = connections()
            connected: socket.socket = client.writer.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.leave()
            await door.eventually(lambda: not connections())

        assert 1 == before

    async def test_in_mid_request(self, tmp_path: Path) -> None:
        """Half a request is nobody's call."""
        async with opened(tmp_path) as door:
            client = await door.client()
            await client.send(request()[:-5])
            await asyncio.sleep(0.02)
            client.leave()
            await asyncio.sleep(0.02)

            assert (0, []) == (door.house.auth.asked, door.outcomes)

    async def test_second_call_on_a_connection_is_watched_like_the_first(self, tmp_path: Path) -> None:
        """Also when the first one's task has not quite ended while the second is under way."""
        tail = Wait()
        async with opened(tmp_path, [(*ANSWER, tail), (*ANSWER[:2], Wait())]) as door:
            client = await door.client()
            await client.send(request())
            await client.until(b"0\r\n\r\n")
            await client.send(request())
            await client.until(b"data: one\n\n")
            tail.set()
            await door.eventually(lambda: door.house.providers.open == 1)
            client.leave()
            await door.eventually(lambda: door.house.providers.open == 0)

            assert [metrics_pb2.OUTCOME_COMPLETED, metrics_pb2.OUTCOME_CANCELLED] == door.outcomes


LENGTH = f"content-length: {len(BODY)}"
CHUNKED = "transfer-encoding: chunked"
MALFORMED = {
    "two lengths": request(BODY, LENGTH, "content-length: 5"),
    "length, then chunked": request(BODY, LENGTH, CHUNKED),
    "chunked, then length": request(BODY, CHUNKED, LENGTH),
    "chunked is not last": request(BODY, "transfer-encoding: chunked, identity"),
    "plus sign": request(BODY, f"content-length: +{len(BODY)}"),
    "list of lengths": request(BODY, f"content-length: {len(BODY)}, {len(BODY)}"),
    "negative length": request(BODY, "content-length: -1"),
    "space before the colon": request(BODY, f"content-length : {len(BODY)}"),
    "nul in a value": request(BODY, LENGTH, "x-nul: a\x00b"),
    "folded": request(BODY, LENGTH, "x-folded: a", " b"),
    "no chunk size": request(b"zz\r\n" + BODY, CHUNKED),
    "huge chunk size": request(b"fffffffffffffffff\r\n" + BODY, CHUNKED),
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "nul in the method": b"GET\x00 / HTTP/1.1\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "line feeds only": request().replace(b"\r\n", b"\n"),
}


class TestMalice:
    async def test_request_that_two_parsers_could_read_differently(self, tmp_path: Path) -> None:
        """400, and the connection is over: what follows is not taken for another request. Nobody answers it."""
        async with opened(tmp_path) as door:

            async def answer(sent: bytes) -> tuple[bytes, int]:
                client = await door.client()
                await client.send(sent)
                said = await client.rest()
                return said[:13], said.count(b"HTTP/1.1")

            answers = await asyncio.gather(*map(answer, MALFORMED.values()))

            assert dict.fromkeys(MALFORMED, (b"HTTP/1.1 400 ", 1)) == dict(zip(MALFORMED, answers, strict=True))
            assert [] == door.house.tried

    async def test_huge_headers(self, tmp_path: Path) -> None:
        """Refused while they come, without keeping them."""
        async with opened(tmp_path, max_header_bytes=65_536) as door:
            client = await door.client()
            head = request()[: -len(BODY) - 2]
            await client.send(head)
            sent = await client.push(f"x: {'y' * 1000}\r\n".encode())
            answer = await client.rest()

            assert sent < 900
            assert answer[:13] in (b"HTTP/1.1 431 ", b"")  # it may be lost to the reset that follows unread bytes
            assert 0 == door.house.auth.asked

    async def test_header_without_an_end(self, tmp_path: Path) -> None:
        """One line of headers has the bound of all."""
        async with opened(tmp_path, max_header_bytes=65_536) as door:
            client = await door.client()
            await client.send(b"GET / HTTP/1.1\r\nx: ")
            sent = await client.push(b"y" * 1000)
            await client.rest()

            assert sent < 900

    async def test_pipelined_requests_are_answered_in_order(self, tmp_path: Path) -> None:
        """Each with its own call."""
        other = (started(b"data: role\n\n"), said(b"data: other\n\n"), finished())
        async with opened(tmp_path, [ANSWER, other]) as door:
            client = await door.client()
            await client.send(request() * 2)
            first = await client.until(b"0\r\n\r\n")
            second = await client.until(b"0\r\n\r\n")

            assert (b"one" in first, b"other" in first) == (True, False)
            assert (b"one" in second, b"other" in second) == (False, True)
            assert 2 == len(door.outcomes)

    async def test_oldest_clients_are_served(self, tmp_path: Path) -> None:
        """HTTP/1.0 knows no chunks: the answer ends with the connection."""
        async with opened(tmp_path, [ANSWER]) as door:
            client = await door.client()
            await client.send(request(version="1.0"))
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")

        assert b"chunked" not in head.lower()
        assert b"data: role\n\ndata: one\n\ndata: two\n\n" + DONE == body


class TestStopping:
    async def test_running_answer_is_finished(self, tmp_path: Path) -> None:
        """Leaving waits for it."""
        gate = Wait()
        async with opened(tmp_path, [(*ANSWER[:2], gate, ANSWER[2])], grace=5, leave=False) as door:
            client = await door.client()
            await client.send(request())
            await client.until(b"data: one\n\n")
            reading = client.reading()
            asyncio.get_running_loop().call_later(0.1, gate.set)
        rest = await reading

        assert DONE in rest
        assert [metrics_pb2.OUTCOME_COMPLETED] == door.outcomes

    async def test_answer_that_takes_too_long_ends_with_an_error(self, tmp_path: Path) -> None:
        """In the stream, without an end marker: nobody takes the prefix for the whole."""
        async with opened(tmp_path, [(*ANSWER[:2], Wait())], grace=1, leave=False) as door:
            client = await door.client()
            await client.send(request())
            await client.until(b"data: one\n\n")
            reading = client.reading()
        rest = await reading

        assert b'"code":"server_draining"' in rest
        assert b"[DONE]" not in rest
        assert (0, [metrics_pb2.OUTCOME_CANCELLED]) == (door.house.providers.open, door.outcomes)
