"""The ledger under everything that can happen to it, at once and in any order: its sums are right all the time."""

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from polyroute.auth.money import multipliers
from polyroute.auth.money.charges import AS_SET, ONCE, Charge, multiplied
from polyroute.auth.money.entries import Payer
from polyroute.auth.money.holds import HOLD_SECONDS, Wanted
from polyroute.auth.money.periods import Period
from polyroute.mesh.errors import MeshError
from tests.unit.auth.money import ACCOUNT, PROJECT, Treasury, treasury

CAP = 1000
KEYS = ("key_1", "key_2")
AMOUNTS = st.integers(0, 300)

T = TypeVar("T")


class LedgerMachine(RuleBasedStateMachine):
    """Calls and allowances of two keys below one project, with crashes of edges and of the ledger itself."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.folder = tempfile.TemporaryDirectory()
        self.money: Treasury
        self.number = 0
        self.held: dict[str, int] = {}  # calls under way, and what was held for each
        self.allowances: dict[str, int] = {}  # what each edge thinks that it has
        self.charged = 0
        self.multiplier = ONCE

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.run(self._open())
        for scope, amount in ((KEYS[0], 600), (PROJECT, CAP), (ACCOUNT, CAP)):
            self.run(self.money.budget(scope, amount))
        self.run(self.money.budget(KEYS[1], 400, period=Period.DAILY))
        for scope in (PROJECT, KEYS[1]):
            self.run(self.money.budget(scope, 10, period=Period.WEEKLY, hard=False))

    async def _open(self) -> None:
        at = self.money.clock.at if hasattr(self, "money") else None
        self.money = await self.stack.enter_async_context(treasury(Path(self.folder.name)))
        self.money.clock.at = at or self.money.clock.at

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        self.folder.cleanup()

    def name(self, kind: str) -> str:
        self.number += 1
        return f"{kind}-{self.number}"

    @rule(wanted=st.lists(st.tuples(st.sampled_from(KEYS), AMOUNTS), min_size=1, max_size=6))
    def calls_at_once(self, wanted: list[tuple[str, int]]) -> None:
        names = [self.name("call") for _ in wanted]

        async def hold(name: str, key: str, amount: int) -> int | None:
            try:
                return await self.money.hold(name, amount, payer=Payer(ACCOUNT, PROJECT, key))
            except MeshError:
                return None

        async def all_at_once() -> list[int | None]:
            return await asyncio.gather(*(hold(name, *want) for name, want in zip(names, wanted, strict=True)))

        for name, amount in zip(names, self.run(all_at_once()), strict=True):
            if amount is not None:
                self.held[name] = amount

    @precondition(lambda self: self.held)
    @rule(data=st.data(), share=st.floats(0, 1), times=st.integers(1, 3))
    def call_ends(self, data: st.DataObject, share: float, times: int) -> None:
        """Told once, or again and again, or twice at the same moment."""
        name = data.draw(st.sampled_from(sorted(self.held)))
        cost = int(self.held.pop(name) * share)
        charge = Charge(name, 1, cost, Payer(ACCOUNT, PROJECT, KEYS[0]), final=True)

        async def settle() -> list[int]:
            return await asyncio.gather(*(self.money.ledger.settle([charge]) for _ in range(times)))

        assert sum(self.run(settle())) == 1
        self.charged += cost

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def call_is_void(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.held)))
        del self.held[name]
        self.run(self.money.ledger.void(name))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), share=st.floats(0, 1))
    def edge_dies_in_mid_call(self, data: st.DataObject, share: float) -> None:
        """What it had written down last is charged, once its time is over."""
        name = data.draw(st.sampled_from(sorted(self.held)))
        cost = int(self.held.pop(name) * share)
        lost_at = round(self.money.clock() * 1e6)
        charge = Charge(name, 1, cost, Payer(ACCOUNT, PROJECT, KEYS[0]), lost_at=lost_at)
        self.run(self.money.ledger.settle([charge]))
        self.run(self.money.ledger.sweep())
        self.charged += cost

    @rule(needed=AMOUNTS)
    def edge_takes_an_allowance(self, needed: int) -> None:
        name = self.name("allowance")
        wanted = Wanted(name, Payer(ACCOUNT, PROJECT), needed, needed, holder="edge")

        async def allot() -> int | None:
            try:
                return await self.money.ledger._group.run(
                    lambda connection: self.money.ledger._reserve(connection, wanted, slices=True)
                )
            except MeshError:
                return None

        if granted := self.run(allot()):
            self.allowances[name] = granted

    @precondition(lambda self: self.allowances)
    @rule(data=st.data(), share=st.floats(0, 1), key=st.sampled_from(KEYS))
    def call_is_paid_from_an_allowance(self, data: st.DataObject, share: float, key: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.allowances)))
        cost = int(self.allowances[name] * share)
        charge = Charge(self.name("call"), 1, cost, Payer(ACCOUNT, PROJECT, key), hold_id=name, final=True)
        self.run(self.money.ledger.settle([charge, charge]))
        self.allowances[name] -= cost
        self.charged += cost

    @precondition(lambda self: self.allowances)
    @rule(data=st.data(), times=st.integers(1, 2))
    def edge_gives_back(self, data: st.DataObject, times: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.allowances)))
        amount = self.allowances.pop(name)
        for _ in range(times):
            self.run(self.money.ledger.give_back([(name, 1, amount)]))

    @rule(change=st.integers(-50, 50), data=st.data())
    def charge_is_corrected(self, change: int, data: st.DataObject) -> None:
        name, revision = self.name("late"), data.draw(st.integers(1, 3))
        payer = Payer(ACCOUNT, PROJECT, KEYS[1])
        self.run(self.money.ledger.settle([Charge(name, 1, 10, payer)]))
        new = max(0, 10 + change)
        self.run(self.money.ledger.settle([Charge(name, 1, new, payer, revision=revision)] * 2))
        self.charged += new

    @rule(cost=AMOUNTS, key=st.sampled_from(KEYS), times=st.integers(1, 3), known=st.booleans())
    def call_that_nothing_was_held_for(self, cost: int, key: str, times: int, *, known: bool) -> None:
        """It is on the ledger once, whatever it cost, and soft budgets count it."""
        charge = Charge(
            self.name("free"), 1, cost if known else None, Payer(ACCOUNT, PROJECT, key), multiplier=AS_SET, final=True
        )
        posted = [self.run(self.money.ledger.settle([charge])) for _ in range(times)]

        assert 1 == sum(posted)
        self.charged += multiplied(cost, self.multiplier) if known else 0

    @rule(millionths=st.integers(0, 3_000_000))
    def margin_changes(self, millionths: int) -> None:
        """For what is charged from now on."""
        self.multiplier = millionths
        self.run(
            self.money.ledger.transact(
                lambda connection, _: multipliers.put(connection, multipliers.EVERYBODY, millionths)
            )
        )

    @rule(cost=AMOUNTS, late=st.booleans(), true=AMOUNTS)
    def edge_dies_and_comes_back(self, cost: int, true: int, *, late: bool) -> None:
        """Its next life ends it: what it had under way is charged at once; what is heard later puts it right."""
        name, payer = self.name("free"), Payer(ACCOUNT, PROJECT, KEYS[1])
        lost_at = round(self.money.clock() * 1e6) + 10**9
        self.run(self.money.ledger.settle([Charge(name, 1, cost, payer, lost_at=lost_at, holder="dead")]))
        ended = [self.run(self.money.ledger.end_holder("dead")) for _ in range(2)]
        if late:
            self.run(self.money.ledger.settle([Charge(name, 1, true, payer)] * 2))

        assert [(1, 0), (0, 0)] == ended
        self.charged += true if late else cost

    @rule()
    def ledger_restarts(self) -> None:
        """Nothing that was answered is lost."""
        self.run(self.stack.aclose())
        self.run(self._open())

    @rule(days=st.integers(0, 2))
    def time_passes(self, days: int) -> None:
        """Holds and allowances that nobody claimed lapse; days begin."""
        self.money.clock.advance(HOLD_SECONDS + days * 86_400)
        self.run(self.money.ledger.sweep())
        self.held.clear()
        self.allowances.clear()

    @invariant()
    def sums_are_right(self) -> None:
        if not hasattr(self, "money"):
            return
        found = self.run(self.money.audit())

        assert () == found.findings
        assert self.charged == found.spent
        assert sum(self.held.values()) + sum(self.allowances.values()) == found.held


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=10, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
