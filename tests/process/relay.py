"""What stands between a role and its callers: passes every call on, and swallows or refuses what it is told to."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc

from tests.process.sites import SECONDS

STREAMS: Final = ("Watch",)  # how the names of streaming methods begin
OWN: Final = ("user-agent", "grpc-", ":", "te", "content-type")  # metadata of the connection itself


class Relay(grpc.GenericRpcHandler):
    """Calls as bytes.

    Args:
        target: Address of the role.
    """

    def __init__(self, target: str) -> None:
        self._target: Any = grpc.aio.insecure_channel(target, options=(("grpc.max_reconnect_backoff_ms", 200),))
        self.swallowed: set[str] = set()
        """Methods of whose streams nothing arrives any more; the caller is not told."""
        self.refused: set[str] = set()
        """Methods that are refused, also those that are under way."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any]":
        """How a method is passed on."""
        method = handler_call_details.method

        async def unary(request: bytes, context: Any) -> bytes:  # gRPC looks at what kind of function it is given
            return await self._unary(method, request, context)

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            async for message in self._stream(method, request, context):
                yield message

        if method.rpartition("/")[2].startswith(STREAMS):
            return grpc.unary_stream_rpc_method_handler(stream)
        return grpc.unary_unary_rpc_method_handler(unary)

    async def _unary(self, method: str, request: bytes, context: Any) -> bytes:
        try:
            answer: bytes = await self._target.unary_unary(method)(
                request, timeout=context.time_remaining() or SECONDS, metadata=_passed(context)
            )
        except grpc.aio.AioRpcError as error:
            await _refuse(context, error)
        return answer

    async def _stream(self, method: str, request: bytes, context: Any) -> AsyncIterator[bytes]:
        name = method.rpartition("/")[2]
        try:
            async for message in self._target.unary_stream(method)(request, metadata=_passed(context)):
                if name in self.refused:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "refused")
                if name not in self.swallowed:
                    yield message
        except grpc.aio.AioRpcError as error:
            await _refuse(context, error)

    async def close(self) -> None:
        """Ends the connection to the role."""
        await self._target.close()


def _passed(context: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(pair for pair in context.invocation_metadata() if not pair[0].startswith(OWN))


async def _refuse(context: Any, error: grpc.aio.AioRpcError) -> None:
    trailing = tuple(error.trailing_metadata() or ())
    await context.abort(error.code(), error.details() or "", trailing)


@asynccontextmanager
async def relayed(target: str, port: int) -> AsyncGenerator[Relay]:
    """A relay at a port of this machine."""
    relay = Relay(target)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((relay,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield relay
    finally:
        await asyncio.shield(server.stop(None))
        await relay.close()
