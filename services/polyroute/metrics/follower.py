"""Follows the ledger for ever: over restarts of auth and of this process, and before auth is there at all."""

import asyncio
import random
from typing import Any, Final

import grpc
import structlog

from polyroute.api.auth.v1.ledger_pb2 import WatchAdjustmentsRequest
from polyroute.mesh.errors import MeshError
from polyroute.metrics.store import Store

_FIRST_WAIT: Final = 0.1  # seconds; doubled with each failure, up to
_LONGEST_WAIT: Final = 2.0

_log = structlog.get_logger("metrics")


async def follow(stub: Any, store: Store) -> None:
    """Has the store say what the ledger says. While auth does not answer, all the rest goes on without it.

    Args:
        stub: LedgerService.
        store: Knows how far it came.
    """
    failures = 0
    while True:
        try:
            request = WatchAdjustmentsRequest(after_sequence=await store.place())
            async for message in stub.WatchAdjustments(request):
                if failures:
                    _log.info("the ledger is followed again", failures=failures)
                failures = 0
                await store.adjust(message.adjustments, message.sequence, reset=message.reset)
            reason = "ended"
        except grpc.aio.AioRpcError as error:
            reason = error.code().name
        except MeshError as error:  # of the own database, which has said so
            reason = error.message
        failures += 1
        if failures == 1:
            _log.warning("the ledger is not followed", reason=reason)
        longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(failures - 1, 10))
        await asyncio.sleep(random.uniform(longest / 2, longest))  # noqa: S311 - spreads reconnects, no secret
