"""The one file that opens connections to vendors.

Every wait has a bound: connecting, the first content, the next event, the whole attempt. What goes wrong comes out as a
`MeshError` with its Fault; whether another try may follow is not decided here.
"""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any, Final, Self

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.mesh.errors import MeshError
from polyroute.providers.http import Address, Connection, Pool, Target, changed

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  # of a whole answer; vectors of a large batch reach tens of megabytes
MAX_ERROR_BYTES: Final = 64 * 1024
BROKE: Final = "the connection broke before any answer"
BROKE_OFF: Final = "the vendor's answer broke off"
UNREACHABLE: Final = "the vendor cannot be reached"
PINGS: Final = 4  # reads without an event that put off the bound between two tokens
REST_SECONDS: Final = 0.2  # for the end of a body whose content is complete; after that the connection is given up
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
IDLE_SECONDS: Final = 50.0  # a pooled connection; less than the 60 s after which common servers close theirs


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each step of an attempt may take, in seconds."""

    connect: float = 5.0
    first_token: float = 60.0
    inter_token: float = 30.0
    total: float = 600.0


class Watch:
    """Bounds each wait of one attempt with one timer, and says what it was that broke.

    Used as `with watch.within(seconds, fault, message)`. A wait that takes too long is cancelled and becomes
    FAULT_STALL; a cancellation from outside stays what it is; what the network raises becomes `fault`.
    """

    def __init__(self, total: float, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.sent = self.began = loop.time()  # of the attempt; of the wait that is going on or was the last
        self._end = self.sent + total
        self._due = self._end
        self._since: float | None = None
        self._seconds = total
        self._fault: Fault.ValueType = errors_pb2.FAULT_UNSPECIFIED
        self._message = ""
        self._task: asyncio.Task[Any] | None = None
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None
        self._armed = 0.0  # when it goes off

    def within(self, seconds: float, fault: Fault.ValueType, message: str, *, since: float | None = None) -> Self:
        """Bounds what the body of the `with` waits for, from now on or from `since` on."""
        self._seconds = seconds
        self._since = since
        self._fault = fault
        self._message = message
        return self

    def __enter__(self) -> None:
        self.began = self._loop.time() if self._since is None else self._since
        self._due = min(self.began + self._seconds, self._end)
        self._task = asyncio.current_task(self._loop)
        if self._timer is None or self._armed > self._due:
            self._arm()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if error is None:
            return
        if isinstance(error, asyncio.CancelledError) and self._expired and task is not None:
            if task.uncancel():  # the caller has left as well, and is not to be answered any more
                return
            message = f"the vendor sent no content for {self._seconds:g} s"
            raise MeshError.upstream(errors_pb2.FAULT_STALL, message) from None
        if isinstance(error, OSError):
            raise MeshError.upstream(self._fault, self._message, cause=str(error)) from error

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = self._due  # a timer that is due at once cannot say so: uvloop makes a plain handle of it
        self._timer = self._loop.call_at(self._due, self._check)

    def _check(self) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._loop.time() < self._due:  # there was an answer in the meantime; the timer is moved only now
            self._arm()
            return
        self._expired = True
        self._task.cancel()

    def close(self) -> None:
        """Stops the timer."""
        if self._timer is not None:
            self._timer.cancel()


class Answer:
    """A vendor's answer whose headers have come.

    Attributes:
        status: The HTTP status.
        headers: The headers, lower-case names.
        sent: When its request was sent, by `time.perf_counter`.
        arrived: When the last piece of it came, by `time.perf_counter`.
    """

    __slots__ = ("_address", "_connection", "_limits", "_pool", "_watch", "arrived", "headers", "sent", "status")

    def __init__(
        self, pool: Pool, address: Address, connection: Connection, watch: Watch, limits: Limits, sent: float
    ) -> None:
        self._pool = pool
        self._address = address
        self._connection = connection
        self._watch = watch
        self._limits = limits
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers
        self.sent = sent
        self.arrived = perf_counter()

    @property
    def ok(self) -> bool:
        """Whether the vendor says that it worked."""
        return 200 <= self.status < 300

    @property
    def content_type(self) -> str:
        """The body's media type with its parameters, lower case; empty when the vendor does not say."""
        return self.headers.get("content-type", "").lower()

    async def body(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """The whole body, within the time that a first token may take.

        Raises:
            MeshError: FAULT_BAD_ANSWER when it is too large, FAULT_TRUNCATED when it breaks off, FAULT_STALL.
        """
        connection = self._connection
        pieces: list[bytes] = []
        size = 0
        with self._watch.within(self._limits.first_token, errors_pb2.FAULT_TRUNCATED, BROKE_OFF):
            while piece := await connection.read():
                pieces.append(piece)
                size += len(piece)
                if connection.drained:
                    break
                if size > limit:
                    raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, f"the answer is larger than {limit} bytes")
        self.arrived = perf_counter()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def error_body(self) -> bytes:
        """The beginning of a refusal's body; what has come of it when it breaks off."""
        pieces: list[bytes] = []
        size = 0
        with contextlib.suppress(MeshError):
            while size < MAX_ERROR_BYTES:
                piece = await self.read(first=False)
                if not piece:
                    break
                pieces.append(piece)
                size += len(piece)
        return b"".join(pieces)[:MAX_ERROR_BYTES]

    async def read(self, *, first: bool, idle: int = 0) -> bytes:
        """What has arrived, at least one byte; empty at the end.

        Args:
            first: No content has come yet, so the bound is that of the first token, from sending on.
            idle: How many reads in a row brought no event: a vendor's pings put the bound off only so often.

        Raises:
            MeshError: FAULT_TRUNCATED when the connection breaks, FAULT_STALL.
        """
        watch = self._watch
        if first:
            watch.within(self._limits.first_token, errors_pb2.FAULT_TRUNCATED, BROKE_OFF, since=watch.sent)
        else:
            since = watch.began if idle > PINGS else None
            watch.within(self._limits.inter_token, errors_pb2.FAULT_TRUNCATED, BROKE_OFF, since=since)
        with watch:
            data = await self._connection.read()
        self.arrived = perf_counter()
        return data

    async def rest(self) -> None:
        """Reads the framing that follows the last event, so that the connection can be used again."""
        with contextlib.suppress(MeshError):
            while not self._connection.drained:
                with self._watch.within(REST_SECONDS, errors_pb2.FAULT_TRUNCATED, BROKE_OFF):
                    await self._connection.read()

    def close(self) -> None:
        """Gives the connection back; one whose answer has not ended is closed, which ends the vendor's work."""
        self._watch.close()
        self._pool.release(self._address, self._connection)


