"""Entries that this edge has taken: asked for, prolonged while their calls run, and settled."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import grpc
import structlog

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.idempotency.v1 import idempotency_pb2 as pb
from polyroute.edge.idempotency.request import HEADER, Request
from polyroute.mesh.errors import MeshError, from_rpc

RENEWALS: Final = 3  # within one lease, so that one lost message ends nothing
COMEBACK_SECONDS: Final = 1.0
SETTLE_SECONDS: Final = 2.0
SETTLE_TRIES: Final = 5
_BATCH: Final = 1000

_log = structlog.get_logger("idempotency")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the call with this key answered.

    Attributes:
        request_id: That call.
        status: HTTP status; 0 of a gRPC answer.
        content_type: Media type.
        body: Its bytes.
    """

    request_id: str
    status: int
    content_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """An entry that a call of this edge has.

    Attributes:
        request: What was asked.
        request_id: The call.
    """

    request: Request
    request_id: str


class Claims:
    """All entries of this edge.

    Args:
        stub: IdempotencyService.
        timeout: Seconds to wait for it before a call.
        lease: Seconds for which an entry is a call's own unless it is prolonged.
    """

    def __init__(self, stub: Any, *, timeout: float, lease: float) -> None:
        self._stub = stub
        self._timeout = timeout
        self._lease = lease
        self._running: dict[bytes, Claim] = {}
        self._asked: dict[tuple[bytes, bytes], asyncio.Future[Kept | MeshError]] = {}
        self._late: set[asyncio.Task[None]] = set()

    async def claim(self, request: Request, request_id: str) -> Claim | Kept:
        """Takes an entry for a call, or gives what an earlier one answered.

        Raises:
            MeshError: The same request is under way, the key was used for another one, its answer is not kept, or
                nobody can say: then the call must not be made, for it may be the second.
        """
        here = self._running.get(request.entry)
        if here is not None:
            same = here.request.fingerprint == request.fingerprint
            raise _refusal(pb.ENTRY_STATE_RUNNING if same else pb.ENTRY_STATE_MISMATCH)
        asked = self._asked.get((request.entry, request.fingerprint))
        if asked is None:
            return await self._first(request, request_id)
        heard = await asyncio.shield(asked)
        if isinstance(heard, MeshError):
            raise heard
        return heard

    async def _first(self, request: Request, request_id: str) -> Claim | Kept:
        """Asks for all who want the same at this moment: duplicates come in bursts. One of them can have the entry."""
        place = request.entry, request.fingerprint
        asked = self._asked[place] = asyncio.get_running_loop().create_future()
        heard: Kept | MeshError = _refusal(pb.ENTRY_STATE_RUNNING)
        try:
            found = await self._found(request, request_id)
            if isinstance(found, Kept):
                heard = found
        except MeshError as refusal:
            heard = refusal
            raise
        finally:
            del self._asked[place]
            asked.set_result(heard)
        return found

    async def _found(self, request: Request, request_id: str) -> Claim | Kept:
        asked = pb.ClaimRequest(
            entry=request.entry,
            fingerprint=request.fingerprint,
            claim=request_id,
            lease_milliseconds=self._milliseconds,
        )
        try:
            found = await self._stub.Claim(asked, timeout=self._timeout)
        except asyncio.CancelledError:
            self._give_back(request, request_id)
            raise
        except grpc.aio.AioRpcError as error:
            failure = from_rpc(error)
            _log.warning("idempotency key not claimed", reason=failure.message)
            if failure.reason == errors_pb2.REASON_DEADLINE:
                self._give_back(request, request_id)
            raise MeshError(
                errors_pb2.REASON_SERVICE_UNAVAILABLE,
                "idempotency keys cannot be checked just now",
                retry_after=COMEBACK_SECONDS,
            ) from None
        if found.state == pb.ENTRY_STATE_CLAIMED:
            claim = self._running[request.entry] = Claim(request, request_id)
            return claim
        if found.state == pb.ENTRY_STATE_DONE:
            answer = found.answer
            return Kept(found.claim, answer.status, answer.content_type, request.unseal(answer.sealed))
        raise _refusal(found.state)

    async def settle(self, claim: Claim, kept: Kept | None, *, made: bool) -> None:
        """Ends a claim; what cannot be said now is said again in the background, and the entry is held until then.

        Args:
            claim: The entry.
            kept: What was answered; None when it is too large to keep.
            made: The call was made and counts; otherwise the entry is given back, and `kept` is of no use.
        """
        request = pb.SettleRequest(entry=claim.request.entry, claim=claim.request_id)
        if not made:
            request.released = True
        elif kept is None:
            request.not_kept = True
        else:
            request.answer.status = kept.status
            request.answer.content_type = kept.content_type
            request.answer.sealed = claim.request.seal(kept.body)
        if not await self._said(request):
            self._later(request)

    async def run(self) -> None:
        """Prolongs leases for ever."""
        while True:
            await asyncio.sleep(self._lease / RENEWALS)
            await self.renew()

    async def renew(self) -> None:
        """Prolongs the leases of all calls under way."""
        for batch in _batches([pb.Running(entry=entry, claim=one.request_id) for entry, one in self._running.items()]):
            request = pb.RenewRequest(running=batch, lease_milliseconds=self._milliseconds)
            try:
                await self._stub.Renew(request, timeout=self._lease / RENEWALS)
            except grpc.aio.AioRpcError as error:
                _log.warning("leases not prolonged", calls=len(batch), reason=from_rpc(error).message)

    async def close(self) -> None:
        """Waits for what is still to be said."""
        if self._late:
            await asyncio.wait(self._late)

    def _give_back(self, request: Request, request_id: str) -> None:
        """Of an entry that may have been taken, and nobody here knows."""
        self._later(pb.SettleRequest(entry=request.entry, claim=request_id, released=True))

    def _later(self, request: pb.SettleRequest) -> None:
        late = asyncio.get_running_loop().create_task(self._say_again(request))
        self._late.add(late)
        late.add_done_callback(self._late.discard)

    async def _said(self, request: pb.SettleRequest) -> bool:
        try:
            await self._stub.Settle(request, timeout=SETTLE_SECONDS)
        except grpc.aio.AioRpcError as error:
            _log.warning("claim not settled", request_id=request.claim, reason=from_rpc(error).message)
            return False
        self._running.pop(request.entry, None)
        return True

    async def _say_again(self, request: pb.SettleRequest) -> None:
        for attempt in range(SETTLE_TRIES):
            await asyncio.sleep(0.2 * 2**attempt)
            if await self._said(request):
                return
        self._running.pop(request.entry, None)
        _log.error("claim left to lapse", request_id=request.claim)

    @property
    def _milliseconds(self) -> int:
        return int(self._lease * 1000)


def _batches(running: Sequence[pb.Running]) -> Iterator[list[pb.Running]]:
    rest = iter(running)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _refusal(state: pb.EntryState.ValueType) -> MeshError:
    if state == pb.ENTRY_STATE_RUNNING:
        return MeshError(
            errors_pb2.REASON_IDEMPOTENCY_RUNNING,
            "a call with this idempotency key is under way",
            retry_after=COMEBACK_SECONDS,
        )
    if state == pb.ENTRY_STATE_MISMATCH:
        return MeshError(
            errors_pb2.REASON_IDEMPOTENCY_MISMATCH,
            "this idempotency key was used for another request",
            metadata={"param": HEADER},
        )
    return MeshError(
        errors_pb2.REASON_IDEMPOTENCY_NOT_KEPT,
        "the call with this idempotency key was made, and its answer is too large or too old to be repeated",
    )
