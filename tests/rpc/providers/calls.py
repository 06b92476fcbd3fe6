"""A vendor that answers calls of gRPC exactly as told, and a way to ask it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import grpc

from polyroute.providers.account import Account
from polyroute.providers.grpc_transport import GrpcTransport
from polyroute.providers.transport import Limits
from polyroute.providers.vendors import xai_grpc
from tests.rpc.providers.wire import PATIENT, Heard, attempt, request
from xai.api.v1 import chat_pb2 as xai
from xai.api.v1.chat_pb2 import GetChatCompletionChunk, GetChatCompletionResponse
from xai.api.v1.sample_pb2 import REASON_STOP
from xai.api.v1.usage_pb2 import SamplingUsage

WHOLE: Final = "/xai_api.Chat/GetCompletion"
STREAM: Final = "/xai_api.Chat/GetCompletionChunk"
USAGE: Final = SamplingUsage(prompt_tokens=5, completion_tokens=2, total_tokens=7)


class Refuse(NamedTuple):
    """The call ends with a status."""

    code: grpc.StatusCode
    words: str = ""
    metadata: tuple[tuple[str, str], ...] = ()


class Wait:
    """The vendor says nothing more until the caller leaves."""


class Cut:
    """Its line breaks; see `line`."""


Step = bytes | float | Refuse | Wait | Cut


@dataclass
class Vendor(grpc.GenericRpcHandler):
    """Plays one script per call; `left` counts callers that left while it waited."""

    scripts: deque[Sequence[Step]]
    port: int = 0
    server: Any = None
    sent: list[xai.GetCompletionsRequest] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    left: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def service(self, handler_call_details: Any) -> Any:
        self.methods.append(handler_call_details.method)
        self.metadata.append(dict(handler_call_details.invocation_metadata))
        return grpc.unary_stream_rpc_method_handler(self._answer)

    async def _answer(self, body: bytes, context: Any) -> AsyncGenerator[bytes]:
        self.sent.append(xai.GetCompletionsRequest.FromString(body))
        await context.send_initial_metadata((("x-request-id", "up-7"), ("x-ratelimit-remaining", "9")))
        for step in self.scripts.popleft():
            if isinstance(step, bytes):
                yield step
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, Refuse):
                await context.abort(*step)
            elif isinstance(step, Cut):
                self.cut.set()
                await self._until_left()
            else:
                await self._until_left()

    async def _until_left(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.left += 1
            raise


@asynccontextmanager
async def vendor(*scripts: Sequence[Step]) -> AsyncGenerator[Vendor]:
    """It is there while the body runs."""
    playing = Vendor(deque(scripts))
    playing.server = grpc.aio.server(handlers=[playing])
    playing.port = playing.server.add_insecure_port("127.0.0.1:0")
    await playing.server.start()
    try:
        yield playing
    finally:
        await playing.server.stop(None)


@asynccontextmanager
async def line(to: Vendor) -> AsyncGenerator[str]:
    """An address that leads to a vendor until it has the connection cut."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", to.port)
        copying = [asyncio.create_task(_copy(reader, back)), asyncio.create_task(_copy(there, writer))]
        await to.cut.wait()
        for task in copying:
            task.cancel()
        writer.transport.abort()
        back.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        to.cut.set()
        server.close()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()


def piece(text: str = "", **members: Any) -> bytes:
    """A chunk with some text."""
    delta = xai.Delta(content=text, role=xai.ROLE_ASSISTANT)
    output = xai.CompletionOutputChunk(delta=delta, finish_reason=members.pop("finish_reason", 0))
    return GetChatCompletionChunk(id="a-1", model="up", outputs=[output], **members).SerializeToString()


LAST: Final = piece(finish_reason=REASON_STOP, usage=USAGE)
ANSWER: Final = GetChatCompletionResponse(
    id="a-1",
    model="up",
    outputs=[
        xai.CompletionOutput(
            finish_reason=REASON_STOP, message=xai.CompletionMessage(content="one two", role=xai.ROLE_ASSISTANT)
        )
    ],
    usage=USAGE,
).SerializeToString()


def account(url: str) -> Account:
    """An account of it."""
    return Account("acme", xai_grpc.VENDOR, base_url=url, keys=("sk-1",))


async def ask(url: str, limits: Limits = PATIENT, transport: GrpcTransport | None = None, **asked: Any) -> Heard:
    """Everything that an attempt says."""
    own: Any = transport or GrpcTransport()
    try:
        return await attempt(request(**asked), account(url), limits, own)
    finally:
        if transport is None:
            await own.close()
