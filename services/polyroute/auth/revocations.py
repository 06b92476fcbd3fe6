"""Revocations as they happen, for everyone who keeps verdicts.

The feed is a log, not a set of queues: each watcher has a place in it and takes everything after that place whenever it
is ready. A slow watcher costs nothing, sees several revocations in one batch, and is told to start afresh when it has
fallen behind further than the log reaches.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
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

    def __contains__(self, key_id: str) -> bool:
        """Whether the key is among the latest revocations."""
        return key_id in self._log

    def extend(self, revocations: Iterable[tuple[int, str]]) -> None:
        """Appends revocations (revision, key id) in ascending order; those that are known already change nothing."""
        for revision, key_id in revocations:
            if revision > self.revision:
                self._append(revision, key_id)
        self._grown.set()
        self._grown = asyncio.Event()

    def since(self, revision: int) -> Batch:
        """What a watcher at `revision` has missed."""
        if not self._floor <= revision <= self.revision:
            return Batch(self.revision, reset=True)
        newer = takewhile(lambda entry: entry[1] > revision, reversed(self._log.items()))
        return Batch(self.revision, tuple(key_id for key_id, _ in newer)[::-1])

    async def watch(self, revision: int) -> AsyncGenerator[Batch]:
        """What a watcher at `revision` has missed, at once, and then every revocation as it comes."""
        while True:
            batch = self.since(revision)
            yield batch
            revision = batch.revision
            while revision == self.revision:
                await self._grown.wait()

    def _append(self, revision: int, key_id: str) -> None:
        if not self._log:
            self._floor = revision - 1
        self._log[key_id] = revision
        self.revision = revision
        if len(self._log) > self._kept:
            oldest = next(iter(self._log))
            self._floor = self._log.pop(oldest)
