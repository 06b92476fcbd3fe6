"""What `polyroute billing` prints, and what a vendor's export is compared with."""

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.auth.v1 import admin_pb2
from polyroute.api.auth.v1 import billing_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.metrics.v1.metrics_pb2 import UsageRow
from polyroute.cli import reconcile
from polyroute.cli.billing import times, written
from polyroute.cli.config import Config
from polyroute.cli.reconcile import Drift, beyond, drifts, figures_of
from polyroute.mesh.roles import ConfigError
from polyroute.providers.exports import COST, REQUESTS, Used

AMOUNT = st.integers(-(10**15), 10**15)


@given(st.lists(AMOUNT, max_size=5), st.lists(AMOUNT, max_size=3))
def test_a_statement_as_csv_sums_to_its_totals(spent: list[int], paid: list[int]) -> None:
    """Read back as decimals, to the last nano-dollar."""
    statement = pb.Statement(
        lines=[pb.StatementLine(project_id="p", model="m", deployment="d", amount_nanos=one) for one in spent],
        items=[pb.StatementItem(kind=admin_pb2.ENTRY_KIND_CREDIT, amount_nanos=one) for one in paid],
        spent_nanos=sum(spent),
        paid_in_nanos=sum(paid),
    )
    rows = list(csv.DictReader(io.StringIO(written(statement))))

    def total(kind: str) -> Decimal:
        return sum((Decimal(row["amount_usd"]) for row in rows if row["type"] == kind), Decimal(0))

    assert (total("spent"), total("paid_in")) == (total("usage"), total("credit"))
    assert Decimal(sum(spent)) == total("spent") * 10**9


def test_no_cell_is_a_formula() -> None:
    """Notes and names are what people typed; numbers below nothing stay numbers."""
    item = pb.StatementItem(kind=admin_pb2.ENTRY_KIND_CREDIT, amount_nanos=-5, note="=HYPERLINK(1)")
    [row] = [row for row in csv.DictReader(io.StringIO(written(pb.Statement(items=[item])))) if row["type"] == "credit"]

    assert ("'=HYPERLINK(1)", "-0.000000005") == (row["note"], row["amount_usd"])


def test_times() -> None:
    """A month, or two moments."""
    month = times("2026-12", "", "")
    zoned = times("", "2026-03-01T08:00+08:00", "")

    starts = [datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)]
    assert starts == [one.ToDatetime(UTC) for one in month if one]
    assert (datetime(2026, 3, 1, tzinfo=UTC), None) == (zoned[0] and zoned[0].ToDatetime(UTC), zoned[1])
    for wrong in (("2026", "", ""), ("2026-03", "2026-03-01", ""), ("", "soon", "")):
        with pytest.raises(ConfigError):
            times(*wrong)


def ours(*rows: tuple[str, str, Usage, int, int]) -> list[UsageRow]:
    """Day, deployment, usage, calls and cost."""
    return [
        UsageRow(values=[day, deployment], usage=usage, calls=calls, cost_nanos=cost)
        for day, deployment, usage, calls, cost in rows
    ]


def test_no_drift() -> None:
    """What the export does not say is not compared; reasoning is a part of the answer where it is not apart."""
    rows = ours(
        ("2026-03-02", "v/x", Usage(input_tokens=5, output_tokens=2, reasoning_tokens=1), 1, 70),
        ("2026-03-02", "v/x#eu", Usage(input_tokens=5), 1, 30),
        ("2026-03-02", "other/x", Usage(input_tokens=99), 1, 99),
    )
    theirs = [Used("2026-03-02", "x", {"input_tokens": 10, "output_tokens": 3, REQUESTS: 2, COST: 100})]

    assert [] == list(drifts(theirs, figures_of(rows, "v")))


def test_drift_per_day_model_and_bucket() -> None:
    """What they have more, what only we have, and what only they have."""
    rows = ours(("2026-03-02", "v/x", Usage(input_tokens=9), 1, 70), ("2026-03-02", "v/y", Usage(input_tokens=4), 1, 0))
    theirs = [Used("2026-03-02", "x", {"input_tokens": 10}), Used("2026-03-02", "z", {"input_tokens": 1})]
    found = list(drifts(theirs, figures_of(rows, "v")))

    assert [
        Drift("2026-03-02", "x", "input_tokens", 10, 9),
        Drift("2026-03-02", "y", "input_tokens", 0, 4),
        Drift("2026-03-02", "z", "input_tokens", 1, 0),
    ] == found
    assert ("+10.000 %", "") == (found[0].percent, found[1].percent)
    assert [False, True, True] == [beyond(one, Decimal(10)) for one in found]


def test_a_cost_of_all_models_is_compared_with_all_of_ours() -> None:
    """Where the vendor does not tell them apart."""
    rows = ours(("2026-03-02", "v/x", Usage(), 1, 70), ("2026-03-02", "v/y", Usage(), 1, 30))

    assert [] == list(drifts([Used("2026-03-02", "", {COST: 100})], figures_of(rows, "v")))


def test_a_provider_that_nobody_knows_is_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would differ in everything; those that are known are named."""
    file = tmp_path / "export.csv"
    file.write_text("day,model,input_tokens\n2026-03-01,m,5\n")
    ours = UsageRow(values=["2026-03-01", "east/m"], calls=1)
    ours.usage.input_tokens = 5
    answers = iter([[ours], {"west"}, [ours]])
    monkeypatch.setattr(reconcile, "run", lambda *_: next(answers))

    with pytest.raises(ConfigError, match=r"'nonesuch' is no provider here \(known: east, west\)"):
        reconcile.reconcile(Config(), file, "nonesuch", "0", as_json=True)
    assert 0 == reconcile.reconcile(Config(), file, "east", "0", as_json=True)
