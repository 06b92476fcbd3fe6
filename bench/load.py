"""A closed-loop HTTP/1.1 load: so many connections, each asking again as soon as it was answered.

Every answer is checked: its status, the number of stamped chunks in it, and `[DONE]` at the end of a stream. One
protocol object per connection and no task. `run` works inside a running loop; `python -m bench.load` reads a `Load` as
JSON from stdin and writes a `Report` to stdout, so that the client's work is another process than what is measured.
"""

import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

from bench.answers import STAMP, STAMP_DIGITS, now_us
from bench.summary import Spread
from bench.vendor import allow_many_files

RETRY_AFTER: Final = 0.05  # seconds before a connection that was refused is tried again
TAIL_BYTES: Final = 64
SHOWN: Final = 5  # kinds of failure that a report names


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to ask, how often, for how long.

    Attributes:
        url: Where to POST.
        body: The request's body.
        headers: Headers beside those that HTTP needs.
        concurrency: Connections, each with one request at a time.
        requests: How many requests at most.
        seconds: After that, no new request is sent; those under way are finished.
        ramp: Seconds over which the connections are opened.
        timeout: Seconds after which the whole load ends and what is under way has failed.
        chunks: Stamped chunks that an answer must have.
        stream: Whether an answer must end with `[DONE]`.
    """

    url: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    concurrency: int = 1
    requests: int = 1_000_000
    seconds: float = 1.0
    ramp: float = 0.0
    timeout: float = 60.0
    chunks: int = 1
    stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came back. Times in milliseconds unless they say seconds; spreads are over answers that were right.

    Attributes:
        ok: Answers that were right.
        failed: Answers that were not, refused connections, and what was under way at the timeout.
        chunks: Stamped chunks in the answers that were right.
        wall_seconds: From the first request to the end of the last answer.
        latency: From request to the end of its answer.
        first: From request to its first stamped chunk.
        delay: From a chunk's stamp to here; the oldest chunk of each read.
        cpu_seconds: What the load itself used.
        failures: Kinds of failure and how often.
    """

    ok: int
    failed: int
    chunks: int
    wall_seconds: float
    latency: Spread
    first: Spread
    delay: Spread
    cpu_seconds: float
    failures: dict[str, int]


class _Run:
    """What the connections of one load share."""

    def __init__(self, load: Load, loop: asyncio.AbstractEventLoop) -> None:
        self.load = load
        self.loop = loop
        self.left = load.requests
        self.request = request_bytes(load)
        self.started = time.monotonic()
        self.ends = self.started + load.seconds
        self.last = self.started
        self.open = load.concurrency  # connections that may still ask
        self.done = asyncio.Event()
        self.ok = self.failed = self.chunks = 0
        self.latency: list[float] = []
        self.first: list[float] = []
        self.delay: list[int] = []
        self.failures: Counter[str] = Counter()
        self.clients: set[_Client] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    def connect(self, delay: float) -> None:
        """Open one connection after that many seconds."""
        task = self.loop.create_task(_connect(self, delay))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def take(self, now: float) -> bool:
        """Whether one more request may be sent."""
        if self.left <= 0 or now >= self.ends:
            return False
        self.left -= 1
        return True

    def right(self, now: float, began: float, first: float, chunks: int) -> None:
        self.ok += 1
        self.chunks += chunks
        self.latency.append((now - began) * 1000)
        self.first.append((first - began) * 1000)
        self.last = now

    def wrong(self, why: str) -> None:
        self.failed += 1
        self.failures[why] += 1
        self.last = time.monotonic()

    def leave(self) -> None:
        """A connection is through."""
        self.open -= 1
        if self.open == 0:
            self.done.set()


