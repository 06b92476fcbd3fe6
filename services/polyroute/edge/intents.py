"""What attempts under way are charged if this process dies: one slot each in a file that is mapped into memory.

An attempt takes a slot before it is sent, and leaves it when its charge, or that it costs nothing, is in a spool. So
what the file says when a process begins is what its life before left open. Writing a slot is a copy of a few hundred
bytes into the page cache, which outlives the process; `sync` makes it outlive the machine.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zlib import crc32

import structlog

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError

SLOT: Final = 512  # bytes
FEWEST: Final = 512  # slots
MOST: Final = 1 << 16
HEADER: Final = struct.Struct("<II")  # length of what is said, and its CRC-32; a length of 0 is a free slot
LONGEST: Final = SLOT - HEADER.size
_FREE: Final = bytes(HEADER.size)

_log = structlog.get_logger("intents")


class Intents:
    """The slots of one process.

    Args:
        path: The file; created when missing. One process has it at a time, as it has the spool beside it.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._slots = os.fstat(self._fd).st_size // SLOT
        self._map = mmap.mmap(self._fd, self._slots * SLOT) if self._slots else mmap.mmap(-1, SLOT)
        self._unsynced = False
        self.inherited = dict(self._left())
        """What the life before left open, by slot."""
        self._free = [place for place in range(0, self._slots * SLOT, SLOT) if place not in self.inherited]

    @property
    def taken(self) -> int:
        """How many slots are in use."""
        return self._slots - len(self._free)

    def check(self) -> None:
        """Sees to it that there is a free slot.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE, there is none and no room for more.
        """
        if not self._free:
            self._grow()

    def put(self, said: bytes) -> int:
        """Takes a slot, of at most `LONGEST` bytes; which.

        Raises:
            MeshError: As `check`.
        """
        if not self._free:
            self._grow()
        place = self._free.pop()
        start = place + HEADER.size
        self._map[start : start + len(said)] = said
        HEADER.pack_into(self._map, place, len(said), crc32(said, place))
        self._unsynced = True
        return place

    def free(self, place: int) -> None:
        """Leaves a slot."""
        self._map[place : place + HEADER.size] = _FREE
        self._free.append(place)
        self._unsynced = True

    def sync(self) -> None:
        """Puts everything on disk. Blocks for milliseconds: call it from a thread."""
        if self._unsynced:
            self._unsynced = False
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Lets the file go."""
        self._map.close()
        os.close(self._fd)

    def _grow(self) -> None:
        if self._slots >= MOST:
            raise MeshError(pb.REASON_USAGE_UNAVAILABLE, "too many attempts are under way", retry_after=1.0)
        slots = max(FEWEST, self._slots * 2)
        self._allocate(slots * SLOT)
        self._map.close()
        self._map = mmap.mmap(self._fd, slots * SLOT)
        self._free += range(self._slots * SLOT, slots * SLOT, SLOT)
        self._slots = slots

    def _allocate(self, size: int) -> None:
        """Has the disk keep room: a mapped page that finds none later would kill the process."""
        try:
            os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            os.ftruncate(self._fd, self._slots * SLOT)  # what was had of it, so that no page is without a place
            _log.error("attempts cannot be written down", cause=str(error))
            message = "the attempt cannot be written down"
            raise MeshError(pb.REASON_USAGE_UNAVAILABLE, message, retry_after=1.0) from error

    def _left(self) -> Iterator[tuple[int, bytes]]:
        for place in range(0, self._slots * SLOT, SLOT):
            length, checksum = HEADER.unpack_from(self._map, place)
            if not 0 < length <= LONGEST:
                continue
            start = place + HEADER.size
            said = self._map[start : start + length]
            if crc32(said, place) == checksum:
                yield place, said
