"""Allowances of processes that are gone for good: when their money is free again, and that it is never spent twice."""

import resource
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.auth.v1.ledger_pb2 import AllotRequest
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.money.holds import ALLOWANCE_SECONDS, ARRIVAL_SECONDS, Wanted
from polyroute.auth.money.ledger import DEAD_SECONDS, Ledger
from polyroute.auth.money.service import LedgerService
from polyroute.mesh.errors import MeshError
from tests.unit.auth.installation import Clock
from tests.unit.auth.money import ACCOUNT, KEY, PAYER, PROJECT, Treasury, treasury


@pytest.fixture
async def bank(tmp_path: Path) -> AsyncGenerator[Treasury]:
    """A ledger on SQLite."""
    async with treasury(tmp_path) as made:
        await made.budget(ACCOUNT, 1000)
        yield made


async def test_a_ledger_on_a_full_disk_takes_charges_again_when_there_is_room(bank: Treasury) -> None:
    """Whoever sends them keeps them until then; one that arrived is not posted twice."""
    await bank.charge("before", 5)
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
    try:
        with pytest.raises(MeshError) as refused:
            await bank.charge("during", 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    posted = [await bank.charge(name, 5) for name in ("before", "during", "after")]

    assert (errors_pb2.REASON_SERVICE_UNAVAILABLE, [0, 1, 1]) == (refused.value.reason, posted)
    assert () == (await bank.audit()).findings


class Machine:
    """Which processes are gone, as auth sees it, and how late it is."""

    def __init__(self, bank: Treasury) -> None:
        self.gone: set[str] = set()
        self.clock = Clock()
        self.ledger = Ledger(
            bank.database, bank.recalled.append, now=bank.clock, ended=self.gone.__contains__, clock=self.clock
        )

    async def allot(self, name: str, amount: int, holder: str) -> int:
        """An allowance."""
        return await self.ledger.allot(Wanted(name, PAYER, amount, amount, holder=holder), KEY)


async def test_what_a_dead_process_holds_is_free_after_half_a_minute(bank: Treasury) -> None:
    """Not at once: whoever comes after it says first what it did spend. What others hold stays held."""
    machine = Machine(bank)
    await machine.allot("a", 600, "dead")
    await machine.allot("b", 300, "alive")
    machine.gone.add("dead")
    soon = await machine.ledger.bury()
    machine.clock.advance(DEAD_SECONDS - 1)
    with pytest.raises(MeshError):
        await machine.allot("c", 700, "alive")
    early = await machine.ledger.bury()
    machine.clock.advance(1)
    late = await machine.ledger.bury()
    again = await machine.ledger.bury()
    granted = await machine.allot("d", 700, "alive")
    await machine.ledger.close()

    assert (0, 0, 1, 0, 700) == (soon, early, late, again, granted)
    assert {ACCOUNT: (0, 1000)} == await bank.counters()
    assert () == (await bank.audit()).findings


async def test_who_is_not_known_to_be_gone_keeps_what_it_holds(bank: Treasury) -> None:
    """However long nothing is heard of it: it may be cut off and answer calls."""
    machine = Machine(bank)
    await machine.allot("a", 600, "far")
    for _ in range(3):
        machine.clock.advance(10 * DEAD_SECONDS)
        await machine.ledger.bury()
    await machine.ledger.close()

    assert {ACCOUNT: (0, 600)} == await bank.counters()


async def test_an_allowance_lapses_when_no_call_of_it_can_be_under_way(bank: Treasury) -> None:
    """By how long calls last at the edge that has it; a second earlier it is held."""
    caller = Caller(account_id=ACCOUNT, project_id=PROJECT, key_id=KEY)
    request = AllotRequest(allowance_id="a", caller=caller, purse=KEY, needed_nanos=600, least_nanos=600, holder="far")
    request.longest_call.FromSeconds(30)
    context = None
    await LedgerService(bank.ledger).Allot(request, context)  # type: ignore[arg-type] # it is not asked
    bank.clock.advance(ALLOWANCE_SECONDS + 30 + ARRIVAL_SECONDS - 1)
    await bank.ledger.sweep()
    held = await bank.counters()
    bank.clock.advance(1)
    await bank.ledger.sweep()

    assert ({ACCOUNT: (0, 600)}, {ACCOUNT: (0, 0)}) == (held, await bank.counters())
    assert () == (await bank.audit()).findings
