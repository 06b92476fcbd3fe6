"""Revocations as they happen, for everyone who keeps verdicts; and changes and recalls, which are news and no more.

The feed is a log, not a set of queues: each watcher has a place in it and takes everything after that place whenever it
is ready. A slow watcher costs nothing, sees several revocations in one batch, and is told to start afresh when it has
fallen behind further than the log reaches.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

KEPT: Final = 10_000


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
    """

    def __init__(self, kept: int = KEPT) -> None:
        self.revision = 0
        """Revision of the last revocation; 0 before the first."""
        self._kept = kept
        self._log: dict[str, int] = {}  # key id -> revision, in order: a key ends once
        self._floor = 0  # the oldest place from which the log is whole
        self._grown = asyncio.Event()
        self._news: deque[tuple[int, str, bool]] = deque(maxlen=kept)  # number, scope, whether it is a recall
        self._told = 0

    def __contains__(self, key_id: str) -> bool:
        """Whether the key is among the latest revocations."""
        return key_id in self._log

    def extend(self, revocations: Iterable[tuple[int, str]]) -> None:
        """Appends revocations (revision, key id) in ascending order; those that are known already change nothing."""
        for revision, key_id in revocations:
            if revision > self.revision:
                self._append(revision, key_id)
        self._wake()

    def changed(self, scope: str) -> None:
        """Tells every watcher that something of a key, project or account has changed."""
        self._tell(scope, recall=False)

    def recall(self, purse: str) -> None:
        """Asks every watcher to give back what it holds for a purse and does not need."""
        self._tell(purse, recall=True)

    def since(self, revision: int) -> Batch:
        """What a watcher at `revision` has missed."""
        if not self._floor <= revision <= self.revision:
            return Batch(self.revision, reset=True)
        newer = takewhile(lambda entry: entry[1] > revision, reversed(self._log.items()))
        return Batch(self.revision, tuple(key_id for key_id, _ in newer)[::-1])

    async def watch(self, revision: int) -> AsyncGenerator[Batch]:
        """What a watcher at `revision` has missed, at once, and then every revocation and all news as they come.

        News are not kept for watchers that were away: those trust nothing that they kept as fresh.
        """
        told = self._told
        while True:
            batch = self._with_news(self.since(revision), told)
            told = self._told
            yield batch
            revision = batch.revision
            while revision == self.revision and told == self._told:
                await self._grown.wait()

    def _with_news(self, batch: Batch, told: int) -> Batch:
        if told == self._told:
            return batch
        if self._news[0][0] > told + 1:  # more than the memory holds
            return Batch(batch.revision, reset=True)
        newer = [(scope, recall) for number, scope, recall in self._news if number > told]
        return replace(
            batch,
            changed=tuple(dict.fromkeys(scope for scope, recall in newer if not recall)),
            recalled=tuple(dict.fromkeys(scope for scope, recall in newer if recall)),
        )

    def _tell(self, scope: str, *, recall: bool) -> None:
        self._told += 1
        self._news.append((self._told, scope, recall))
        self._wake()

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
