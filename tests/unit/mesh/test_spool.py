"""The durable queue at the sender: what a crash, damage and a full disk may do to it."""

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.mesh.frames import HEADER, frame, scan
from polyroute.mesh.spool import Spool

PAYLOADS = st.lists(st.binary(max_size=40), max_size=6)


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder for each example of a property; in memory where the machine allows."""
    base = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(dir=base if os.access(base, os.W_OK) else None))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def kill(spool: Spool) -> None:
    """What the operating system does to a killed process: files are closed, nothing else."""
    kept = spool._segments
    for fd in {spool._fd, kept._position_fd, kept._lock, *spool._retired} - {-1}:
        os.close(fd)
    spool._fd = kept._position_fd = kept._lock = -1


def filled(path: Path, payloads: list[bytes], **sizes: int) -> Spool:
    spool = Spool(path, **sizes)
    for payload in payloads:
        spool.append(payload)
    return spool


def drained(spool: Spool) -> list[bytes]:
    found: list[bytes] = []
    while batch := spool.read(3):
        found += batch
        spool.ack(len(batch))
    return found


def segments(path: Path) -> list[Path]:
    return sorted(path.glob("*.seg"))


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


class TestFrames:
    @given(PAYLOADS)
    def test_reads_what_was_written(self, payloads: list[bytes]) -> None:
        """Frames one behind the other come back in order."""
        data = b""
        for payload in payloads:
            data += frame(payload, len(data))

        assert payloads == scan(data).payloads

    def test_bytes_at_another_place_are_no_frame(self) -> None:
        """A frame inside a payload is not taken for one when the frame around it is torn."""
        inner = frame(b"inner", 0)

        assert [] == scan(frame(inner + b"more", 0)[:-1]).payloads


class TestOrder:
    def test_oldest_first_and_the_same_until_acknowledged(self, tmp_path: Path) -> None:
        """Reading takes nothing away; acknowledging does."""
        spool = filled(tmp_path, numbered(5))

        assert [b"0", b"1"] == spool.read(2)
        assert [b"0", b"1", b"2"] == spool.read(3)
        spool.ack(2)
        assert [b"2", b"3", b"4"] == spool.read(10)
        spool.close()

    def test_says_how_much_waits(self, tmp_path: Path) -> None:
        """The backlog counts records and bytes, frames included."""
        spool = filled(tmp_path, [b"abc", b"de"])
        before = (spool.pending, spool.pending_bytes)
        spool.read()
        spool.ack(1)

        assert (2, 2 * HEADER.size + 5) == before
        assert (1, HEADER.size + 2) == (spool.pending, spool.pending_bytes)
        spool.close()

    @pytest.mark.parametrize("segment_bytes", [1 << 20, 3 * (HEADER.size + 1), HEADER.size + 1])
    def test_several_at_once_are_read_one_by_one(self, tmp_path: Path, segment_bytes: int) -> None:
        """However many fit into a segment, and whether a new life reads them."""
        spool = filled(tmp_path, [b"x"], segment_bytes=segment_bytes)
        spool.extend(numbered(7))
        spool.extend([])
        waiting = spool.pending
        spool.close()
        again = Spool(tmp_path, segment_bytes=segment_bytes)

        assert (8, [b"x", *numbered(7)]) == (waiting, drained(again))
        again.close()

    def test_more_than_was_read_cannot_be_acknowledged(self, tmp_path: Path) -> None:
        """What nobody has seen cannot be forgotten."""
        spool = filled(tmp_path, numbered(2))
        spool.read(1)

        with pytest.raises(ValueError, match="2 records"):
            spool.ack(2)
        spool.close()

    def test_segments_end_and_go(self, tmp_path: Path) -> None:
        """A full segment is followed by another, and deleted once all of it is acknowledged."""
        spool = filled(tmp_path, numbered(10), segment_bytes=3 * (HEADER.size + 1))
        many = len(segments(tmp_path))
        found = drained(spool)

        assert 4 == many
        assert numbered(10) == found
        assert 1 == len(segments(tmp_path))
        spool.close()

    def test_records_larger_than_a_piece(self, tmp_path: Path) -> None:
        """A record that one read of the file does not hold comes whole."""
        payloads = [b"a" * 3_000_000, b"b", b"c" * 2_000_000]
        spool = filled(tmp_path, payloads)

        assert payloads == drained(spool)
        spool.close()

    async def test_wait_ends_with_the_first_record(self, tmp_path: Path) -> None:
        """A reader sleeps until there is something, and not when there is."""
        spool = Spool(tmp_path)
        waiting = asyncio.create_task(spool.wait())
        await asyncio.sleep(0)
        slept = not waiting.done()
        spool.append(b"x")
        await waiting
        await spool.wait()

        assert slept
        spool.close()


class TestLives:
    def test_what_was_not_acknowledged_comes_again(self, tmp_path: Path) -> None:
        """Killed at once after an append: the next life has the record, and none that was acknowledged."""
        first = filled(tmp_path, numbered(5))
        first.read()
        first.ack(2)
        kill(first)
        second = Spool(tmp_path)
        second.append(b"new")

        assert 4 == second.pending
        assert [b"2", b"3", b"4", b"new"] == drained(second)
        second.close()

    def test_one_process_at_a_time(self, tmp_path: Path) -> None:
        """A second owner is refused until the first has gone."""
        first = filled(tmp_path, numbered(1))
        with pytest.raises(MeshError) as refused:
            Spool(tmp_path)
        first.close()
        second = Spool(tmp_path)

        assert pb.REASON_USAGE_UNAVAILABLE == refused.value.reason
        assert numbered(1) == drained(second)
        second.close()

    @given(PAYLOADS)
    @settings(max_examples=25, deadline=None)
    def test_torn_at_any_byte(self, payloads: list[bytes]) -> None:
        """Wherever the last segment was cut, exactly the records that are whole come back, and new ones fit behind."""
        with folder() as path:
            kill(filled(path, payloads))
            whole = segments(path)[0].read_bytes() if payloads else b""
            for cut in range(len(whole)):
                with folder() as copy:
                    (copy / "0000000000000001.seg").write_bytes(whole[:cut])
                    spool = Spool(copy)
                    spool.append(b"after")
                    found = drained(spool)
                    kill(spool)

                    fitting = [payload for payload, end in zip(payloads, scan(whole).ends, strict=True) if end <= cut]
                    assert [*fitting, b"after"] == found

    @given(st.lists(st.binary(max_size=40), min_size=1, max_size=6), st.data())
    @settings(max_examples=60, deadline=None)
    def test_one_damaged_byte_costs_one_record(self, payloads: list[bytes], data: st.DataObject) -> None:
        """Damage anywhere takes the record it lies in with it and no other."""
        with folder() as path:
            kill(filled(path, payloads))
            file = segments(path)[0]
            content = bytearray(file.read_bytes())
            at = data.draw(st.integers(0, len(content) - 1))
            content[at] ^= data.draw(st.integers(1, 255))
            hit = next(index for index, end in enumerate(scan(file.read_bytes()).ends) if at < end)
            file.write_bytes(content)
            spool = Spool(path)
            found = drained(spool)
            kill(spool)

            assert [*payloads[:hit], *payloads[hit + 1 :]] == found
            assert (1 if hit < len(payloads) - 1 else 0) == spool.skipped
            assert (0, 0) == (spool.pending, spool.pending_bytes)

    @pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 20])
    def test_a_damaged_position_only_repeats(self, tmp_path: Path, content: bytes) -> None:
        """Without a sound position everything that is left comes again; nothing is lost."""
        first = filled(tmp_path, numbered(4))
        first.read()
        first.ack(2)
        kill(first)
        (tmp_path / "position").write_bytes(content)
        second = Spool(tmp_path)

        assert numbered(4) == drained(second)
        second.close()

    def test_a_removed_segment_blocks_nothing(self, tmp_path: Path) -> None:
        """Somebody deleted a file: the others are still delivered, and the backlog ends at nothing."""
        spool = filled(tmp_path, numbered(6), segment_bytes=2 * (HEADER.size + 1))
        segments(tmp_path)[1].unlink()

        assert [b"0", b"1", b"4", b"5"] == drained(spool)
        assert 0 == spool.pending
        spool.close()


class SpoolLives(RuleBasedStateMachine):
    """Any order of appends, reads, acknowledgements and kills agrees with a plain list."""

    @initialize()
    def begin(self) -> None:
        self.path = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        self.model: list[bytes] = []
        self.open()

    def open(self) -> None:
        self.spool = Spool(self.path, max_bytes=600, segment_bytes=100)

    @rule(payload=st.binary(max_size=60))
    def append(self, payload: bytes) -> None:
        size = HEADER.size + len(payload)
        if sum(HEADER.size + len(kept) for kept in self.model) + size > 600:
            with pytest.raises(MeshError):
                self.spool.append(payload)
        else:
            self.spool.append(payload)
            self.model.append(payload)

    @rule(limit=st.integers(1, 8), data=st.data())
    def read_and_acknowledge(self, limit: int, data: st.DataObject) -> None:
        batch = self.spool.read(limit)
        assert self.model[:limit] == batch
        count = data.draw(st.integers(0, len(batch)))
        self.spool.ack(count)
        del self.model[:count]

    @rule()
    def kill(self) -> None:
        kill(self.spool)
        self.open()

    @rule()
    def kill_while_writing(self) -> None:
        kill(self.spool)
        if files := segments(self.path):
            with files[-1].open("ab") as file:
                file.write(frame(b"half", file.tell())[:-2])
        self.open()

    @invariant()
    def counts(self) -> None:
        assert len(self.model) == self.spool.pending
        assert sum(HEADER.size + len(payload) for payload in self.model) == self.spool.pending_bytes

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            kill(self.spool)
            shutil.rmtree(self.path)


TestSpoolLives = SpoolLives.TestCase
TestSpoolLives.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


class TestRefusals:
    def test_full(self, tmp_path: Path) -> None:
        """A full spool takes nothing more until something is acknowledged."""
        spool = filled(tmp_path, numbered(3), max_bytes=3 * (HEADER.size + 1))
        with pytest.raises(MeshError) as refused:
            spool.append(b"3")
        spool.read()
        spool.ack(1)
        spool.append(b"3")

        assert pb.REASON_USAGE_UNAVAILABLE == refused.value.reason
        assert [b"1", b"2", b"3"] == drained(spool)
        spool.close()

    def test_too_large(self, tmp_path: Path) -> None:
        """A record that no segment can hold is the caller's mistake."""
        spool = Spool(tmp_path, segment_bytes=20)
        with pytest.raises(MeshError) as refused:
            spool.append(b"x" * 9)

        assert pb.REASON_TOO_LARGE == refused.value.reason
        spool.close()

    @pytest.mark.parametrize("several", [False, True])
    @pytest.mark.parametrize("taken", [None, 0, 5, 20])
    def test_full_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int | None, several: bool) -> None:
        """A write that fails, or stops half-way, is refused and leaves no trace; space that comes back is used."""
        spool = filled(tmp_path, [b"before"])
        write = os.write

        def short(fd: int, data: bytes) -> int:
            if taken is None:
                raise OSError(errno.ENOSPC, "no space left on device")
            return write(fd, data[:taken])

        with monkeypatch.context() as disk:
            disk.setattr(os, "write", short)
            with pytest.raises(MeshError) as refused:
                if several:
                    spool.extend([b"lost", b"as well", b"and all"])
                else:
                    spool.append(b"lost or not" * 9)
        spool.append(b"after")

        assert pb.REASON_USAGE_UNAVAILABLE == refused.value.reason
        assert [b"before", b"after"] == drained(spool)
        assert 0 == spool.skipped
        spool.close()

    def test_torn_write_that_cannot_be_taken_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """When not even the torn end can be removed, the next record goes elsewhere and all sound ones arrive."""
        spool = filled(tmp_path, [b"before"])
        write = os.write

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, "input/output error")

        with monkeypatch.context() as disk:
            disk.setattr(os, "write", lambda fd, data: write(fd, data[:7]))
            disk.setattr(os, "ftruncate", fail)
            with pytest.raises(MeshError):
                spool.append(b"lost")
        spool.append(b"after")

        assert [b"before", b"after"] == drained(spool)
        spool.close()

    def test_failed_sync(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that fails to keep what it took gets nothing more until it has proven itself, then a new segment."""
        spool = filled(tmp_path, [b"before"])

        def fail(_: int) -> None:
            raise OSError(errno.EIO, "input/output error")

        with monkeypatch.context() as disk:
            disk.setattr(os, "fdatasync", fail)
            disk.setattr(os, "fsync", fail)
            spool.sync()
            with pytest.raises(MeshError) as refused:
                spool.append(b"while failing")
            spool.sync()
            with pytest.raises(MeshError):
                spool.append(b"while failing")
        spool.sync()
        spool.append(b"after")

        assert pb.REASON_USAGE_UNAVAILABLE == refused.value.reason
        assert [b"before", b"after"] == drained(spool)
        spool.close()

    def test_sync_reaches_every_segment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each segment written since the last sync is put on disk once, and nothing when nothing was written."""
        synced: list[int] = []
        monkeypatch.setattr(os, "fdatasync", synced.append)
        spool = filled(tmp_path, numbered(5), segment_bytes=2 * (HEADER.size + 1))
        spool.sync()
        first = len(synced)
        spool.sync()

        assert (3, 3) == (first, len(synced))
        spool.close()
