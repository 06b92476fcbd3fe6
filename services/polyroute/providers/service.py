"""ProvidersService: contract messages to attempts and back."""

import functools
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.providers.v1 import providers_pb2 as pb
from polyroute.api.providers.v1 import providers_pb2_grpc
from polyroute.api.router.v1.router_pb2 import Timeouts
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Account
from polyroute.providers.carrier import Carrier
from polyroute.providers.conversation import at, converse
from polyroute.providers.counting import count
from polyroute.providers.embedding import embed
from polyroute.providers.relay import relay
from polyroute.providers.roster import Roster
from polyroute.providers.task import perform
from polyroute.providers.transport import Limits, Transport

Context = grpc.aio.ServicerContext[Any, Any]
CONVERSATIONS = frozenset({chat_pb2.OPERATION_CHAT, chat_pb2.OPERATION_COMPLETION})
SHAVE = 0.020  # s kept back from the caller's deadline, so that a slow vendor is named instead of just cut off


class ProvidersService(providers_pb2_grpc.ProvidersServiceServicer):
    """Attempts at vendors.

    Args:
        roster: The accounts.
        transport: The connections.
        carrier: How conversations reach vendors, where some go another way; over the same connections when None.
    """

    def __init__(self, roster: Roster, transport: Transport, carrier: Carrier | None = None) -> None:
        self._roster = roster
        self._transport = transport
        self._carrier = carrier or transport

    def Generate(  # noqa: N802 - the contract's name
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncGenerator[pb.GenerateResponse]:
        """One attempt at an answer."""
        account = self._account(request.target)
        streamed = request.facts.stream or request.HasField("chat")
        limits = _limits(request.timeouts, context, streamed=streamed)
        operation = request.facts.operation
        if operation in CONVERSATIONS:
            return converse(request, account, self._carrier, limits)
        if operation == chat_pb2.OPERATION_COUNT_TOKENS and not account.dialect(operation):
            return count(request)
        return perform(request, account, self._transport, limits)

    def Relay(  # noqa: N802 - the contract's name
        self, request: pb.RelayRequest, context: Context
    ) -> AsyncGenerator[pb.RelayResponse]:
        """One request to a vendor's own API."""
        account = self._keeper(request)
        return relay(request, account, self._transport, _limits(request.timeouts, context))

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

    def _keeper(self, request: pb.RelayRequest) -> Account:
        """The account that is meant: the one named or, where none is, the only one there is."""
        accounts = self._roster.accounts
        if request.provider:
            found = accounts.get(request.provider)
            if found is None:
                raise MeshError(
                    errors_pb2.REASON_NOT_FOUND,
                    f"no provider is called {request.provider}",
                    metadata={"resource": request.provider},
                )
            return found
        named = [account for account in accounts.values() if account.base_url]
        if len(named) != 1:
            names = ", ".join(sorted(account.name for account in named))
            raise MeshError(
                errors_pb2.REASON_INVALID_REQUEST,
                f"say in x-polyroute-provider who keeps it: {names or 'there is nobody'}",
                metadata={"param": "x-polyroute-provider"},
            )
        return named[0]

    def _account(self, target: pb.Target) -> Account:
        account = self._roster.accounts.get(target.provider)
        if account is None:
            raise at(
                MeshError.upstream(errors_pb2.FAULT_MODEL_GONE, f"no provider is called {target.provider}"), target
            )
        return account


def _limits(timeouts: Timeouts, context: Context, *, streamed: bool = True) -> Limits:
    """The caller's bounds, the defaults where it gave none, and never more than its deadline."""
    limits = _asked(timeouts.SerializeToString(deterministic=True), streamed)
    left = context.time_remaining()
    if left is None or left - SHAVE >= limits.total:
        return limits
    return Limits(limits.connect, limits.first_token, limits.inter_token, left - SHAVE)


@functools.lru_cache(maxsize=1024)
def _asked(timeouts: bytes, streamed: bool) -> Limits:
    """The bounds in a serialised Timeouts: the plans of one catalog have few of them."""
    asked, default = Timeouts.FromString(timeouts), Limits()
    first = _seconds(asked, "first_token", default.first_token)
    return Limits(
        connect=_seconds(asked, "connect", default.connect),
        first_token=first if streamed else _seconds(asked, "whole", first),
        inter_token=_seconds(asked, "inter_token", default.inter_token),
        total=_seconds(asked, "total", default.total),
    )


def _seconds(timeouts: Timeouts, name: str, default: float) -> float:
    if not timeouts.HasField(name):  # type: ignore[arg-type] # one of the four
        return default
    duration = getattr(timeouts, name)
    return float(duration.seconds + duration.nanos / 1e9)
