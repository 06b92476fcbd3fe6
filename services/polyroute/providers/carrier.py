"""How a request gets to a vendor and its answer back, whatever lies between: HTTP/1.1 or gRPC."""

from collections.abc import Mapping
from typing import Protocol

from polyroute.providers.http import Target
from polyroute.providers.transport import Limits


class Reply(Protocol):
    """A vendor's answer that has begun; `transport.Answer` says what each of these is. It is to be closed."""

    status: int
    headers: Mapping[str, str]
    sent: float
    arrived: float

    @property
    def ok(self) -> bool:
        """Whether the vendor says that it worked."""
        ...

    @property
    def content_type(self) -> str:
        """The media type, by which a dialect knows how the answer is cut into events."""
        ...

    async def body(self) -> bytes:
        """The whole answer."""
        ...

    async def error_body(self) -> bytes:
        """What came instead of an answer."""
        ...

    async def read(self, *, first: bool, idle: int = 0) -> bytes:
        """What has arrived; empty at the end."""
        ...

    async def rest(self) -> None:
        """Reads what follows the last event."""
        ...

    def close(self) -> None:
        """Ends the vendor's work when it has not ended."""
        ...


class Carrier(Protocol):
    """Sends requests."""

    async def post(
        self, target: Target, body: bytes, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Sends a request and returns once its answer has begun; see `transport.Transport.post`."""
        ...


class Carriers:
    """Sends each request in the way that its target asks for.

    Args:
        http: For requests of HTTP.
        rpc: For calls of gRPC.
    """

    def __init__(self, http: Carrier, rpc: Carrier) -> None:
        self._http = http
        self._rpc = rpc

    async def post(
        self, target: Target, body: bytes, limits: Limits, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """See `Carrier.post`."""
        return await (self._rpc if target.rpc else self._http).post(target, body, limits, headers)
