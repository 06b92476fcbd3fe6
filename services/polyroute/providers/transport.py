"""The one file that opens connections to vendors.

Every wait has a bound: connecting, the first content, the next event, the whole attempt. What goes wrong comes out as a
`MeshError` with its Fault; whether another try may follow is not decided here.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Final, NoReturn

import aiohttp

from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.providers.account import Endpoint

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  # of a whole answer; vectors of a large batch reach tens of megabytes
MAX_ERROR_BYTES: Final = 64 * 1024
READ_BYTES: Final = 64 * 1024
REST_SECONDS: Final = 0.2  # for the end of a body whose content is complete; after that the connection is given up
IDLE_SECONDS: Final = 50.0  # a pooled connection; less than the 60 s after which common servers close theirs


@dataclass(frozen=True, slots=True)
class Limits:
    """How long each step of an attempt may take, in seconds."""

    connect: float = 5.0
    first_token: float = 60.0
    inter_token: float = 30.0
    total: float = 600.0


class Watch:
    """Bounds each wait of one attempt with one timer.

    A wait that takes too long is cancelled and becomes FAULT_STALL; a cancellation from outside stays what it is.
    """

    def __init__(self, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self._limits = limits
        self._loop = loop
        self._end = loop.time() + limits.total
        self._due = self._end
        self._task: asyncio.Task[object] | None = None
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def waiting(self, seconds: float) -> Generator[None]:
        """Bounds what the body waits for."""
        self._due = min(self._loop.time() + seconds, self._end)
        self._task = asyncio.current_task(self._loop)
        if self._timer is None or self._timer.when() > self._due:
            self._arm()
        try:
            yield
        except asyncio.CancelledError:
            if not self._expired or self._task is None:
                raise
            self._task.uncancel()
            raise MeshError.upstream(
                errors_pb2.FAULT_STALL, f"the vendor sent nothing for {seconds:g} s", waited=f"{seconds:g}"
            ) from None
        finally:
            self._task = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
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
        headers: The headers; names in any case.
        arrived: When the last piece of it came, by `time.perf_counter`.
    """

    def __init__(self, response: aiohttp.ClientResponse, watch: Watch, limits: Limits) -> None:
        self._response = response
        self._watch = watch
        self._limits = limits
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.arrived = perf_counter()

    @property
    def ok(self) -> bool:
        """Whether the vendor says that it worked."""
        return 200 <= self.status < 300

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    async def body(self, limit: int = MAX_ANSWER_BYTES) -> bytes:
        """The whole body, within the time that a first token may take.

        Raises:
            MeshError: FAULT_BAD_ANSWER when it is too large, FAULT_TRUNCATED when it breaks off, FAULT_STALL.
        """
        pieces: list[bytes] = []
        size = 0
        with self._watch.waiting(self._limits.first_token), _reading():
            async for piece in self._response.content.iter_any():
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise MeshError.upstream(errors_pb2.FAULT_BAD_ANSWER, f"the answer is larger than {limit} bytes")
        self.arrived = perf_counter()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def error_body(self) -> bytes:
        """The beginning of a refusal's body; empty when it cannot be read."""
        try:
            with self._watch.waiting(self._limits.inter_token), _reading():
                return await self._response.content.read(MAX_ERROR_BYTES)
        except MeshError:
            return b""

    async def read(self, *, first: bool) -> bytes:
        """What has arrived, at least one byte; empty at the end.

        Args:
            first: No content has come yet, so the bound is that of the first token.

        Raises:
            MeshError: FAULT_TRUNCATED when the connection breaks, FAULT_STALL.
        """
        seconds = self._limits.first_token if first else self._limits.inter_token
        with self._watch.waiting(seconds), _reading():
            data = await self._response.content.readany()
        self.arrived = perf_counter()
        return data

    async def rest(self) -> None:
        """Reads the framing that follows the last event, so that the connection can be used again."""
        with contextlib.suppress(MeshError, TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                with _reading():
                    while await self._response.content.readany():
                        continue


class Transport:
    """Connections to vendors, kept and used again.

    Args:
        connections: Most connections to one address; 0 means no limit.
    """

    def __init__(self, *, connections: int = 0) -> None:
        connector = aiohttp.TCPConnector(
            limit=0,
            limit_per_host=connections,
            keepalive_timeout=IDLE_SECONDS,
            ttl_dns_cache=30,
            enable_cleanup_closed=False,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=READ_BYTES,
            auto_decompress=True,
            trust_env=False,
        )

    async def close(self) -> None:
        """Closes every connection."""
        await self._session.close()

    @asynccontextmanager
    async def post(
        self, endpoint: Endpoint, body: bytes, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Answer]:
        """Sends a request; leaving before the answer has ended closes the connection, and so ends the vendor's work.

        Raises:
            MeshError: FAULT_CONNECT when nothing was sent, FAULT_AMBIGUOUS when the request may have arrived,
                FAULT_STALL when no headers came in time.
        """
        loop = asyncio.get_running_loop()
        watch = Watch(limits, loop)
        sent = {**endpoint.headers, **headers} if headers else endpoint.headers
        timeout = aiohttp.ClientTimeout(total=None, connect=limits.connect, sock_connect=limits.connect)
        try:
            with watch.waiting(limits.connect + limits.first_token), _connecting():
                response = await self._session.post(
                    endpoint.url, data=body, headers=sent, timeout=timeout, allow_redirects=False
                )
            try:
                yield Answer(response, watch, limits)
            finally:
                if response.content.is_eof():
                    response.release()
                else:
                    response.close()
        finally:
            watch.close()


@contextmanager
def _connecting() -> Generator[None]:
    """Tells apart what was certainly not sent from what may have arrived."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        _fail(errors_pb2.FAULT_CONNECT, "the vendor cannot be reached", error)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        _fail(errors_pb2.FAULT_AMBIGUOUS, "the connection broke before any answer", error)


@contextmanager
def _reading() -> Generator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        _fail(errors_pb2.FAULT_TRUNCATED, "the vendor's answer broke off", error)


def _fail(fault: errors_pb2.Fault.ValueType, message: str, error: BaseException) -> NoReturn:
    # the class says what happened; the text of these errors can hold addresses and is for the log only
    raise MeshError.upstream(fault, message, cause=type(error).__name__) from error
