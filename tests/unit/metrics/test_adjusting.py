"""Usage by every dimension is what the ledger says, whatever is corrected, lost, late or told again."""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Coroutine
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.auth.v1.ledger_pb2 import Adjustment, Attribution, Settlement
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, Usage
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.auth import schema
from polyroute.auth.money.charges import Charge, multiplied
from polyroute.auth.money.entries import Book, Kind, Payer
from polyroute.auth.money.outbox import about
from polyroute.mesh.database import locate
from polyroute.metrics.retention import Keep
from polyroute.metrics.rows import row_of
from polyroute.metrics.store import Store
from polyroute.metrics.usage import By, Dimension, Filter
from tests.databases import prepare
from tests.unit.auth.money import Treasury, treasury
from tests.unit.metrics.records import DAY, NOON, attempt

T = TypeVar("T")
COSTS = st.integers(1, 5000)
NAMES = st.sampled_from(("", "a", "b"))


@dataclass
class Call:
    """A call as its edge knows it."""

    number: int
    at: float
    key: str
    model: str
    user: str
    workflow: str
    node: str
    team: str
    multiplier: int
    costs: list[int]
    delivered: bool = False
    dead: bool = False
    """Its edge is gone for good, and its record with it."""
    charged: set[int] = field(default_factory=set)

    @property
    def id(self) -> str:
        """A UUIDv7 of its moment."""
        digits = f"{round(self.at * 1000):012x}7{self.number:03x}8{self.number:015x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    @property
    def payer(self) -> Payer:
        return Payer("acc", f"prj-{self.key}", self.key)

    @property
    def tags(self) -> dict[str, str]:
        return {"team": self.team} if self.team else {}

    def record(self) -> pb.CallRecord:
        amounts = [multiplied(cost, self.multiplier) for cost in self.costs]
        several = len(self.costs) > 1
        record = pb.CallRecord(
            request_id=self.id,
            caller=Caller(account_id="acc", project_id=self.payer.project_id, key_id=self.key),
            operation=OPERATION_CHAT,
            model=self.model,
            deployment=f"d-{self.model}",
            provider="vendor",
            outcome=pb.OUTCOME_FAILED if several else pb.OUTCOME_COMPLETED,
            cost_nanos=sum(self.costs),
            charged_nanos=sum(amounts),
            multiplier_millionths=0 if self.multiplier == 10**6 else self.multiplier,
            attempts=[attempt(at=self.at) for _ in self.costs],
            user=self.user,
            workflow_id=self.workflow,
            node_id=self.node,
            tags=self.tags,
        )
        if several:
            rows = [pb.AttemptCharge(attempt=number, cost_nanos=cost) for number, cost in enumerate(self.costs, 1)]
            record.charges.extend(rows)
        record.start_time.FromNanoseconds(round((self.at + 0.0004) * 1e9))  # an id is made first
        return record

    def charge(self, number: int, cost: int | None = None, **more: Any) -> Charge:
        values: dict[str, Any] = {"rule": "completed/2", "multiplier": self.multiplier} | more
        amount = self.costs[number - 1] if cost is None else cost
        return Charge(self.id, number, amount, self.payer, model=self.model, deployment=f"d-{self.model}", **values)

    def checkpoint(self) -> str:
        mark = Attribution(operation=OPERATION_CHAT, provider="vendor", user=self.user, workflow_id=self.workflow)
        mark.node_id = self.node
        mark.tags.update(self.tags)
        return about(Settlement(attribution=mark, usage=Usage(input_tokens=7)))

    def values(self) -> dict[Dimension, str | int]:
        """What it counts under."""
        return {
            Dimension.DAY: int(self.at // DAY),
            Dimension.HOUR: int(self.at // 3600),
            Dimension.ACCOUNT: "acc",
            Dimension.PROJECT: self.payer.project_id,
            Dimension.KEY: self.key,
            Dimension.MODEL: self.model,
            Dimension.DEPLOYMENT: f"d-{self.model}",
            Dimension.PROVIDER: "vendor",
            Dimension.OPERATION: OPERATION_CHAT,
            Dimension.USER: self.user,
            Dimension.WORKFLOW: self.workflow,
            Dimension.NODE: self.node,
            Dimension.TAG: self.team,
        }


@dataclass
class Books:
    """A ledger, and the metrics that follow it."""

    folder: Path
    money: Treasury
    store: Store
    stack: AsyncExitStack

    @classmethod
    async def open(cls, folder: Path) -> "Books":
        stack = AsyncExitStack()
        money = await stack.enter_async_context(treasury(folder))
        store = await stack.enter_async_context(Store.open(locate("metrics", folder)))
        return cls(folder, money, store, stack)

    async def told(self, after: int) -> list[Adjustment]:
        async with aclosing(self.money.ledger.outbox.watch(after)) as watch:
            await anext(watch)
            following = asyncio.ensure_future(anext(watch))
            done, _ = await asyncio.wait([following], timeout=0.02)
            if done:
                return list(following.result().adjustments)
            following.cancel()
            await asyncio.wait([following])
            return []

    async def follow(self, most: int = 1000) -> None:
        while news := (await self.told(await self.store.place()))[:most]:
            await self.store.adjust(news, news[-1].sequence)
            if most < 1000:
                return

    async def deliver(self, *calls: Call) -> None:
        await self.store.insert([row_of(call.record()) for call in calls])

    async def charged(self) -> dict[str, tuple[int, int]]:
        """What the ledger says of each call: what vendors ask, and what is charged."""
        found: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for row in await self.money.rows(schema.ledger):
            if row.kind in (Kind.SETTLE, Kind.CORRECT):
                sign = (row.credit == Book.SPENT) - (row.debit == Book.SPENT)
                cost, amount = found[row.request_id]
                found[row.request_id] = cost + (row.cost or 0), amount + sign * (row.amount or 0)
        return found

    async def by(self, *dimensions: Dimension, wanted: Filter | None = None) -> dict[Any, tuple[int, int, int]]:
        by = [By(one, "team" if one is Dimension.TAG else "") for one in dimensions]
        rows = (await self.store.usage(wanted or Filter(), by)).rows
        return {row.values: (row.calls, row.cost_nanos, row.charged_nanos) for row in rows}


async def check(books: Books, calls: list[Call]) -> None:
    """Every report is what the ledger says of its calls."""
    ledger = await books.charged()
    for dimension in Dimension:
        expected: dict[Any, tuple[int, int, int]] = {}
        for call in calls:
            place = (call.values()[dimension],)
            before = expected.get(place, (0, 0, 0))
            expected[place] = (before[0] + 1, before[1] + ledger[call.id][0], before[2] + ledger[call.id][1])
        found = await books.by(dimension)

        assert expected == found, dimension
    records, _ = await books.store.calls(Filter(), limit=1000)

    assert {call.id: ledger[call.id][1] for call in calls} == {one.request_id: one.charged_nanos for one in records}
    assert {call.id for call in calls if call.dead} == {
        one.request_id for one in records if one.outcome == pb.OUTCOME_INTERRUPTED
    }
    middle = int((NOON + 1234) * 1e6)
    parts = [await books.by(wanted=wanted) for wanted in (Filter(end_us=middle), Filter(start_us=middle))]

    assert sum(amount for _, amount in ledger.values()) == sum(part[()][2] for part in parts)


class AdjustingMachine(RuleBasedStateMachine):
    """Calls that end well, twice, late or never, and a ledger that changes its mind."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.books: Books
        self.calls: list[Call] = []
        self.revision = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.books = self.run(Books.open(prepare(Path(self.folder.name))))

    def teardown(self) -> None:
        if hasattr(self, "books"):
            self.all_is_told()
            self.run(self.books.stack.aclose())
        self.loop.close()
        self.folder.cleanup()

    @rule(
        names=st.tuples(st.sampled_from("kl"), st.sampled_from("mn"), NAMES, NAMES, NAMES, NAMES),
        multiplier=st.sampled_from((10**6, 1_500_000, 333_333)),
        costs=st.lists(COSTS, min_size=1, max_size=3),
        days=st.sampled_from((0, 0.01, 1, 40)),
    )
    def call(self, names: tuple[str, ...], multiplier: int, costs: list[int], days: float) -> None:
        key, model, user, workflow, node, team = names
        at = NOON - days * DAY
        self.calls.append(Call(len(self.calls) + 1, at, key, model, user, workflow, node, team, multiplier, costs))

    @precondition(lambda self: self.calls)
    @rule(data=st.data())
    def charges_arrive(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(self.calls))
        number = data.draw(st.integers(1, len(call.costs)))
        if not call.dead:
            self.run(self.books.money.ledger.settle([call.charge(number)] * 2))
            call.charged.add(number)

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), again=st.booleans())
    def record_arrives(self, data: st.DataObject, again: bool) -> None:
        call = data.draw(st.sampled_from(self.calls))
        if not call.dead:
            self.run(self.books.deliver(*[call] * (1 + again)))
            call.delivered = True

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), cost=COSTS)
    def correction_is_told_before_the_record(self, data: st.DataObject, cost: int) -> None:
        call = data.draw(st.sampled_from(self.calls))
        if not call.dead:
            self.revision += 1
            number = data.draw(st.integers(1, len(call.costs)))
            self.run(self.books.money.ledger.settle([call.charge(number)]))
            self.run(self.books.money.ledger.settle([call.charge(number, cost, revision=self.revision)]))
            call.charged.add(number)
            self.run(self.books.follow())

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), guess=COSTS, dead=st.booleans())
    def edge_dies(self, data: st.DataObject, guess: int, dead: bool) -> None:
        call = data.draw(st.sampled_from(self.calls))
        open_ones = [number for number in range(1, len(call.costs) + 1) if number not in call.charged]
        if call.dead or not open_ones:
            return
        number = data.draw(st.sampled_from(open_ones))
        lost_at = round(self.books.money.clock() * 1e6)
        said = call.charge(number, guess, lost_at=lost_at, about=call.checkpoint())
        self.run(self.books.money.ledger.settle([said]))
        self.run(self.books.money.ledger.sweep())
        call.dead = dead and not call.delivered

    @precondition(lambda self: any(call.charged for call in self.calls))
    @rule(data=st.data(), cost=st.integers(0, 5000))
    def somebody_corrects(self, data: st.DataObject, cost: int) -> None:
        call = data.draw(st.sampled_from([call for call in self.calls if call.charged]))
        number = data.draw(st.sampled_from(sorted(call.charged)))
        self.revision += 1
        charge = Charge(call.id, number, cost, revision=self.revision, rule="correction", multiplier=0)
        self.run(self.books.money.ledger.settle([charge]))

    @rule(most=st.integers(1, 3))
    def some_is_told(self, most: int) -> None:
        self.run(self.books.follow(most))

    @rule()
    def all_is_told_again(self) -> None:
        """As after metrics was restored from yesterday's copy of auth, or had no place."""
        news = self.run(self.books.told(0))
        if news:
            self.run(self.books.store.adjust(news, news[-1].sequence, reset=True))
            self.run(self.books.store.adjust(news, news[-1].sequence))

    @rule()
    def both_begin_anew(self) -> None:
        self.run(self.books.stack.aclose())
        self.books = self.run(Books.open(self.books.folder))

    @precondition(lambda self: len(self.calls) > 4)
    @rule()
    def all_is_told(self) -> None:
        for call in self.calls:
            if not call.dead:
                numbers = range(1, len(call.costs) + 1)
                self.run(self.books.money.ledger.settle([call.charge(number) for number in numbers]))
                self.run(self.books.deliver(call))
                call.charged.update(numbers)
                call.delivered = True
        self.run(self.books.follow())
        self.run(check(self.books, self.calls))


AdjustingMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestAdjusting = AdjustingMachine.TestCase


async def test_dropped_calls_are_left_alone(tmp_path: Path) -> None:
    """What sums they are in, nobody knows any more: a correction of one makes no call of its own."""
    call = Call(1, NOON - 100 * DAY, "k", "m", "", "", "", "", 10**6, [50])
    books = await Books.open(prepare(tmp_path))
    async with books.stack:
        await books.money.ledger.settle([call.charge(1)])
        await books.deliver(call)
        await books.store.expire(Keep(calls=1, hourly=0, daily=0))
        await books.money.ledger.settle([Charge(call.id, 1, 90, revision=1)])
        await books.follow()
        found = await books.by(Dimension.MODEL)

    assert {("m",): (1, 50, 50)} == found
