"""Builds what keeps idempotency keys, and takes it down."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from polyroute.mesh.background import Background
from polyroute.mesh.database import Location
from polyroute.metrics.idempotency.service import IdempotencyService, KeptService
from polyroute.metrics.idempotency.store import Store
from polyroute.metrics.idempotency.things import Things


@asynccontextmanager
async def assembled(
    location: Location, *, most_bytes: int, clock: Callable[[], float] = time.time
) -> AsyncGenerator[tuple[IdempotencyService, KeptService]]:
    """The services without a server around them: database open, sweeping; ended and closed on the way out.

    Args:
        location: Where the entries are; apart from the call records, so that neither waits for the other's commits.
        most_bytes: Of kept answers together.
        clock: Seconds since the Unix epoch.
    """
    async with (
        Store.open(location, clock, most_bytes=most_bytes) as store,
        Things.open(location) as things,
        Background() as loops,
    ):
        loops.start("idempotency.sweep", store.run)
        yield IdempotencyService(store), KeptService(things)
