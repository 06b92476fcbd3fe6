"""The calls on disk."""

import sqlite3
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2 as errors
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import Location, locate
from polyroute.mesh.errors import MeshError
from polyroute.metrics import legacy, listing, schema
from polyroute.metrics import sums as module
from polyroute.metrics.dictionary import Dictionary
from polyroute.metrics.ingest import Ingest
from polyroute.metrics.legacy import STEP
from polyroute.metrics.listing import FEW
from polyroute.metrics.migrations.history import HISTORY
from polyroute.metrics.partitions import existing
from polyroute.metrics.retention import Keep
from polyroute.metrics.rows import row_of
from polyroute.metrics.store import Store
from polyroute.metrics.sums import Sums
from polyroute.metrics.usage import By, Dimension, Filter
from tests.databases import prepare
from tests.unit.metrics.records import DAY, NOON, attempt, call


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.db"


@pytest.fixture
async def store(path: Path, database: DatabaseConfig) -> AsyncGenerator[Store]:
    """A fresh store, on each kind of database."""
    async with Store.open(locate("metrics", prepare(path.parent), shared=database)) as opened:
        yield opened


@pytest.fixture
async def filed(path: Path) -> AsyncGenerator[Store]:
    """A fresh store in a file."""
    async with Store.open(locate("metrics", prepare(path.parent))) as opened:
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
        async with Store.open(Location("metrics", path)) as opened:
            await insert(opened, call("a"))
        async with Store.open(Location("metrics", path)) as opened:
            again = await insert(opened, call("a"))
            kept, _ = await opened.calls(Filter(), limit=9)

        assert [] == again
        assert [call("a")] == kept

    async def test_synchronous_and_private(self, path: Path, filed: Store) -> None:
        """Commits reach the disk before they are answered, and only the owner reads the file."""
        with filed._writer.connect() as connection:
            synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
            journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar()

        assert (2, "wal") == (synchronous, journal)
        assert 0o600 == mode(path)

    async def test_a_locked_database_may_be_asked_again(self, path: Path, filed: Store) -> None:
        """While another process holds the file the refusal is one that senders repeat, and then it works."""
        await filed._write(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=1"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(MeshError) as refused:
            await insert(filed, call("a"))
        other.execute("ROLLBACK")
        other.close()

        assert errors.REASON_USAGE_UNAVAILABLE == refused.value.reason
        assert ["a"] == await insert(filed, call("a"))


def _once(listings: list[set[str]]) -> set[str]:
    """The next of some listings, and nothing when there are no more."""
    return listings.pop() if listings else set()


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
        nothing = (await store.usage(Filter(), [])).rows
        await insert(store, call("a"), call("b", outcome=pb.OUTCOME_BROKEN), call("c", cost_nanos=None))
        everything = (await store.usage(Filter(), [])).rows

        assert [Sums((), 0, 0, 0, 0, 0, Usage())] == nothing
        assert [Sums((), 3, 1, 1, 3000, 3000, usage(3))] == everything

    async def test_estimated(self, store: Store) -> None:
        """One estimate makes the sum an estimate."""
        await insert(
            store, call("a"), call("b", usage=Usage(input_tokens=1, images=2, audio_milliseconds=3, estimated=True))
        )
        (row,) = (await store.usage(Filter(), [])).rows
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
        rows = (await store.usage(Filter(), [By(Dimension.MODEL), By(Dimension.DAY)])).rows
        day = NOON // DAY

        assert [(("m1", day), 2), (("m1", day + 1), 1), (("m2", day), 1)] == [(row.values, row.calls) for row in rows]

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (Filter(texts={"project": "p2"}), 1),
            (Filter(texts={"key": "k2"}), 1),
            (Filter(texts={"model": "m2"}), 1),
            (Filter(texts={"model": "m2", "key": "k2"}), 0),
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
        (row,) = (await store.usage(wanted, [])).rows

        assert found == row.calls

    async def test_too_many_rows(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """An answer that would not fit into a message is refused, not cut."""
        monkeypatch.setattr(module, "MAX_SUMS", 2)
        await insert(store, *(call(str(number), model=str(number)) for number in range(3)))
        with pytest.raises(MeshError) as refused:
            await store.usage(Filter(), [By(Dimension.MODEL)])

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

    async def test_pages_are_found_by_index(self, filed: Store) -> None:
        """A page deep in a long list costs what the first one does."""
        await insert(filed, call())
        table = schema.CALLS.partition(NOON // DAY)
        async with filed._readers.connect() as connection:
            plan = await connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN SELECT * FROM {table} WHERE start_us <= 5 AND (start_us < 5"
                " OR start_us = 5 AND request_id < x'03') ORDER BY start_us DESC, request_id DESC LIMIT 4"
            )
            steps = [row["detail"] for row in plan.mappings()]

        assert [f"SEARCH {table} USING INDEX ix_{table}_start_us_request_id (start_us<?)"] == steps

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            (Filter(texts={"project": "p2"}), "b"),
            (Filter(texts={"key": "k2"}), "c"),
            (Filter(texts={"model": "m2"}), "d"),
            (Filter(texts={"deployment": "south"}), "e"),
            (Filter(texts={"end_user": "ann"}), "f"),
            (Filter(texts={"workflow": "etl", "node": "n1"}), "g"),
            (Filter(tags={"team": "ads"}), "h"),
            (Filter(tags={"team": "ads", "team2": ""}), ""),
            (Filter(texts={"end_user": "nobody"}), ""),
            (Filter(fault=errors.FAULT_RATE), "i"),
            (Filter(operation=2), "j"),
            (Filter(start_us=(NOON - 40 * DAY) * 1_000_000, end_us=(NOON - DAY) * 1_000_000), "k"),
            (Filter(request_id="a"), "a"),
        ],
    )
    async def test_filters(self, store: Store, wanted: Filter, found: str) -> None:
        """Only the calls asked for are listed, each with all that it had."""
        records = [
            call("a"),
            call("b", caller={"project_id": "p2"}),
            call("c", caller={"key_id": "k2"}),
            call("d", model="m2"),
            call("e", deployment="south"),
            call("f", user="ann"),
            call("g", workflow_id="etl", node_id="n1"),
            call("h", tags={"team": "ads", "feature": "x"}),
            call("i", attempts=[attempt(fault=errors.FAULT_RATE), attempt()]),
            call("j", operation=2),
            call("k", at=NOON - 40 * DAY, user="nul\0"),
        ]
        await insert(store, *records)
        listed, _ = await store.calls(wanted, limit=20)
        expected = [record for record in records if record.request_id in found]
        if found == "k":
            expected[0].user = "nul\ufffd"

        assert expected == listed

    async def test_pages_of_a_filter_over_months(self, store: Store) -> None:
        """Pages go on from one partition to the next, for few facets and for many."""
        records = [call(f"{number:03}", at=NOON - number * DAY, user=f"u{number % 3}") for number in range(80)]
        records += [call(f"other-{number}", model=f"m{number}") for number in range(FEW + 1)]
        await insert(store, *records)
        for wanted, count in ((Filter(texts={"end_user": "u1"}), 27), (Filter(texts={"project": "prj"}), 81 + FEW)):
            names: list[str] = []
            place = None
            while True:
                page, place = await store.calls(wanted, limit=7, after=place)
                names += [record.request_id for record in page]
                if place is None:
                    break

            assert count == len(names) == len(set(names))


class TestOldDatabases:
    """A file of version 0.1."""

    async def test_is_taken_over(self, path: Path) -> None:
        """Its calls are all there, listed and added up, once; and so they are after going back to it and forth."""
        location = Location("metrics", path)
        records = [call(str(number), at=NOON - number * DAY) for number in range(STEP + 5)]
        async with Store.open(location) as first:
            await insert(first, *records)
        await HISTORY.move(location, "0001")
        with sqlite3.connect(path) as database:
            (wide,) = database.execute("SELECT count(*) FROM calls WHERE model = 'small-1' AND user = 'u-1'").fetchone()
            tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        async with Store.open(location) as second:
            (row,) = (await second.usage(Filter(), [])).rows
            kept, _ = await second.calls(Filter(), limit=9999)
            again = await insert(second, *records)

        assert STEP + 5 == wide
        assert {"calls", "alembic_version"} == tables
        assert (STEP + 5, 1500 * (STEP + 5)) == (row.calls, row.cost_nanos)
        assert records == kept
        assert [] == again

    async def test_goes_on_where_it_was_interrupted(self, path: Path) -> None:
        """What is not taken over yet is at the next start, and nothing twice."""
        location = Location("metrics", path)
        records = [call(str(number)) for number in range(STEP + 5)]
        async with Store.open(location) as first:
            await insert(first, *records)
        await HISTORY.move(location, "0001")
        await HISTORY.upgrade(location)
        engine = location.thread_writer()
        with engine.begin() as connection:
            ingest = Ingest(Dictionary())
            legacy.adopt(connection, lambda rows: ingest.store(connection, rows, NOON // DAY))
        engine.dispose()
        async with Store.open(location) as second:
            (row,) = (await second.usage(Filter(), [])).rows

        assert STEP + 5 == row.calls


class TestSumsByLabel:
    """Made for databases that had none."""

    async def test_are_those_of_the_calls(self, path: Path, database: DatabaseConfig) -> None:
        """After going back to the revision before and forth; what comes afterwards is added to them."""
        location = locate("metrics", path.parent, shared=database)
        asked = [By(Dimension.PROJECT), By(Dimension.TAG, "team"), By(Dimension.WORKFLOW)]
        records = [
            call(
                str(number),
                at=NOON - number * DAY // 3,
                model=f"m{number % 2}",
                user=f"u{number % 3}",
                workflow_id=f"w{number % 5}" if number % 5 else "",
                tags={"team": "ads"} if number % 2 else {},
            )
            for number in range(200)
        ]
        async with Store.open(location) as first:
            await insert(first, *records)
            before = (await first.usage(Filter(), asked)).rows
        await HISTORY.move(location, "0002")
        async with Store.open(location) as second:
            after = (await second.usage(Filter(), asked)).rows
            hours = (await second.usage(Filter(), [By(Dimension.HOUR), By(Dimension.NODE)])).rows
            await insert(second, *(call(f"more-{number}", tags={"team": "ads"}) for number in range(5)))
            (more,) = (await second.usage(Filter(tags={"team": "ads"}), [])).rows

        assert 10 == len(before)
        assert before == after
        assert 200 == len(hours) == sum(row.calls for row in hours)
        assert (105, 105 * 1500) == (more.calls, more.cost_nanos)


class TestExpire:
    async def test_report_under_way_is_answered(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also when a partition goes away between its statements: it is asked again."""
        await insert(store, call("old", at=NOON - 100 * DAY), call("new"))
        store._clock = lambda: float(NOON)
        tables = await store._asked(existing)
        await store.expire(Keep(1, 1, 1))
        listings = [tables]  # of the moment before
        monkeypatch.setattr(module, "existing", lambda connection: _once(listings) or existing(connection))
        monkeypatch.setattr(listing, "existing", lambda connection: _once(listings) or existing(connection))
        (row,) = (await store.usage(Filter(), [])).rows
        listings.append(tables)
        listed, _ = await store.calls(Filter(), limit=9)

        assert 1 == row.calls
        assert ["new"] == [record.request_id for record in listed]

    async def test_old_calls_go(self, store: Store) -> None:
        """What is over is dropped, its sums stay, and what comes late for it has its place again."""
        await insert(store, call("old", at=NOON - 100 * DAY), call("new"))
        store._clock = lambda: float(NOON)
        dropped = await store.expire(Keep(calls=60))
        left, _ = await store.calls(Filter(), limit=9)
        late = await insert(store, call("late", at=NOON - 100 * DAY))
        (row,) = (await store.usage(Filter(), [])).rows

        assert [schema.CALLS.partition(NOON // DAY - 100)] == dropped
        assert ["new"] == [record.request_id for record in left]
        assert ["late"] == late
        assert 3 == row.calls
