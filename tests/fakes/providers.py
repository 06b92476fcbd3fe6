"""A providers role that offers what a test says, when it says so."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from polyroute.api.providers.v1 import providers_pb2 as pb
from polyroute.api.providers.v1.providers_pb2_grpc import ProvidersServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class FakeProviders(ProvidersServiceServicer):
    """Its watchers hear `offer`; `break_watches` fails those that are open and those that come."""

    def __init__(self, *providers: pb.Provider) -> None:
        self.watches = 0  # opened so far
        self._open = 0
        self._offered: tuple[pb.Provider, ...] | None = providers or None
        self._code: grpc.StatusCode | None = None
        self._changed = asyncio.Condition()

    async def offer(self, *providers: pb.Provider) -> None:
        """Says this to every watcher from now on."""
        self._offered = providers
        await self._wake()

    async def break_watches(self, code: grpc.StatusCode | None) -> None:
        """Fails watches with `code` until it is called with None; back when none is open."""
        self._code = code
        await self._wake()

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self._code is None or not self._open)

    async def WatchProviders(
        self, request: pb.WatchProvidersRequest, context: Context
    ) -> AsyncGenerator[pb.WatchProvidersResponse]:
        """Tells what is offered, at once and whenever it changes."""
        self.watches += 1
        self._open += 1
        said: tuple[pb.Provider, ...] | None = None
        try:
            while self._code is None:
                if self._offered is not None and self._offered is not said:
                    said = self._offered
                    yield pb.WatchProvidersResponse(providers=said)
                await self._news(said)
            await context.abort(self._code, "told to")
        finally:
            self._open -= 1
            async with self._changed:
                self._changed.notify_all()

    async def _news(self, said: tuple[pb.Provider, ...] | None) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._code is not None or self._offered is not said)

    def Generate(self, request: pb.GenerateRequest, context: Context) -> AsyncGenerator[pb.GenerateResponse]:
        """Not what this fake is for."""
        raise NotImplementedError

    def Relay(self, request: pb.RelayRequest, context: Context) -> AsyncGenerator[pb.RelayResponse]:
        """Not what this fake is for."""
        raise NotImplementedError

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:
        """Not what this fake is for."""
        raise NotImplementedError
