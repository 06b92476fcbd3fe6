"""What the auth roles of one PostgreSQL database tell each other: who ended a key, changed a limit or lacks money.

Each keeps verdicts in its memory and has edges that listen to it, so what one of them changes all must hear. The words
go through the database itself, as notifications, and are a hint only: revocations are read from their table, twice a
second even where nothing is heard. What was told while a connection was away is lost, and so is what a process that
was killed had no time to tell; therefore whoever connects or starts anew has everything looked at again.

https://www.postgresql.org/docs/15/sql-notify.html
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import psycopg
import structlog
from sqlalchemy import URL, text

from polyroute.auth.revocations import EVERYTHING, News, RevocationFeed
from polyroute.auth.store import Store
from polyroute.auth.verdicts import Verdicts
from polyroute.mesh.errors import MeshError
from polyroute.mesh.postgresql import connect

CHANNEL: Final = "polyroute_auth"
LOOK_SECONDS: Final = 0.5  # between two looks at the table of revocations
AGAIN_SECONDS: Final = 0.5  # before a database that does not answer is asked again
MOST: Final = 1000  # pieces of news that wait to be told; of more than these, the sum is told: everything
_NOTIFY: Final = text("SELECT pg_notify(:channel, news) FROM unnest(CAST(:news AS text[])) AS news")

_log = structlog.get_logger("neighbours")


class Neighbours:
    """One of several auth roles, as the others hear it and as it hears them.

    Args:
        url: The database, for a connection that only listens.
        store: Where revocations are.
        feed: Whose watchers are told what others tell; what it tells by itself is spread.
        verdicts: Forget what others have changed.
        forget: Has the limits of a scope looked up anew.
        name: Of this process, among all that share the database.
    """

    def __init__(
        self,
        url: URL,
        store: Store,
        feed: RevocationFeed,
        verdicts: Verdicts,
        forget: Callable[[str], None],
        *,
        name: str,
    ) -> None:
        self._url = url
        self._store = store
        self._feed = feed
        self._verdicts = verdicts
        self._forget = forget
        self._name = name
        self._news: dict[News, None] = {}  # to be told, each once
        self._some = asyncio.Event()

    def spread(self, news: News) -> None:
        """Has the others told, as soon as may be."""
        if len(self._news) >= MOST:
            self._news.clear()
            news = EVERYTHING
        self._news[news] = None
        self._some.set()

    async def tell(self) -> None:
        """Tells for ever."""
        self.spread(EVERYTHING)  # the process before this one may have been killed between a change and its telling
        while True:
            await self._some.wait()
            self._some.clear()
            told = list(self._news)
            try:
                await self._notify(told)
            except MeshError:  # the database has said so
                await asyncio.sleep(AGAIN_SECONDS)
                self._some.set()
                continue
            for news in told:
                self._news.pop(news, None)

    async def listen(self) -> None:
        """Hears for ever."""
        while True:
            try:
                async with self._listening() as connection:
                    self._hear(EVERYTHING)
                    while True:
                        await self._look()
                        async for notification in connection.notifies(timeout=LOOK_SECONDS, stop_after=1):
                            self._take(notification.payload)
            except (psycopg.Error, MeshError) as error:
                _log.warning("other auth roles are not heard", error=type(error).__name__, again_in=AGAIN_SECONDS)
            await asyncio.sleep(AGAIN_SECONDS)

    @asynccontextmanager
    async def _listening(self) -> AsyncGenerator["psycopg.AsyncConnection[Any]"]:
        async with await connect(self._url) as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            yield connection

    async def _notify(self, told: list[News]) -> None:
        payloads = [orjson.dumps((self._name, *news)).decode() for news in told]
        async with self._store.database.reading() as connection:
            await connection.execute(_NOTIFY, {"channel": CHANNEL, "news": payloads})

    async def _look(self) -> None:
        """Takes over the revocations that are not known here."""
        for revocation in await self._store.revocations_after(self._feed.revision):
            self._verdicts.drop(revocation.digest)
            self._feed.hear(revocation.revision, revocation.key_id)

    def _take(self, payload: str) -> None:
        sender, *said = orjson.loads(payload)
        if sender != self._name:
            self._hear(News(*said))

    def _hear(self, news: News) -> None:
        if news == EVERYTHING:
            self._verdicts.clear()
        elif news.scope and not news.recall:
            self._verdicts.drop_scope(news.scope)
            self._forget(news.scope)
        self._feed.told(news)
