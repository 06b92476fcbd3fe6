"""Room at deployments, and the limits that bind more than one caller, before an auth that does what a test says."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from polyroute.api.auth.v1 import auth_pb2, auth_pb2_grpc
from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.auth.v1.limits_pb2 import (
    LIMIT_KIND_CONCURRENCY,
    LIMIT_KIND_REQUESTS,
    LIMIT_KIND_TOKENS,
    Limit,
    LimitKind,
)
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt
from polyroute.auth.rates.leases import Leases, Want
from polyroute.auth.rates.limits import COMMON, Kind, LocalCounters, Place
from polyroute.auth.rates.limits import Limit as Known
from polyroute.edge import share as edge_share
from polyroute.edge.capacity import Capacity, Rooms
from polyroute.edge.common import FRESH_SECONDS, CommonLimits
from polyroute.edge.share import CATALOG, DEPLOYMENT, INSTALLATION
from polyroute.edge.shares import Shares
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import CALLER, Clock, Context, local

FACTS = RequestFacts(operation=OPERATION_CHAT, model="m", input_tokens_estimate=100, max_output_tokens=100)
BARE = RequestFacts(operation=OPERATION_CHAT, model="m", max_output_tokens=0)


def limit(scope: str, kind: LimitKind.ValueType, amount: int, model: str = "", burst: int = 0) -> Limit:
    """A limit."""
    return Limit(scope=scope, kind=kind, amount=amount, model=model, burst=burst)


class FakeAuth(auth_pb2_grpc.AuthServiceServicer):
    """Counts as auth does, with the limits that a test sets."""

    def __init__(self, clock: Clock) -> None:
        self.limits: list[Limit] = []
        self.asked = 0
        self.failure: Exception | None = None
        self.degraded = False
        self.leases = Leases(LocalCounters(lambda: int(clock() * 1e9)), self._find, self._none)

    async def GetCommonLimits(
        self, request: auth_pb2.GetCommonLimitsRequest, context: Context
    ) -> auth_pb2.GetCommonLimitsResponse:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return auth_pb2.GetCommonLimitsResponse(limits=[one for one in self.limits if one.scope in COMMON])

    async def LeaseLimits(self, request: auth_pb2.LeaseLimitsRequest, context: Context) -> auth_pb2.LeaseLimitsResponse:
        if self.failure is not None:
            raise self.failure
        wants = [
            Want(Place(one.scope, Kind(one.kind), one.model), one.needed, one.wanted, one.returned, one.amount)
            for one in request.claims
        ]
        response = auth_pb2.LeaseLimitsResponse(degraded=self.degraded)
        for share in await self.leases.lease(request.holder, wants):
            told = response.shares.add(granted=share.granted, remaining=share.remaining, holders=share.holders)
            told.valid_for.FromNanoseconds(int(share.valid_for * 1e9))
            if share.retry_after is not None:
                told.retry_after.FromNanoseconds(int(share.retry_after * 1e9))
        return response

    async def _find(self, place: Place) -> Known | None:
        found = (one for one in self.limits if Place(one.scope, Kind(one.kind), one.model) == place)
        return next((Known(place, one.amount, one.burst) for one in found), None)

    async def _none(self) -> list[Known]:
        return []


class Edge:
    """What an edge counts with."""

    def __init__(self, clock: Clock, auth: FakeAuth, name: str = "e") -> None:
        stub = auth_pb2_grpc.AuthServiceStub(local(auth_pb2_grpc.add_AuthServiceServicer_to_server, auth))
        self.clock, self.auth = clock, auth
        self.shares = Shares(stub, name, clock, 5.0)
        self.capacity = Capacity(self.shares)
        self.common = CommonLimits(stub, self.shares, self.capacity, clock, 5.0)

    async def set(self, *limits: Limit) -> None:
        """Has auth say this from now on."""
        self.auth.limits = list(limits)
        self.auth.leases.forget(INSTALLATION)
        self.auth.leases.forget(DEPLOYMENT)
        self.common.changed([INSTALLATION])
        await self.common.renew()


@pytest.fixture
async def edge() -> AsyncGenerator[Edge]:
    """One."""
    clock = Clock()
    yield Edge(clock, FakeAuth(clock))  # type: ignore[abstract] # has what the edge calls
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


async def refused(call: Any) -> MeshError:
    """What it is refused with."""
    with pytest.raises(MeshError) as caught:
        await call
    return caught.value


async def outcomes(edge: Edge, attempt: Attempt, count: int, facts: RequestFacts = FACTS) -> Sequence[Any]:
    """Of attempts at once."""
    return await asyncio.gather(*(edge.capacity.take(attempt, facts) for _ in range(count)), return_exceptions=True)


async def test_deployment_without_bounds_costs_nothing(edge: Edge) -> None:
    """Nobody is asked."""
    await edge.set(limit(DEPLOYMENT, LIMIT_KIND_REQUESTS, 60, "b/y"))
    edge.auth.failure = AssertionError()

    assert await edge.capacity.take(Attempt(deployment="a/x"), FACTS) is None


async def test_catalog_bounds_the_attempts_at_once(edge: Edge) -> None:
    """What ends makes room; ending twice makes no more."""
    attempt = Attempt(deployment="a/x", max_concurrency=2)
    first, second, third = await outcomes(edge, attempt, 3)
    first.give_back(None)
    first.give_back(None)
    fourth, fifth = await outcomes(edge, attempt, 2)

    assert (pb.REASON_OVERLOADED, "concurrency", "a/x") == (
        third.reason,
        third.metadata["limit"],
        third.metadata["deployment"],
    )
    assert third.retry_after is not None
    assert [False, True] == [isinstance(one, MeshError) for one in (fourth, fifth)]
    second.give_back(None)
    fourth.give_back(None)


async def test_edges_share_the_room_of_a_deployment(edge: Edge) -> None:
    """By the amount that the catalog of each says."""
    other = Edge(edge.clock, edge.auth, "other")
    attempt = Attempt(deployment="a/x", max_concurrency=4)
    here, there = await outcomes(edge, attempt, 4), await outcomes(other, attempt, 4)
    let_in = [one for one in (*here, *there) if not isinstance(one, BaseException)]

    assert 4 == len(let_in)


async def test_vendors_requests_and_tokens_bound_attempts(edge: Edge) -> None:
    """Tokens are put right when the attempt has ended."""
    await edge.set(
        limit(DEPLOYMENT, LIMIT_KIND_REQUESTS, 60, "a/x", burst=5),
        limit(DEPLOYMENT, LIMIT_KIND_TOKENS, 60_000, "a/x", burst=500),
    )
    attempt = Attempt(deployment="a/x")
    for _ in range(4):
        room = await edge.capacity.take(attempt, FACTS)
        assert room is not None
        room.give_back(Usage(input_tokens=90, output_tokens=10))
    tokens = await refused(edge.capacity.take(attempt, FACTS))
    fifth = await edge.capacity.take(attempt, BARE)
    requests = await refused(edge.capacity.take(attempt, BARE))

    assert ["tokens", "requests"] == [error.metadata["limit"] for error in (tokens, requests)]
    assert fifth is not None


async def test_other_bound_of_the_catalog_is_followed(edge: Edge) -> None:
    """With the next attempt, also when the new one is none."""
    some = await outcomes(edge, Attempt(deployment="a/x", max_concurrency=1), 2)
    more = await outcomes(edge, Attempt(deployment="a/x", max_concurrency=3), 3)
    none = await outcomes(edge, Attempt(deployment="a/x"), 2)

    assert [1, 2, 2] == [sum(not isinstance(one, BaseException) for one in found) for found in (some, more, none)]


async def test_full_plan_says_when_the_first_has_room(edge: Edge) -> None:
    """The soonest of all; and what a call took is given back with it."""
    await edge.set(
        limit(DEPLOYMENT, LIMIT_KIND_REQUESTS, 1, "a/x", burst=1), limit(DEPLOYMENT, LIMIT_KIND_REQUESTS, 6, "b/y")
    )
    plan = [Attempt(deployment=name) for name in ("a/x", "b/y", "c/z")]
    plan[2].max_concurrency = 1
    first, second = Rooms(edge.capacity), Rooms(edge.capacity)
    got = [await first.take(index, attempt, FACTS) for index, attempt in enumerate(plan)]
    none = [await second.take(index, attempt, FACTS) for index, attempt in enumerate(plan)]
    error = second.refusal()
    first.close(None)

    assert ([True] * 3, [False] * 3) == (got, none)
    assert (pb.REASON_OVERLOADED, 1.0, [0, 1, 2]) == (error.reason, error.retry_after, sorted(second.full))
    assert await second.take(2, plan[2], FACTS)
    assert Rooms(edge.capacity).refusal().retry_after is None


async def test_limit_of_everybody_binds_keys_without_any(edge: Edge) -> None:
    """All keys together, for one model or for all."""
    await edge.set(limit(INSTALLATION, LIMIT_KIND_REQUESTS, 60, "m", burst=2))
    keys = [Verdict(caller=CALLER), Verdict(caller=auth_pb2.Caller(key_id="key_2"))]
    for verdict in keys:
        await edge.shares.take(edge.shares.of(verdict, 1).some)
    error = await refused(edge.shares.take(edge.shares.of(keys[0], 1).some))

    assert [] == edge.shares.of(keys[0], 1).always
    assert (pb.REASON_RATE_LIMITED, INSTALLATION, "m") == (
        error.reason,
        error.metadata["scope"],
        error.metadata["model"],
    )


async def test_lifted_limit_of_everybody_binds_nobody(edge: Edge) -> None:
    """From the moment that it is known."""
    await edge.set(limit(INSTALLATION, LIMIT_KIND_CONCURRENCY, 0))
    key = Verdict(caller=CALLER)
    before = await refused(edge.shares.take(edge.shares.of(key, 1).always))
    await edge.set()

    assert pb.REASON_RATE_LIMITED == before.reason
    assert ([], []) == edge.shares.of(key, 1)


async def test_common_limits_stand_while_auth_is_away(edge: Edge) -> None:
    """They are asked for now and then, and at once after a change."""
    await edge.set(limit(INSTALLATION, LIMIT_KIND_REQUESTS, 60))
    await edge.common.renew()
    asked = edge.auth.asked
    edge.auth.failure = MeshError(pb.REASON_SERVICE_UNAVAILABLE, "away")
    edge.clock.advance(FRESH_SECONDS)
    await edge.common.renew()
    edge.common.changed(["key_1"])
    await edge.common.renew()

    assert (1, 2) == (asked, edge.auth.asked)
    assert 1 == len(edge.shares.everyone)


async def test_edge_says_that_limits_are_counted_alone(edge: Edge) -> None:
    """Because auth says so, or says nothing; until it is over."""
    attempt = Attempt(deployment="a/x", max_concurrency=100)
    said = []
    for degraded, failure in ((True, None), (False, None), (False, MeshError(pb.REASON_SERVICE_UNAVAILABLE, "away"))):
        edge.auth.degraded, edge.auth.failure = degraded, failure
        await outcomes(edge, attempt, 10)
        said.append(edge.shares.degraded)

    assert [True, False, True] == said


def test_scopes_are_the_same_on_both_sides() -> None:
    """The words of the contract."""
    from polyroute.auth.rates import limits

    assert (limits.INSTALLATION, limits.DEPLOYMENT, limits.CATALOG) == (
        edge_share.INSTALLATION,
        edge_share.DEPLOYMENT,
        CATALOG,
    )
