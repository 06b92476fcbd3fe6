"""What calls may take: shares of limits and money, before an auth that does what a test tells it to."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from polyroute.api.auth.v1 import auth_pb2, auth_pb2_grpc, ledger_pb2, ledger_pb2_grpc
from polyroute.api.auth.v1.auth_pb2 import Caller, LimitShare, Verdict
from polyroute.api.auth.v1.ledger_pb2 import Settlement
from polyroute.api.auth.v1.limits_pb2 import (
    LIMIT_KIND_CONCURRENCY,
    LIMIT_KIND_REQUESTS,
    LIMIT_KIND_TOKENS,
    Limit,
    LimitKind,
)
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import (
    OUTCOME_CANCELLED,
    OUTCOME_COMPLETED,
    AttemptCharge,
    AttemptRecord,
    CallRecord,
)
from polyroute.api.router.v1.router_pb2 import Attempt, Price
from polyroute.edge.admission import Admission, figures_of_refusal
from polyroute.edge.allowance import Allowances
from polyroute.edge.bill import bill_of
from polyroute.edge.charging import ChargeRow
from polyroute.edge.purse import IDLE_SECONDS
from polyroute.edge.settler import LOST_SECONDS, Settler, latest
from polyroute.edge.share import AWAY_SECONDS
from polyroute.edge.sizes import COUNTED_ANSWER, tokens_of
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import CALLER, Clock, Context, MemorySpool, charges_of, local

AWAY = MeshError(pb.REASON_SERVICE_UNAVAILABLE, "away")
CHEAP = Attempt(deployment="a/x", price=Price(input=1_000_000, output=2_000_000, version="v1"))
DEAR = Attempt(deployment="b/y", price=Price(input=3_000_000, output=5_000_000, cache_write=4_000_000, version="v1"))
UNPRICED = Attempt(deployment="c/z", model="m")


def facts(**fields: Any) -> RequestFacts:
    """Of a conversation of ten tokens."""
    values: dict[str, Any] = {"operation": OPERATION_CHAT, "model": "m", "input_tokens_estimate": 10} | fields
    return RequestFacts(**values)


class FakeLimits(auth_pb2_grpc.AuthServiceServicer):
    """Gives each claim what it wants, up to what there is."""

    def __init__(self) -> None:
        self.there = 0
        self.shut: set[str] = set()  # models that nothing is given for
        self.failure: Exception | None = None
        self.claims: list[auth_pb2.LimitClaim] = []
        self.gate: asyncio.Event | None = None

    async def LeaseLimits(self, request: auth_pb2.LeaseLimitsRequest, context: Context) -> auth_pb2.LeaseLimitsResponse:
        self.claims += request.claims
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return auth_pb2.LeaseLimitsResponse(shares=[self._share(claim) for claim in request.claims])

    def _share(self, claim: auth_pb2.LimitClaim) -> LimitShare:
        self.there += claim.returned
        granted = 0 if claim.model in self.shut else min(self.there, claim.wanted)
        if claim.kind != LIMIT_KIND_CONCURRENCY and claim.needed > self.there:
            granted = 0
        if claim.kind != LIMIT_KIND_CONCURRENCY:
            self.there -= granted
        share = LimitShare(granted=granted, remaining=self.there, holders=2)
        share.valid_for.FromSeconds(10)
        if granted < claim.needed:
            share.retry_after.FromSeconds(3)
        return share


class FakeLedger(ledger_pb2_grpc.LedgerServiceServicer):
    """Has money, and gives a slice of it or what is needed."""

    def __init__(self) -> None:
        self.money = 0
        self.slice = 0
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.asked: list[ledger_pb2.AllotRequest] = []
        self.settled: list[Settlement] = []
        self.returned: dict[tuple[str, int], int] = {}

    async def Allot(self, request: ledger_pb2.AllotRequest, context: Context) -> ledger_pb2.AllotResponse:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        granted = min(self.money, max(self.slice, request.needed_nanos))
        if granted < request.least_nanos or self.money < request.needed_nanos == 0:
            raise MeshError(pb.REASON_BUDGET_EXHAUSTED, "spent", metadata={"remaining": str(self.money)})
        self.money -= granted
        response = ledger_pb2.AllotResponse(granted_nanos=granted)
        response.usable_for.FromSeconds(60)
        return response

    async def GiveBack(self, request: ledger_pb2.GiveBackRequest, context: Context) -> ledger_pb2.GiveBackResponse:
        if self.failure is not None:
            raise self.failure
        for one in request.returned:
            if (one.allowance_id, one.sequence) not in self.returned:
                self.returned[one.allowance_id, one.sequence] = one.amount_nanos
                self.money += one.amount_nanos
        return ledger_pb2.GiveBackResponse()

    async def Settle(self, request: ledger_pb2.SettleRequest, context: Context) -> ledger_pb2.SettleResponse:
        self.settled += request.settlements
        return ledger_pb2.SettleResponse()


@dataclass
class Counter:
    """An edge's allowances and everything around them."""

    limits: FakeLimits = field(default_factory=FakeLimits)
    ledger: FakeLedger = field(default_factory=FakeLedger)
    spool: MemorySpool = field(default_factory=MemorySpool)
    clock: Clock = field(default_factory=Clock)

    def __post_init__(self) -> None:
        ledger = ledger_pb2_grpc.LedgerServiceStub(
            local(ledger_pb2_grpc.add_LedgerServiceServicer_to_server, self.ledger)
        )
        auth = auth_pb2_grpc.AuthServiceStub(local(auth_pb2_grpc.add_AuthServiceServicer_to_server, self.limits))
        self.settler = Settler(self.spool, ledger)  # type: ignore[arg-type] # what of a spool is used
        self.allowances = Allowances(auth, ledger, self.settler, self.clock, self.clock)

    async def admit(self, verdict: Verdict, **fields: Any) -> Admission:
        """A call."""
        return await self.allowances.admit(verdict, facts(**fields))

    async def paid(
        self, name: str, attempts: Sequence[Attempt] = (CHEAP,), **fields: Any
    ) -> tuple[Admission, int | None]:
        """A call that a budget pays for, and its bound."""
        admission = await self.admit(PAID, **fields)
        return admission, await admission.hold(name, attempts, facts(**fields))

    @property
    def written(self) -> list[Settlement]:
        """What the spool has."""
        return [Settlement.FromString(payload) for payload in self.spool.payloads]


