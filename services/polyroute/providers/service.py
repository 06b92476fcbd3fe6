"""ProvidersService: contract messages to attempts and back."""

import functools
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1 import providers_pb2 as pb
from polyroute.api.providers.v1 import providers_pb2_grpc
from polyroute.api.router.v1.router_pb2 import Timeouts
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.conversation import at, converse
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

    def Generate(  # noqa: N802 - the contract's name
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncGenerator[pb.GenerateResponse]:
        """One attempt at an answer."""
        account = self._account(request.target)
        return converse(request, account, self._transport, _limits(request.timeouts, context))

    async def Embed(self, request: pb.EmbedRequest, context: Context) -> pb.EmbedResponse:  # noqa: N802
        """One attempt at vectors."""
        account = self._account(request.target)
        return await embed(request, account, self._transport, _limits(request.timeouts, context))

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
            raise at(
                MeshError.upstream(errors_pb2.FAULT_MODEL_GONE, f"no provider is called {target.provider}"), target
            )
        return account


def _limits(timeouts: Timeouts, context: Context) -> Limits:
    """The caller's bounds, the defaults where it gave none, and never more than its deadline."""
    limits = _asked(timeouts.SerializeToString(deterministic=True))
    left = context.time_remaining()
    if left is None or left - SHAVE >= limits.total:
        return limits
    return Limits(limits.connect, limits.first_token, limits.inter_token, left - SHAVE)


@functools.lru_cache(maxsize=1024)
def _asked(timeouts: bytes) -> Limits:
    """The bounds in a serialised Timeouts: the plans of one catalog have few of them."""
    asked, default = Timeouts.FromString(timeouts), Limits()
    return Limits(
        connect=_seconds(asked, "connect", default.connect),
        first_token=_seconds(asked, "first_token", default.first_token),
        inter_token=_seconds(asked, "inter_token", default.inter_token),
        total=_seconds(asked, "total", default.total),
    )


def _seconds(timeouts: Timeouts, name: str, default: float) -> float:
    if not timeouts.HasField(name):  # type: ignore[arg-type] # one of the four
        return default
    duration = getattr(timeouts, name)
    return float(duration.seconds + duration.nanos / 1e9)
