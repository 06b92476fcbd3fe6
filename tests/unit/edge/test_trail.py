"""What becomes known of a call, and the record that is made of it."""

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.chat.v1.chat_pb2 import FINISH_REASON_STOP, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.providers.v1.providers_pb2 import Finished, Started
from polyroute.api.router.v1.router_pb2 import Attempt, DecideResponse, DecisionRecord, Plan, Price
from polyroute.edge.admission import Admission, House
from polyroute.edge.charging import COUNTS, MOST_COST, MOST_COUNTED, QUARANTINED, plausible
from polyroute.edge.record import record_of
from polyroute.edge.sizes import MOST, tokens_in
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import CALLER, FACTS, PRICE, charges_of

ATTEMPT = Attempt(deployment="a/x", provider="a", upstream_model="x", price=PRICE)
OTHER = Attempt(deployment="b/y", provider="b", upstream_model="y", price=Price(input=1, output=1))
BROKEN = MeshError.upstream(pb.FAULT_SERVER, "failed", upstream_status="503")


def trail() -> Trail:
    made = Trail("r-1", user="ann", tags={"team": "red"})
    made.facts, made.caller = FACTS, CALLER
    made.decision = DecideResponse(plan=Plan(model="m"), record=DecisionRecord(catalog_version="c1"))
    return made


def marked_up(millionths: int) -> Admission:
    """Of a caller who pays so many times what vendors ask."""
    return Admission(cast("House", None), Verdict(multiplier_millionths=millionths))


def finish(made: Trail, **usage: int) -> None:
    used = Usage(**usage)  # type: ignore[arg-type] # counts only
    made.completed(used, Finished(reason=FINISH_REASON_STOP, first_token_microseconds=5, total_microseconds=9))


@given(st.dictionaries(st.sampled_from(COUNTS), st.integers(-(1 << 63), (1 << 63) - 1), min_size=1), st.booleans())
def test_a_vendor_may_say_anything(counts: dict[str, int], twice: bool) -> None:
    """The call is recorded and charged, as far as the figures can be true; nobody gains by a number."""
    made = trail()
    if twice:
        made.trying(ATTEMPT)
        made.usage = Usage(**counts)  # type: ignore[arg-type] # counts only
        made.failed(BROKEN)
    made.trying(ATTEMPT)
    finish(made, **counts)
    record = record_of(made)
    settled = list(charges_of([record]))

    assert all(one.cost_nanos >= 0 for one in settled)
    assert all(plausible(one.usage) or one.rule == QUARANTINED for one in settled)
    assert 0 <= tokens_in(Usage(**counts)) <= MOST  # type: ignore[arg-type] # counts only


def test_completed_call() -> None:
    """The record names everything that was used and known."""
    made = trail()
    made.trying(ATTEMPT)
    made.handed_out()
    finish(made, input_tokens=3, output_tokens=2, reasoning_tokens=4)
    record = record_of(made)

    assert metrics_pb2.OUTCOME_COMPLETED == record.outcome
    assert ("r-1", "m", "m", "a/x", "a") == (
        record.request_id,
        record.requested_model,
        record.model,
        record.deployment,
        record.provider,
    )
    assert 3 * 2000 + 6 * 10_000 == record.cost_nanos
    assert ("v1", "c1", "ann", {"team": "red"}) == (
        record.price_version,
        record.catalog_version,
        record.user,
        dict(record.tags),
    )
    assert [(pb.FAULT_UNSPECIFIED, 6, False)] == [
        (attempt.fault, attempt.output_tokens, attempt.cancelled) for attempt in record.attempts
    ]
    assert (200, FINISH_REASON_STOP, CALLER) == (record.http_status, record.finish_reason, record.caller)


def test_price_is_that_of_the_attempt_that_answered() -> None:
    """Not of the one that was tried first."""
    made = trail()
    made.trying(ATTEMPT)
    made.failed(BROKEN)
    made.trying(OTHER)
    made.handed_out()
    finish(made, input_tokens=10**6)

    assert 1 == record_of(made).cost_nanos
    assert [("a/x", pb.FAULT_SERVER, 503), ("b/y", pb.FAULT_UNSPECIFIED, 0)] == [
        (attempt.deployment, attempt.fault, attempt.upstream_status) for attempt in record_of(made).attempts
    ]


def test_what_is_charged() -> None:
    """Each attempt's cost times the call's multiplier, each rounded by itself, as the ledger does it."""
    plain, tried = trail(), trail()
    for made in (plain, tried):
        made.trying(OTHER)
        if made is tried:
            made.usage = Usage(input_tokens=10**6)
            made.failed(BROKEN)
            made.trying(OTHER)
        finish(made, input_tokens=10**6)
        assert record_of(made).cost_nanos == record_of(made).charged_nanos
        made.admission = marked_up(1_500_000)

    assert (1, 2) == (record_of(plain).cost_nanos, record_of(plain).charged_nanos)
    assert record_of(plain).multiplier_millionths == record_of(tried).multiplier_millionths > 1_000_000
    assert (2, 2 + 2) == (record_of(tried).cost_nanos, record_of(tried).charged_nanos)


def test_what_cannot_be_charged() -> None:
    """A price that nobody knows leaves out that attempt; an amount that cannot be true is nobody's debt."""
    unpriced, half, dear, absurd = trail(), trail(), trail(), trail()
    unpriced.trying(Attempt(deployment="a/x"))
    half.trying(OTHER)
    half.usage = Usage(input_tokens=10**6)
    half.failed(BROKEN)
    half.trying(Attempt(deployment="a/x"))
    dear.trying(Attempt(price=Price(input=MOST_COST)))
    absurd.trying(ATTEMPT)
    for made, tokens in ((unpriced, 3), (half, 3), (dear, 10**6), (absurd, MOST_COUNTED + 1)):
        finish(made, input_tokens=tokens)
        made.admission = marked_up(2_000_000)
    records = list(map(record_of, (unpriced, half, dear, absurd)))

    assert [False, True, True, False] == [record.HasField("charged_nanos") for record in records]
    assert [False, False, True, False] == [record.HasField("cost_nanos") for record in records]
    assert [0, 2, 0, 0] == [record.charged_nanos for record in records]


