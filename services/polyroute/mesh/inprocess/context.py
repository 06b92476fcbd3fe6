"""What a servicer sees of a local call."""

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

import grpc
from grpc.aio import Metadata

from polyroute.mesh.guard import LOCAL_PEER
from polyroute.mesh.scope import Scope

Sent = tuple[tuple[str, str | bytes], ...]


class LocalContext(grpc.aio.ServicerContext[Any, Any]):
    """What a servicer sees of a local call."""

    def __init__(
        self, scope: Scope | None, metadata: Sent, deadline: float | None, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.scope = scope
        """The caller's own scope, which needs not be made anew from metadata."""
        self._more = metadata
        self._deadline = deadline
        self._loop = loop
        self.initial: Metadata | None = None
        self.trailing: Metadata | None = None
        self._code: grpc.StatusCode = grpc.StatusCode.OK
        self._details = ""

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """Ends the call with a status that is not OK."""
        self._code, self._details = code, details
        if trailing_metadata:
            self.trailing = Metadata(*trailing_metadata)
        raise grpc.aio.AbortError(details)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Ends the call with a status that is not OK."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Sets the metadata that the caller sees before the first message."""
        self.initial = Metadata(*initial_metadata)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Sets the metadata that the caller sees after the last message."""
        self.trailing = Metadata(*trailing_metadata)

    def invocation_metadata(self) -> Sent:  # type: ignore[override] # pairs, as the network's server has them
        """The metadata the caller sent."""
        return self._more if self.scope is None else (*self.scope.metadata, *self._more)

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the status code that the call ends with."""
        self._code = code

    def set_details(self, details: str) -> None:
        """Sets the text that the call ends with."""
        self._details = details

    def code(self) -> grpc.StatusCode:
        """The status code so far."""
        return self._code

    def details(self) -> str:
        """The status text so far."""
        return self._details

    def trailing_metadata(self) -> Metadata:
        """The trailing metadata so far."""
        return self.trailing or Metadata()

    def time_remaining(self) -> float | None:  # type: ignore[override] # typeshed forgets that there may be no deadline
        """Seconds until the caller gives up; None when it never does."""
        return None if self._deadline is None else self._deadline - self._loop.time()

    def peer(self) -> str:
        """Who calls: this process."""
        return LOCAL_PEER

    def peer_identities(self) -> None:
        """No certificate stands behind a local call."""
        return

    def peer_identity_key(self) -> None:
        """No certificate stands behind a local call."""
        return

    def auth_context(self) -> Mapping[str, Any]:
        """No certificate stands behind a local call."""
        return {}

    async def read(self) -> NoReturn:
        """The contract has no client streams."""
        raise NotImplementedError("the contract has no client streams")

    async def write(self, message: Any) -> NoReturn:
        """Methods yield their messages."""
        raise NotImplementedError("a server stream is written as an async generator")

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing is compressed on the way to the same process."""

    def disable_next_message_compression(self) -> None:
        """Nothing is compressed on the way to the same process."""
