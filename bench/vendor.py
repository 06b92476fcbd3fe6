"""A mock vendor that speaks chat completions and Messages: cheap enough to stand behind a load, faulty on request.

As a process: `python -m bench.vendor --port 9100` prints one JSON line with its address and serves until SIGTERM.
In a test: `async with Vendor() as vendor:` with `vendor.url`, `vendor.requests`, `vendor.cancelled`, `vendor.seen`.

What an answer is comes from, strongest first: `vendor.inject(...)`, the markers of the prompt (`bench.script`), the
vendor's own `script`. Over HTTP: GET /__stats; POST /__script with `status=503` makes that the vendor's own script
(an empty body restores the default), POST /__inject queues one for the next chat request.

One `asyncio.Protocol` and no task per connection: a paced chunk costs one timer and one write.
"""

import argparse
import asyncio
import contextlib
import gc
import itertools
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Self, cast

import httptools
import orjson
import uvloop

from bench import answers
from bench.answers import CHAT, Form
from bench.messages import MESSAGES
from bench.script import Script, read

BACKLOG: Final = 4096
KEPT: Final = 256  # how many requests `seen` remembers


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived: header names in lower case, the body not decoded."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Vendor:
    """The vendor; an async context manager that listens between enter and exit.

    Args:
        port: Where to listen; 0 lets the system choose.
        host: The address to listen on.
        script: The answer to a prompt without a marker.
        models: The names that GET /v1/models lists. Any name is served.
        keep: How many of the last requests `seen` keeps, with their bodies.
    """

    def __init__(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        script: Script = Script(),  # noqa: B008 - frozen
        models: tuple[str, ...] = ("gpt-bench",),
        keep: int = KEPT,
    ) -> None:
        self.host, self.port = host, port
        self.script = script
        self.models = models
        self.requests = 0  # requests for an answer or a vector received
        self.cancelled = 0  # of them, those whose client left before the answer was complete
        self.active = 0  # of them, those being answered now
        self.seen: deque[Seen] = deque(maxlen=keep)
        self.connections: set[Connection] = set()
        self._injected: deque[Script] = deque()
        self._ids = itertools.count(1)
        self._server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        """`http://host:port`."""
        return f"http://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL that a provider's configuration takes."""
        return f"{self.origin}/v1"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self, loop), self.host, self.port, backlog=BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        await self._server.wait_closed()

    def inject(self, *scripts: Script) -> None:
        """Answer the next chat requests by these, one each, whatever their prompts say."""
        self._injected.extend(scripts)

    def script_for(self, prompt: str, model: str) -> Script:
        """How to answer this request. ValueError when its marker cannot be understood."""
        return self._injected.popleft() if self._injected else read(prompt, model, self.script)

    def next_id(self) -> int:
        """A number for an answer."""
        return next(self._ids)

    def stats(self) -> dict[str, float]:
        """What GET /__stats tells; `cpu_seconds` is of the vendor's process."""
        return {
            "requests": self.requests,
            "cancelled": self.cancelled,
            "active": self.active,
            "connections": len(self.connections),
            "cpu_seconds": time.process_time(),
        }