def test_unknown_price_is_not_nothing() -> None:
    """Used without a price: unknown. Not used at all: nothing, whatever the price."""
    used, unused = trail(), trail()
    used.trying(Attempt(deployment="a/x"))
    finish(used, input_tokens=3)
    unused.ended(MeshError(pb.REASON_NO_DEPLOYMENT, "none"))

    assert not record_of(used).HasField("cost_nanos")
    assert (True, 0) == (record_of(unused).HasField("cost_nanos"), record_of(unused).cost_nanos)


def test_refused_call() -> None:
    """Nothing was sent to a vendor."""
    made = trail()
    made.ended(MeshError(pb.REASON_NO_DEPLOYMENT, "none"))
    record = record_of(made)

    assert (metrics_pb2.OUTCOME_REFUSED, pb.REASON_NO_DEPLOYMENT, 400) == (
        record.outcome,
        record.reason,
        record.http_status,
    )


def test_failed_call() -> None:
    """Every attempt failed before any content."""
    made = trail()
    made.trying(ATTEMPT)
    made.failed(BROKEN)
    made.ended(BROKEN)
    record = record_of(made)

    assert (metrics_pb2.OUTCOME_FAILED, 503, 0) == (record.outcome, record.http_status, record.cost_nanos)
    assert not record.HasField("usage")


def test_broken_call_is_charged_for_what_was_delivered() -> None:
    """The vendor will charge for it; the figures are ours, and say so. The status had gone out as 200."""
    made = trail()
    made.trying(ATTEMPT)
    made.handed_out()
    made.content_events = 5
    made.failed(BROKEN)
    made.ended(BROKEN)
    record = record_of(made)

    assert (metrics_pb2.OUTCOME_BROKEN, pb.REASON_UPSTREAM, 200) == (record.outcome, record.reason, record.http_status)
    assert Usage(input_tokens=7, output_tokens=5, estimated=True) == record.usage
    assert 7 * 2000 + 5 * 10_000 == record.cost_nanos


def test_caller_who_leaves() -> None:
    """The attempt says nothing of the vendor, and what was delivered is charged."""
    made = trail()
    made.trying(ATTEMPT)
    made.content_events = 2
    made.left()
    record = record_of(made)

    assert (metrics_pb2.OUTCOME_CANCELLED, 499) == (record.outcome, record.http_status)
    assert [True] == [attempt.cancelled for attempt in record.attempts]
    assert Usage(input_tokens=7, output_tokens=2, estimated=True) == record.usage


def test_caller_who_leaves_between_two_attempts() -> None:
    """The one that failed is not counted twice, and nothing is charged for it."""
    made = trail()
    made.trying(ATTEMPT)
    made.failed(BROKEN)
    made.waited(1.0)
    made.left()
    record = record_of(made)

    assert [(pb.FAULT_SERVER, False)] == [(attempt.fault, attempt.cancelled) for attempt in record.attempts]
    assert 0 == record.cost_nanos


def test_vendors_own_figures_stand() -> None:
    """An estimate never replaces what the vendor counted."""
    made = trail()
    made.trying(ATTEMPT)
    made.handed_out()
    made.usage = Usage(input_tokens=1)
    made.left()

    assert Usage(input_tokens=1) == record_of(made).usage


def test_first_end_stands() -> None:
    """A call ends once; what happens while it is torn down changes nothing."""
    made = trail()
    made.trying(ATTEMPT)
    finish(made, input_tokens=3)
    made.left()
    made.ended(BROKEN)
    record = record_of(made)

    assert (metrics_pb2.OUTCOME_COMPLETED, pb.REASON_UNSPECIFIED, 1) == (
        record.outcome,
        record.reason,
        len(record.attempts),
    )


def test_failure_of_the_mesh_says_nothing_of_the_vendor() -> None:
    """Its deployment's success rate must not suffer."""
    made = trail()
    made.trying(ATTEMPT)
    made.failed(MeshError(pb.REASON_SERVICE_UNAVAILABLE, "providers restarts"))

    assert [True] == [attempt.cancelled for attempt in record_of(made).attempts]


@given(st.integers(0, 10**12), st.floats(0, 100))
def test_overhead_is_never_negative(upstream: int, waited: float) -> None:
    """Clocks of two processes differ; a figure below nothing would be nonsense."""
    made = trail()
    made.trying(ATTEMPT)
    made.opened(Started(upstream_microseconds=upstream))
    made.waited(waited)
    made.handed_out()
    record = record_of(made)

    assert 0 <= record.overhead_microseconds <= record.first_token_microseconds


def test_waiting_for_the_vendor_is_not_overhead() -> None:
    """Neither is waiting before another try."""
    made = trail()
    made.began -= 10
    made.trying(ATTEMPT)
    made.attempt_began -= 4
    made.failed(BROKEN)
    made.waited(2)
    made.trying(ATTEMPT)
    made.opened(Started(upstream_microseconds=3_000_000))
    made.handed_out()

    assert made.overhead == pytest.approx(1, abs=0.1)


def test_grpc_call_has_no_http_status() -> None:
    """0 says that there was none."""
    made = Trail("r-1", http=False)
    made.ended(BROKEN)

    assert 0 == record_of(made).http_status
