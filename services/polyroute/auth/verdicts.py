"""Who presents a credential: the answer to every call's first question, from memory whenever it was asked before."""

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

import structlog

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.flights import Flights
from polyroute.auth.keys import Halted, Key, looked_up
from polyroute.auth.revocations import RevocationFeed
from polyroute.mesh.errors import MeshError

KEPT: Final = 100_000  # about 1 KB each
REFUSALS_KEPT: Final = 4096
REFUSAL_SECONDS: Final = 10.0
LOOK_UPS: Final = 256  # credentials being looked up at once: enough for a cold start, too few to bury the database

_log = structlog.get_logger()

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lru(Generic[K, V]):
    """A mapping that keeps the `size` entries used last."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The entry, now the one used last."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Sets the entry; the one unused for longest goes when there are too many."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forgets the entry, if there is one."""
        self._entries.pop(key, None)

    def drop_where(self, unwanted: Callable[[V], bool]) -> None:
        """Forgets every entry whose value is not wanted any more."""
        for key in [key for key, value in self._entries.items() if unwanted(value)]:
            del self._entries[key]


class Verdicts:
    """Says whose a credential is, reading the database once per key however many calls ask.

    A key is kept until it is revoked or crowded out; its expiry is judged at each use. A refusal is kept for a short
    time and in a small space, so that a flood of wrong credentials costs neither reads nor memory.

    Args:
        digest: Turns a secret into the digest under which it is stored.
        find: Reads the key of a digest.
        feed: Keys revoked lately.
        now: Wall clock, seconds since the Unix epoch.
        clock: Monotonic clock, seconds.
        kept: How many keys to keep.
        refusals_kept: How many refusals to keep.
    """

    def __init__(
        self,
        digest: Callable[[str], bytes],
        find: Callable[[bytes], Awaitable[Key | None]],
        feed: RevocationFeed,
        *,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        kept: int = KEPT,
        refusals_kept: int = REFUSALS_KEPT,
    ) -> None:
        self._digest = digest
        self._find = find
        self._feed = feed
        self._now = now
        self._clock = clock
        self._keys: Lru[bytes, Key] = Lru(kept)
        self._refused: Lru[bytes, float] = Lru(refusals_kept)  # digest -> when to look again
        self._look_ups: Flights[bytes, Key | None] = Flights()
        self._changes = 0

    async def authorize(self, credential: str) -> Key:
        """The key of a credential.

        Raises:
            MeshError: REASON_CREDENTIAL_INVALID when it is unknown, expired or revoked, in the same words for each, so
                that nobody learns which keys exist; REASON_NOT_PERMITTED when its account or its project is suspended,
                with a `cause`; REASON_OVERLOADED when too many unknown ones are being looked up.
        """
        known_by = looked_up(credential)
        if known_by is None:
            raise _refusal()
        digest = self._digest(known_by)
        key = self._keys.get(digest) or await self._look_up(digest)
        if key.expires is not None and key.expires <= self._now() * 1e6:
            raise _refusal()
        if key.halted is not None:
            raise _halted(key.halted)
        return key

    def drop(self, digest: bytes) -> None:
        """Forgets a key that was revoked."""
        self._keys.drop(digest)

    def drop_scope(self, scope: str) -> None:
        """Forgets the keys that this key, project or account binds: something of it has changed."""
        self._keys.drop_where(lambda key: scope in key.path)
        self._changes += 1

    def clear(self) -> None:
        """Forgets every key: anything may have changed."""
        self._keys.drop_where(lambda _: True)
        self._changes += 1

    async def close(self) -> None:
        """Waits for look-ups under way."""
        await self._look_ups.close()

    async def _look_up(self, digest: bytes) -> Key:
        if (self._refused.get(digest) or 0.0) > self._clock():
            raise _refusal()
        if digest not in self._look_ups and len(self._look_ups) >= LOOK_UPS:
            raise MeshError(errors_pb2.REASON_OVERLOADED, "too many new credentials at once", retry_after=1.0)
        key = await self._look_ups.join(digest, lambda: self._read(digest))
        # it may have been revoked since it was read: nothing is awaited between this look and the answer
        if key is None or key.id in self._feed:
            raise _refusal()
        return key

    async def _read(self, digest: bytes) -> Key | None:
        """The key of a digest from the database, unless it was revoked; either way it is remembered."""
        changes = self._changes
        key = await self._find(digest)
        if key is None or key.revoked is not None or key.id in self._feed:
            self._refused.put(digest, self._clock() + REFUSAL_SECONDS)
            if key is not None:
                _log.info("revoked key presented", key_id=key.id)
            return None
        # One that changed while it was read is read again the next time, and so is one found by a former secret: those
        # are few, and no revocation would find them here.
        if changes == self._changes and not key.former:
            self._keys.put(digest, key)
        return key


def _halted(why: Halted) -> MeshError:
    if why is Halted.GONE:
        return _refusal()
    what = why.value.partition("_")[0]
    return MeshError(
        errors_pb2.REASON_NOT_PERMITTED,
        f"the {what} of this key is suspended: ask whoever runs the gateway",
        metadata={"cause": why.value},
    )


def _refusal() -> MeshError:
    return MeshError(errors_pb2.REASON_CREDENTIAL_INVALID, "the credential is not valid")
