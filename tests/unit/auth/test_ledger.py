"""Holds, charges and what is left of them."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.money.charges import Charge
from polyroute.auth.money.entries import Payer
from polyroute.auth.money.holds import ALLOWANCE_SECONDS, HOLD_SECONDS, SLICE_LEAST, Wanted
from polyroute.auth.money.periods import Period
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.errors import MeshError
from tests.unit.auth.money import ACCOUNT, KEY, PAYER, PROJECT, Treasury, treasury


@pytest.fixture
async def money(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Treasury]:
    """A fresh ledger, on each kind of database."""
    async with treasury(tmp_path, database) as fresh:
        yield fresh


async def refused(money: Treasury, call: str, needed: int) -> MeshError:
    """The refusal of a hold."""
    with pytest.raises(MeshError) as caught:
        await money.hold(call, needed)
    return caught.value


async def test_call_that_costs_less_than_was_held(money: Treasury) -> None:
    """Hold, charge, and the rest goes back; nothing is left over."""
    await money.budget(KEY, 100)
    held = await money.hold("r", 80)
    during = await money.counters()
    await money.charge("r", 30)

    assert (80, {KEY: (0, 80)}) == (held, during)
    assert {KEY: (30, 0)} == await money.counters()
    assert [("hold", 2, 3, 80), ("settle", 3, 4, 30), ("void", 3, 2, 50)] == await money.entries()
    assert ((), 0, 30) == ((found := await money.audit()).findings, found.held, found.spent)


async def test_every_budget_above_the_key_holds_and_pays(money: Treasury) -> None:
    """The tightest of them decides, and none of them moves when it refuses."""
    for scope, amount in ((KEY, 100), (PROJECT, 60), (ACCOUNT, 500)):
        await money.budget(scope, amount)
    error = await refused(money, "r", 61)
    untouched = await money.counters()
    await money.hold("s", 60)
    await money.charge("s", 10)

    assert (errors_pb2.REASON_BUDGET_EXHAUSTED, PROJECT) == (error.reason, error.metadata["subject"])
    assert {KEY: (0, 0), PROJECT: (0, 0), ACCOUNT: (0, 0)} == untouched
    assert {KEY: (10, 0), PROJECT: (10, 0), ACCOUNT: (10, 0)} == await money.counters()


async def test_soft_budget_counts_and_refuses_nothing(money: Treasury) -> None:
    """An operator is told, a caller is not stopped."""
    await money.budget(KEY, 5, hard=False)
    await money.hold("r", 50)
    await money.charge("r", 50)

    assert {KEY: (50, 0)} == await money.counters()


async def test_caller_without_a_bound_gets_what_is_affordable(money: Treasury) -> None:
    """Between what was asked for and the least that makes sense."""
    await money.budget(KEY, 100)

    assert 100 == await money.hold("r", 5000, least=20)
    assert errors_pb2.REASON_BUDGET_EXHAUSTED == (await refused(money, "s", 1)).reason


async def test_repeating_anything_changes_nothing(money: Treasury) -> None:
    """The same hold, charge, void and payment again."""
    await money.budget(KEY, 100)
    for _ in range(2):
        await money.ledger.credit(ACCOUNT, 7, "invoice-1")
        assert 80 == await money.hold("r", 80)
    posted = [await money.charge("r", 30) for _ in range(2)]
    await money.ledger.void("r")
    again = await money.hold("r", 80)

    assert ([1, 0], 80) == (posted, again)
    assert {KEY: (30, 0)} == await money.counters()
    assert ["credit", "hold", "settle", "void"] == [kind for kind, *_ in await money.entries()]


async def test_call_that_was_never_sent_costs_nothing(money: Treasury) -> None:
    """Its hold is void."""
    await money.budget(KEY, 100)
    await money.hold("r", 80)
    await money.ledger.void("r")

    assert {KEY: (0, 0)} == await money.counters()


async def test_cost_beyond_the_hold_is_charged_all_the_same(money: Treasury) -> None:
    """The vendor's figure is the truth; the budget ends below nothing and the next call is refused."""
    await money.budget(KEY, 100)
    await money.hold("r", 80)
    await money.charge("r", 130)

    assert [("hold", 2, 3, 80), ("settle", 3, 4, 80), ("settle", 2, 4, 50)] == await money.entries()
    assert {KEY: (130, 0)} == await money.counters()
    assert errors_pb2.REASON_BUDGET_EXHAUSTED == (await refused(money, "s", 1)).reason
    assert () == (await money.audit()).findings


async def test_each_attempt_is_a_charge_of_its_own(money: Treasury) -> None:
    """What a vendor charges for a failed attempt comes off the same hold."""
    await money.budget(KEY, 100)
    await money.hold("r", 80)
    await money.charge("r", 20, attempt=1, final=False)
    during = await money.counters()
    await money.charge("r", 30, attempt=2)

    assert ({KEY: (20, 60)}, {KEY: (50, 0)}) == (during, await money.counters())


async def test_unknown_price_is_an_entry_without_an_amount(money: Treasury) -> None:
    """Counted, and never taken for free."""
    await money.charge("r", None)

    assert [("settle", 2, 4, None)] == await money.entries()


