"""The calls on disk."""

import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.metrics import store as module
from polyroute.metrics.rows import row_of
from polyroute.metrics.store import Dimension, Filter, Store, Sums
from tests.unit.metrics.records import DAY, NOON, call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[Store]:
    async with Store.open(path) as opened:
        yield opened


async def insert(store: Store, *records: pb.CallRecord) -> list[str]:
    return sorted(await store.insert([row_of(record) for record in records]))


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


class TestInsert:
    async def test_says_which_were_new(self, store: Store) -> None:
        """A record that is there already is left as it is, and not named."""
        first = await insert(store, call("a"), call("b"))
        second = await insert(store, call("b", model="changed"), call("c"), call("a"), call("d"), call("c"))
        third = await insert(store, call("a"), call("b"))
        kept, _ = await store.calls(Filter(request_id="b"), limit=9)

        assert (["a", "b"], ["c", "d"], []) == (first, second, third)
        assert [call("b")] == kept

    async def test_survives_a_restart(self, path: Path) -> None:
        """What was stored is there when the file is opened again."""
        async with Store.open(path) as opened:
            await insert(opened, call("a"))
        async with Store.open(path) as opened:
            again = await insert(opened, call("a"))
            kept, _ = await opened.calls(Filter(), limit=9)

        assert [] == again
        assert [call("a")] == kept

    async def test_synchronous_and_private(self, path: Path, store: Store) -> None:
        """Commits reach the disk before they are answered, and only the owner reads the file."""
        async with store._writer.connect() as connection:
            synchronous = (await connection.exec_driver_sql("PRAGMA synchronous")).scalar()
            journal = (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar()

        assert (2, "wal") == (synchronous, journal)
        assert 0o600 == mode(path)

    async def test_a_locked_database_may_be_asked_again(
        self, path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While another process holds the file the refusal is one that senders repeat, and then it works."""
        async with store._writer.connect() as connection:
            await connection.exec_driver_sql("PRAGMA busy_timeout=1")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MeshError) as refused:
            await insert(store, call("a"))
        other.execute("ROLLBACK")
        other.close()

        assert errors.REASON_USAGE_UNAVAILABLE == refused.value.reason
        assert ["a"] == await insert(store, call("a"))


def usage(calls: int) -> Usage:
    """What this many of the calls of `records.call` used."""
    return Usage(
        input_tokens=10 * calls,
        cache_read_tokens=4 * calls,
        cache_write_tokens=2 * calls,
        output_tokens=25 * calls,
        reasoning_tokens=6 * calls,
    )


class TestUsage:
    async def test_all_in_one(self, store: Store) -> None:
        """Without dimensions there is one row, also when there was no call."""
        nothing = await store.usage(Filter(), [])
        await insert(store, call("a"), call("b", outcome=pb.OUTCOME_BROKEN), call("c", cost_nanos=None))
        everything = await store.usage(Filter(), [])

        assert [Sums((), 0, 0, 0, 0, Usage())] == nothing
        assert [Sums((), 3, 1, 1, 3000, usage(3))] == everything

    async def test_estimated(self, store: Store) -> None:
        """One estimate makes the sum an estimate."""
        await insert(
            store, call("a"), call("b", usage=Usage(input_tokens=1, images=2, audio_milliseconds=3, estimated=True))
        )
        (row,) = await store.usage(Filter(), [])
        expected = usage(1)
        expected.MergeFrom(Usage(input_tokens=11, images=2, audio_milliseconds=3, estimated=True))

        assert expected == row.usage

    async def test_by_dimensions(self, store: Store) -> None:
        """One row per combination, ordered by the dimensions in the order asked for."""
        await insert(
            store,
            call("a", at=NOON, model="m2"),
            call("b", at=NOON, model="m1"),
            call("c", at=NOON + DAY, model="m1"),
            call("d", at=NOON + 1, model="m1"),
        )
        rows = await store.usage(Filter(), [Dimension.MODEL, Dimension.DAY])
        day = NOON // DAY

        assert [(("m1", day), 2), (("m1", day + 1), 1), (("m2", day), 1)] == [(row.values, row.calls) for row in rows]

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (Filter(project_id="p2"), 1),
            (Filter(key_id="k2"), 1),
            (Filter(model="m2"), 1),
            (Filter(model="m2", key_id="k2"), 0),
            (Filter(start_us=(NOON + 10) * 1_000_000), 3),
            (Filter(end_us=(NOON + 10) * 1_000_000), 1),
            (Filter(start_us=NOON * 1_000_000, end_us=(NOON + 11) * 1_000_000), 2),
        ],
    )
    async def test_filters(self, store: Store, wanted: Filter, found: int) -> None:
        """Only the calls asked for are added up; the end is not included."""
        await insert(
            store,
            call("a", at=NOON),
            call("b", at=NOON + 10, caller={"project_id": "p2"}),
            call("c", at=NOON + 20, caller={"key_id": "k2"}),
            call("d", at=NOON + 30, model="m2"),
        )
        (row,) = await store.usage(wanted, [])

        assert found == row.calls

    async def test_too_many_rows(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """An answer that would not fit into a message is refused, not cut."""
        monkeypatch.setattr(module, "MAX_SUMS", 2)
        await insert(store, *(call(str(number), model=str(number)) for number in range(3)))
        with pytest.raises(MeshError) as refused:
            await store.usage(Filter(), [Dimension.MODEL])

        assert errors.REASON_TOO_LARGE == refused.value.reason


class TestCalls:
    async def test_pages_newest_first(self, store: Store) -> None:
        """Pages follow each other without gap or repetition, also where calls began at the same moment."""
        await insert(store, *(call(f"{number:02}", at=NOON + number // 3) for number in range(10)))
        pages = []
        place = None
        while True:
            records, place = await store.calls(Filter(), limit=4, after=place)
            pages.append([record.request_id for record in records])
            if place is None:
                break

        assert [["09", "08", "07", "06"], ["05", "04", "03", "02"], ["01", "00"]] == pages

    async def test_new_calls_do_not_shift_pages(self, store: Store) -> None:
        """What arrives between two pages is not in the second."""
        await insert(store, call("a", at=NOON), call("b", at=NOON + 1))
        _, place = await store.calls(Filter(), limit=1)
        await insert(store, call("c", at=NOON + 2))
        records, _ = await store.calls(Filter(), limit=5, after=place)

        assert ["a"] == [record.request_id for record in records]

    async def test_pages_are_found_by_index(self, store: Store) -> None:
        """A page deep in a long list costs what the first one does."""
        async with store._readers.connect() as connection:
            plan = await connection.exec_driver_sql(
                "EXPLAIN QUERY PLAN SELECT * FROM calls WHERE start_us <= 5"
                " AND (start_us < 5 OR start_us = 5 AND id < 3) ORDER BY start_us DESC, id DESC LIMIT 4"
            )
            steps = [row["detail"] for row in plan.mappings()]

        assert ["SEARCH calls USING INDEX ix_calls_start_us (start_us<?)"] == steps
