"""What reports of usage have to follow: written with the entries, told in order, from any place on."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.auth.v1.ledger_pb2 import Adjustment, Attribution, Settlement
from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.auth.migrations.history import HISTORY
from polyroute.auth.money.charges import Charge
from polyroute.auth.money.outbox import about
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from tests.unit.auth.money import PAYER, Treasury, treasury

SAID = Settlement(usage=Usage(input_tokens=3), attribution=Attribution(user="ann", workflow_id="w", tags={"team": "a"}))


@pytest.fixture
async def money(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Treasury]:
    """A ledger."""
    async with treasury(tmp_path, database) as found:
        yield found


async def after(money: Treasury, sequence: int = 0) -> list[Adjustment]:
    """What there is after a place, without waiting for more."""
    async with aclosing(money.ledger.outbox.watch(sequence)) as watch:
        await anext(watch)
        try:
            async with asyncio.timeout(0.3):
                return list((await anext(watch)).adjustments)
        except TimeoutError:
            return []


def brief(adjustments: list[Adjustment]) -> list[tuple[Any, ...]]:
    return [(one.request_id, one.attempt, one.charged_nanos, one.cost_nanos, one.rule) for one in adjustments]


async def lose(money: Treasury, call: str, cost: int, attempt: int = 1) -> None:
    """An attempt whose edge is gone."""
    lost_at = round(money.clock() * 1e6)
    charge = Charge(call, attempt, cost, PAYER, lost_at=lost_at, about=about(SAID), model="m", deployment="d")
    await money.ledger.settle([charge])
    await money.ledger.sweep()


async def test_a_calls_own_charge_is_no_adjustment(money: Treasury) -> None:
    """Its record says it, and nobody has to follow."""
    await money.charge("r", 30)

    assert [] == await after(money)


async def test_a_correction_is_what_an_attempt_is_charged_in_all(money: Treasury) -> None:
    """In place of the ones before."""
    await money.charge("r", 30, multiplier=2_000_000)
    for revision, cost in ((1, 50), (2, 10)):
        await money.charge("r", cost, revision=revision, rule="correction", multiplier=0)
    found = await after(money)

    assert [("r", 1, 20, 10, "correction")] == brief(found)
    assert (2, 2) == (found[0].sequence, found[0].revision)
    assert PAYER == (found[0].caller.account_id, found[0].caller.project_id, found[0].caller.key_id)


async def test_of_a_lost_call_every_attempt_is_told(money: Treasury) -> None:
    """Those before the lost one as well, and those that arrive later: there is no record that would say it."""
    await money.charge("r", 7)
    await lose(money, "r", 5, attempt=2)
    await money.charge("r", 2, attempt=3)
    found = await after(money)

    expected = [("r", 1, 7, 7, ""), ("r", 2, 5, 5, "interrupted/1"), ("r", 3, 2, 2, "")]
    assert expected == brief(found)
    assert (3, "ann", {"team": "a"}) == (
        found[1].usage.input_tokens,
        found[1].attribution.user,
        dict(found[1].attribution.tags),
    )


async def test_what_a_checkpoint_said_outlives_the_true_figure(money: Treasury) -> None:
    """The later adjustment stands in place of the guess, and keeps its attribution."""
    await lose(money, "r", 5)
    await money.charge("r", 9, rule="completed/2")
    found = await after(money, sequence=1)

    assert [("r", 1, 9, 9, "completed/2")] == brief(found)
    assert "w" == found[0].attribution.workflow_id


async def test_followers_hear_of_it_at_once(money: Treasury) -> None:
    """And one that has a place that never was is told to start afresh."""
    async with aclosing(money.ledger.outbox.watch(7)) as watch:
        first = await anext(watch)
        news = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.05)
        await lose(money, "r", 5)
        async with asyncio.timeout(0.5):
            told = await news

    assert (True, 0) == (first.reset, first.sequence)
    assert [("r", 1, 5, 5, "interrupted/1")] == brief(list(told.adjustments))


async def test_what_was_posted_before_there_was_an_outbox(tmp_path: Path, database: DatabaseConfig) -> None:
    """Is in it after the migration."""
    async with treasury(tmp_path, database) as money:
        await money.charge("plain", 1)
        await money.charge("r", 30)
        await money.charge("r", 50, revision=1)
        await lose(money, "s", 5)
        before = brief(await after(money))
    location = locate("auth", tmp_path, shared=database)
    await HISTORY.move(location, "0003")
    async with treasury(tmp_path, database) as money:
        again = brief(await after(money))

    assert [("r", 1, 50, 50, ""), ("s", 1, 5, 5, "interrupted/1")] == before == again


async def test_what_was_known_in_the_beginning_gives_way(money: Treasury) -> None:
    """To what a checkpoint said later, whichever of them arrives first."""
    lost_at = round(money.clock() * 1e6)
    for call, openings in (("r", (True, False)), ("s", (False, True))):
        for opening in openings:
            charge = Charge(call, 1, 1 if opening else 9, PAYER, lost_at=lost_at, opening=opening)
            await money.ledger.settle([charge])
    await money.ledger.settle(
        [Charge("t", 1, 9, PAYER, lost_at=lost_at), Charge("t", 1, 1, PAYER, lost_at=lost_at, opening=True)]
    )
    await money.ledger.sweep()
    found = await after(money)

    assert [("r", 9), ("s", 9), ("t", 9)] == sorted((one.request_id, one.charged_nanos) for one in found)


async def test_what_another_auth_role_has_posted_is_told(tmp_path: Path, database: DatabaseConfig) -> None:
    """A little later, and nothing of it is left out."""
    async with treasury(tmp_path, database) as here, treasury(tmp_path, database) as there:
        await asyncio.gather(
            *(lose(money, f"{name}{number}", 5) for number in range(9) for name, money in (("a", here), ("b", there)))
        )
        found: list[Adjustment] = []
        async with aclosing(here.ledger.outbox.watch(0)) as watch, asyncio.timeout(5):
            while len(found) < 18:
                found += (await anext(watch)).adjustments
            await lose(there, "last", 5)
            last = await anext(watch)

    assert 18 == len({one.request_id for one in found})
    assert sorted(one.sequence for one in found) == [one.sequence for one in found]
    assert ["last"] == [one.request_id for one in last.adjustments]
