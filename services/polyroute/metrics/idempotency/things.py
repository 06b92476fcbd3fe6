"""What vendors keep for projects, in the database of idempotency keys: a row for each thing."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

from sqlalchemy import Engine, select

from polyroute.mesh.database import Location, insert_for
from polyroute.metrics.idempotency import schema
from polyroute.metrics.idempotency.store import transaction

_T: Final = schema.things.c
_AT_ONCE: Final = 500  # digests in one statement


class Things:
    """The things.

    Every method raises `MeshError` with REASON_SERVICE_UNAVAILABLE when the database does not do its part.

    Args:
        writer: One connection, whose transactions no other can come between.
        reader: One connection.
    """

    def __init__(self, writer: Engine, reader: Engine) -> None:
        self._writer = writer
        self._reader = reader

    @classmethod
    @asynccontextmanager
    async def open(cls, location: Location) -> AsyncGenerator[Self]:
        """The things at `location`, whose tables are there."""
        writer, reader = location.thread_writer(), location.thread_reader()
        try:
            yield cls(writer, reader)
        finally:
            reader.dispose()
            writer.dispose()

    async def remember(self, things: Mapping[bytes, bytes]) -> None:
        """Writes things down: digest -> fingerprint of the vendor's key. What is there stays as it is."""
        await asyncio.shield(asyncio.to_thread(self._remember, things))

    async def find(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Those of some things that are there, with the fingerprints of the vendor's keys."""
        return await asyncio.shield(asyncio.to_thread(self._find, digests))

    def _remember(self, things: Mapping[bytes, bytes]) -> None:
        rows = [{"digest": digest, "key_mark": key_mark} for digest, key_mark in things.items()]
        with transaction(self._writer) as connection:
            connection.execute(insert_for(connection)(schema.things).on_conflict_do_nothing(), rows)

    def _find(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        with transaction(self._reader) as connection:
            for at in range(0, len(digests), _AT_ONCE):
                query = select(_T.digest, _T.key_mark).where(_T.digest.in_(digests[at : at + _AT_ONCE]))
                found |= {row.digest: row.key_mark for row in connection.execute(query)}
        return found
