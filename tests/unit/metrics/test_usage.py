"""Sums: always those of the calls, to the last unit, wherever a span begins and ends and however often a call came."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.metrics import schema
from polyroute.metrics.dictionary import Dictionary
from polyroute.metrics.ingest import Ingest
from polyroute.metrics.partitions import DAY_US, HOUR_US
from polyroute.metrics.retention import Keep, expire
from polyroute.metrics.rows import Row, row_of
from polyroute.metrics.sums import added_up
from polyroute.metrics.usage import PER_DAY, By, Cut, Dimension, Filter, Piece, cut, grouped
from tests.unit.metrics.records import DAY, NOON, call

MIDNIGHT = NOON - DAY // 2
TODAY = NOON // DAY
COLUMNS = ["account", "project", "key", "model", "deployment", "provider", "end_user", "workflow", "node"]
BYS = [*(By(dimension) for dimension in Dimension if dimension is not Dimension.TAG), By(Dimension.TAG, "team")]


@contextmanager
def memory() -> Iterator[tuple[Connection, Ingest]]:
    """An empty database, and what stores in it."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        schema.metadata.create_all(connection)
        yield connection, Ingest(Dictionary(remembered=8))
    engine.dispose()


def value(row: Row, by: By) -> Any:
    """What a call counts under."""
    match by.dimension:
        case Dimension.DAY:
            return row.start_us // DAY_US
        case Dimension.HOUR:
            return row.start_us // HOUR_US
        case Dimension.OPERATION:
            return row.facet[-1]
        case Dimension.TAG:
            return row.record.tags.get(by.tag, "")
        case _:
            return row.facet[COLUMNS.index(by.dimension.value)]


def brute(rows: Sequence[Row], by: Sequence[By]) -> dict[tuple[Any, ...], list[int]]:
    """The sums, from the calls one by one."""
    found: dict[tuple[Any, ...], list[int]] = {} if by else {(): [0] * len(schema.SUMS)}
    for row in rows:
        place = tuple(value(row, one) for one in by)
        before = found.get(place, [0] * len(schema.SUMS))
        found[place] = [one + other for one, other in zip(before, row.sums, strict=True)]
    return found


def asked(connection: Connection, wanted: Filter, by: Sequence[By]) -> dict[tuple[Any, ...], list[int]]:
    """The sums, as they are answered."""
    answer = added_up(connection, wanted, by)
    assert sorted(row.values for row in answer.rows) == [row.values for row in answer.rows]
    return {
        row.values: [
            row.calls,
            row.failed_calls,
            row.unpriced_calls,
            row.cost_nanos,
            row.charged_nanos,
            row.usage.estimated,
            row.usage.input_tokens,
            row.usage.reasoning_tokens,
            row.usage.audio_milliseconds,
        ]
        for row in answer.rows
    }


def told(sums: dict[tuple[Any, ...], list[int]]) -> dict[tuple[Any, ...], list[int]]:
    """Of all sums those that `asked` looks at."""
    return {key: [s[0], s[1], s[2], s[4], s[5], s[3] > 0, s[6], s[10], s[12]] for key, s in sums.items()}


few = st.sampled_from
moments = st.one_of(
    st.integers(-2 * DAY, 40 * DAY),
    st.integers(-3, 3).map(lambda hours: hours * 3600),
    st.integers(0, 3).map(lambda days: days * DAY),
).map(lambda seconds: MIDNIGHT + seconds)
records = st.builds(
    call,
    at=moments,
    model=few(["m1", "m2"]),
    deployment=few(["", "north"]),
    user=few(["", "ann", "bob"]),
    workflow_id=few(["", "etl"]),
    node_id=few(["", "n1", "etl"]),
    tags=few([{}, {"team": "a"}, {"team": "b", "feature": "a"}]),
    caller=few([None, {"project_id": "p1", "key_id": "k1"}, {"project_id": "p1", "key_id": "k2"}]),
    cost_nanos=st.none() | st.integers(-(2**40), 2**50),
    charged_nanos=st.none() | st.integers(0, 2**50),
    outcome=few([pb.OUTCOME_COMPLETED, pb.OUTCOME_FAILED]),
    usage=st.builds(Usage, input_tokens=st.integers(0, 2**50), audio_milliseconds=few([0, 7]), estimated=st.booleans()),
)
bounds = st.none() | moments.flatmap(lambda at: st.sampled_from([at * 1_000_000, at * 1_000_000 + 1]))
filters = st.builds(
    Filter,
    bounds,
    bounds,
    texts=few([{}, {}, {"model": "m1"}, {"project": "p1", "key": "k2"}, {"end_user": "ann"}, {"model": "unheard of"}]),
    tags=few([{}, {}, {"team": "a"}, {"team": "b", "feature": "a"}]),
)