PAID = Verdict(caller=CALLER, purse="key_1")


def limited(kind: LimitKind.ValueType, amount: int = 60, model: str = "") -> Verdict:
    """A key with one limit."""
    return Verdict(caller=CALLER, limits=[Limit(scope="key_1", kind=kind, amount=amount, model=model)])


@pytest.fixture
async def counter() -> AsyncGenerator[Counter]:
    """An edge."""
    made = Counter()
    yield made
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


async def refused(call: Any) -> MeshError:
    """What a call is refused with."""
    with pytest.raises(MeshError) as caught:
        await call
    return caught.value


async def test_plain_key_costs_nobody_anything(counter: Counter) -> None:
    """No question, no line in the spool, no bound."""
    admission = await counter.admit(Verdict(caller=CALLER))
    clamp = await admission.hold("r", [UNPRICED], facts())
    admission.sent(1, UNPRICED)
    admission.close([ChargeRow(1, Usage(), 5, "completed/1")], Usage())

    assert (None, [], [], []) == (clamp, counter.limits.claims, counter.ledger.asked, counter.spool.payloads)
    assert [] == admission.figures()


async def test_share_is_asked_for_once_and_used_up(counter: Counter) -> None:
    """While it lasts, calls are counted here."""
    counter.limits.there = 100
    verdict = limited(LIMIT_KIND_REQUESTS)
    counter.limits.gate = asyncio.Event()
    calls = [asyncio.create_task(counter.admit(verdict)) for _ in range(10)]
    await asyncio.sleep(0.01)
    asked = len(counter.limits.claims)
    counter.limits.gate.set()
    await asyncio.gather(*calls)

    assert 1 == asked
    assert len(counter.limits.claims) <= 3


