"""Makes a call once per key: takes its entry, lets it run to its end whoever listens, and keeps what it answered.

A client that leaves ends its call, unless it named a key: then it will come back for the answer, which is paid for.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.chat.v1 import chat_pb2
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.idempotency.claims import Claim, Claims, Kept
from polyroute.edge.idempotency.request import request_of
from polyroute.edge.permits import permit
from polyroute.mesh.errors import MeshError

# A vendor's last word on a request: it would say the same again. Of the other faults another try may be spared.
FINAL: Final = frozenset({pb.FAULT_CLIENT, pb.FAULT_CONTEXT, pb.FAULT_FILTER})
_PASSING: Final = frozenset({408, 409, 425, 429})  # statuses of a vendor's own API after which another try may help

T = TypeVar("T")


class Once:
    """Calls that name a key.

    Args:
        authorizer: Who calls.
        claims: The entries.
        grace: Seconds for calls whose clients have left, when the process stops.
    """

    def __init__(self, authorizer: Authorizer, claims: Claims, *, grace: float) -> None:
        self._authorizer = authorizer
        self._grace = grace
        self._tasks: set[asyncio.Task[Any]] = set()
        self.claims = claims

    async def begin(
        self, credential: str, *, method: str, path: str, source: str, key: str, content: bytes, request_id: str
    ) -> Claim | Kept:
        """Takes the entry of a call, or gives what an earlier call answered.

        Args:
            credential: The caller's key.
            method: HTTP's; empty of an RPC.
            path: Of the request or the RPC.
            source: Address it comes from; empty when unknown.
            key: The idempotency key.
            content: What is asked, in canonical form.
            request_id: The call's id.

        Raises:
            MeshError: The caller may not ask, or the call may not be made; see `Claims.claim`.
        """
        verdict = await self._authorizer.verdict(credential, source)
        _let_in(verdict, path, source)
        return await self.claims.claim(request_of(verdict, f"{method} {path}", key, content), request_id)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs a call to its end, also when nobody waits for it any more."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finished(self, work: Coroutine[Any, Any, None], lost: Callable[[], bool]) -> None:
        """Waits for a call; it goes on when the client is lost, and ends when the process stops.

        Args:
            work: The call, which says itself what went wrong.
            lost: Whether the client is gone.
        """
        task = self.start(work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if lost():
                raise
            task.cancel()
            await asyncio.wait((task,))  # it says itself that it was ended

    async def close(self) -> None:
        """Waits for calls whose clients have left, and for what is still to be said of them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        await self.claims.close()


def counts(error: MeshError | None, *, tried: bool, committed: bool, status: int = 200) -> bool:
    """Whether what came of a call is its one answer; otherwise another call may be made with its key.

    Args:
        error: What it failed with; None when it did not.
        tried: An attempt at a vendor was made.
        committed: Content was handed out, which the vendor charges for.
        status: What the vendor's own API answered.
    """
    if not tried:
        return False
    if error is None:
        return status < 500 and status not in _PASSING
    return committed or error.fault in FINAL


def _let_in(verdict: Verdict, path: str, source: str) -> None:
    """What binds the key wherever it asks; what kind of work it may do was judged when the call was made."""
    if verdict.HasField("scope") or verdict.HasField("plan"):
        place = Verdict(scope=verdict.scope, plan=verdict.plan)
        place.scope.ClearField("operations")
        place.plan.opens.ClearField("operations")
        permit(place, operation=chat_pb2.OPERATION_UNSPECIFIED, route=path, source=source)
