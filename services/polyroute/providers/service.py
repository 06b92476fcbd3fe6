"""ProvidersService: contract messages to attempts and back."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import grpc

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1 import providers_pb2 as pb
from polyroute.api.providers.v1 import providers_pb2_grpc
from polyroute.api.router.v1.router_pb2 import Timeouts
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.conversation import converse
from polyroute.providers.embedding import embed
from polyroute.providers.roster import Roster
from polyroute.providers.transport import Limits, Transport

Context = grpc.aio.ServicerContext[Any, Any]
SHAVE = 0.020  # s kept back from the caller's deadline, so that a slow vendor is named instead of just cut off


class ProvidersService(providers_pb2_grpc.ProvidersServiceServicer):
    """Attempts at vendors.

    Args:
        roster: The accounts.
        transport: The connections.
    """

    def __init__(self, roster: Roster, transport: Transport) -> None:
        self._roster = roster
        self._transport = transport

    async def Generate(  # noqa: N802 - the contract's name
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncGenerator[pb.GenerateResponse]:
        """One attempt at an answer."""
        try:
            account = self._account(request.target)
            steps = converse(request, account, self._transport, _limits(request.timeouts, context))
            async for response in steps:
                yield response
        except MeshError as error:
            raise _at(error, request.target) from error.__cause__

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:  # noqa: N802
        """One attempt at vectors."""
        try:
            account = self._account(request.target)
            return await embed(request, account, self._transport, _limits(request.timeouts, context))
        except MeshError as error:
            raise _at(error, request.target) from error.__cause__

    async def WatchProviders(  # noqa: N802 - the contract's name
        self, request: pb.WatchProvidersRequest, context: Context
    ) -> AsyncGenerator[pb.WatchProvidersResponse]:
        """The accounts, now and whenever they change."""
        while True:
            changed = self._roster.changed
            yield pb.WatchProvidersResponse(providers=self._roster.providers())
            await changed.wait()

    def _account(self, target: pb.Target) -> Account:
        account = self._roster.accounts.get(target.provider)
        if account is None:
            raise MeshError.upstream(errors_pb2.FAULT_MODEL_GONE, f"no provider is called {target.provider}")
        return account


def _at(error: MeshError, target: pb.Target) -> MeshError:
    """The error with where it happened."""
    place: Mapping[str, str] = {"provider": target.provider, "deployment": target.deployment}
    error.metadata = {**place, **error.metadata}
    return error


def _limits(timeouts: Timeouts, context: Context) -> Limits:
    """The caller's bounds, the defaults where it gave none, and never more than its deadline."""
    default = Limits()
    total = _seconds(timeouts, "total", default.total)
    left = context.time_remaining()
    return Limits(
        connect=_seconds(timeouts, "connect", default.connect),
        first_token=_seconds(timeouts, "first_token", default.first_token),
        inter_token=_seconds(timeouts, "inter_token", default.inter_token),
        total=total if left is None else min(total, left - SHAVE),
    )


def _seconds(timeouts: Timeouts, name: str, default: float) -> float:
    if not timeouts.HasField(name):  # type: ignore[arg-type] # one of the four
        return default
    duration = getattr(timeouts, name)
    return float(duration.seconds + duration.nanos / 1e9)
