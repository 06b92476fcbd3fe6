"""The segments of a spool: numbered files that are only ever appended to, in a folder that one process has at a time.

Beside them stand its lock, and the place up to which they are done with. What a kill in the middle of a write left at
the end of a segment is cut off when the next life takes it over.
"""

import fcntl
import os
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zlib import crc32

import structlog

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.mesh.frames import HEADER, Scan, scan

READ_BYTES: Final = 1 << 20  # about the most that is read at once

_POSITION: Final = struct.Struct("<QQI")

_log = structlog.get_logger("spool")


class Segments:
    """What of a spool is on the disk.

    Args:
        folder: Where the segments lie; created when missing.

    Raises:
        MeshError: REASON_USAGE_UNAVAILABLE when another process has the folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = _take(folder)
        self._position_fd = os.open(folder / "position", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._numbers = deque(sorted(_numbers(folder)))
        self.head = self._first()
        """The oldest place that is not done with: segment and offset."""
        # Every life writes segments of its own, so that an old one is never appended to behind a torn end.
        self.newest = max([self.head[0], *self._numbers])
        """The one being written, once this life has begun one."""

    def take_over(self) -> tuple[int, int]:
        """Cuts torn ends off that an earlier life left; how many records it left, and their size on disk."""
        records = size = 0
        for segment in self._numbers:
            for payload in self._taken_over(segment, self.head[1] if segment == self.head[0] else 0):
                records += 1
                size += HEADER.size + len(payload)
        return records, size

    def _taken_over(self, segment: int, offset: int) -> list[bytes]:
        path = self._folder / _name(segment)
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        found = scan(data, offset)
        torn = offset + len(data) - found.end
        if torn:
            os.truncate(path, found.end)
            _log.warning("spool cut off a torn record", folder=str(self._folder), segment=segment, bytes=torn)
        return found.payloads

    def begin(self) -> int:
        """Begins the next segment; its file, for appending.

        Raises:
            OSError: There is none.
        """
        name = self._folder / _name(self.newest + 1)
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.newest += 1
        self._numbers.append(self.newest)
        return opened

    def after(self, segment: int) -> int | None:
        """The segment that follows; None when there is none yet."""
        return next((number for number in self._numbers if number > segment), None)

    def scan(self, segment: int, offset: int, limit: int) -> Scan:
        """Reads records: from a piece of a segment, or from all its rest when a piece is not enough to judge.

        Args:
            segment: Which.
            offset: Where in it to begin.
            limit: Most records.
        """
        try:
            fd = os.open(self._folder / _name(segment), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # someone removed it: the others still count
            return Scan(end=offset)
        try:
            length = os.fstat(fd).st_size
            piece = os.pread(fd, READ_BYTES, offset)
            found = scan(piece, offset, limit)
            if offset + len(piece) < length and (found.gaps or not found.payloads):
                # what looks like damage may be a record that is larger than the piece
                found = scan(os.pread(fd, length - offset, offset), offset, limit)
        finally:
            os.close(fd)
        return found

    def advance(self, segment: int, offset: int) -> None:
        """Everything before that place is done with: the next life begins there."""
        self.head = (segment, offset)
        os.pwrite(self._position_fd, _position(segment, offset), 0)
        self._drop_before(segment)

    def sync(self) -> None:
        """Makes the names of new segments outlive a power cut."""
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def probe(self) -> None:
        """Raises OSError unless the disk keeps what it is given."""
        path = self._folder / "probe"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"\0" * 4096)
            os.fsync(fd)
        finally:
            os.close(fd)
            path.unlink()

    def close(self) -> None:
        """Lets the folder go."""
        for fd in (self._position_fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._position_fd = self._lock = -1

    def _first(self) -> tuple[int, int]:
        """The place that was acknowledged last, or where the oldest segment begins when there is no such place."""
        kept = _read_position(os.pread(self._position_fd, _POSITION.size, 0))
        self._drop_before(kept[0])
        if self._numbers and self._numbers[0] > kept[0]:
            return self._numbers[0], 0
        return kept

    def _drop_before(self, segment: int) -> None:
        while self._numbers and self._numbers[0] < segment:
            (self._folder / _name(self._numbers.popleft())).unlink(missing_ok=True)


def _name(segment: int) -> str:
    return f"{segment:016d}.seg"


def _numbers(folder: Path) -> Iterator[int]:
    return (int(path.stem) for path in folder.glob("*.seg") if path.stem.isdecimal())


def _position(segment: int, offset: int) -> bytes:
    packed = _POSITION.pack(segment, offset, 0)
    return _POSITION.pack(segment, offset, crc32(packed))


def _read_position(data: bytes) -> tuple[int, int]:
    """The first place not acknowledged; the very first of all when the file is new or damaged."""
    if len(data) == _POSITION.size:
        segment, offset, _ = _POSITION.unpack(data)
        if data == _position(segment, offset):
            return segment, offset
    return 0, 0


def _take(folder: Path) -> int:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise MeshError(pb.REASON_USAGE_UNAVAILABLE, "another process has the spool") from error
    return fd