class Transport:
    """Connections to vendors, kept and used again.

    Args:
        connections: Most connections in use to one address; 0 means no limit.
    """

    def __init__(self, *, connections: int = 0) -> None:
        self._pool = Pool(idle_seconds=IDLE_SECONDS, most=connections)

    async def close(self) -> None:
        """Closes every connection that is not in use."""
        self._pool.close()

    async def post(
        self, target: Target, body: bytes, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Sends a request and returns once the headers of its answer have come. The answer is to be closed.

        Raises:
            MeshError: FAULT_CONNECT when nothing was sent, FAULT_AMBIGUOUS when the request may have arrived,
                FAULT_STALL when no headers came in time.
        """
        watch = Watch(limits.total, asyncio.get_running_loop())
        connection: Connection | None = None
        try:
            with watch.within(limits.connect, errors_pb2.FAULT_CONNECT, UNREACHABLE):
                connection = await self._pool.acquire(target.address)
            watch.sent, sent = watch.began, perf_counter()
            connection.send(_extended(target.head, headers) if headers else target.head, body)
            with watch.within(limits.first_token, errors_pb2.FAULT_AMBIGUOUS, BROKE):
                await connection.answered()
        except BaseException as error:
            watch.close()
            if connection is not None:
                connection.close()
                self._pool.release(target.address, connection)
            elif isinstance(error, MeshError) and error.fault == errors_pb2.FAULT_STALL:
                raise MeshError.upstream(errors_pb2.FAULT_CONNECT, UNREACHABLE, cause="timeout") from None
            raise
        return Answer(self._pool, target.address, connection, watch, limits, sent)

    async def get(self, target: Target, limits: Limits, headers: Mapping[str, str] | None = None) -> Answer:
        """Asks at a target without sending anything, and returns as `post` does.

        Raises:
            MeshError: as `post`.
        """
        bare = changed(target, method="GET", drop=("content-type",))
        return await self.post(bare, b"", limits, headers)


def _extended(head: bytes, headers: Mapping[str, str]) -> bytes:
    """A request's head with headers of this one call in place of those of the same name; lower-case names.

    What would break the framing is left out.
    """
    given = {
        name.encode("ascii"): value.encode("ascii")
        for name, value in headers.items()
        if name.isascii() and value.isascii() and value.isprintable() and _NAME.fullmatch(name)
    }
    kept = [line for line in head.split(b"\r\n") if line and line.partition(b":")[0] not in given]
    return b"\r\n".join([*kept, *(b"%b: %b" % pair for pair in given.items()), b""])
