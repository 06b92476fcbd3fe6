"""What travels along a call through the mesh: its id, its trace and its deadline.

A scope is opened where a call enters a process (the edge's doors, every servicer) and is current for all the code below
it. Channels read it: they shorten the timeout of what they send to what is left, and pass the ids on.
"""

import asyncio
import random
from contextvars import ContextVar
from typing import Final, NamedTuple

from uuid_utils import uuid7

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError

REQUEST_ID: Final = "x-request-id"
TRACE: Final = "traceparent"  # https://www.w3.org/TR/trace-context/
SHAVE: Final = 0.020  # s kept back at each hop, so that a servicer whose own calls time out can still say so
_SPAN: Final = (1 << 64) - 1
LEAST: Final = 0.100  # s below which no useful work can be done


class Scope(NamedTuple):
    """One call in one process.

    Attributes:
        request_id: The call's id, a UUIDv7 unless the caller named one.
        traceparent: W3C trace context.
        deadline: Loop time at which the call must be over; None when it may last.
        upkeep: Nobody's call: its sender named none, as the mesh's own loops do.
    """

    request_id: str
    traceparent: str
    deadline: float | None = None
    upkeep: bool = False

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with each RPC made in this scope."""
        return (REQUEST_ID, self.request_id), (TRACE, self.traceparent)

    @property
    def trace_id(self) -> str:
        """The trace's id, 32 hex digits; empty when there is no trace."""
        return self.traceparent[3:35]

    def remaining(self) -> float | None:
        """Seconds left for the work of this scope; None when there is no deadline."""
        if self.deadline is None:
            return None
        return self.deadline - asyncio.get_running_loop().time()


CURRENT: Final[ContextVar[Scope | None]] = ContextVar("polyroute_scope", default=None)


def new_request_id() -> str:
    """A fresh UUIDv7: ordered by time, so that records made together lie together."""
    return str(uuid7())


def new_traceparent() -> str:
    """A fresh sampled-out trace context, for callers that bring none; random, not secret."""
    bits = random.getrandbits(192)
    return f"00-{bits >> 64:032x}-{bits & _SPAN:016x}-00"


def shortened(timeout: float | None) -> float | None:
    """`timeout`, or what is left of the current call when that is less.

    Raises:
        MeshError: REASON_DEADLINE when too little is left to begin anything.
    """
    scope = CURRENT.get()
    left = scope.remaining() if scope is not None else None
    if left is None:
        return timeout
    if left < LEAST:
        raise MeshError(pb.REASON_DEADLINE, f"less than {LEAST * 1000:.0f} ms of the call's time is left")
    return left if timeout is None else min(timeout, left)