def matches(row: Row, wanted: Filter) -> bool:
    texts = all(row.facet[COLUMNS.index(name)] == text for name, text in wanted.texts.items())
    tags = all(row.record.tags.get(name) == text for name, text in wanted.tags.items())
    early = wanted.start_us is not None and row.start_us < wanted.start_us
    late = wanted.end_us is not None and row.start_us >= wanted.end_us
    return texts and tags and not early and not late


@settings(max_examples=40, deadline=None)
@given(st.data(), filters, st.lists(few(BYS), max_size=3, unique=True))
def test_sums_are_those_of_the_calls(data: st.DataObject, wanted: Filter, by: list[By]) -> None:
    """Any dimensions, any span, any filter, batches that come twice: what is answered is what the calls add up to."""
    rows = []
    for number, record in enumerate(data.draw(st.lists(records, max_size=20))):
        record.request_id = str(number)
        rows.append(row_of(record))
    batches = data.draw(st.lists(st.lists(st.sampled_from(rows), min_size=1), max_size=5)) if rows else []
    stored: dict[str, Row] = {}
    with memory() as (connection, ingest):
        for batch in batches:
            new = {row.request_id for row in batch} - stored.keys()
            assert new == {row.request_id for row in ingest.store(connection, batch, TODAY)}
            assert [] == ingest.store(connection, batch, TODAY)
            stored |= {row.request_id: row for row in batch}
        found = asked(connection, wanted, by)

    assert told(brute([row for row in stored.values() if matches(row, wanted)], by)) == found


@pytest.mark.parametrize(
    ("level", "by", "wanted"),
    [
        (schema.CORE, [], Filter()),
        (schema.CORE, [By(Dimension.DAY), By(Dimension.KEY), By(Dimension.OPERATION)], Filter(texts={"end_user": ""})),
        (schema.LABEL, [By(Dimension.WORKFLOW), By(Dimension.TAG, "team"), By(Dimension.HOUR)], Filter()),
        (schema.LABEL, [By(Dimension.PROJECT)], Filter(tags={"team": "a"}, texts={"key": "k1"})),
        (schema.FULL, [By(Dimension.USER)], Filter()),
        (schema.FULL, [By(Dimension.NODE)], Filter(texts={"model": "m1"})),
        (schema.FULL, [By(Dimension.TAG, "team")], Filter(operation=1)),
        (schema.FULL, [By(Dimension.MODEL)], Filter(tags={"team": "a"})),
    ],
)
def test_question_goes_to_the_fewest_facets(level: schema.Level, by: list[By], wanted: Filter) -> None:
    """That have what it asks for."""
    assert level is grouped(by, wanted)[0]


class TestCut:
    """Which tables hold the parts of a span."""

    FIRST = MIDNIGHT // DAY

    def at(self, days: float) -> int:
        return round((MIDNIGHT + days * DAY) * 1_000_000)

    def pieces(
        self, start: float, end: float | None, *, level: schema.Level = schema.CORE, hours: bool = False
    ) -> list[Piece]:
        wanted = Filter(self.at(start), None if end is None else self.at(end))
        return [piece for piece in cut(wanted, {}, level=level, hours=hours).pieces if piece.start != piece.end]

    def test_whole_days(self) -> None:
        """They come from daily sums alone."""
        first = self.FIRST

        assert [Piece(schema.DAILY_CORE, first, first + 7)] == self.pieces(0, 7)
        assert [Piece(schema.DAILY, first, None)] == self.pieces(0, None, level=schema.FULL)

    def test_ragged_ends(self) -> None:
        """Hours beside the days from hourly sums, and what is left from the calls."""
        first = self.FIRST
        start, end = 23.5 / 24, 2 + 1.25 / 24

        assert {
            Piece(schema.CALLS, self.at(start), self.at(1)),
            Piece(schema.DAILY_CORE, first + 1, first + 2),
            Piece(schema.HOURLY_CORE, (first + 2) * PER_DAY, (first + 2) * PER_DAY + 1),
            Piece(schema.CALLS, self.at(2 + 1 / 24), self.at(end)),
        } == set(self.pieces(start, end))

    def test_within_an_hour(self) -> None:
        """Only the calls know it."""
        assert [Piece(schema.CALLS, self.at(0.001), self.at(0.002))] == self.pieces(0.001, 0.002)

    def test_each_hour(self) -> None:
        """Daily sums do not know hours."""
        first = self.FIRST * PER_DAY

        assert [Piece(schema.HOURLY_CORE, first, first + 48)] == self.pieces(0, 2, hours=True)

    def test_what_is_dropped(self) -> None:
        """A span is widened to what is kept, and begins where anything is."""
        day = self.FIRST
        horizons = {"calls": (day + 20) * DAY_US, "hourly_core": (day + 10) * PER_DAY, "daily_core": day}

        def cut_at(start: float, end: float, *, hours: bool = False) -> Cut:
            return cut(Filter(self.at(start), self.at(end)), horizons, level=schema.CORE, hours=hours)

        assert (self.at(5), self.at(7)) == cut_at(5.3, 6.9)[1:]
        assert (self.at(15.5), self.at(16.25)) == cut_at(15.51, 16.21)[1:]
        assert (self.at(25.511), self.at(26.213)) == cut_at(25.511, 26.213)[1:]
        assert (self.at(0), self.at(1)) == cut_at(-9, 1)[1:]
        assert (self.at(10), self.at(12)) == cut_at(3, 12, hours=True)[1:]