async def test_refusal_says_which_limit_and_when_to_come_back(counter: Counter) -> None:
    """And is not asked for again before that."""
    verdict = limited(LIMIT_KIND_REQUESTS)
    errors = [await refused(counter.admit(verdict)) for _ in range(5)]
    counter.clock.advance(3)
    counter.limits.there = 1
    await counter.admit(verdict)

    assert {(pb.REASON_RATE_LIMITED, "requests", "key_1", "60", 3.0)} == {
        (error.reason, error.metadata["limit"], error.metadata["scope"], error.metadata["amount"], error.retry_after)
        for error in errors
    }
    assert 2 == len(counter.limits.claims)
    assert [("requests", 60, 0)] == [figure[:3] for figure in figures_of_refusal(errors[0])]


async def test_tokens_are_estimated_and_put_right(counter: Counter) -> None:
    """What was not used comes back to the share; what was used beyond is owed."""
    counter.limits.there = 10_000
    limit = Limit(scope="key_1", kind=LIMIT_KIND_TOKENS, amount=10_000, burst=10_000)
    verdict = Verdict(caller=CALLER, limits=[limit])
    estimate = tokens_of(facts())
    for used in (100, estimate + 300):
        admission = await counter.admit(verdict)
        admission.close([], Usage(input_tokens=used))
    [figure] = admission.figures()

    assert 10 + COUNTED_ANSWER == estimate
    assert 10_000 - estimate - 400 == figure.remaining


async def test_calls_at_once_are_counted_until_they_end(counter: Counter) -> None:
    """Each ends once."""
    counter.limits.there = 2
    verdict = limited(LIMIT_KIND_CONCURRENCY, 2)
    first, second = [await counter.admit(verdict) for _ in range(2)]
    third = await refused(counter.admit(verdict))
    first.close([], None)
    first.close([], None)
    await counter.admit(verdict)
    fourth = await refused(counter.admit(verdict))
    second.close([], None)

    assert ["concurrency"] * 2 == [error.metadata["limit"] for error in (third, fourth)]


async def test_auth_away_leaves_each_edge_its_part(counter: Counter) -> None:
    """Sixty a minute among two edges: a burst of five here, and one every two seconds."""
    counter.limits.there = 1
    verdict = limited(LIMIT_KIND_REQUESTS, 60)
    await counter.admit(verdict)
    counter.limits.failure = AWAY
    outcomes = await asyncio.gather(*(counter.admit(verdict) for _ in range(12)), return_exceptions=True)
    counter.clock.advance(2 * AWAY_SECONDS)
    later = await asyncio.gather(*(counter.admit(verdict) for _ in range(3)), return_exceptions=True)

    assert 5 == sum(isinstance(outcome, Admission) for outcome in outcomes)
    assert 1 == sum(isinstance(outcome, Admission) for outcome in later)


async def test_what_is_over_is_given_back(counter: Counter) -> None:
    """When the share ends."""
    counter.limits.there = 1000
    verdict = limited(LIMIT_KIND_TOKENS)
    (await counter.admit(verdict)).close([], Usage(input_tokens=1))
    counter.clock.advance(10)
    await counter.allowances.shares.renew()

    assert tokens_of(facts()) - 1 == counter.limits.claims[-1].returned


async def test_money_is_held_here_while_an_allowance_lasts(counter: Counter) -> None:
    """What a call did not cost is free for the next."""
    counter.ledger.money, counter.ledger.slice = 10_000, 1000
    for number in range(20):
        admission, _ = await counter.paid(f"r{number}", max_output_tokens=100)
        admission.sent(1, CHEAP)
        admission.close([ChargeRow(1, Usage(output_tokens=10), 30, "completed/1")], Usage(output_tokens=10))

    assert 1 == len(counter.ledger.asked)
    assert 40 == len(counter.written)
    assert {counter.ledger.asked[0].allowance_id} == {one.allowance_id for one in counter.written}


