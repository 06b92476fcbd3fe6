"""The gRPC door for calls that name a key, in front of the one that answers them: metadata `idempotency-key`.

What is kept is the sequence of messages and, of a call that failed for good, its status. Calls without a key are passed
through as they are.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Any, Final, Generic, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.gateway.v1 import gateway_pb2 as pb
from polyroute.api.gateway.v1 import gateway_pb2_grpc
from polyroute.edge.http.door import credential
from polyroute.edge.idempotency.claims import Claim, Kept
from polyroute.edge.idempotency.once import Once, counts
from polyroute.edge.idempotency.request import HEADER
from polyroute.edge.idempotency.tape import MOST_STREAM, MOST_WHOLE
from polyroute.edge.service import SERVICE, GatewayService, address
from polyroute.mesh import scope as scopes
from polyroute.mesh.errors import DETAILS_KEY, MeshError

Context = grpc.aio.ServicerContext[Any, Any]
REPLAYED: Final = (("idempotent-replayed", "true"),)
KIND: Final = "application/grpc+proto"
AHEAD: Final = 16  # messages that a reader may be behind
_HEAD: Final = struct.Struct(">BI")
_MESSAGE: Final = 0
_STATUS: Final = 1
A = TypeVar("A", bound=Message)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class Record:
    """The messages of one answer, taken down.

    Args:
        most: Bytes beyond which they are not kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0
        self.messages = 0

    def add(self, message: Message) -> None:
        """Takes the next message."""
        self.messages += 1
        self._take(_MESSAGE, message.SerializeToString())

    def fail(self, error: MeshError) -> None:
        """Takes the status that the answer ended with."""
        self._take(_STATUS, error.to_status().SerializeToString())

    def kept(self, request_id: str) -> Kept | None:
        """All of it; None when that is too much."""
        if self._size > self._most:
            return None
        return Kept(request_id, 0, KIND, b"".join(self._pieces))

    def _take(self, kind: int, data: bytes) -> None:
        self._size += _HEAD.size + len(data)
        if self._size > self._most:
            self._pieces.clear()
        else:
            self._pieces += (_HEAD.pack(kind, len(data)), data)