class Connection(asyncio.Protocol):
    """One client's connection: parses requests with httptools and answers them in turn."""

    def __init__(self, vendor: Vendor, loop: asyncio.AbstractEventLoop) -> None:
        self._vendor = vendor
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None
        self._pieces: Iterator[answers.Piece] | None = None
        self._busy = False  # an answer is under way
        self._writable = True
        self._keep_alive = True
        self._forget()

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client came."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        self._vendor.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left, or this side closed."""
        self._vendor.connections.discard(self)
        if self._busy:
            self._vendor.cancelled += 1
            self._finished()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.write(answers.refusal(400, "not an http request"))
            self._transport.close()

    def pause_writing(self) -> None:
        """The client reads slower than it is sent to."""
        self._writable = False

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable = True
        if self._pieces is not None and self._timer is None:
            self._pump()

    def abort(self) -> None:
        """Close at once, as a killed vendor does."""
        self._transport.abort()

    # --- the parser's side

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """A whole request is here."""
        if self._busy:  # pipelined: no client of a vendor does that
            self.abort()
            return
        self._keep_alive = self._parser.should_keep_alive()  # told for this request only within this callback
        method, path = self._parser.get_method().decode(), self._path.decode()
        headers, body = self._headers, b"".join(self._body)
        self._forget()
        if self._vendor.seen.maxlen and not path.startswith("/__"):
            known = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
            self._vendor.seen.append(Seen(method, path, known, body))
        try:
            self._route(method, path.partition("?")[0].removeprefix("/v1"), body)
        except (ValueError, TypeError, AttributeError, LookupError) as error:  # a body that is not what it should be
            self._write_whole(answers.refusal(400, f"{type(error).__name__}: {error}"))

    def _forget(self) -> None:
        self._path = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []

    def _route(self, method: str, path: str, body: bytes) -> None:
        match method, path:
            case "POST", "/chat/completions":
                self._generate(orjson.loads(body), CHAT)
            case "POST", "/messages":
                self._generate(orjson.loads(body), MESSAGES)
            case "POST", "/embeddings":
                self._vendor.requests += 1
                self._write_whole(answers.embeddings(orjson.loads(body)))
            case "GET", "/models":
                self._write_whole(answers.models(self._vendor.models))
            case "GET", "/__stats":
                self._write_whole(answers.json_answer(self._vendor.stats()))
            case "POST", "/__script":
                self._vendor.script = _script(body)
                self._write_whole(answers.json_answer({}))
            case "POST", "/__inject":
                self._vendor.inject(_script(body))
                self._write_whole(answers.json_answer({}))
            case _:
                self._write_whole(answers.refusal(404, f"no such address: {method} {path}"))

    # --- answers

    def _generate(self, request: dict[str, Any], form: Form) -> None:
        asked = _asked(request, self._vendor.next_id())
        self._vendor.requests += 1
        script = self._vendor.script_for(last_prompt(request), asked.model)
        self._vendor.active += 1
        self._busy = True
        answer = self._stream if asked.stream else self._unary
        if script.first:
            self._later(script.first, lambda: answer(asked, script, form))
        else:
            answer(asked, script, form)

    def _unary(self, asked: answers.Asked, script: Script, form: Form) -> None:
        if self._refused(script) or script.fault[0] == "stall":
            return
        self._transport.write(answers.completion(asked, script, form=form))
        self._end(close=script.fault[0] == "cut")

    def _stream(self, asked: answers.Asked, script: Script, form: Form) -> None:
        if self._refused(script):
            return
        extra = {"cache-control": "no-cache", "x-request-id": asked.id}
        self._transport.write(answers.head(200, answers.EVENT_STREAM, None, extra))
        self._script, self._due = script, self._loop.time()
        self._pieces = answers.pieces(asked, script, form=form)
        self._pump()

    def _refused(self, script: Script) -> bool:
        if script.drop:
            self._end(close=True)
        elif script.status != 200:
            self._transport.write(answers.refusal(script.status, "refused on request", script.retry_after))
            self._end()
        else:
            return False
        return True

    def _pump(self) -> None:
        """Send what is due of a stream: one piece when it is paced, else as many as the socket takes."""
        self._timer = None
        while self._pieces is not None and self._writable:
            piece = next(self._pieces)
            self._transport.write(piece.data)
            if piece.last:
                self._last_sent()
            elif self._script.gap:
                # on the schedule that the first chunk set: a late timer must not slow the stream down
                self._due += self._script.gap / 1000
                self._timer = self._loop.call_at(self._due, self._pump)
                return

    def _last_sent(self) -> None:
        fault, _ = self._script.fault
        if fault == "stall":
            self._pieces = None
        else:
            self._end(close=fault == "cut")

    def _later(self, milliseconds: float, call: Callable[[], None]) -> None:
        def run() -> None:
            self._timer = None
            call()

        self._timer = self._loop.call_later(milliseconds / 1000, run)

    def _write_whole(self, answer: bytes) -> None:
        self._transport.write(answer)
        if not self._keep_alive:
            self._transport.close()

    def _end(self, *, close: bool = False) -> None:
        self._finished()
        if close or not self._keep_alive:
            self._transport.close()

    def _finished(self) -> None:
        self._vendor.active -= 1
        self._busy = False
        self._pieces = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def last_prompt(request: dict[str, Any]) -> str:
    """The text of the last user message; its text parts one after another when it has parts."""
    for message in reversed(request["messages"]):
        if message.get("role") == "user":
            content = message.get("content") or ""
            return content if isinstance(content, str) else " ".join(str(part.get("text", "")) for part in content)
    return ""


def _asked(request: dict[str, Any], number: int) -> answers.Asked:
    options = request.get("stream_options") or {}
    return answers.Asked(
        id=f"chatcmpl-{number:08d}",
        model=str(request.get("model", "")),
        stream=bool(request.get("stream")),
        include_usage=bool(options.get("include_usage")),
        prompt_tokens=max(1, sum(len(message.get("content") or "") for message in request["messages"]) // 4),
        created=int(time.time()),
    )


def _script(body: bytes) -> Script:
    return Script().told(dict(pair.split("=", 1) for pair in body.decode().split()))


async def serve(vendor: Vendor) -> None:
    """Serve until SIGTERM or SIGINT; says on stdout where."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with vendor:
        print(orjson.dumps({"origin": vendor.origin, "url": vendor.url}).decode(), flush=True)
        await stopped.wait()


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: thousands of streams are as many sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # a hard limit above what the kernel lets any process have
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.vendor", description="A mock vendor: chat completions, Messages."
    )
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--script", default="", help="the answer to a prompt without a marker: 'chunks=20 gap=50'")
    arguments = parser.parse_args()
    allow_many_files()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)  # a collection in mid-stream would be measured as the gateway's delay
    script = _script(arguments.script.encode())
    uvloop.run(serve(Vendor(arguments.port, arguments.host, script, keep=0)))


if __name__ == "__main__":
    main()