async def test_charges_say_everything_the_ledger_needs(counter: Counter) -> None:
    """One before the attempt, for the case that nothing more is heard; one after."""
    counter.ledger.money = 1000
    admission, _ = await counter.paid("r", [CHEAP, DEAR], max_output_tokens=10)
    admission.sent(1, CHEAP)
    admission.sent(2, DEAR)
    admission.close([ChargeRow(2, Usage(output_tokens=10), 70, "completed/1")], Usage(output_tokens=10))
    await counter.settler.send(counter.spool.payloads)

    assert [(1, True, 10), (2, True, 30), (2, False, 70), (1, False, 0)] == [
        (one.attempt, one.checkpoint, one.cost_nanos) for one in counter.written
    ]
    assert [(1, "uncharged/1", "a/x"), (2, "completed/1", "b/y")] == [
        (one.attempt, one.rule, one.deployment) for one in counter.ledger.settled
    ]
    assert all(one.caller == CALLER and one.request_id == "r" for one in counter.written)
    assert 3600 + LOST_SECONDS + 1 == counter.written[0].expire_time.seconds - counter.clock()


async def test_caller_without_a_bound_is_told_what_is_affordable(counter: Counter) -> None:
    """Never more than what is held."""
    counter.ledger.money = 210
    _, clamp = await counter.paid("r")
    poor = await refused(counter.paid("s"))

    assert 100 == clamp
    assert pb.REASON_BUDGET_EXHAUSTED == poor.reason


async def test_deployments_without_a_price_are_closed(counter: Counter) -> None:
    """They are left out of the bill, and refused when nothing else is left."""
    counter.ledger.money = 1000
    admission, _ = await counter.paid("r", [UNPRICED, CHEAP], max_output_tokens=10)
    with pytest.raises(MeshError) as sent:
        admission.sent(1, UNPRICED)
    none = await refused(counter.paid("s", [UNPRICED]))

    assert {(pb.REASON_NO_DEPLOYMENT, "model_price_unknown")} == {
        (error.reason, error.metadata["cause"]) for error in (sent.value, none)
    }


async def test_a_call_that_is_free_needs_no_money(counter: Counter) -> None:
    """Not of an account that owes, and not while auth is away; one that may cost something does."""
    free = Attempt(deployment="c/free", price=Price(version="p"))
    counter.ledger.money = -5
    told = []
    for failure in (None, AWAY):
        counter.ledger.failure = failure
        admission, clamp = await counter.paid("r", [free])
        admission.sent(1, free)
        admission.close([], Usage(input_tokens=3))
        told.append((admission.paid, clamp))
        await refused(counter.paid("s", [free, CHEAP]))

    assert [(None, None)] * 2 == told


async def test_one_question_for_all_that_wait(counter: Counter) -> None:
    """The sum of what they need; a refusal is told to all that it concerns."""
    counter.ledger.money, counter.ledger.gate = 100_000, asyncio.Event()
    calls = [asyncio.create_task(counter.paid(f"r{number}", max_output_tokens=10)) for number in range(50)]
    await asyncio.sleep(0.01)
    counter.ledger.gate.set()
    await asyncio.gather(*calls)
    happy = len(counter.ledger.asked)
    counter.ledger.money, counter.ledger.gate = 0, asyncio.Event()
    more = [asyncio.create_task(counter.paid(f"s{number}", max_output_tokens=10)) for number in range(50)]
    await asyncio.sleep(0.01)
    counter.ledger.gate.set()
    outcomes = await asyncio.gather(*more, return_exceptions=True)

    assert happy <= 3
    assert len(counter.ledger.asked) - happy <= 2
    assert all(isinstance(outcome, MeshError) for outcome in outcomes)


async def test_call_that_goes_away_leaves_its_money(counter: Counter) -> None:
    """To whoever comes next."""
    counter.ledger.money, counter.ledger.gate = 30, asyncio.Event()
    call = asyncio.create_task(counter.paid("r", max_output_tokens=10))
    await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait([call])
    counter.ledger.gate.set()
    await counter.paid("s", max_output_tokens=10)

    assert 1 == len(counter.ledger.asked)