async def test_calls_without_a_budget_are_charged_too(money: Treasury) -> None:
    """No hold, one entry; a budget that is set later knows what was spent since."""
    await money.charge("r", 30)

    assert [("settle", 2, 4, 30)] == await money.entries()
    assert 30 == (await money.audit()).spent


async def test_charge_of_nobody_is_refused_whole(money: Treasury) -> None:
    """Nothing of its batch is posted."""
    with pytest.raises(MeshError) as caught:
        await money.ledger.settle([Charge("r", 1, 5, PAYER), Charge("s", 1, 5)])

    assert errors_pb2.REASON_INVALID_REQUEST == caught.value.reason
    assert [] == await money.entries()


async def test_correction_posts_the_difference(money: Treasury) -> None:
    """Upwards, downwards, and each number once."""
    await money.budget(KEY, 100)
    await money.charge("r", 30, estimated=True)
    await money.charge("r", 42, revision=1)
    await money.charge("r", 42, revision=1)
    await money.charge("r", 40, revision=2)
    await money.charge("r", 99, revision=1)

    assert [("settle", 2, 4, 30), ("correct", 2, 4, 12), ("correct", 4, 2, 2)] == await money.entries()
    assert {KEY: (40, 0)} == await money.counters()
    assert () == (await money.audit()).findings


async def test_lost_call_is_charged_by_its_last_checkpoint(money: Treasury) -> None:
    """Once its time is over; what is heard of it later is the truth."""
    await money.budget(KEY, 1000)
    await money.hold("r", 500)
    lost_at = round((money.clock() + 60) * 1e6)
    for cost in (10, 25):
        await money.charge("r", cost, lost_at=lost_at, final=False)
    before = await money.ledger.sweep()
    money.clock.advance(60)
    swept = [await money.ledger.sweep() for _ in range(2)]
    [guess] = [row for row in await money.rows(schema.ledger) if row.kind == 2]
    money.clock.advance(HOLD_SECONDS)
    await money.ledger.sweep()
    counted = await money.counters()
    await money.charge("r", 33)

    assert (0, [1, 0]) == (before, swept)
    assert (25, True, "interrupted/1") == (guess.amount, guess.estimated, guess.rule)
    assert ({KEY: (25, 0)}, {KEY: (33, 0)}) == (counted, await money.counters())
    assert () == (await money.audit()).findings


async def test_checkpoint_of_a_settled_attempt_is_nothing(money: Treasury) -> None:
    """In whichever order they come."""
    lost_at = round(money.clock() * 1e6)
    await money.ledger.settle([Charge("r", 1, 9, PAYER, lost_at=lost_at), Charge("r", 1, 30, PAYER)])
    await money.charge("r", 9, lost_at=lost_at, final=False)

    assert 0 == await money.ledger.sweep()
    assert [("settle", 2, 4, 30)] == await money.entries()


async def test_hold_that_nobody_claims_lapses(money: Treasury) -> None:
    """Whatever became of the call."""
    await money.budget(KEY, 100)
    await money.hold("r", 80)
    money.clock.advance(HOLD_SECONDS - 1)
    early = await money.ledger.sweep()
    money.clock.advance(1)

    assert (0, 1) == (early, await money.ledger.sweep())
    assert {KEY: (0, 0)} == await money.counters()
    assert ("expire", 3, 2, 80) == (await money.entries())[-1]


@pytest.mark.parametrize("wrong", [-86_400, -3600, 86_400, 365 * 86_400])
async def test_an_edge_whose_clock_is_wrong_ends_nothing_and_keeps_nothing_for_long(
    money: Treasury, wrong: int
) -> None:
    """What it says of moments is not believed: its calls run on, and what they leave behind lapses as usual."""
    moment = round((money.clock() + 600 + wrong) * 1e6)
    await money.budget(KEY, 1000)
    await money.ledger.hold(Wanted("r", PAYER, 500, 500, expires=moment))
    await money.charge("r", 10, lost_at=moment, final=False)
    money.clock.advance(HOLD_SECONDS - 1)
    early = await money.ledger.sweep()
    money.clock.advance(1)

    assert (0, 2) == (early, await money.ledger.sweep())
    assert {KEY: (10, 0)} == await money.counters()


async def test_daily_budget_begins_anew_at_midnight_where_it_lives(money: Treasury) -> None:
    """What was held goes on into the next day, what was spent does not."""
    money.clock.at = datetime(2026, 3, 1, 15, 59, tzinfo=UTC).timestamp()
    await money.budget(KEY, 100, period=Period.DAILY, time_zone="Asia/Shanghai")
    await money.charge("r", 90)
    error = await refused(money, "s", 50)
    money.clock.advance(60)
    await money.hold("t", 50)
    counted = await money.counters()
    await money.charge("t", 20)

    assert "2026-03-01T16:00:00+00:00" == error.metadata["reset"]
    assert ({KEY: (0, 50)}, {KEY: (20, 0)}) == (counted, await money.counters())
    assert () == (await money.audit()).findings


