"""A vendor that puts bytes on the wire exactly as told, and a way to ask it."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, EncodedRequest, RequestFacts, Usage
from polyroute.api.providers.v1.providers_pb2 import Finished, GenerateRequest, GenerateResponse, Started
from polyroute.api.providers.v1.providers_pb2 import Target as TargetMessage
from polyroute.providers.account import Account
from polyroute.providers.conversation import converse
from polyroute.providers.transport import Limits, Transport
from polyroute.providers.vendor import Quirks, Vendor

SHORT = 0.1  # s: a bound that is waited for
SOON = 1.8  # s: by then a short bound has been noticed on any machine
LONG = 20.0
PATIENT = Limits(connect=LONG, first_token=LONG, inter_token=LONG, total=LONG)
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
STREAMED = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'
DONE = b"data: [DONE]\n\n"


class Do(Enum):
    """What a vendor does instead of sending."""

    RESET = "reset"
    CLOSE = "close"
    WAIT = "wait"  # until the caller leaves


Step = bytes | float | Do


@dataclass
class Wire:
    """Plays one script per request; `left` counts callers that left while it waited."""

    scripts: deque[Sequence[Step]]
    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    left: int = 0
    open: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        self.requests.append(head + await reader.readexactly(length))
        script = self.scripts.popleft()
        for step in script:
            if isinstance(step, bytes):
                writer.write(step)
                try:
                    await writer.drain()
                except ConnectionError:  # who leaves without having read resets the connection
                    self.left += Do.WAIT in script
                    raise
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif step is Do.WAIT:
                with suppress(ConnectionError):
                    await reader.read()
                self.left += 1
                return False
            else:
                if step is Do.RESET:
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                return False
        return True


@asynccontextmanager
async def wire(*scripts: Sequence[Any]) -> AsyncGenerator[Wire]:
    """A vendor that is there while the body runs."""
    vendor = Wire(deque(scripts))
    server = await asyncio.start_server(vendor.serve, "127.0.0.1", 0, limit=2**20)
    vendor.port = server.sockets[0].getsockname()[1]
    try:
        yield vendor
    finally:
        server.close()
        async with asyncio.timeout(2):
            while vendor.open:  # whoever asked has closed its connections, or is about to
                await asyncio.sleep(0.001)


def head(kind: str = "application/json", status: str = "200 OK", **headers: Any) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-type: {kind}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def whole(body: bytes, status: str = "200 OK", **headers: Any) -> bytes:
    """An answer with its length."""
    return head(status=status, content_length=len(body), **headers) + body


STREAM = head("text/event-stream", transfer_encoding="chunked")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


END = chunk(b"")


def delta(text: str) -> bytes:
    """One event of content."""
    return b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text.encode()


FINISH = b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'
ANSWER = (
    b'{"id":"1","object":"chat.completion","created":1,"model":"up","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"one two"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}'
)


def stream(*events: bytes) -> list[Step]:
    """A whole stream, one event a chunk."""
    return [STREAM, *map(chunk, events), END]


def account(url: str, *, quirks: Quirks = Quirks(), **members: Any) -> Account:  # noqa: B008 - frozen
    vendor = Vendor(name="acme", quirks=quirks, **members)
    return Account("acme", vendor, base_url=url, keys=("sk-1",))


def request(*, stream: bool = True, stream_usage: bool = False, **members: Any) -> GenerateRequest:
    """One attempt at it, in the dialect that it speaks."""
    facts = RequestFacts(
        operation=OPERATION_CHAT, model="m", stream=stream, stream_usage=stream_usage, input_tokens_estimate=9
    )
    values: dict[str, Any] = {
        "request_id": "r-1",
        "attempt": 1,
        "target": TargetMessage(deployment="acme/up", provider="acme", upstream_model="up"),
        "facts": facts,
    } | members
    if "chat" not in values and "encoded" not in values:
        values["encoded"] = EncodedRequest(dialect="openai.chat", body=STREAMED if stream else BODY)
    return GenerateRequest(**values)


@dataclass
class Heard:
    """What an attempt said, until it ended."""

    responses: list[GenerateResponse] = field(default_factory=list)
    error: Any = None

    @property
    def events(self) -> list[Any]:
        return [event for response in self.responses for event in response.events]

    @property
    def data(self) -> bytes:
        return b"".join(event.encoded.data for event in self.events)

    @property
    def text(self) -> str:
        return "".join(event.chat.text.text for event in self.events)

    @property
    def kinds(self) -> list[str]:
        return [event.WhichOneof("event") for event in self.events]

    @property
    def started(self) -> Started:
        [found] = [event.started for event in self.events if event.HasField("started")]
        return found  # type: ignore[no-any-return] # a message of the contract

    @property
    def usage(self) -> Usage:
        [found] = [event.usage for event in self.events if event.HasField("usage")]
        return found  # type: ignore[no-any-return] # a message of the contract

    @property
    def finished(self) -> Finished:
        [found] = [event.finished for event in self.events if event.HasField("finished")]
        return found  # type: ignore[no-any-return] # a message of the contract


async def attempt(
    asked: GenerateRequest, at: Account, limits: Limits = PATIENT, transport: Transport | None = None
) -> Heard:
    """Everything that an attempt says, and the error with which it ends."""
    heard = Heard()
    own = transport or Transport()
    try:
        async with asyncio.timeout(5):
            async for response in converse(asked, at, own, limits):
                heard.responses.append(response)
    except Exception as error:
        heard.error = error
    finally:
        if transport is None:
            await own.close()
    return heard
