"""Records as the ledger charges them, in both databases."""

from pathlib import Path
from typing import Any

import pytest

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.auth.v1.ledger_pb2 import Adjustment, Attribution
from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from polyroute.metrics.adjusted import adjusted, began
from polyroute.metrics.exposition import Exposition
from polyroute.metrics.migrations.history import HISTORY
from polyroute.metrics.rows import row_of
from polyroute.metrics.store import Store
from polyroute.metrics.usage import By, Dimension, Filter
from tests.unit.metrics.records import DAY, NOON, call

ID = "01a1d0a0-1234-7abc-8def-0123456789ab"


def said(charged: int | None = 9, *, number: int = 1, sequence: int = 1, name: str = "r", **fields: Any) -> Adjustment:
    """An adjustment of a call at noon."""
    values = {"cost_nanos": charged, "rule": "correction", "caller": Caller(account_id="acc", key_id="key")} | fields
    found = Adjustment(request_id=name, attempt=number, sequence=sequence, charged_nanos=charged, **values)
    found.post_time.FromSeconds(NOON)
    return found


class TestFigures:
    """What becomes of cost and charge."""

    def test_one_attempt_of_several(self) -> None:
        """The others keep what the call's multiplier made of them."""
        charges = [pb.AttemptCharge(attempt=number, cost_nanos=cost) for number, cost in ((1, 10), (2, 31))]
        before = call(cost_nanos=41, charged_nanos=15 + 47, multiplier_millionths=1_500_000, charges=charges)
        once = adjusted(before, [said(4, number=1)])
        again = adjusted(once, [said(6, number=1), said(0, number=3)])

        assert (35, 51) == (once.cost_nanos, once.charged_nanos)
        assert (37, 53) == (again.cost_nanos, again.charged_nanos)
        assert [(1, 6), (2, 47), (3, 0)] == [(row.attempt, row.charged_nanos) for row in again.charges]

    def test_a_record_of_several_attempts_by_a_sender_that_names_no_multiplier(self) -> None:
        """It is what the sums of the record say."""
        charges = [pb.AttemptCharge(attempt=number, cost_nanos=10) for number in (1, 2)]
        found = adjusted(call(cost_nanos=20, charged_nanos=30, charges=charges), [said(4)])

        assert (14, 19) == (found.cost_nanos, found.charged_nanos)

    @pytest.mark.parametrize(
        ("adjustment", "expected"),
        [
            pytest.param(said(None), (None, None), id="no amount"),
            pytest.param(said(9, cost_nanos=None), (1500, 9), id="an amount of older days, without a cost"),
            pytest.param(said(9, cost_nanos=4), (4, 9), id="both"),
        ],
    )
    def test_what_the_ledger_does_not_know(
        self, adjustment: Adjustment, expected: tuple[int | None, int | None]
    ) -> None:
        """It is unknown, unless the record says it."""
        found = adjusted(call(), [adjustment])
        named = [getattr(found, name) if found.HasField(name) else None for name in ("cost_nanos", "charged_nanos")]

        assert expected == tuple(named)

    def test_a_free_call_is_charged_after_all(self) -> None:
        """It had no row."""
        found = adjusted(call(cost_nanos=0), [said(5)])

        assert (5, 5) == (found.cost_nanos, found.charged_nanos)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param(ID, 0x01A1D0A01234 * 1000, id="UUIDv7"),
        pytest.param("01a1d0a0-1234-4abc-8def-0123456789ab", NOON * 10**6, id="another UUID"),
        pytest.param("zzzzzzzz-zzzz-7zzz-zzzz-zzzzzzzzzzzz", NOON * 10**6, id="no UUID"),
    ],
)
def test_when_a_call_without_a_record_began(name: str, expected: int) -> None:
    """Its id says it, or the ledger."""
    assert expected == began(name, [said(name=name)])


async def test_a_stand_in_makes_room(tmp_path: Path, database: DatabaseConfig) -> None:
    """With all sums; another life of the role goes on from where it was, and the older tables lose nothing."""
    mark = Attribution(user="ann", tags={"team": "a"}, provider="vendor")
    guess = said(5, rule="interrupted/1", model="small-1", deployment="north", attribution=mark)
    guess.usage.CopyFrom(Usage(input_tokens=3))
    location = locate("metrics", tmp_path, shared=database)
    exposition = Exposition()
    figures = []
    async with Store.open(location) as store:
        store.shifted = lambda shift: exposition.shift(shift.record, shift.cost)
        await store.adjust([guess], 1)
        first = await store.usage(Filter(), [By(Dimension.USER), By(Dimension.TAG, "team"), By(Dimension.PROVIDER)])
        figures.append(exposition.text())
        late = call("r", at=NOON - DAY, user="bob", cost_nanos=40)  # by a clock that was wrong
        fresh = await store.insert([row_of(late), row_of(call("s"))])
        repeated = await store.insert([row_of(late)])
        exposition.observe(late)
        await store.adjust([said(40, sequence=2, rule="completed/2")], 2)
        figures.append(exposition.text())
    await HISTORY.move(location, "0004")
    async with Store.open(location) as store:
        place = await store.place()
        await store.adjust([guess, said(40, sequence=2, rule="completed/2")], 2)
        second = await store.usage(Filter(), [By(Dimension.USER), By(Dimension.HOUR)])
        records, _ = await store.calls(Filter(), limit=9)

    row = first.rows[0]
    assert [("ann", "a", "vendor", 1, 1, 5)] == [(*row.values, row.calls, row.failed_calls, row.charged_nanos)]
    assert (3, True) == (row.usage.input_tokens, row.usage.estimated)
    assert ({"r", "s"}, set(), 0) == (set(fresh), set(repeated), place)
    assert [("bob", 1, 40), ("u-1", 1, 1500)] == [(one.values[0], one.calls, one.charged_nanos) for one in second.rows]
    assert [("s", 1), ("r", 1)] == [(one.request_id, one.outcome) for one in records]
    assert [b" 0.000000005"] == [line[-12:] for line in figures[0].splitlines() if b"cost_adjustments_usd{" in line]
    assert not [line for line in figures[1].splitlines() if b'cost_adjustments_usd{operation="chat"' in line]
