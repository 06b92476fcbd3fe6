"""Edges that hold allowances and shares, against the role: what they spend and let through together."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.auth.v1.ledger_pb2_grpc import LedgerServiceStub
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.router.v1.router_pb2 import Attempt, Price
from polyroute.auth.wiring import Auth
from polyroute.edge.allowance import Allowances
from polyroute.edge.authorizer import Authorizer
from polyroute.edge.charging import Attempted, Ending, charges
from polyroute.edge.intents import Intents
from polyroute.edge.settler import Settler
from polyroute.mesh.background import Background
from polyroute.mesh.errors import MeshError
from polyroute.mesh.shipper import Shipper
from polyroute.mesh.spool import Spool

T = 5.0
COST = 5_000_000  # nano-USD: what each call costs, which is also the most that it can cost
PLAN = [Attempt(deployment="a/x", price=Price(input=0, output=1_000_000_000, version="v1"))]
Admin = tuple[tuple[str, str]]


@dataclass
class Edge:
    """The part of an edge that lets calls in."""

    authorizer: Authorizer
    allowances: Allowances
    secret: str
    model: str = "m"

    async def call(self, name: str, tokens: int = COST // 1000, *, bounded: bool = True) -> int | None:
        """One call that uses all that it may; the bound that it got."""
        facts = RequestFacts(operation=OPERATION_CHAT, model=self.model)
        if bounded:
            facts.max_output_tokens = tokens
        verdict = await self.authorizer.verdict(self.secret)
        admission = await self.allowances.admit(verdict, facts)
        rows, usage = [], None
        try:
            clamp = await admission.hold(name, PLAN, facts)
            admission.sent(1, PLAN[0])
            await asyncio.sleep(0)
            usage = Usage(output_tokens=tokens if clamp is None else min(tokens, clamp))
            done = Attempted(1, Ending.COMPLETED, usage)
            rows = charges([(done, lambda used: used.output_tokens * 1000)])
            return clamp
        finally:
            admission.close(rows, usage)


@asynccontextmanager
async def edge(folder: Path, auth: Any, ledger: Any, secret: str) -> AsyncGenerator[Edge]:
    """An edge with a spool of its own."""
    spool = Spool(folder)
    settler = Settler(spool, ledger)
    intents = Intents(folder / "intents")
    allowances = Allowances(auth, ledger, settler, time.monotonic, time.time, intents=intents)
    authorizer = Authorizer(auth, T, time.monotonic, recalled=allowances.recall)
    async with Shipper(spool, settler.send, every=0.01), Background() as tasks:
        tasks.start("follow", authorizer.follow)
        tasks.start("allowances", allowances.run)
        yield Edge(authorizer, allowances, secret)
        await allowances.close()
    spool.close()
    intents.close()


@dataclass
class Bench:
    """Three edges, an administrator, and the ledger."""

    edges: list[Edge]
    admin: AdminServiceStub
    metadata: Admin
    caller: auth_pb2.Caller

    async def budget(self, scope: str, amount: int) -> None:
        """A hard budget."""
        budget = limits_pb2.Budget(scope=scope, period=limits_pb2.PERIOD_TOTAL, amount_nanos=amount, hard=True)
        await self.admin.SetBudget(admin_pb2.SetBudgetRequest(budget=budget), timeout=T, metadata=self.metadata)

    async def limit(self, kind: limits_pb2.LimitKind.ValueType, amount: int, burst: int = 0) -> None:
        """A limit of the key."""
        limit = limits_pb2.Limit(scope=self.caller.key_id, kind=kind, amount=amount, burst=burst)
        await self.admin.SetLimit(admin_pb2.SetLimitRequest(limit=limit), timeout=T, metadata=self.metadata)

    async def audit(self) -> admin_pb2.AuditLedgerResponse:
        """What the ledger says."""
        return await self.admin.AuditLedger(admin_pb2.AuditLedgerRequest(), timeout=T, metadata=self.metadata)

    async def at_rest(self, spent: int) -> admin_pb2.AuditLedgerResponse:
        """What the ledger says once everything is posted and given back."""
        async with asyncio.timeout(15):
            while (found := await self.audit()).held_nanos or found.spent_nanos != spent:
                for one in self.edges:
                    one.allowances.recall([self.caller.key_id, self.caller.project_id, self.caller.account_id])
                await asyncio.sleep(0.02)
        return found

    async def storm(self, calls: int, tokens: int = COST // 1000) -> list[BaseException | int | None]:
        """Calls at once, dealt to the edges."""
        work = (self.edges[number % 3].call(f"r-{number}", tokens) for number in range(calls))
        return await asyncio.gather(*work, return_exceptions=True)


@pytest.fixture
async def bench(
    tmp_path: Path,
    auth: Auth,
    auth_stub: AuthServiceStub,
    ledger_stub: LedgerServiceStub,
    admin_stub: AdminServiceStub,
    admin: Admin,
    secret: str,
) -> AsyncGenerator[Bench]:
    """Three edges before one auth."""
    async with AsyncExitStack() as stack:
        edges = [
            await stack.enter_async_context(edge(tmp_path / f"edge-{number}", auth_stub, ledger_stub, secret))
            for number in range(3)
        ]
        verdict = await edges[0].authorizer.verdict(secret)
        yield Bench(edges, admin_stub, admin, verdict.caller)


def refusals(outcomes: Sequence[BaseException | int | None]) -> list[int]:
    """The reasons of calls that were refused; anything else that failed is raised."""
    found: list[int] = []
    for outcome in outcomes:
        if isinstance(outcome, MeshError):
            found.append(outcome.reason)
        elif isinstance(outcome, BaseException):
            raise outcome
    return found


async def pushed(bench: Bench, *, limits: int = 0, purse: bool = False) -> None:
    """Returns when every edge knows what was set."""
    async with asyncio.timeout(5):
        for one in bench.edges:
            while True:
                verdict = await one.authorizer.verdict(one.secret)
                if len(verdict.limits) == limits and bool(verdict.purse) == purse:
                    break
                await asyncio.sleep(0.01)


async def test_two_hundred_calls_at_once_spend_a_budget_to_the_last(bench: Bench) -> None:
    """Three edges, the exact cost: none is refused, nothing is over, and nothing is held at rest."""
    await bench.budget(bench.caller.account_id, 200 * COST)
    await pushed(bench, purse=True)
    outcomes = await bench.storm(200)
    found = await bench.at_rest(200 * COST)
    [late] = refusals(await asyncio.gather(bench.edges[0].call("late"), return_exceptions=True))

    assert [] == refusals(outcomes)
    assert ([], 0, 200 * COST) == (list(found.findings), found.held_nanos, found.spent_nanos)
    assert errors_pb2.REASON_BUDGET_EXHAUSTED == late


async def test_a_budget_is_never_exceeded(bench: Bench) -> None:
    """Twice as many calls as it pays for."""
    await bench.budget(bench.caller.key_id, 100 * COST)
    await pushed(bench, purse=True)
    refused = refusals(await bench.storm(200))
    found = await bench.at_rest((200 - len(refused)) * COST)

    assert {errors_pb2.REASON_BUDGET_EXHAUSTED} == set(refused)
    assert 90 * COST <= found.spent_nanos <= 100 * COST
    assert [] == list(found.findings)


async def test_call_without_a_bound_is_cut_to_what_is_left(bench: Bench) -> None:
    """The door is told how long the answer may be."""
    await bench.budget(bench.caller.project_id, 40_000)
    await pushed(bench, purse=True)
    clamp = await bench.edges[0].call("r", 1000, bounded=False)
    found = await bench.at_rest(40_000)

    assert 40 == clamp
    assert [] == list(found.findings)


async def test_call_that_died_is_charged_and_nothing_is_lost(
    bench: Bench, tmp_path: Path, auth_stub: AuthServiceStub, ledger_stub: LedgerServiceStub
) -> None:
    """An edge that is killed leaves what it wrote down before it sent the call; the next one has it charged."""
    await bench.budget(bench.caller.key_id, 100 * COST)
    await pushed(bench, purse=True)
    one = bench.edges[0]
    facts = RequestFacts(operation=OPERATION_CHAT, model="m", max_output_tokens=10)
    admission = await one.allowances.admit(await one.authorizer.verdict(one.secret), facts)
    await admission.hold("dead", PLAN, facts)
    admission.sent(1, PLAN[0])
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "intents").write_bytes((tmp_path / "edge-0" / "intents").read_bytes())
    async with edge(tmp_path / "next", auth_stub, ledger_stub, one.secret) as following:
        await following.allowances.checkpoints.take_over(one.allowances.holder)
    [entry] = (
        await bench.admin.ListEntries(
            admin_pb2.ListEntriesRequest(filter='kind = "settle"'), timeout=T, metadata=bench.metadata
        )
    ).entries

    assert ("dead", "interrupted/1", True, 0) == (entry.request_id, entry.rule, entry.estimated, entry.amount_nanos)


async def test_limit_of_requests_holds_over_three_edges(bench: Bench) -> None:
    """A burst and no more, however the calls are dealt; the refusal says when to come back."""
    await bench.limit(limits_pb2.LIMIT_KIND_REQUESTS, 60, burst=30)
    await pushed(bench, limits=1)
    outcomes = await bench.storm(120)
    refused = [outcome for outcome in outcomes if isinstance(outcome, MeshError)]
    admitted = 120 - len(refused)

    assert 28 <= admitted <= 32
    assert {(errors_pb2.REASON_RATE_LIMITED, "requests", bench.caller.key_id)} == {
        (error.reason, error.metadata["limit"], error.metadata["scope"]) for error in refused
    }
    assert all(0 < (error.retry_after or 0) <= 1.1 for error in refused)


async def test_limit_of_calls_at_once_holds_over_three_edges(bench: Bench) -> None:
    """Those that are let in are never more than the limit."""
    await bench.limit(limits_pb2.LIMIT_KIND_CONCURRENCY, 5)
    await pushed(bench, limits=1)
    verdicts = [await one.authorizer.verdict(one.secret) for one in bench.edges]
    facts = RequestFacts(operation=OPERATION_CHAT, model="m")
    outcomes = await asyncio.gather(
        *(bench.edges[number % 3].allowances.admit(verdicts[number % 3], facts) for number in range(30)),
        return_exceptions=True,
    )
    let_in = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    for admission in let_in:
        admission.close([], None)

    assert 3 <= len(let_in) <= 5
    async with asyncio.timeout(5):
        for number, one in enumerate(bench.edges):  # what the others do not use comes back within a second or two
            while refusals(await asyncio.gather(one.call(f"again-{number}"), return_exceptions=True)):
                await asyncio.sleep(0.1)


async def test_lifted_limit_binds_nobody(bench: Bench) -> None:
    """Every edge hears of it."""
    await bench.limit(limits_pb2.LIMIT_KIND_REQUESTS, 0)
    await pushed(bench, limits=1)
    refused = refusals(await bench.storm(3))
    request = admin_pb2.DeleteLimitRequest(
        limit=limits_pb2.Limit(scope=bench.caller.key_id, kind=limits_pb2.LIMIT_KIND_REQUESTS)
    )
    await bench.admin.DeleteLimit(request, timeout=T, metadata=bench.metadata)
    await pushed(bench)

    assert ([errors_pb2.REASON_RATE_LIMITED] * 3, []) == (refused, refusals(await bench.storm(3)))
