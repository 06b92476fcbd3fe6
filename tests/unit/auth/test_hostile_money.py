"""Figures, clocks and repetitions that somebody would gain by."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy import insert

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.money import multipliers
from polyroute.auth.money.bills import Bills
from polyroute.auth.money.charges import MOST_COST, QUARANTINED_RULE
from polyroute.auth.money.entries import MOST, Payer
from polyroute.auth.money.holds import Wanted
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.money.periods import Period
from polyroute.auth.money.plans import Plan
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.errors import MeshError
from tests.unit.auth.money import ACCOUNT, KEY, PROJECT, treasury
from tests.unit.auth.test_billing import Office, opened

BEYOND = (1 << 63) - 1


@pytest.fixture
async def office(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Office]:
    """A fresh one, on each kind of database."""
    async with treasury(tmp_path, database) as money:
        yield await opened(money)


async def reason(call: object) -> int:
    """Why a call is refused."""
    with pytest.raises(MeshError) as caught:
        await call  # type: ignore[misc] # an awaitable
    return caught.value.reason


async def test_figures_that_cannot_be_true_move_no_money(office: Office) -> None:
    """Below nothing, or beyond belief, also by a multiplier: on the ledger without an amount, and nobody is paid."""
    await office.money.budget(KEY, 100, hard=False)
    for number, cost in enumerate((-5, MOST_COST + 1, BEYOND)):
        await office.money.charge(f"r{number}", cost)
    await office.money.charge("m", MOST_COST // 2, multiplier=1000 * 1_000_000)
    rows = await office.money.rows(schema.ledger)

    assert [(None, None, QUARANTINED_RULE)] * 4 == [(row.amount, row.cost, row.rule) for row in rows]
    assert {KEY: (0, 0)} == await office.money.counters()
    assert () == await office.findings()


async def test_amounts_that_sums_have_no_room_for_are_refused(office: Office) -> None:
    """Payments, codes, plans, corrections and holds; what is counted stays a whole number."""
    await office.money.budget(ACCOUNT, 0, prepaid=True)
    await office.money.budget(KEY, 1, hard=False)
    await office.money.charge("r", 1)
    refused = [
        await reason(office.money.ledger.credit(ACCOUNT, BEYOND, "p")),
        await reason(office.money.ledger.credit(ACCOUNT, -MOST - 1, "p")),
        await reason(office.codes.create("b", 1, BEYOND, None)),
        await reason(office.plans.put(Plan("p", Period.DAILY, BEYOND, 0, overage=True, closed=False))),
        await reason(office.plans.put(Plan("p", Period.DAILY, 0, BEYOND, overage=True, closed=False))),
        await reason(office.money.charge("r", MOST_COST + 1, revision=1)),
    ]

    assert {errors_pb2.REASON_INVALID_REQUEST} == set(refused)
    other = Payer("acc_2", "prj_2", KEY)
    assert errors_pb2.REASON_BUDGET_EXHAUSTED == await reason(office.money.hold("h", BEYOND, payer=other))
    assert () == await office.findings()


async def test_a_payment_is_not_another_one_of_the_same_name(office: Office) -> None:
    """Repeating it is fine; saying something else under its name is an error and not silence."""
    ledger = office.money.ledger
    await ledger.credit(ACCOUNT, 7, "invoice-1")
    await ledger.credit(ACCOUNT, 7, "invoice-1")
    others = [(ACCOUNT, 8), (ACCOUNT, -7), ("acc_2", 7)]
    refused = [await reason(ledger.credit(account, amount, "invoice-1")) for account, amount in others]

    assert [errors_pb2.REASON_INVALID_REQUEST] * 3 == refused
    assert [("credit", 1, 2, 7)] == await office.money.entries()


async def test_a_clock_that_is_put_back_opens_no_period_again(office: Office) -> None:
    """Nor does one that jumps a day ahead and returns: it opens the next one early, once."""
    await office.money.budget(KEY, 10, period=Period.DAILY)
    await office.money.charge("r", 10)
    for jump in (-86_400, 0, 86_400, 0, 86_400, -86_400):
        was = office.money.clock.at
        office.money.clock.at += jump
        for number in range(2):
            try:
                await office.money.hold(f"h{jump}{number}", 10)
                await office.money.charge(f"h{jump}{number}", 10)
            except MeshError:
                continue
        office.money.clock.at = was

    assert 20 == (await office.money.audit()).spent
    assert () == await office.findings()


async def test_budgets_go_by_the_time_of_the_database(office: Office) -> None:
    """Which several auth roles have in common; it is about the same as ours here."""
    ledger = Ledger(office.money.database, lambda _: None)
    await ledger.hold(Wanted("r", Payer(ACCOUNT, PROJECT, KEY), 0, 0))
    [row] = await office.money.rows(schema.ledger)
    await ledger.close()

    assert abs(row.posted / 1e6 - time.time()) < 60


async def test_invoices_at_the_same_moment_leave_no_gap(office: Office) -> None:
    """And neither does one that is refused; each account has its own, and all are in one chain."""
    names = [f"acc_{number}" for number in range(2, 10)]
    async with office.money.database.writing() as connection:
        rows = [{"id": name, "name": name, "created": 0} for name in names]
        await connection.execute(insert(schema.accounts), rows)
    for name in names:
        await office.money.ledger.credit(name, 5, f"pay-{name}")
    office.money.clock.advance(1)
    end = office.micros()
    twice = [Bills(office.money.database, office.money.ledger).issue(name, end) for name in names * 2]
    wrong = [reason(office.bills.issue(name, 2 * end)) for name in names]
    issued, refused = await asyncio.gather(asyncio.gather(*twice), asyncio.gather(*wrong))

    assert list(range(1, 9)) == sorted({invoice.number for invoice in issued if invoice is not None})
    assert {errors_pb2.REASON_INVALID_REQUEST} == set(refused)
    assert () == await office.findings()


async def test_a_multiplier_applies_to_whoever_pays(office: Office) -> None:
    """Of a charge that names nobody the payer is known by its hold."""
    await office.money.budget(KEY, 1000)
    await office.money.ledger.transact(lambda connection, _: multipliers.put(connection, "*", 2_000_000))
    await office.money.hold("r", 100)
    await office.money.charge("r", 10, payer=None, multiplier=0)

    assert {KEY: (20, 0)} == await office.money.counters()
