"""Who calls: auth's verdicts, kept while they may be, dropped when a key is revoked.

In steady state a call costs one look into a dictionary: a verdict is renewed beside the calls before it is no longer
fresh. One that was not, because nobody called, is asked for before it is used; one that auth cannot renew is used until
`usable_for` has passed and not a second longer. Revocations are pushed, so that a revoked key is refused within a
second; where the push is lost without a sign, within `fresh_for`; when it has been away, nothing kept is trusted.
"""

import asyncio
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final, TypeVar

import grpc
import structlog

from polyroute.api.auth.v1.auth_pb2 import (
    AuthorizeRequest,
    Caller,
    Verdict,
    WatchRevocationsRequest,
    WatchRevocationsResponse,
)
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.strangers import Strangers
from polyroute.mesh.errors import MeshError, from_rpc

REST_SECONDS: Final = 0.25  # between two watches
MOST: Final = 100_000  # verdicts kept
RENEW_SHARE: Final = 5  # of the time that a verdict is fresh it is renewed in the last such part

T = TypeVar("T")

_log = structlog.get_logger("authorizer")


async def heard(call: Awaitable[T]) -> T:
    """What a role answers, or its refusal as the mesh's error."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        raise from_rpc(error) from None


def _nobody(_purses: Sequence[str]) -> None:
    """Nobody holds money here."""


@dataclass(slots=True)
class _Kept:
    verdict: Verdict
    renew_at: float
    fresh_until: float
    usable_until: float
    renewing: bool = False
    changed: bool = False  # auth says that it is no longer right, so it is used only when auth cannot say what is


class Authorizer:
    """Verdicts by credential.

    Args:
        stub: AuthService.
        timeout: Seconds to wait for auth on a key's first call.
        clock: Seconds, monotonic.
        recalled: Told of purses that are nearly empty.
        strangers: Bounds the keys that nobody knows; None does not.
    """

    def __init__(
        self,
        stub: Any,
        timeout: float,
        clock: Callable[[], float],
        *,
        recalled: Callable[[Sequence[str]], None] = _nobody,
        strangers: Strangers | None = None,
    ) -> None:
        self._strangers = strangers
        self._recalled = recalled
        self._watched = False
        self._silent = False  # auth did not answer when it was asked last
        self._stub = stub
        self._timeout = timeout
        self._clock = clock
        self._salt = secrets.token_bytes(16)  # so that what is kept in memory is no credential
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._revision = 0
        self._changes = 0  # of anything else, so far
        self._renewals: set[asyncio.Task[None]] = set()

    async def verdict(self, credential: str, source: str = "") -> Verdict:
        """What auth says of `credential`.

        Args:
            credential: As it was presented; empty when it was not.
            source: The address it comes from; empty when unknown.

        Raises:
            MeshError: REASON_CREDENTIAL_MISSING, REASON_CREDENTIAL_INVALID, REASON_RATE_LIMITED when too many of them
                came from there, or REASON_SERVICE_UNAVAILABLE when auth does not answer and nothing that is kept may
                be used.
        """
        if not credential:
            raise MeshError(pb.REASON_CREDENTIAL_MISSING, "no API key was presented: send authorization: Bearer pr-...")
        digest = blake2b(credential.encode("utf-8", "surrogatepass"), digest_size=16, key=self._salt).digest()
        kept = self._kept.get(digest)
        now = self._clock()
        if kept is None:
            return await self._ask_first(credential, digest, source)
        if now >= kept.usable_until:
            return await self._ask(credential, digest)
        if kept.changed or (now >= kept.fresh_until and not self._silent):
            return await self._ask_again(credential, digest, kept)
        if now >= kept.renew_at and not kept.renewing:
            kept.renewing = True
            renewal = asyncio.get_running_loop().create_task(self._renew(credential, digest, kept))
            self._renewals.add(renewal)
            renewal.add_done_callback(self._renewals.discard)
        return kept.verdict

    async def _ask_first(self, credential: str, digest: bytes, source: str) -> Verdict:
        """The verdict on a key that was not seen here before."""
        if self._strangers is None:
            return await self._ask(credential, digest)
        self._strangers.take(source)
        try:
            verdict = await self._ask(credential, digest)
        except MeshError as error:
            if error.reason != pb.REASON_CREDENTIAL_INVALID:
                self._strangers.known(source)
            raise
        self._strangers.known(source)
        return verdict

    async def _ask(self, credential: str, digest: bytes) -> Verdict:
        seen = self._revision, self._changes
        try:
            response = await self._stub.Authorize(AuthorizeRequest(credential=credential), timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            refusal = _as_refusal(from_rpc(error))
            self._silent = refusal.reason == pb.REASON_SERVICE_UNAVAILABLE
            raise refusal from None
        self._silent = False
        if seen == (self._revision, self._changes):  # what it says may have changed while it was on the way
            self._keep(digest, response.verdict)
        return response.verdict  # type: ignore[no-any-return] # the stub is typed by its generator

    async def _ask_again(self, credential: str, digest: bytes, kept: _Kept) -> Verdict:
        """The verdict in the place of one that has changed; that one while auth does not answer."""
        try:
            return await self._ask(credential, digest)
        except MeshError as error:
            if error.reason != pb.REASON_SERVICE_UNAVAILABLE:
                self._kept.pop(digest, None)
                raise
        return kept.verdict

    async def _renew(self, credential: str, digest: bytes, kept: _Kept) -> None:
        try:
            await self._ask(credential, digest)
        except MeshError as error:
            if error.reason != pb.REASON_SERVICE_UNAVAILABLE:
                self._kept.pop(digest, None)
            else:
                _log.warning("verdict not renewed", reason=error.message)
        finally:
            kept.renewing = False

    def _keep(self, digest: bytes, verdict: Verdict) -> None:
        now = self._clock()
        fresh = verdict.fresh_for.ToNanoseconds() / 1e9
        usable = verdict.usable_for.ToNanoseconds() / 1e9
        ends = math.inf
        if verdict.HasField("expire_time"):
            ends = now + max(0.0, verdict.expire_time.ToNanoseconds() / 1e9 - time.time())
        ahead = min(self._timeout, fresh / RENEW_SHARE)  # auth has so long to answer, or to be known as silent
        until = min(ends, now + fresh)
        self._kept[digest] = _Kept(verdict, until - ahead, until, min(ends, now + max(fresh, usable)))
        if len(self._kept) > MOST:
            self._kept.popitem(last=False)

    async def follow(self) -> None:
        """Follows revocations for ever, with a short rest whenever the watch breaks."""
        while True:
            try:
                request = WatchRevocationsRequest(revision=self._revision)
                watching = False
                async for message in self._stub.WatchRevocations(request):
                    if not watching and self._watched:  # changes are not repeated for whoever was away
                        self._stale(lambda _: True)
                    watching = self._watched = True
                    self._apply(message)
            except grpc.aio.AioRpcError as error:
                _log.warning("revocations not heard", code=error.code().name)
            await asyncio.sleep(REST_SECONDS)

    def _apply(self, message: WatchRevocationsResponse) -> None:
        self._revision = message.revision
        if message.reset:
            self._kept.clear()
            return
        if message.recalled_purses:
            self._recalled(message.recalled_purses)
        if message.changed_scopes:
            changed = frozenset(message.changed_scopes)
            self._stale(lambda caller: not changed.isdisjoint((caller.key_id, caller.project_id, caller.account_id)))
        ended = set(message.key_ids)
        if ended:
            for digest in [digest for digest, kept in self._kept.items() if kept.verdict.caller.key_id in ended]:
                del self._kept[digest]

    def _stale(self, concerned: Callable[[Caller], bool]) -> None:
        """Has verdicts renewed: whoever is asked next waits for the new one."""
        self._changes += 1
        for digest in [digest for digest, kept in self._kept.items() if concerned(kept.verdict.caller)]:
            kept = self._kept[digest]
            kept.fresh_until = self._clock()
            kept.changed = True


def _as_refusal(error: MeshError) -> MeshError:
    """Auth's own refusals as they are; anything else means that it is not there."""
    if error.reason in (pb.REASON_CREDENTIAL_INVALID, pb.REASON_CREDENTIAL_MISSING, pb.REASON_NOT_PERMITTED):
        return error
    if error.reason == pb.REASON_INVALID_REQUEST:  # a credential that no key can be, such as one of 5 kB
        return MeshError(pb.REASON_CREDENTIAL_INVALID, "the API key is not valid")
    return MeshError(pb.REASON_SERVICE_UNAVAILABLE, "auth does not answer", retry_after=1.0)