async def test_idle_money_goes_back_once(counter: Counter) -> None:
    """After a few seconds, or when it is recalled; what auth did not get goes again."""
    counter.ledger.money, counter.ledger.slice = 1000, 1000
    admission, _ = await counter.paid("r", max_output_tokens=10)
    counter.allowances.purses.tidy()
    early = list(counter.allowances.purses.returning)
    counter.allowances.recall(["key_1"])
    counter.ledger.failure = AWAY
    await counter.allowances.purses.give_back()
    counter.ledger.failure = None
    await counter.allowances.purses.give_back()
    after_recall = counter.ledger.money
    admission.close([ChargeRow(1, Usage(), 25, "completed/1")], None)
    counter.clock.advance(IDLE_SECONDS)
    counter.allowances.purses.tidy()
    await counter.allowances.purses.give_back()

    assert ([], 970, 975) == (early, after_recall, counter.ledger.money)
    assert {} == counter.allowances.purses._purses


async def test_hard_budget_is_not_opened_by_an_outage(counter: Counter) -> None:
    """What is here may be used, and no more."""
    counter.ledger.money, counter.ledger.slice = 1000, 60
    await counter.paid("r", max_output_tokens=10)
    counter.ledger.failure = AWAY
    await counter.paid("s", max_output_tokens=10)
    error = await refused(counter.paid("t", max_output_tokens=10))

    assert pb.REASON_SERVICE_UNAVAILABLE == error.reason


async def test_failover_holds_what_was_charged_already(counter: Counter) -> None:
    """Beside what another attempt may cost; refused when that cannot be paid."""
    counter.ledger.money = 100
    admission, _ = await counter.paid("r", max_output_tokens=10)
    await admission.reprice([ChargeRow(1, Usage(), 20, "broken/1")])
    assert admission.paid is not None
    held = admission.paid.amount
    error = await refused(admission.reprice([ChargeRow(1, Usage(), 90, "broken/1")]))
    admission.close([], None)

    assert (50, pb.REASON_BUDGET_EXHAUSTED) == (held, error.reason)


async def test_full_disk_stops_calls_and_loses_no_charge(counter: Counter) -> None:
    """What could not be written waits in memory, and comes first."""
    counter.ledger.money, counter.ledger.slice = 1000, 1000
    admission, _ = await counter.paid("r", max_output_tokens=10)
    admission.sent(1, CHEAP)
    counter.spool.failure = MeshError(pb.REASON_USAGE_UNAVAILABLE, "full")
    admission.close([ChargeRow(1, Usage(), 25, "completed/1")], None)
    error = await refused(counter.paid("s", max_output_tokens=10))
    counter.spool.failure = None
    other, _ = await counter.paid("t", max_output_tokens=10)
    other.sent(1, CHEAP)

    assert pb.REASON_USAGE_UNAVAILABLE == error.reason
    assert [("r", True), ("r", False), ("t", True)] == [(one.request_id, one.checkpoint) for one in counter.written]


def test_checkpoints_that_are_over_are_not_sent() -> None:
    """The last word of each attempt is; corrections are words of their own."""
    said = [
        Settlement(request_id="r", attempt=1, checkpoint=True, cost_nanos=1),
        Settlement(request_id="s", attempt=1, checkpoint=True, cost_nanos=2),
        Settlement(request_id="r", attempt=1, cost_nanos=3),
        Settlement(request_id="r", attempt=1, cost_nanos=4, revision=1),
    ]

    assert [3, 2, 4] == [one.cost_nanos for one in latest(said)]


def test_calls_that_no_budget_pays_for_are_charged_from_their_records() -> None:
    """Those that cost something, or nobody knows what; not those for which money was held: they are charged already."""
    values: dict[str, Any] = {
        "caller": Caller(account_id="acc_1"),
        "outcome": OUTCOME_COMPLETED,
        "attempts": [AttemptRecord(), AttemptRecord(deployment="a/x")],
        "model": "x",
    }
    records = [
        CallRecord(request_id="r", cost_nanos=7, **values),
        CallRecord(request_id="s", cost_nanos=0, **values),
        CallRecord(request_id="t"),
        CallRecord(request_id="u", **values),
        CallRecord(request_id="v", cost_nanos=7, held=True, **values),
    ]
    first, unknown = charges_of(records)

    assert ("r", 2, 7, "a/x", "x", "acc_1", "completed/2") == (
        first.request_id,
        first.attempt,
        first.cost_nanos,
        first.deployment,
        first.model,
        first.caller.account_id,
        first.rule,
    )
    assert ("u", False) == (unknown.request_id, unknown.HasField("cost_nanos"))


