"""AuthService: messages into questions for the domain, and its answers into messages."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import grpc

from polyroute.api.auth.v1 import auth_pb2 as pb
from polyroute.api.auth.v1 import auth_pb2_grpc
from polyroute.auth import messages
from polyroute.auth.admin.keydesk import KeyDesk
from polyroute.auth.keyring import Keyring
from polyroute.auth.people.actors import Actor, Admission, How
from polyroute.auth.people.admission import presented
from polyroute.auth.rates.leases import Leases, Want
from polyroute.auth.rates.limits import Kind, Place, Share
from polyroute.auth.revocations import RevocationFeed
from polyroute.auth.verdicts import Verdicts

Context = grpc.aio.ServicerContext[Any, Any]


class AuthService(auth_pb2_grpc.AuthServiceServicer):
    """Accounts, projects and keys, over the contract.

    Args:
        verdicts: Says whose a credential is.
        keyring: Lists keys.
        feed: Revocations as they happen.
        leases: Shares of limits.
        desk: Creates and revokes keys, and writes that down.
        fresh_for: Seconds for which a verdict may be used without asking again.
        usable_for: Seconds for which it may be used while this service does not answer.
        mark_key: Gives a project's secret for the ids of what vendors keep for it.
    """

    def __init__(
        self,
        verdicts: Verdicts,
        keyring: Keyring,
        feed: RevocationFeed,
        leases: Leases,
        *,
        desk: KeyDesk,
        fresh_for: float,
        usable_for: float,
        mark_key: Callable[[str], bytes] = lambda _: b"",
    ) -> None:
        self._verdicts = verdicts
        self._mark_key = mark_key
        self._keyring = keyring
        self._desk = desk
        self._feed = feed
        self._leases = leases
        self._fresh_for = messages.duration(fresh_for)
        self._usable_for = messages.duration(usable_for)

    async def Authorize(self, request: pb.AuthorizeRequest, context: Context) -> pb.AuthorizeResponse:  # noqa: N802
        """Says who presents a credential."""
        key = await self._verdicts.authorize(request.credential)
        return pb.AuthorizeResponse(
            verdict=pb.Verdict(
                caller=pb.Caller(
                    account_id=key.account_id,
                    project_id=key.project_id,
                    key_id=key.id,
                    key_prefix=key.prefix,
                    key_name=key.name,
                ),
                fresh_for=self._fresh_for,
                usable_for=self._usable_for,
                models=key.models,
                expire_time=messages.timestamp(key.expires),
                scope=messages.scope(key.scope),
                limits=map(messages.limit, key.limits),
                purse=key.purse,
                multiplier_millionths=key.multiplier,
                mark_key=self._mark_key(key.project_id),
                plan=messages.plan_in_force(key.plan),
            )
        )

    async def WatchRevocations(  # noqa: N802
        self, request: pb.WatchRevocationsRequest, context: Context
    ) -> AsyncGenerator[pb.WatchRevocationsResponse]:
        """Pushes every revocation as it happens."""
        async with aclosing(self._feed.watch(request.revision)) as batches:
            async for batch in batches:
                yield pb.WatchRevocationsResponse(
                    revision=batch.revision,
                    key_ids=batch.key_ids,
                    reset=batch.reset,
                    changed_scopes=batch.changed,
                    recalled_purses=batch.recalled,
                )

    async def LeaseLimits(self, request: pb.LeaseLimitsRequest, context: Context) -> pb.LeaseLimitsResponse:  # noqa: N802
        """Hands out shares of limits."""
        wants = [
            Want(
                Place(claim.scope, Kind(claim.kind), claim.model),
                claim.needed,
                claim.wanted,
                claim.returned,
                claim.amount,
            )
            for claim in request.claims
        ]
        shares = await self._leases.lease(request.holder, wants)
        return pb.LeaseLimitsResponse(shares=map(_share, shares), degraded=self._leases.degraded)

    async def GetCommonLimits(  # noqa: N802 - the contract's name
        self, request: pb.GetCommonLimitsRequest, context: Context
    ) -> pb.GetCommonLimitsResponse:
        """Says which limits bind more than one caller."""
        return pb.GetCommonLimitsResponse(limits=map(messages.limit, await self._leases.common()))

    async def CreateKey(self, request: pb.CreateKeyRequest, context: Context) -> pb.CreateKeyResponse:  # noqa: N802
        """Creates a key."""
        key, secret = await self._desk.issue(
            _peer(context),
            project_id=request.project_id,
            name=request.name,
            models=tuple(request.models),
            lifetime=messages.seconds(request.lifetime) if request.HasField("lifetime") else None,
            request_id=request.request_id,
            scope=messages.to_scope(request.scope),
            creator=request.creator_key,
        )
        return pb.CreateKeyResponse(key=messages.key(key), secret=secret)

    async def ListKeys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:  # noqa: N802
        """Lists keys, newest first."""
        page, next_token = await self._keyring.page(
            project_id=request.project_id,
            size=request.page_size,
            token=request.page_token,
            show_ended=request.show_ended,
        )
        return pb.ListKeysResponse(keys=map(messages.key, page), next_page_token=next_token)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: Context) -> pb.RevokeKeyResponse:  # noqa: N802
        """Revokes a key for good."""
        return pb.RevokeKeyResponse(key=messages.key(await self._desk.end(_peer(context), request.key)))


def _peer(context: Context) -> Admission:
    """Whoever the mesh trusts: whatever they do is theirs to do."""
    name = min(presented(context).names, default="")
    return Admission(Actor(How.MESH, name, operator=True))


def _share(share: Share) -> pb.LimitShare:
    return pb.LimitShare(
        granted=share.granted,
        valid_for=messages.duration(share.valid_for),
        retry_after=messages.duration(share.retry_after),
        remaining=share.remaining,
        reset_after=messages.duration(share.reset_after),
        holders=share.holders,
    )
