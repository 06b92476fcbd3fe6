"""What vendors keep for projects, written down so that a vendor's list can be shown without the others' things."""

from collections.abc import Iterable
from typing import Any, Final

import grpc
import structlog

from polyroute.api.kept.v1.kept_pb2 import FindRequest, RememberRequest, Thing
from polyroute.edge.marks import digest
from polyroute.mesh.errors import from_rpc

_MOST: Final = 1000  # in one request

_log = structlog.get_logger("things")


class Things:
    """The things of all projects, as the metrics role has them.

    Args:
        stub: KeptService.
        timeout: Seconds to wait for it.
    """

    def __init__(self, stub: Any, timeout: float) -> None:
        self._stub = stub
        self._timeout = timeout

    async def remember(self, mark_key: bytes, provider: str, key_mark: bytes, names: Iterable[str]) -> None:
        """Writes down what a provider made; what cannot be written down now is missing from lists, and nothing else."""
        things = [Thing(digest=digest(mark_key, own, provider), key_mark=key_mark) for own in names][:_MOST]
        if not things:
            return
        try:
            await self._stub.Remember(RememberRequest(things=things), timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            _log.warning("not written down", provider=provider, things=len(things), code=error.code().name)

    async def find(self, mark_key: bytes, provider: str, names: Iterable[str]) -> dict[str, bytes]:
        """Those that are the project's, with the fingerprints of the keys that made them.

        Raises:
            MeshError: REASON_SERVICE_UNAVAILABLE; nobody can say.
        """
        by_digest = {digest(mark_key, own, provider): own for own in names}
        if not by_digest:
            return {}
        try:
            found = await self._stub.Find(FindRequest(digests=by_digest), timeout=self._timeout)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        return {by_digest[thing.digest]: thing.key_mark for thing in found.things}
