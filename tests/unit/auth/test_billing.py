"""Codes, plans, multipliers, statements and invoices, on a ledger of each kind of database."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, text

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.paging import Page
from polyroute.auth.money import multipliers
from polyroute.auth.money.bills import Bills, Statement
from polyroute.auth.money.charges import AS_SET, Charge, multiplied
from polyroute.auth.money.codes import ALPHABET, Codes, digest, new_code
from polyroute.auth.money.entries import Payer
from polyroute.auth.money.periods import Period
from polyroute.auth.money.plans import Plan, Plans
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.errors import MeshError
from tests.unit.auth.money import ACCOUNT, KEY, PAYER, PROJECT, Treasury, treasury

ALL = Page(1000, ())
DAY = 86_400


@dataclass
class Office:
    """A ledger and what bills are made with."""

    money: Treasury
    bills: Bills
    codes: Codes
    plans: Plans
    changed: list[str]

    def micros(self) -> int:
        """Now."""
        return round(self.money.clock() * 1e6)

    async def statement(self) -> Statement:
        """Of the account, from the beginning."""
        return await self.bills.statement(ACCOUNT, None, None, self.micros())

    async def findings(self) -> tuple[str, ...]:
        """What the audit finds."""
        return (await self.money.audit()).findings

    async def balance(self) -> tuple[int, int]:
        """Amount and spent of the account's prepaid balance."""
        [row] = [row for row in await self.money.rows(schema.budgets) if row.prepaid]
        return row.amount, row.spent


async def opened(money: Treasury) -> Office:
    """An office with one account, project and key."""
    async with money.database.writing() as connection:
        await connection.execute(insert(schema.accounts).values(id=ACCOUNT, name="Ann", created=0))
        await connection.execute(insert(schema.projects).values(id=PROJECT, account_id=ACCOUNT, name="p", created=0))
    changed: list[str] = []
    bills, codes = Bills(money.database, money.ledger), Codes(money.database, money.ledger)
    return Office(money, bills, codes, Plans(money.database, money.ledger, changed.append), changed)


@pytest.fixture
async def office(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Office]:
    """A fresh one, on each kind of database."""
    async with treasury(tmp_path, database) as money:
        yield await opened(money)


def at(office: Office, year: int, month: int, day: int, hour: int = 0, minute: int = 0, *, zone: str = "UTC") -> None:
    """Puts the clock."""
    office.money.clock.at = datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(zone)).timestamp()


async def test_a_code_pays_in_once_however_many_redeem_it(office: Office) -> None:
    """Twenty at the same moment, of two accounts: one payment; whoever got it may say so again."""
    await office.money.budget(ACCOUNT, 0, prepaid=True)
    async with office.money.database.writing() as connection:
        await connection.execute(insert(schema.accounts).values(id="acc_2", name="Bob", created=0))
    [code], _ = await office.codes.create("spring", 1, 500, None)

    async def redeem(account: str) -> bool:
        try:
            await office.codes.redeem(account, code)
        except MeshError as error:
            return error.reason != errors_pb2.REASON_NOT_FOUND
        return True

    accounts = [ACCOUNT, "acc_2"] * 10
    done = await asyncio.gather(*map(redeem, accounts))

    [winner] = {account for account, ok in zip(accounts, done, strict=True) if ok}
    entries = await office.money.entries()
    assert [("credit", 1, 2, 500)] == entries
    assert (500 if winner == ACCOUNT else 0) == (await office.balance())[0]
    assert () == await office.findings()


async def test_a_code_ends(office: Office) -> None:
    """At its time, and not before."""
    [early, late], _ = await office.codes.create("b", 2, 5, office.micros() + 1_000_000)
    await office.codes.redeem(ACCOUNT, early)
    office.money.clock.advance(1)

    with pytest.raises(MeshError, match="cannot be redeemed"):
        await office.codes.redeem(ACCOUNT, late)


@given(st.data())
def test_codes_are_read_as_people_type_them(data: st.DataObject) -> None:
    """Upper case, blanks, and letters for the digits they look like."""
    code = new_code()
    mark, _, rest = code.partition("-")
    zero, one, dash = (data.draw(st.sampled_from(some)) for some in ("0Oo", "1IilL", ("", " ", "-")))
    typed = rest.upper().replace("0", zero).replace("1", one).replace("-", dash)

    assert set(rest) <= {*ALPHABET, "-"}
    assert digest(code) == digest(f" {mark.upper()}-{typed}\n") == digest(typed)


