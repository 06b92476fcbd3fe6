"""A durable queue at the sender, and what empties it: nothing that was accepted is lost while the receiver is away.

`Spool` keeps byte strings in append-only segment files; `Shipper` hands them to the receiver in batches, oldest first,
until it says that it has them. Delivery is at least once: a crash between the receiver's answer and the
acknowledgement sends some of them again, so a receiver must know what it already has.

What a kill in the middle of a write left at the end of a segment is cut off; damage in the middle is stepped over.
"""

import asyncio
import fcntl
import os
import random
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from zlib import crc32

import grpc
import structlog

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.background import Background
from polyroute.mesh.errors import MeshError, from_rpc
from polyroute.mesh.frames import HEADER, MARK, Scan, frame, scan

READ_BYTES: Final = 1 << 20  # about the most that one `read` gives
BATCH: Final = 500  # records per hand-over
LOOK_SECONDS: Final = 0.1  # how old a look at the disk's free space may be

_POSITION: Final = struct.Struct("<QQI")

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
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._reserve = min(reserve_bytes, max_bytes // 8)
        self._look_at = 0.0  # when to ask for the free space again
        self._free = 0
        self._lock = _take(folder)
        self._position_fd = os.open(folder / "position", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.pending = 0
        """Records not yet acknowledged."""
        self.pending_bytes = 0
        """Their size on disk, frames included."""
        self.skipped = 0
        """Damaged stretches that were stepped over."""
        self._segments = deque(sorted(_numbers(folder)))
        self._head = self._first()  # the oldest place that is not acknowledged: segment and offset
        self._given: list[tuple[int, int, int]] = []  # of the last read: segment, end and size of each record
        self._noted = self._head  # damage before this place was counted
        self._arrived = asyncio.Event()
        # Every life writes segments of its own, so that an old one is never appended to behind a torn end.
        self._segment = max([self._head[0], *self._segments])  # the one being written, once `_fd` is open
        self._fd = -1
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
        self._recover()

    # The path of a call.

    def append(self, payload: bytes) -> None:
        """Keeps `payload`; when this returns, killing the process does not lose it.

        Raises:
            MeshError: REASON_USAGE_UNAVAILABLE when the spool is full or the disk fails; nothing was kept.
        """
        size = HEADER.size + len(payload)
        if size > self._room or self.pending_bytes + size > self._max_bytes or self._blocked is not None:
            self._make_room(size)
        self._write(self._framed(payload, self._size), 1)

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
            frames.append(self._framed(payload, place))
            place += len(frames[-1])
        if frames:
            self._write(b"".join(frames), len(frames))

    @staticmethod
    def _framed(payload: bytes, place: int) -> bytes:
        return HEADER.pack(MARK, len(payload), crc32(payload, place)) + payload

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
        name = self._folder / _name(self._segment + 1)
        opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if self._fd >= 0:
            self._retired.append(self._fd)
        self._segment += 1
        self._segments.append(self._segment)
        self._fd, self._size, self._room = opened, 0, self._segment_bytes
        self._new_segment = True
        self._healed, self._blocked = False, None

    def _undo(self) -> None:
        """Takes back what a failed write left behind the last record."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            _log.exception("spool segment left torn", folder=str(self._folder), segment=self._segment)
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
        segment, offset = self._head
        taken = 0
        while len(payloads) < limit and taken < READ_BYTES:
            found = self._scan(segment, offset, limit - len(payloads))
            self._note(segment, found.gaps)
            for payload, end in zip(found.payloads, found.ends, strict=True):
                size = HEADER.size + len(payload)
                self._given.append((segment, end, size))
                taken += size
            payloads += found.payloads
            offset = found.end
            if not found.payloads:
                following = next((number for number in self._segments if number > segment), None)
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
        self._head = (segment, end)
        os.pwrite(self._position_fd, _position(segment, end), 0)
        self._drop_before(segment)

    def set_aside(self) -> None:
        """Moves the oldest record to the file `refused`, where `frames.scan` can read it, for a person to look at."""
        for payload in self.read(1):
            with (self._folder / "refused").open("ab") as file:
                file.write(frame(payload, file.tell()))
                file.flush()
                os.fsync(file.fileno())
            self.ack(1)

    def _scan(self, segment: int, offset: int, limit: int) -> Scan:
        """Reads from one segment: a piece of it, or all the rest when a piece is not enough to judge."""
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

    def _drop_before(self, segment: int) -> None:
        while self._segments and self._segments[0] < segment:
            (self._folder / _name(self._segments.popleft())).unlink(missing_ok=True)

    # The disk.

    def sync(self) -> None:
        """Makes everything appended so far outlive a power cut. Blocks for milliseconds: call it from a thread.

        A failure is logged, and appends are refused until the disk proves that it works: what the operating system
        could not write it may have forgotten, so that asking again proves nothing (https://lwn.net/Articles/752063/).
        """
        with self._syncing:
            try:
                if self._blocked is not None and not self._healed:
                    _probe(self._folder / "probe")
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
            _sync_folder(self._folder)

    def close(self) -> None:
        """Puts everything on disk and lets the folder go."""
        self.sync()
        with self._syncing:
            for fd in (*self._retired, self._fd, self._position_fd, self._lock):
                if fd >= 0:
                    os.close(fd)
            self._retired.clear()
            self._fd = self._position_fd = self._lock = -1
            self._room = 0

    # What an earlier life left.

    def _first(self) -> tuple[int, int]:
        """The place that was acknowledged last, or where the oldest segment begins when there is no such place."""
        kept = _read_position(os.pread(self._position_fd, _POSITION.size, 0))
        self._drop_before(kept[0])
        if self._segments and self._segments[0] > kept[0]:
            return self._segments[0], 0
        return kept

    def _recover(self) -> None:
        """Counts what waits, and cuts torn ends off."""
        for segment in self._segments:
            self._take_over(segment, self._head[1] if segment == self._head[0] else 0)
        if self.pending:
            _log.info("spool replays", folder=str(self._folder), records=self.pending, bytes=self.pending_bytes)

    def _take_over(self, segment: int, offset: int) -> None:
        path = self._folder / _name(segment)
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        found = scan(data, offset)
        self.pending += len(found.payloads)
        self.pending_bytes += sum(HEADER.size + len(payload) for payload in found.payloads)
        torn = offset + len(data) - found.end
        if torn:
            os.truncate(path, found.end)
            _log.warning("spool cut off a torn record", folder=str(self._folder), segment=segment, bytes=torn)


class Shipper:
    """Empties a spool into a receiver for as long as it is open; on the way out it tries to leave nothing behind.

    A batch that the receiver calls malformed is cut in halves until the record at fault stands alone, which is then set
    aside: one bad record must not hold up the others. After any other failure the same batch goes again, later each
    time.

    Args:
        spool: What to empty.
        send: Hands a batch over; returns once the receiver has it for good. Any exception means that it may not.
        every: Seconds that records may wait for company.
        sync_every: Seconds between syncs: what a power cut may cost.
        drain: Seconds that leaving may take. What is then left waits for the next life.
        first_wait: Seconds before a failed batch goes again; doubled each time.
        longest_wait: Most seconds before a failed batch goes again.
    """

    def __init__(
        self,
        spool: Spool,
        send: Callable[[list[bytes]], Awaitable[None]],
        *,
        every: float = 0.05,
        sync_every: float = 0.2,
        drain: float = 5.0,
        first_wait: float = 0.05,
        longest_wait: float = 2.0,
    ) -> None:
        self._spool = spool
        self._send = send
        self._every = every
        self._sync_every = sync_every
        self._drain = drain
        self._first_wait = first_wait
        self._longest_wait = longest_wait
        self._limit = BATCH
        self._failures = 0
        self._loops = Background()

    async def __aenter__(self) -> Self:
        self._loops.start("spool.ship", self._ship)
        self._loops.start("spool.sync", self._sync)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._loops.__aexit__(kind, error, trace)
        try:
            async with asyncio.timeout(self._drain):
                while self._spool.pending:
                    await self._hand_over()
        except TimeoutError:
            _log.warning("spool not drained", records=self._spool.pending, bytes=self._spool.pending_bytes)
        await asyncio.to_thread(self._spool.sync)

    async def _ship(self) -> None:
        while True:
            await self._spool.wait()
            if self._spool.pending < self._limit:
                await asyncio.sleep(self._every)
            await self._hand_over()

    async def _sync(self) -> None:
        while True:
            await asyncio.sleep(self._sync_every)
            await asyncio.to_thread(self._spool.sync)

    async def _hand_over(self) -> None:
        batch = self._spool.read(self._limit)
        if not batch:
            return
        try:
            await self._send(batch)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, the records stay and go again
            await self._failed(error, len(batch))
            return
        self._spool.ack(len(batch))
        self._limit = min(self._limit * 2, BATCH)
        if self._failures:
            _log.info("spool ships again", failures=self._failures, records=self._spool.pending)
            self._failures = 0

    async def _failed(self, error: Exception, count: int) -> None:
        if isinstance(error, grpc.aio.AioRpcError):
            error = from_rpc(error)
        reason = error.reason if isinstance(error, MeshError) else pb.REASON_UNSPECIFIED
        if count > 1 and reason in (pb.REASON_INVALID_REQUEST, pb.REASON_TOO_LARGE):
            self._limit = count // 2
        elif reason == pb.REASON_INVALID_REQUEST:
            _log.error("spool set a record aside", cause=str(error))
            self._spool.set_aside()
        else:
            await self._back_off(error)

    async def _back_off(self, error: Exception) -> None:
        if not self._failures:  # once per outage; `spool ships again` says how often it was tried
            expected = isinstance(error, MeshError)
            _log.warning("spool cannot ship", cause=str(error), exc_info=None if expected else error)
        wait = min(self._first_wait * 2.0 ** min(self._failures, 16), self._longest_wait)
        self._failures += 1
        await asyncio.sleep(wait * random.uniform(0.8, 1.2))  # noqa: S311 - spreads retries, keeps no secret


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


def _probe(path: Path) -> None:
    """Raises OSError unless the disk keeps what it is given."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, b"\0" * 4096)
        os.fsync(fd)
    finally:
        os.close(fd)
        path.unlink()


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