class OnceGateway(gateway_pb2_grpc.GatewayServiceServicer):
    """GatewayService, with one call per key.

    Args:
        inner: Answers.
        once: Keeps what it answered.
    """

    def __init__(self, inner: GatewayService, once: Once) -> None:
        self._inner = inner
        self._once = once

    def Chat(self, request: pb.ChatRequest, context: Context) -> AsyncIterator[pb.ChatResponse]:  # noqa: N802
        """See GatewayService."""
        return self._stream(self._inner.Chat, pb.ChatResponse, request, context)

    def Speech(self, request: pb.SpeechRequest, context: Context) -> AsyncIterator[pb.SpeechResponse]:  # noqa: N802
        """See GatewayService."""
        return self._stream(self._inner.Speech, pb.SpeechResponse, request, context)

    def Embed(self, request: pb.EmbedRequest, context: Context) -> Awaitable[pb.EmbedResponse]:  # noqa: N802
        """See GatewayService."""
        return self._unary(self._inner.Embed, pb.EmbedResponse, request, context)

    def Rerank(self, request: pb.RerankRequest, context: Context) -> Awaitable[pb.RerankResponse]:  # noqa: N802
        """See GatewayService."""
        return self._unary(self._inner.Rerank, pb.RerankResponse, request, context)

    def GenerateImage(  # noqa: N802 - the contract's name
        self, request: pb.GenerateImageRequest, context: Context
    ) -> Awaitable[pb.GenerateImageResponse]:
        """See GatewayService."""
        return self._unary(self._inner.GenerateImage, pb.GenerateImageResponse, request, context)

    def Transcribe(  # noqa: N802 - the contract's name
        self, request: pb.TranscribeRequest, context: Context
    ) -> Awaitable[pb.TranscribeResponse]:
        """See GatewayService."""
        return self._unary(self._inner.Transcribe, pb.TranscribeResponse, request, context)

    def Moderate(self, request: pb.ModerateRequest, context: Context) -> Awaitable[pb.ModerateResponse]:  # noqa: N802
        """See GatewayService."""
        return self._unary(self._inner.Moderate, pb.ModerateResponse, request, context)

    def CountTokens(  # noqa: N802 - the contract's name
        self, request: pb.CountTokensRequest, context: Context
    ) -> Awaitable[pb.CountTokensResponse]:
        """See GatewayService."""
        return self._unary(self._inner.CountTokens, pb.CountTokensResponse, request, context)

    def ListModels(  # noqa: N802 - the contract's name
        self, request: pb.ListModelsRequest, context: Context
    ) -> Awaitable[pb.ListModelsResponse]:
        """See GatewayService; it makes no call that could be made twice."""
        listed = self._inner.ListModels
        return listed(request, context)

    def _unary(
        self, method: Callable[[Any, Context], Awaitable[A]], kind: type[A], request: Message, context: Context
    ) -> Awaitable[A]:
        key = _key(context)
        return method(request, context) if key is None else self._one(method, kind, request, context, key)

    def _stream(
        self, method: Callable[[Any, Context], AsyncGenerator[A]], kind: type[A], request: Message, context: Context
    ) -> AsyncIterator[A]:
        key = _key(context)
        return method(request, context) if key is None else self._many(method, kind, request, context, key)

    async def _one(
        self,
        method: Callable[[Any, Context], Awaitable[A]],
        kind: type[A],
        request: Message,
        context: Context,
        key: str,
    ) -> A:
        found = await self._begin(method.__name__, request, context, key)
        if isinstance(found, Kept):
            async with aclosing(_replayed(found, kind, context)) as messages:
                async for message in messages:
                    return message
        assert isinstance(found, Claim)  # noqa: S101 - an answer that is kept has a message or a status
        # a client that leaves does not end it: the answer is kept for its return
        return await asyncio.shield(self._once.start(self._answered(found, method(request, context))))

    async def _answered(self, claim: Claim, work: Awaitable[A]) -> A:
        record = Record(MOST_WHOLE)
        error: MeshError | None = MeshError(errors_pb2.REASON_INTERNAL, "internal error")
        try:
            response = await work
            record.add(response)
            error = None
        except MeshError as refusal:
            error = refusal
            record.fail(refusal)
            raise
        finally:
            await self._settle(claim, record, error)
        return response

    async def _many(
        self,
        method: Callable[[Any, Context], AsyncGenerator[A]],
        kind: type[A],
        request: Message,
        context: Context,
        key: str,
    ) -> AsyncGenerator[A]:
        found = await self._begin(method.__name__, request, context, key)
        if isinstance(found, Kept):
            async with aclosing(_replayed(found, kind, context)) as messages:
                async for message in messages:
                    yield message
            return
        line: _Line[A] = _Line()
        work = self._once.start(self._pumped(found, method(request, context), line))
        try:
            while (said := await line.next()) is not None:
                yield said
            await work  # raises what it failed with
        finally:
            line.leave()

    async def _pumped(self, claim: Claim, messages: AsyncGenerator[A], line: "_Line[A]") -> None:
        record = Record(MOST_STREAM)
        error: MeshError | None = MeshError(errors_pb2.REASON_INTERNAL, "internal error")
        last: A | None = None
        try:
            async with aclosing(messages):
                async for message in messages:
                    record.add(message)
                    if last is not None:
                        await line.say(last)
                    last = message
            error = None
        except MeshError as refusal:
            error = refusal
            record.fail(refusal)
            if line.left:
                return
            raise
        finally:
            await self._settle(claim, record, error)
            if last is not None:
                await line.say(last)
            await line.say(None)

    async def _begin(self, name: str, request: Message, context: Context, key: str) -> Claim | Kept:
        scope = scopes.CURRENT.get()
        return await self._once.begin(
            credential(_metadata(context)),
            method="",
            path=f"/{SERVICE}/{name}",
            source=address(context.peer() or ""),
            key=key,
            content=request.SerializeToString(deterministic=True),
            request_id=scope.request_id if scope is not None else scopes.new_request_id(),
        )

    async def _settle(self, claim: Claim, record: Record, error: MeshError | None) -> None:
        made = counts(error, tried=True, committed=record.messages > 0)
        await self._once.claims.settle(claim, record.kept(claim.request_id), made=made)


class _Line(Generic[A]):
    """Messages on their way to a reader who may leave."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[A | None] = asyncio.Queue(AHEAD)
        self.left = False

    async def say(self, message: A | None) -> None:
        """The next message, None after the last; waits for a reader who is behind."""
        if not self.left:
            await self._queue.put(message)

    async def next(self) -> A | None:
        """The next message."""
        return await self._queue.get()

    def leave(self) -> None:
        """Nobody reads any more."""
        self.left = True
        while not self._queue.empty():
            self._queue.get_nowait()


async def _replayed(kept: Kept, kind: type[A], context: Context) -> AsyncGenerator[A]:
    await context.send_initial_metadata((*REPLAYED, ("x-polyroute-original-request-id", kept.request_id)))
    for what, data in _records(kept.body):
        if what == _STATUS:
            await _fail(data, context)
        yield kind.FromString(data)


def _records(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        what, size = _HEAD.unpack_from(body, at)
        at += _HEAD.size
        yield what, body[at : at + size]
        at += size


async def _fail(details: bytes, context: Context) -> NoReturn:
    status = status_pb2.Status.FromString(details)
    await context.abort(_CODES[status.code], status.message, ((DETAILS_KEY, details),))
    raise AssertionError("abort returned")


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _key(context: Context) -> str | None:
    """The idempotency key; None for a call without one."""
    for name, value in context.invocation_metadata() or ():
        if name == HEADER:
            return value if isinstance(value, str) else value.decode("latin-1")
    return None