async def test_a_charge_is_the_cost_times_the_multiplier(office: Office) -> None:
    """Of everybody and of the group, both on the row; what was charged stays when they change."""
    await office.money.budget(KEY, 10_000, hard=False)
    ledger = office.money.ledger
    await ledger.transact(lambda connection, _: multipliers.put(connection, "*", 1_100_000))
    await ledger.transact(lambda connection, _: multipliers.put(connection, "friends", 500_000))
    await office.money.charge("r", 100, multiplier=AS_SET)
    await ledger.transact(lambda connection, _: multipliers.join(connection, ACCOUNT, "friends"))
    await office.money.charge("s", 101, multiplier=AS_SET)
    await office.money.charge("s", 103, multiplier=AS_SET, revision=1)

    rows = [(row.cost, row.multiplier, row.amount) for row in await office.money.rows(schema.ledger)]
    assert [(100, 1_100_000, 110), (101, 550_000, 56), (2, 550_000, 1)] == rows
    assert {KEY: (167, 0)} == await office.money.counters()
    [line] = (await office.statement()).lines
    assert (203, 167) == (line.cost, line.amount)
    assert () == await office.findings()


@given(st.integers(0, 10**12), st.integers(0, 10**9))
def test_rounding_is_to_the_nearest_and_never_up_by_more_than_a_half(cost: int, millionths: int) -> None:
    """Exact integers."""
    charged = multiplied(cost, millionths)

    assert -1_000_000 < 2 * (cost * millionths - charged * 1_000_000) <= 1_000_000 or (
        2 * (charged * 1_000_000 - cost * millionths) <= 1_000_000
    )


