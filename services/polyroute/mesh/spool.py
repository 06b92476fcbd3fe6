"""A durable queue at the sender: nothing that was accepted is lost while the receiver is away.

`Spool` keeps byte strings in append-only files, its `segments`; a `shipper` hands them to the receiver. What a kill in
the middle of a write left at the end of a segment is cut off; damage in the middle is stepped over.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.mesh.frames import HEADER, frame
from polyroute.mesh.segments import READ_BYTES, Segments

BATCH: Final = 500  # records per hand-over
LOOK_SECONDS: Final = 0.1  # how old a look at the disk's free space may be

_log = structlog.get_logger("spool")


class Spool:
    """Byte strings on disk, oldest first, until they are acknowledged.

    `append` is for the path of a call: one write to the file, which outlives this process from then on. `sync` makes
    what was appended outlive the machine; the `Shipper` calls it. Everything but `sync` belongs to one thread.

    Args:
        folder: Where the segments lie; created when missing. One process has it at a time.
        max_bytes: Most bytes not yet acknowledged. The disk holds about one segment more.
        segment_bytes: Size at which a new segment begins; also the largest record.
        reserve_bytes: What `check` wants to be free, of the disk and of `max_bytes`: room for what is under way.

    Raises:
        MeshError: REASON_USAGE_UNAVAILABLE when another process has the folder.
    """

    def __init__(
        self, folder: Path, *, max_bytes: int = 1 << 30, segment_bytes: int = 8 << 20, reserve_bytes: int = 8 << 20
    ) -> None:
        self._segments = Segments(folder)
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._reserve = min(reserve_bytes, max_bytes // 8)
        self._look_at = 0.0  # when to ask for the free space again
        self._free = 0
        records, size = self._segments.take_over()
        self.pending = records
        """Records not yet acknowledged."""
        self.pending_bytes = size
        """Their size on disk, frames included."""
        self.skipped = 0
        """Damaged stretches that were stepped over."""
        self._given: list[tuple[int, int, int]] = []  # of the last read: segment, end and size of each record
        self._noted = self._segments.head  # damage before this place was counted
        self._arrived = asyncio.Event()
        self._fd = -1  # of the newest segment, once this life has begun one
        self._size = 0  # its length
        self._room = 0  # bytes until the next one begins
        self._refusing = False
        # Shared with the thread that syncs; each is set on one side and cleared on the other.
        self._unsynced = False
        self._new_segment = False
        self._retired: deque[int] = deque()  # files of full segments, not yet on disk for certain
        self._blocked: OSError | None = None  # the disk failed to keep what it was given
        self._healed = False  # it works again: the next append may begin a new segment
        self._syncing = threading.Lock()
        if records:
            _log.info("spool replays", folder=str(folder), records=records, bytes=size)

    # The path of a call.

    def append(self, payload: bytes) -> None:
        """Keeps `payload`; when this returns, killing the process does not lose it.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE when the spool is full or the disk fails; nothing was kept.
        """
        size = HEADER.size + len(payload)
        if size > self._room or self.pending_bytes + size > self._max_bytes or self._blocked is not None:
            self._make_room(size)
        self._write(frame(payload, self._size), 1)

    def extend(self, payloads: Sequence[bytes]) -> None:
        """Keeps several with one write, all or none of them, unless they are more than a segment holds.

        Raises:
            MeshError: As `append`.
        """
        size = sum(HEADER.size + len(payload) for payload in payloads)
        if size > self._room or self.pending_bytes + size > self._max_bytes or self._blocked is not None:
            if size > self._segment_bytes:
                for payload in payloads:
                    self.append(payload)
                return
            self._make_room(size)
        frames: list[bytes] = []
        place = self._size
        for payload in payloads:
            frames.append(frame(payload, place))
            place += len(frames[-1])
        if frames:
            self._write(b"".join(frames), len(frames))

    def _write(self, frames: bytes, count: int) -> None:
        try:
            written = os.write(self._fd, frames)
        except OSError as error:
            self._undo()
            raise self._refusal(str(error)) from error
        if written != len(frames):
            self._undo()
            raise self._refusal("the disk took only a part")
        self._size += written
        self._room -= written
        self.pending += count
        self.pending_bytes += written
        self._unsynced = True
        self._arrived.set()
        if self._refusing:
            self._refusing = False
            _log.info("spool accepts again", folder=str(self._folder), records=self.pending)

    def check(self) -> None:
        """Whether there is room for the records of everything under way, so that more may be taken on.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE when the spool or the disk is nearly full, or the disk fails.
        """
        if self._blocked is not None and not self._healed:
            raise self._refusal(str(self._blocked))
        if self.pending_bytes + self._reserve > self._max_bytes:
            raise self._refusal("the spool is nearly full")
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            disk = os.statvfs(self._folder)
            self._free = disk.f_bavail * disk.f_frsize
        if self._free < self._reserve:
            raise self._refusal("the disk is nearly full")

    def _make_room(self, size: int) -> None:
        """Begins a segment with room for `size` bytes, or says why there is none."""
        if size > self._segment_bytes:
            raise MeshError(
                pb.REASON_TOO_LARGE, "the record is larger than a segment", metadata={"limit": str(self._segment_bytes)}
            )
        if self.pending_bytes + size > self._max_bytes:
            raise self._refusal("the spool is full")
        if self._blocked is not None and not self._healed:
            raise self._refusal(str(self._blocked))
        try:
            self._begin_segment()
        except OSError as error:
            raise self._refusal(str(error)) from error

    def _begin_segment(self) -> None:
        opened = self._segments.begin()
        if self._fd >= 0:
            self._retired.append(self._fd)
        self._fd, self._size, self._room = opened, 0, self._segment_bytes
        self._new_segment = True
        self._healed, self._blocked = False, None

    def _undo(self) -> None:
        """Takes back what a failed write left behind the last record."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            _log.exception("spool segment left torn", folder=str(self._folder), segment=self._segments.newest)
            self._room = 0  # the next append begins another segment; readers stop at the torn end of this one

    def _refusal(self, cause: str) -> MeshError:
        if not self._refusing:
            self._refusing = True
            _log.error("spool refuses records", folder=str(self._folder), cause=cause, records=self.pending)
        return MeshError(pb.REASON_USAGE_UNAVAILABLE, "the record of the call cannot be kept", retry_after=1.0)

    # The other end.

    async def wait(self) -> None:
        """Returns as soon as there is something to read."""
        while not self.pending:
            self._arrived.clear()
            await self._arrived.wait()

    def read(self, limit: int = BATCH) -> list[bytes]:
        """The oldest records not yet acknowledged, at most `limit` and about 1 MiB; the same ones until `ack`."""
        self._given = []
        payloads: list[bytes] = []
        segment, offset = self._segments.head
        taken = 0
        while len(payloads) < limit and taken < READ_BYTES:
            found = self._segments.scan(segment, offset, limit - len(payloads))
            self._note(segment, found.gaps)
            for payload, end in zip(found.payloads, found.ends, strict=True):
                size = HEADER.size + len(payload)
                self._given.append((segment, end, size))
                taken += size
            payloads += found.payloads
            offset = found.end
            if not found.payloads:
                following = self._segments.after(segment)
                if following is None:
                    break
                segment, offset = following, 0
        if not payloads:
            self._give_up()
        return payloads

    def ack(self, count: int) -> None:
        """Forgets the first `count` records of the last `read`: the receiver has them."""
        if not 0 <= count <= len(self._given):
            raise ValueError(f"{count} records cannot be acknowledged, {len(self._given)} were read")
        if count == 0:
            return
        segment, end, _ = self._given[count - 1]
        self.pending -= count
        self.pending_bytes -= sum(size for _, _, size in self._given[:count])
        self._given = self._given[count:]
        self._segments.advance(segment, end)

    def set_aside(self) -> None:
        """Moves the oldest record to the file `refused`, where `frames.scan` can read it, for a person to look at."""
        for payload in self.read(1):
            with (self._folder / "refused").open("ab") as file:
                file.write(frame(payload, file.tell()))
                file.flush()
                os.fsync(file.fileno())
            self.ack(1)

    def _note(self, segment: int, gaps: list[tuple[int, int]]) -> None:
        """Counts and logs damage once, however often it is read."""
        for start, end in gaps:
            if (segment, end) > self._noted:
                self._noted = (segment, end)
                self.skipped += 1
                _log.error(
                    "spool skipped damage", folder=str(self._folder), segment=segment, offset=start, bytes=end - start
                )

    def _give_up(self) -> None:
        """Nothing can be read, so nothing is waiting: what was counted beyond that is damaged."""
        if self.pending:
            _log.error("spool lost records", folder=str(self._folder), records=self.pending, bytes=self.pending_bytes)
        self.pending = self.pending_bytes = 0

    # The disk.

    def sync(self) -> None:
        """Makes everything appended so far outlive a power cut. Blocks for milliseconds: call it from a thread.

        A failure is logged, and appends are refused until the disk proves that it works: what the operating system
        could not write it may have forgotten, so that asking again proves nothing (https://lwn.net/Articles/752063/).
        """
        with self._syncing:
            try:
                if self._blocked is not None and not self._healed:
                    self._segments.probe()
                    self._healed = True
                elif self._unsynced:
                    self._unsynced = False
                    self._flush()
            except OSError as error:
                if self._blocked is None:
                    _log.exception("spool cannot reach the disk", folder=str(self._folder))
                self._blocked = error

    def _flush(self) -> None:
        while self._retired:
            full = self._retired.popleft()
            try:
                os.fdatasync(full)
            finally:
                os.close(full)
        os.fdatasync(self._fd)  # should it be retired meanwhile, only the next flush closes it
        if self._new_segment:
            self._new_segment = False
            self._segments.sync()

    def close(self) -> None:
        """Puts everything on disk and lets the folder go."""
        self.sync()
        with self._syncing:
            for fd in (*self._retired, self._fd):
                if fd >= 0:
                    os.close(fd)
            self._retired.clear()
            self._fd = -1
            self._segments.close()
            self._room = 0
