"""Revocations as they happen, for everyone who keeps verdicts; and changes and recalls, which are news and no more.

The feed is a log, not a set of queues: each watcher has a place in it and takes everything after that place whenever it
is ready. A slow watcher costs nothing, sees several revocations in one batch, and is told to start afresh when it has
fallen behind further than the log reaches.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final, NamedTuple

KEPT: Final = 10_000


class News(NamedTuple):
    """Something that is told, and not kept for those who were away.

    Attributes:
        scope: The key, project or account that has changed, or the purse; empty where a key was revoked.
        recall: Whether it is a purse that is nearly empty.
    """

    scope: str
    recall: bool = False


REVOKED: Final = News("")
EVERYTHING: Final = News("*")
"""Anything may have changed."""


def _nobody(_news: News) -> None:
    """Where there is one auth role, it has nobody to tell."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a watcher has missed."""

    revision: int
    """The watcher's new place."""
    key_ids: tuple[str, ...] = ()
    """Keys that ended, oldest first."""
    reset: bool = False
    """The watcher's old place is unknown or out of reach: any key may have ended."""
    changed: tuple[str, ...] = ()
    """Keys, projects and accounts of which something else has changed."""
    recalled: tuple[str, ...] = ()
    """Purses that are nearly empty: whoever holds money for them gives back what it does not need."""


class RevocationFeed:
    """The latest revocations, and their watchers.

    Args:
        kept: How many revocations to remember.

    Attributes:
        revision: Revision of the last revocation; 0 before the first.
        spread: Told of what has happened here, and not of what was heard of others.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.revision = 0
        self.spread: Callable[[News], None] = _nobody
        self._kept = kept
        self._log: dict[str, int] = {}  # key id -> revision, in order: a key ends once
        self._floor = 0  # the oldest place from which the log is whole
        self._grown = asyncio.Event()
        self._news: deque[tuple[int, News]] = deque(maxlen=kept)  # with their numbers
        self._number = 0  # of the last of the news
        self._lives = 0

    def __contains__(self, key_id: str) -> bool:
        """Whether the key is among the latest revocations."""
        return key_id in self._log

    def extend(self, revocations: Iterable[tuple[int, str]]) -> None:
        """Appends revocations (revision, key id) in ascending order; those that are known already change nothing."""
        for revision, key_id in revocations:
            if revision > self.revision:
                self._append(revision, key_id)
        self._wake()
        self.spread(REVOKED)

    def hear(self, revision: int, key_id: str) -> None:
        """Appends a revocation that another auth role has made."""
        if revision > self.revision:
            self._append(revision, key_id)
            self._wake()

    def changed(self, scope: str) -> None:
        """Tells every watcher that something of a key, project or account has changed."""
        self._tell(News(scope))

    def recall(self, purse: str) -> None:
        """Asks every watcher to give back what it holds for a purse and does not need."""
        self._tell(News(purse, recall=True))

    def told(self, news: News) -> None:
        """Tells every watcher what another auth role has told."""
        if news == EVERYTHING:
            self._lives += 1
        elif news.scope:
            self._number += 1
            self._news.append((self._number, news))
        self._wake()

    def since(self, revision: int) -> Batch:
        """What a watcher at `revision` has missed."""
        if not self._floor <= revision <= self.revision:
            return Batch(self.revision, reset=True)
        newer = takewhile(lambda entry: entry[1] > revision, reversed(self._log.items()))
        return Batch(self.revision, tuple(key_id for key_id, _ in newer)[::-1])

    async def watch(self, revision: int) -> AsyncGenerator[Batch]:
        """What a watcher at `revision` has missed, at once, and then every revocation and all news as they come.

        News are not kept for watchers that were away: those trust nothing that they kept as fresh. So when anything may
        have changed it ends, and who watches comes back as one who was away.
        """
        told, life = self._number, self._lives
        while life == self._lives:
            batch = self._with_news(self.since(revision), told)
            told = self._number
            yield batch
            revision = batch.revision
            while revision == self.revision and told == self._number and life == self._lives:
                await self._grown.wait()

    def _with_news(self, batch: Batch, told: int) -> Batch:
        if told == self._number:
            return batch
        if self._news[0][0] > told + 1:  # more than the memory holds
            return Batch(batch.revision, reset=True)
        newer = [news for number, news in self._news if number > told]
        return replace(
            batch,
            changed=tuple(dict.fromkeys(news.scope for news in newer if not news.recall)),
            recalled=tuple(dict.fromkeys(news.scope for news in newer if news.recall)),
        )

    def _tell(self, news: News) -> None:
        self.told(news)
        self.spread(news)

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _append(self, revision: int, key_id: str) -> None:
        if not self._log:
            self._floor = revision - 1
        self._log[key_id] = revision
        self.revision = revision
        if len(self._log) > self._kept:
            oldest = next(iter(self._log))
            self._floor = self._log.pop(oldest)