async def test_a_subscription_pays_its_price_and_gets_its_quota(office: Office) -> None:
    """Calls within the quota cost nothing more; beyond it they are paid from the balance."""
    at(office, 2026, 3, 10)
    await office.money.budget(ACCOUNT, 0, prepaid=True)
    await office.money.ledger.credit(ACCOUNT, 1000, "pay-1")
    await office.plans.put(Plan("pro", Period.MONTHLY, 300, 500, True, False))
    one = await office.plans.subscribe(PROJECT, "pro", "Asia/Shanghai")
    await office.money.charge("r", 600)

    assert datetime(2026, 4, 1, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp() * 1e6 == one.ends
    assert (1200, 600) == await office.balance()  # 1000 paid - 300 + 500; of 1200, 600 are left
    assert [PROJECT] == office.changed
    statement = await office.statement()
    assert (1000, 200, 600, 600) == (statement.paid_in, statement.plans, statement.spent, statement.closing)
    assert () == await office.findings()


async def test_a_subscription_is_renewed_where_it_lives_and_its_rest_lapses(office: Office) -> None:
    """At midnight of the first, there; with the plan's new terms."""
    at(office, 2026, 3, 10)
    await office.money.budget(ACCOUNT, 0, prepaid=True)
    await office.money.ledger.credit(ACCOUNT, 1000, "pay-1")
    await office.plans.put(Plan("pro", Period.MONTHLY, 300, 500, True, False))
    await office.plans.subscribe(PROJECT, "pro", "Asia/Shanghai")
    await office.money.charge("r", 120)
    await office.plans.put(Plan("pro", Period.MONTHLY, 400, 700, True, False))
    at(office, 2026, 3, 31, 23, 59, zone="Asia/Shanghai")
    early = await office.plans.renew()
    at(office, 2026, 4, 1, zone="Asia/Shanghai")
    renewed = await office.plans.renew()
    again = await office.plans.renew()

    assert (0, 1, 0) == (len(early), len(renewed), len(again))
    kinds = [(row.kind, row.amount) for row in await office.money.rows(schema.ledger)]
    assert [(6, 1000), (7, 300), (8, 500), (2, 120), (9, 380), (7, 400), (8, 700)] == kinds
    [(now, spent)], _ = await office.plans.subscriptions(ACCOUNT, ALL)
    assert (400, 700, 0) == (now.price, now.quota, spent)
    assert () == await office.findings()


async def test_without_overage_the_quota_is_a_hard_budget(office: Office) -> None:
    """A free quota: what is beyond it is refused, and what was cancelled leaves nothing open."""
    await office.plans.put(Plan("free", Period.DAILY, 0, 100, False, False))
    one = await office.plans.subscribe(PROJECT, "free", "")
    held = await office.money.hold("r", 100)
    with pytest.raises(MeshError) as refused:
        await office.money.hold("s", 1)
    await office.money.charge("r", 100)
    await office.plans.cancel(one.id)
    office.money.clock.advance(DAY)
    await office.plans.renew()
    with pytest.raises(MeshError) as over:
        await office.money.hold("t", 1)

    assert 100 == held
    assert errors_pb2.REASON_BUDGET_EXHAUSTED == refused.value.reason == over.value.reason
    assert () == await office.findings()


async def test_a_plan_that_the_balance_cannot_pay_is_not_sold_and_not_renewed(office: Office) -> None:
    """An account that pays in advance never owes a price."""
    await office.money.budget(ACCOUNT, 0, prepaid=True)
    await office.plans.put(Plan("pro", Period.DAILY, 300, 0, True, False))
    with pytest.raises(MeshError, match="cannot pay for the plan"):
        await office.plans.subscribe(ACCOUNT, "pro", "")
    await office.money.ledger.credit(ACCOUNT, 400, "pay")
    await office.plans.subscribe(ACCOUNT, "pro", "")
    office.money.clock.advance(DAY)
    await office.plans.renew()

    [(one, _)], _ = await office.plans.subscriptions("", ALL)
    assert (True, (100, 0)) == (one.ended, await office.balance())
    assert () == await office.findings()


async def test_one_subscription_at_a_time(office: Office) -> None:
    """A second one is refused; an unknown plan and a closed one are not there."""
    await office.plans.put(Plan("a", Period.TOTAL, 0, 5, True, False))
    await office.plans.put(Plan("old", Period.TOTAL, 0, 5, True, True))
    one = await office.plans.subscribe(ACCOUNT, "a", "")
    for scope, plan in ((ACCOUNT, "a"), (PROJECT, "old"), (PROJECT, "none"), ("acc_none", "a")):
        with pytest.raises(MeshError):
            await office.plans.subscribe(scope, plan, "")
    cancelled = await office.plans.cancel(one.id)

    assert cancelled.ended
    assert await office.plans.subscribe(ACCOUNT, "a", "")
    assert () == await office.findings()


async def test_an_invoice_is_never_changed_and_late_entries_are_on_the_next(office: Office) -> None:
    """Each entry is on exactly one, corrections included; numbers have no gaps; asking again gives the same."""
    at(office, 2026, 3, 10)
    await office.money.charge("r", 100, deployment="v/x", model="x")
    at(office, 2026, 4, 2)
    first = await office.bills.issue(ACCOUNT, None)
    await office.money.charge("r", 70, revision=1)
    await office.money.charge("s", 5)
    again = await office.bills.issue(ACCOUNT, None)
    at(office, 2026, 5, 2)
    second = await office.bills.issue(ACCOUNT, None)
    at(office, 2026, 6, 2)
    empty = await office.bills.issue(ACCOUNT, None)

    assert first is not None
    assert second is not None
    assert empty is None
    assert first == again
    assert ["INV-000001", "INV-000002"] == [first.name, second.name]
    assert [100, -25] == [first.statement.spent, second.statement.spent]
    assert first.digest.hex() == orjson.loads(second.document)["previous_digest"]
    assert (-100, -75) == (second.statement.opening, second.statement.closing)
    assert first == await office.bills.invoice("INV-000001")
    assert () == await office.findings()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE invoices SET document = CAST(replace(CAST(document AS TEXT), '100', '999') AS BLOB)",
        "UPDATE invoices SET last_entry = 0",
        "DELETE FROM invoices WHERE number = 1",
    ],
)
async def test_the_audit_finds_invoices_that_were_tampered_with(tmp_path: Path, damage: str) -> None:
    """Its digest, its sums and its place in the chain."""
    async with treasury(tmp_path) as money:
        office = await opened(money)
        at(office, 2026, 3, 10)
        await money.charge("r", 100)
        at(office, 2026, 4, 2)
        await office.bills.issue(ACCOUNT, None)
        await money.charge("s", 5)
        at(office, 2026, 5, 2)
        await office.bills.issue(ACCOUNT, None)
        async with money.database.writing() as connection:
            await connection.execute(text(damage))

        assert await office.findings()


