"""The contract's side of idempotency: messages into calls of the store and back."""

from typing import Any

import grpc

from polyroute.api.idempotency.v1 import idempotency_pb2 as pb
from polyroute.api.idempotency.v1 import idempotency_pb2_grpc
from polyroute.api.kept.v1 import kept_pb2, kept_pb2_grpc
from polyroute.metrics.idempotency.store import Store
from polyroute.metrics.idempotency.things import Things

Context = grpc.aio.ServicerContext[Any, Any]


class IdempotencyService(idempotency_pb2_grpc.IdempotencyServiceServicer):
    """One call per key.

    Args:
        store: The entries.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def Claim(self, request: pb.ClaimRequest, context: Context) -> pb.ClaimResponse:  # noqa: N802
        """Takes an entry or says what there is; see the contract."""
        lease = request.lease_milliseconds / 1000
        found = await self._store.claim(request.entry, request.fingerprint, request.claim, lease)
        claim = found.claim if found.claim != request.claim else ""
        return pb.ClaimResponse(state=found.state, answer=found.answer, claim=claim)

    async def Renew(self, request: pb.RenewRequest, context: Context) -> pb.RenewResponse:  # noqa: N802
        """Prolongs leases; see the contract."""
        running = [(one.entry, one.claim) for one in request.running]
        await self._store.renew(running, request.lease_milliseconds / 1000)
        return pb.RenewResponse()

    async def Settle(self, request: pb.SettleRequest, context: Context) -> pb.SettleResponse:  # noqa: N802
        """Ends a claim; see the contract."""
        if request.WhichOneof("outcome") == "released":
            await self._store.release(request.entry, request.claim)
        else:
            answer = request.answer if request.HasField("answer") else None
            await self._store.keep(request.entry, request.claim, answer)
        return pb.SettleResponse()


class KeptService(kept_pb2_grpc.KeptServiceServicer):
    """What vendors keep for projects.

    Args:
        things: Where it is written down.
    """

    def __init__(self, things: Things) -> None:
        self._things = things

    async def Remember(  # noqa: N802 - the contract's name
        self, request: kept_pb2.RememberRequest, context: Context
    ) -> kept_pb2.RememberResponse:
        """Writes things down; see the contract."""
        await self._things.remember({thing.digest: thing.key_mark for thing in request.things})
        return kept_pb2.RememberResponse()

    async def Find(self, request: kept_pb2.FindRequest, context: Context) -> kept_pb2.FindResponse:  # noqa: N802
        """Says which of some things were written down; see the contract."""
        found = await self._things.find(request.digests)
        things = [kept_pb2.Thing(digest=digest, key_mark=key_mark) for digest, key_mark in found.items()]
        return kept_pb2.FindResponse(things=things)
