"""What callers are charged, in databases that had only what vendors ask."""

from pathlib import Path

from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from polyroute.metrics.migrations.history import HISTORY
from polyroute.metrics.rows import row_of
from polyroute.metrics.store import Store
from polyroute.metrics.usage import By, Dimension, Filter
from tests.unit.metrics.records import DAY, NOON, call


async def insert(store: Store, *records: CallRecord) -> None:
    await store.insert([row_of(record) for record in records])


async def test_charges_of_what_there_was_are_its_costs(tmp_path: Path, database: DatabaseConfig) -> None:
    """In calls and in all sums, and after going back; what comes afterwards has its own."""
    location = locate("metrics", tmp_path, shared=database)
    questions: list[list[By]] = [[], [By(Dimension.MODEL)], [By(Dimension.TAG, "team")]]
    questions.append([By(Dimension.HOUR), By(Dimension.USER)])
    spans = (Filter(), Filter(start_us=int((NOON - 1.5 * DAY) * 1e6), end_us=int((NOON + 1800) * 1e6)))
    older = [call(str(number), at=NOON - number * DAY, charged_nanos=9) for number in range(40)]
    async with Store.open(location) as first:
        await insert(first, *older, call("u", cost_nanos=None))
    await HISTORY.move(location, "0003")
    async with Store.open(location) as second:
        before = [(await second.usage(span, by)).rows for span in spans for by in questions]
        await insert(second, call("n", charged_nanos=2250), call("o", at=NOON - 99 * DAY, charged_nanos=3000))
        after = [(await second.usage(span, by)).rows for span in spans for by in questions]
        newest, _ = await second.calls(Filter(), limit=2)

    assert all(row.charged_nanos == row.cost_nanos for rows in before for row in rows)
    assert [60_000] * 4 + [3000] * 4 == [sum(row.charged_nanos for row in rows) for rows in before]
    assert [65_250] * 4 + [5250] * 4 == [sum(row.charged_nanos for row in rows) for rows in after]
    assert [("u", False, 0), ("n", True, 2250)] == [
        (one.request_id, one.HasField("charged_nanos"), one.charged_nanos) for one in newest
    ]