async def test_clock_that_is_put_back_moves_nothing_to_another_day(money: Treasury) -> None:
    """Entries are posted no earlier than the one before."""
    money.clock.at = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
    await money.budget(KEY, 100, period=Period.DAILY)
    await money.charge("r", 30)
    money.clock.advance(-3600)
    await money.charge("s", 30)

    assert () == (await money.audit()).findings


async def allot(money: Treasury, name: str, needed: int, least: int | None = None, payer: Payer = PAYER) -> int:
    """An allowance of an edge."""
    wanted = Wanted(name, payer, needed, needed if least is None else least, holder="edge")
    return await money.ledger.allot(wanted, payer.path[0])


async def test_allowance_is_a_slice_while_there_is_plenty(money: Treasury) -> None:
    """A hundredth of the budget, at least five cents, at most an eighth of what is left, never less than needed."""
    await money.budget(KEY, 100 * SLICE_LEAST * 2)
    plenty = [await allot(money, "a", 10), await allot(money, "b", 10 * SLICE_LEAST)]
    await money.charge("r", 196 * SLICE_LEAST - sum(plenty))

    assert [2 * SLICE_LEAST, 10 * SLICE_LEAST] == plenty
    assert SLICE_LEAST // 2 == await allot(money, "c", 10)


async def test_calls_are_charged_to_their_allowance_and_the_rest_goes_back(money: Treasury) -> None:
    """Each return once, however often it is said."""
    await money.budget(PROJECT, 10 * SLICE_LEAST)
    granted = await allot(money, "a", 100, payer=Payer(ACCOUNT, PROJECT))
    await money.charge("r", 40, hold_id="a")
    for _ in range(2):
        await money.ledger.give_back([("a", 1, 100), ("a", 2, granted)])

    assert {PROJECT: (40, 0)} == await money.counters()
    assert [] == await money.rows(schema.holds)
    assert () == (await money.audit()).findings


async def test_other_edges_give_back_before_a_call_is_refused(money: Treasury) -> None:
    """Money that is only held is asked for."""
    await money.budget(KEY, 8 * SLICE_LEAST)
    spare = await allot(money, "a", 10)
    waiting = asyncio.create_task(allot(money, "b", 8 * SLICE_LEAST - 10))
    while not money.recalled:
        await asyncio.sleep(0)
    await money.ledger.give_back([("a", 1, spare - 10)])

    assert 8 * SLICE_LEAST - 10 == await waiting
    assert [KEY] == money.recalled


async def test_spent_money_is_not_waited_for(money: Treasury) -> None:
    """A refusal comes at once when nobody could give anything back."""
    await money.budget(KEY, 100)
    await money.charge("r", 100)
    with pytest.raises(MeshError):
        await allot(money, "a", 1)

    assert [] == money.recalled


async def test_two_hundred_calls_on_one_budget_spend_it_to_the_last(money: Treasury) -> None:
    """Never more, and none is refused while the exact cost is there."""
    await money.budget(ACCOUNT, 200 * 5)

    async def call(number: int) -> bool:
        try:
            await money.hold(f"r{number}", 5, payer=Payer(ACCOUNT, PROJECT, f"key_{number}"))
        except MeshError:
            return False
        await money.charge(f"r{number}", 5, payer=Payer(ACCOUNT, PROJECT, f"key_{number}"))
        return True

    outcomes = await asyncio.gather(*(call(number) for number in range(210)))

    assert 200 == sum(outcomes)
    assert {ACCOUNT: (1000, 0)} == await money.counters()
    assert () == (await money.audit()).findings


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE ledger SET amount = amount - 1 WHERE kind = 2", "does not fit"),
        ("DELETE FROM ledger WHERE kind = 2", "does not fit"),
        ("DELETE FROM seals WHERE id = 2", "no seal"),
        ("UPDATE budgets SET spent = spent + 1", "counts 31 spent, the ledger says 30"),
        ("UPDATE budgets SET held = 5", "counts 5 held, the ledger says 0"),
        ("UPDATE ledger SET kind = 2, credit = 9 WHERE kind = 2", "does not fit"),
        ("INSERT INTO holds VALUES ('x', 'acc_1', '', '', 9, '', 0)", "9 in open holds"),
    ],
)
async def test_audit_finds(money: Treasury, damage: str, said: str) -> None:
    """Whatever somebody, or a bug, did to the tables."""
    await money.budget(KEY, 100)
    await money.hold("r", 30)
    await money.charge("r", 30)
    async with money.database.writing() as connection:
        await connection.execute(text(damage))

    assert any(said in finding for finding in (await money.audit()).findings)


async def test_ledger_goes_on_where_it_was(tmp_path: Path) -> None:
    """In the next life of the process, with its holds and seals."""
    async with treasury(tmp_path) as before:
        await before.budget(KEY, 100)
        await before.hold("r", 80)
    async with treasury(tmp_path) as after:
        await after.charge("r", 30)

        assert {KEY: (30, 0)} == await after.counters()
        assert () == (await after.audit()).findings


def test_allowances_outlive_the_calls_that_are_held_from_them() -> None:
    """An edge stops using one long before it lapses."""
    assert ALLOWANCE_SECONDS + 600 + 60 < HOLD_SECONDS