class TestRetention:
    """What is over is dropped, by whole partitions."""

    def test_sums_stay_longer(self) -> None:
        """Calls go, their sums stay; hourly sums go, daily ones stay; a span keeps to what is kept, and says so."""
        months = [call(str(number), at=MIDNIGHT + number * 31 * DAY + 5400) for number in range(6)]
        now = (MIDNIGHT + 6 * 31 * DAY) * 1_000_000
        with memory() as (connection, ingest):
            ingest.store(connection, [row_of(record) for record in months], TODAY)
            dropped = expire(connection, Keep(calls=40, hourly=100), now)
            again = expire(connection, Keep(calls=40, hourly=100), now)
            everything = added_up(connection, Filter(), [])
            second = MIDNIGHT + 31 * DAY
            widened = added_up(connection, Filter((second + 7000) * 1_000_000, (second + 7001) * 1_000_000), [])
            hours = added_up(connection, Filter(), [By(Dimension.HOUR)])

        gone = (schema.CALLS, schema.HOURLY, schema.HOURLY_CORE, schema.HOURLY_LABEL)
        assert [family.partition(TODAY) for family in gone] == [min(filter(family.bounds, dropped)) for family in gone]
        assert [] == again
        assert (6, None) == (everything.rows[0].calls, everything.start_us)
        assert (1, second * 1_000_000) == (widened.rows[0].calls, widened.start_us)
        assert (second + DAY) * 1_000_000 == widened.end_us
        assert 0 < len(hours.rows) < 6
        assert hours.start_us is not None

    def test_names_go_with_the_last_sum(self) -> None:
        """Texts that no row names are deleted, those in use stay."""
        old, new = call("old", user="ann", tags={"team": "gone"}), call("new", at=NOON + 800 * DAY)
        with memory() as (connection, ingest):
            ingest.store(connection, [row_of(old)], TODAY)
            ingest.store(connection, [row_of(new)], TODAY + 800)
            expire(connection, Keep(1, 1, 1), (NOON + 801 * DAY) * 1_000_000)
            ingest.forget()
            texts = set(connection.exec_driver_sql("SELECT text FROM strings").scalars())
            ingest.store(connection, [row_of(call("again", at=NOON + 800 * DAY, user="ann"))], TODAY + 801)
            found = asked(connection, Filter(), [By(Dimension.USER)])

        assert "ann" not in texts
        assert "gone" not in texts
        assert {"u-1", "prj", "small-1"} <= texts
        assert {("ann",): 1, ("u-1",): 1} == {key: sums[0] for key, sums in found.items()}


@pytest.mark.parametrize("count", [1, 30])
def test_memory_of_the_dictionary_is_bounded(count: int) -> None:
    """However many users there are, no more numbers are remembered than the bound and one batch."""
    with memory() as (connection, ingest):
        for number in range(count):
            ingest.store(connection, [row_of(call(str(number), user=f"u{number}"))], TODAY)
        found = asked(connection, Filter(), [By(Dimension.USER)])
        remembered = len(ingest._dictionary._strings)

    assert count == len(found)
    assert remembered <= 8 + 12