def test_each_attempt_that_is_charged_is_a_charge_of_its_own() -> None:
    """And one that is not takes back the checkpoint that the ledger may have, if one was written down."""
    record = CallRecord(
        request_id="r",
        caller=Caller(account_id="acc_1"),
        outcome=OUTCOME_CANCELLED,
        attempts=[AttemptRecord(deployment="a/x"), AttemptRecord(deployment="b/x")],
        charges=[AttemptCharge(attempt=2, cost_nanos=5, rule="cancelled/2", price_version="p")],
    )
    short = list(charges_of([record]))
    record.noted = True
    long = list(charges_of([record]))

    assert [(2, 5, "b/x", "p")] == [(one.attempt, one.cost_nanos, one.deployment, one.price_version) for one in short]
    assert [(2, 5, "cancelled/2"), (1, 0, "uncharged/1")] == [(one.attempt, one.cost_nanos, one.rule) for one in long]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({"cost_nanos": 4, "charged_nanos": 4}, 1_000_000, id="none"),
        pytest.param({"cost_nanos": 4, "charged_nanos": 6, "multiplier_millionths": 1_500_000}, 1_500_000, id="one"),
        pytest.param({"cost_nanos": 4, "charged_nanos": 6}, 0, id="of an older record, which does not say it"),
        pytest.param({}, 1_000_000, id="none, of an unknown price"),
    ],
)
def test_a_call_is_charged_with_the_multiplier_of_its_record(fields: dict[str, Any], expected: int) -> None:
    """Whatever is set by the time at which the ledger posts it."""
    caller = Caller(account_id="acc_1")
    record = CallRecord(request_id="r", caller=caller, outcome=OUTCOME_COMPLETED, attempts=[AttemptRecord()], **fields)
    [charge] = charges_of([record])

    assert expected == charge.multiplier_millionths


async def test_attempts_that_are_over_are_charged_before_another_one_begins(counter: Counter) -> None:
    """So that what they cost does not depend on what becomes of the next; at the end they are not said again."""
    counter.ledger.money = 10**9
    admission, _ = await counter.paid("r", max_output_tokens=5)
    admission.sent(1, CHEAP)
    await admission.reprice([ChargeRow(1, Usage(input_tokens=3), 3, "silent/2")])
    admission.sent(2, CHEAP)
    admission.close([ChargeRow(1, Usage(input_tokens=3), 3, "silent/2")], None)

    said = [(one.attempt, one.checkpoint, one.cost_nanos) for one in counter.written]
    assert [(1, False, 3), (2, False, 0)] == [one for one in said if not one[1]]
    assert [1, 1, 2, 2] == [one[0] for one in said]


async def test_a_multiplier_is_in_the_hold_and_in_the_charge(counter: Counter) -> None:
    """What is held covers what is charged; the ledger is told the vendor's figure and the multiplier."""
    counter.ledger.money = 10**9
    dear = Verdict(caller=CALLER, purse="key_1", multiplier_millionths=1_500_000)
    admission = await counter.admit(dear, max_output_tokens=5)
    await admission.hold("r", [CHEAP], facts(max_output_tokens=5))
    held = admission.paid.amount if admission.paid else 0
    admission.sent(1, CHEAP)
    admission.close([ChargeRow(1, Usage(input_tokens=3), 3, "completed/2")], None)

    assert -(-bill_of([CHEAP], facts(max_output_tokens=5)).needed * 3 // 2) == held
    assert [1_500_000] * len(counter.written) == [one.multiplier_millionths for one in counter.written]
    assert 3 == counter.written[-1].cost_nanos
