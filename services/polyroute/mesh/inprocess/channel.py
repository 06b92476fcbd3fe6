"""The channel that generated stubs are given."""

import asyncio
from typing import Any, NoReturn

import grpc

from polyroute.mesh.inprocess.calls import LocalStreamCall, LocalUnaryCall
from polyroute.mesh.inprocess.server import LocalServer


class _UnaryUnary(grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    def __init__(self, server: LocalServer, path: str) -> None:
        self._server = server
        self._path = path

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        if timeout is None:
            raise TypeError(f"a unary call needs a timeout: {self._path}")
        return LocalUnaryCall(self._server, self._path, request, timeout, metadata)


class _UnaryStream(grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    def __init__(self, server: LocalServer, path: str) -> None:
        self._server = server
        self._path = path

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Any = None, **_: Any) -> Any:
        return LocalStreamCall(self._server, self._path, request, timeout, metadata)


class LocalChannel(grpc.aio.Channel):
    """A channel to the services of this process."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server

    def unary_unary(self, method: str, *_: Any, **__: Any) -> _UnaryUnary:
        """A callable for a unary method."""
        return _UnaryUnary(self._server, method)

    def unary_stream(self, method: str, *_: Any, **__: Any) -> _UnaryStream:
        """A callable for a server stream."""
        return _UnaryStream(self._server, method)

    def stream_unary(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """The contract has no client streams."""
        raise NotImplementedError(f"the contract has no client streams: {method}")

    def stream_stream(self, method: str, *_: Any, **__: Any) -> NoReturn:
        """The contract has no client streams."""
        raise NotImplementedError(f"the contract has no client streams: {method}")

    async def __aenter__(self) -> "LocalChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        return

    async def close(self, grace: float | None = None) -> None:
        """There is nothing to close."""

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Always connected."""
        return grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another; READY never changes."""
        if last_observed_state is grpc.ChannelConnectivity.READY:
            await asyncio.get_running_loop().create_future()

    async def channel_ready(self) -> None:
        """Always connected."""