class _Client(asyncio.Protocol):
    """One connection of the load."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._asking = False
        self._refused = False  # the next connection waits a little, lest a failing server be asked without pause
        self._began = 0.0
        self._first = 0.0
        self._chunks = 0
        self._tail = b""
        self._parts: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        self._run.clients.add(self)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.clients.discard(self)
        if self._asking:
            self._asking, self._refused = False, True
            self._run.wrong(f"connection lost after {self._chunks} of {self._run.load.chunks} chunks")
        self._run.connect(RETRY_AFTER if self._refused else 0.0)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
            self._count()
        except httptools.HttpParserError as error:
            self._asking, self._refused = False, True
            self._run.wrong(f"not http: {error}")
            self._transport.abort()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def _count(self) -> None:
        """Look at what one read has brought."""
        body = b"".join(self._parts)
        self._parts.clear()
        found = body.count(STAMP)
        if found:
            if not self._chunks:
                self._first = time.monotonic()
            self._chunks += found
            at = body.index(STAMP) + 1
            stamp = body[at : at + STAMP_DIGITS]
            if len(stamp) == STAMP_DIGITS:  # else it goes on in the next read; its delay is not known
                self._run.delay.append(now_us() - int(stamp))
        self._tail = body[-TAIL_BYTES:] if len(body) >= TAIL_BYTES else (self._tail + body)[-TAIL_BYTES:]

    def on_message_complete(self) -> None:
        self._count()
        self._asking = False
        why = self._complaint()
        if why:
            self._refused = True
            self._run.wrong(why)
        else:
            self._run.right(time.monotonic(), self._began, self._first, self._chunks)
        if self._parser.should_keep_alive() and not why:
            self._ask()
        else:
            self._transport.close()

    def _complaint(self) -> str:
        load = self._run.load
        status = self._parser.get_status_code()
        if status != 200:
            return f"status {status}: {self._tail.decode(errors='replace')}"
        if self._chunks != load.chunks:
            return f"{self._chunks} of {load.chunks} chunks"
        return "no [DONE]" if load.stream and b"[DONE]" not in self._tail else ""

    def _ask(self) -> None:
        self._began = time.monotonic()
        self._chunks, self._tail = 0, b""
        self._asking = self._run.take(self._began)
        if self._asking:
            self._transport.write(self._run.request)
        else:
            self._transport.close()

    def give_up(self) -> None:
        """The load is over."""
        if self._asking:
            self._asking = False
            self._run.wrong(f"timeout after {self._chunks} of {self._run.load.chunks} chunks")
        self._transport.abort()


def request_bytes(load: Load) -> bytes:
    """The request as it is sent."""
    url = urlsplit(load.url)
    headers = {
        "host": url.netloc,
        "content-type": "application/json",
        "content-length": str(len(load.body)),
        **load.headers,
    }
    lines = [f"POST {url.path or '/'} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + load.body


async def _connect(run: _Run, delay: float) -> None:
    """Open one connection, now or later, until it works or there is nothing left to ask."""
    url = urlsplit(run.load.url)
    host, port = url.hostname or "127.0.0.1", url.port or 80
    while True:
        await asyncio.sleep(delay)
        if run.left <= 0 or time.monotonic() >= run.ends:
            run.leave()
            return
        try:
            await run.loop.create_connection(lambda: _Client(run), host, port)
        except OSError as error:
            run.left -= 1
            run.wrong(f"cannot connect: {error.strerror or error}")
            delay = RETRY_AFTER
        else:
            return


async def run(load: Load) -> Report:
    """Put the load on and wait until it is through. It ends by itself, at the latest after `timeout`."""
    state = _Run(load, asyncio.get_running_loop())
    before = time.process_time()
    step = load.ramp / load.concurrency
    for index in range(load.concurrency):
        state.connect(index * step)
    try:
        async with asyncio.timeout(load.timeout):
            await state.done.wait()
    except TimeoutError:
        state.left = 0
        for client in list(state.clients):
            client.give_up()
    for task in state.tasks:
        task.cancel()
    return _report(state, time.process_time() - before)


def _report(state: _Run, cpu_seconds: float) -> Report:
    return Report(
        ok=state.ok,
        failed=state.failed,
        chunks=state.chunks,
        wall_seconds=max(state.last - state.started, 1e-6),
        latency=Spread.of(state.latency),
        first=Spread.of(state.first),
        delay=Spread.of([microseconds / 1000 for microseconds in state.delay]),
        cpu_seconds=cpu_seconds,
        failures=dict(state.failures.most_common(SHOWN)),
    )


def headers_of(key: str) -> Mapping[str, str]:
    """The credential header; none without a key."""
    return {"authorization": f"Bearer {key}"} if key else {}


def main() -> None:
    """Run the load that stdin describes."""
    load = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    allow_many_files()
    gc.disable()  # it is over in seconds, and a collection would be measured as the gateway's delay
    sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(run(load))))


if __name__ == "__main__":
    main()