async def test_an_invoice_is_of_a_time_that_is_over(office: Office) -> None:
    """Not of the future, not of what is on another one, not of nobody."""
    at(office, 2026, 3, 10)
    await office.money.charge("r", 100)
    at(office, 2026, 4, 2)
    await office.bills.issue(ACCOUNT, None)
    earlier = round(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1e6)
    for account, ends in ((ACCOUNT, office.micros() + 1), (ACCOUNT, earlier), ("acc_none", earlier)):
        with pytest.raises(MeshError):
            await office.bills.issue(account, ends)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("charge", "correct", "credit", "invoice", "plan")),
        st.integers(0, 10**13),
        st.sampled_from(("v/x", "v/y", "w/x")),
        st.integers(0, 2),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EVENTS)
async def test_statements_and_invoices_sum_to_the_ledger(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, str, int, bool]]
) -> None:
    """To the last nano-dollar, however the entries and the invoices fall: nothing is on two of them, or on none."""
    async with treasury(tmp_path_factory.mktemp("ledger")) as money:
        office = await opened(money)
        at(office, 2026, 1, 5)
        for number, (what, amount, deployment, days, known) in enumerate(events):
            money.clock.advance(days * DAY)
            if what == "charge":
                cost = amount if known else None
                await money.charge(f"r-{number}", cost, deployment=deployment, model="m", estimated=known)
            elif what == "correct" and number:
                charge = Charge(f"r-{number - 1}", 1, amount, PAYER, revision=number)
                await money.ledger.settle([charge])
            elif what == "credit":
                await money.ledger.credit(ACCOUNT, amount if known else -amount, f"pay-{number}")
            elif what == "plan":
                await office.plans.put(Plan(f"p{number}", Period.DAILY, amount, amount // 2, True, False))
                found, _ = await office.plans.subscriptions(ACCOUNT, ALL)
                if all(one.ended for one, _ in found):
                    await office.plans.subscribe(PROJECT, f"p{number}", "")
            else:
                await office.bills.issue(ACCOUNT, office.micros())
            await office.plans.renew()
        money.clock.advance(1)
        await office.bills.issue(ACCOUNT, office.micros())
        invoices, _ = await office.bills.invoices(ACCOUNT, ALL)
        whole, audit = await office.statement(), await money.audit()

        assert () == audit.findings
        assert audit.spent == whole.spent == sum(one.statement.spent for one in invoices)
        assert whole.closing == (invoices[0].statement.closing if invoices else 0)
        for earlier, later in zip(invoices[1:], invoices, strict=False):
            assert earlier.statement.closing == later.statement.opening


async def test_a_statement_groups_by_project_model_and_deployment(office: Office) -> None:
    """Estimates and unknown prices stand apart, and whose time it is decides what is on it."""
    other = Payer(ACCOUNT, "prj_2", "key_2")
    await office.money.charge("r", 10, deployment="v/x", model="x")
    await office.money.charge("s", 20, deployment="v/x", model="x", estimated=True)
    await office.money.charge("t", None, deployment="v/y", model="y", payer=other)
    start = office.micros() + 1
    office.money.clock.advance(1)
    await office.money.charge("u", 40, deployment="v/x", model="x")

    whole = await office.statement()
    later = await office.bills.statement(ACCOUNT, start, None, office.micros())

    assert [("prj_1", "x", "v/x", 3, 70, 20, 0), ("prj_2", "y", "v/y", 1, 0, 0, 1)] == [
        (line.project_id, line.model, line.deployment, line.attempts, line.amount, line.estimated, line.unpriced)
        for line in whole.lines
    ]
    assert (-30, 40, -70) == (later.opening, later.spent, later.closing)
