"""Which attempt comes next: every fault against every plan, and what must hold for any sequence of failures."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault, Reason
from polyroute.api.router.v1.router_pb2 import Attempt
from polyroute.edge.failover import AGAIN, ELSEWHERE, SHORT_WAIT, Failure, Next, next_attempt, verdict
from polyroute.mesh.errors import MeshError

FAULTS = [fault for fault in Fault.values() if fault != pb.FAULT_UNSPECIFIED]
FINAL = (pb.FAULT_CLIENT, pb.FAULT_CONTEXT, pb.FAULT_FILTER)
# As decided for each class: may another deployment be tried, may the same one.
TABLE = {
    pb.FAULT_CONNECT: (True, True),
    pb.FAULT_SERVER: (True, True),
    pb.FAULT_RATE: (True, True),
    pb.FAULT_QUOTA: (True, False),
    pb.FAULT_CREDENTIAL: (True, False),
    pb.FAULT_MODEL_GONE: (True, False),
    pb.FAULT_CLIENT: (False, False),
    pb.FAULT_CONTEXT: (False, False),
    pb.FAULT_FILTER: (False, False),
    pb.FAULT_AMBIGUOUS: (True, False),
    pb.FAULT_BAD_ANSWER: (True, True),
    pb.FAULT_STALL: (True, False),
    pb.FAULT_TRUNCATED: (True, True),
    pb.FAULT_UNSUPPORTED: (True, False),
}
LONG = 600.0


def plan(candidates: int, *contexts: int, providers: str = "") -> list[Attempt]:
    """Deployments, each at a provider of its own unless said, with contexts where they are known."""
    found = contexts or (0,) * candidates
    return [Attempt(provider=providers[i] if providers else str(i), context_tokens=found[i]) for i in range(candidates)]


def failed(fault: Fault.ValueType, index: int = 0, retry_after: float | None = None, **told: str) -> Failure:
    return Failure(index, MeshError.upstream(fault, "told to", retry_after=retry_after, **told))


def place(following: Next | None) -> int | None:
    return None if following is None else following.index


def refused(reason: Reason.ValueType, index: int = 0) -> Failure:
    return Failure(index, MeshError(reason, "told to"))


def test_every_fault_is_in_the_table() -> None:
    """A fault that is new in the contract has to be decided here first."""
    assert set(FAULTS) == set(TABLE)


@pytest.mark.parametrize("candidates", [1, 2, 3])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_first_attempt_is_the_plans_first(candidates: int, most: int) -> None:
    """Nothing has failed: no wait, no choice."""
    assert Next(0) == next_attempt(plan(candidates), most, [], LONG)


@pytest.mark.parametrize("fault", FAULTS, ids=Fault.Name)
@pytest.mark.parametrize("candidates", [1, 2, 3])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_after_one_failure(fault: Fault.ValueType, candidates: int, most: int) -> None:
    """Elsewhere at once where that may help; the same deployment after a wait where nothing else is left."""
    elsewhere, again = TABLE[fault]
    room = most > 1 or fault == pb.FAULT_UNSUPPORTED  # of such an attempt nothing was sent: it takes no place
    following = next_attempt(plan(candidates), most, [failed(fault)], LONG)

    if room and elsewhere and candidates > 1:
        assert Next(1) == following
    elif room and again and candidates == 1:
        assert following is not None
        assert 0 == following.index
    else:
        assert following is None


@pytest.mark.parametrize("reason", [value for value in Reason.values() if value != pb.REASON_UPSTREAM], ids=Reason.Name)
def test_only_an_absent_providers_role_is_tried_again(reason: Reason.ValueType) -> None:
    """Every other refusal of the mesh is an answer, and no deployment would give another one."""
    following = next_attempt(plan(2), 3, [refused(reason)], LONG)

    assert (reason == pb.REASON_SERVICE_UNAVAILABLE) == (following is not None)


@pytest.mark.parametrize(
    ("retry_after", "left", "wait"),
    [
        (0.0, LONG, 0.0),
        (2.5, LONG, 2.5),
        (SHORT_WAIT, LONG, SHORT_WAIT),
        (SHORT_WAIT + 0.001, LONG, None),
        (120.0, LONG, None),
        (2.5, 2.5, None),
        (2.5, 2.6, 2.5),
    ],
)
def test_vendors_wait_is_kept_when_it_is_short(retry_after: float, left: float, wait: float | None) -> None:
    """The time a vendor asks for is waited for exactly, or not at all."""
    following = next_attempt(plan(1), 3, [failed(pb.FAULT_RATE, retry_after=retry_after)], left)

    assert wait == (None if following is None else following.wait)


def test_second_round_goes_to_the_one_that_failed_first() -> None:
    """It has had the longest time to recover; one that cannot is passed over."""
    both = [failed(pb.FAULT_SERVER, 0), failed(pb.FAULT_SERVER, 1)]
    hopeless = [failed(pb.FAULT_CREDENTIAL, 0), failed(pb.FAULT_SERVER, 1)]
    busy = [failed(pb.FAULT_RATE, 0, retry_after=60), failed(pb.FAULT_SERVER, 1)]
    following = [next_attempt(plan(2), 3, failures, LONG) for failures in (both, hopeless, busy)]

    assert [0, 1, 1] == [one.index for one in following if one is not None]


def test_a_request_that_may_have_been_charged_is_sent_twice_at_most() -> None:
    """The second silence ends the call, however many deployments are left."""
    once = [failed(pb.FAULT_AMBIGUOUS, 0)]
    twice = [*once, failed(pb.FAULT_AMBIGUOUS, 1)]

    assert Next(1) == next_attempt(plan(4), 4, once, LONG)
    assert None is next_attempt(plan(4), 4, twice, LONG)


@given(
    candidates=st.integers(1, 5),
    most=st.integers(1, 6),
    left=st.floats(0, 20),
    faults=st.lists(st.tuples(st.sampled_from(FAULTS), st.none() | st.floats(0, 10)), max_size=6),
)
def test_whatever_happens(
    candidates: int, most: int, left: float, faults: list[tuple[Fault.ValueType, float | None]]
) -> None:
    """Walking a plan while attempts fail in any way keeps every bound."""
    failures: list[Failure] = []
    for fault, retry_after in faults:
        following = next_attempt(plan(candidates), most, failures, left)
        if following is None:
            break
        tried = [failure.index for failure in failures]

        assert sum(failure.error.fault != pb.FAULT_UNSUPPORTED for failure in failures) < most
        assert following.index in range(candidates)
        assert following.index not in tried or set(range(candidates)) == set(tried)
        assert 0 <= following.wait <= SHORT_WAIT
        assert following.wait == 0 or following.wait < left
        assert not failures or failures[-1].error.fault in ELSEWHERE
        assert following.index not in tried or latest(failures, following.index) in AGAIN
        failures.append(failed(fault, following.index, retry_after))


def latest(failures: list[Failure], index: int) -> Fault.ValueType:
    return next(failure.error.fault for failure in reversed(failures) if failure.index == index)


@given(st.integers(1, 5), st.integers(2, 6), st.floats(0, 1000), st.sampled_from(FINAL), st.integers(0, 4))
def test_nothing_follows_a_fault_of_the_callers(
    candidates: int, most: int, left: float, fault: Fault.ValueType, index: int
) -> None:
    """A wrong request, a prompt too long and a filter's refusal end the call, first or later."""
    assume(index < candidates)
    before = [failed(pb.FAULT_SERVER, earlier) for earlier in range(index)]

    assert None is next_attempt(plan(candidates), most, [*before, failed(fault, index)], left)


def test_verdict_is_the_last_failure() -> None:
    """It says best what is wrong now."""
    assert pb.FAULT_STALL == verdict([failed(pb.FAULT_SERVER), failed(pb.FAULT_STALL, 1)]).fault


def test_verdict_names_the_soonest_way_back() -> None:
    """When every deployment limits our rate, the caller may come back as soon as one of them allows."""
    told = verdict([failed(pb.FAULT_RATE, 0, retry_after=7), failed(pb.FAULT_RATE, 1, retry_after=30)])

    assert (pb.FAULT_RATE, 7) == (told.fault, told.retry_after)


def test_model_is_gone_only_when_all_agree() -> None:
    """One deployment that has lost its model does not make the model unknown."""
    gone = failed(pb.FAULT_MODEL_GONE, 1)

    assert pb.FAULT_SERVER == verdict([failed(pb.FAULT_SERVER, 0), gone]).fault
    assert pb.FAULT_MODEL_GONE == verdict([failed(pb.FAULT_MODEL_GONE, 0), gone]).fault


@given(st.integers(1, 6), st.sets(st.integers(0, 5)), st.lists(st.integers(0, 5), max_size=3, unique=True))
def test_full_deployments_are_passed_over(candidates: int, full: set[int], tried: list[int]) -> None:
    """They count as no attempt; those that are left come before any second try, and no full one comes again."""
    full = {index for index in full if index < candidates}
    failures = [failed(pb.FAULT_SERVER, index) for index in sorted(tried) if index < candidates and index not in full]
    following = next_attempt(plan(candidates), 9, failures, LONG, full)
    beyond = max((failure.index for failure in failures), default=-1) + 1
    fresh = [index for index in range(beyond, candidates) if index not in full]

    if fresh:
        assert Next(fresh[0]) == following
    elif not failures:
        assert following is None
    else:
        assert following is not None
        assert following.index not in full


def test_a_longer_context_is_tried_once() -> None:
    """The first in the plan that is known to be longer; shorter, equal and unknown ones would refuse as well."""
    short = failed(pb.FAULT_CONTEXT)
    once = [place(next_attempt(plan(len(sizes), *sizes), 3, [short], LONG)) for sizes in SIZES]
    contexts = (8, 8, 200, 400)
    busy = next_attempt(plan(4, *contexts), 3, [short, failed(pb.FAULT_SERVER, 2)], LONG)
    twice = next_attempt(plan(4, *contexts), 3, [short, failed(pb.FAULT_CONTEXT, 2)], LONG)
    back = next_attempt(plan(2, 200, 8), 3, [failed(pb.FAULT_SERVER), failed(pb.FAULT_CONTEXT, 1)], LONG)

    assert [1, None, 2, None, None] == once
    assert (3, None, 0) == (place(busy), place(twice), place(back))


SIZES = [(8, 200), (8, 8), (8, 0, 200), (0, 200), (200, 8)]


def test_a_vendor_that_says_not_to_come_again_is_left_alone() -> None:
    """For the whole call, at every deployment of the account; other vendors are tried as ever."""
    no = failed(pb.FAULT_SERVER, should_retry="false")
    found = [next_attempt(plan(len(names), providers=names), 3, [no], LONG) for names in ("a", "aa", "aab")]
    later = next_attempt(plan(2, providers="ab"), 4, [no, failed(pb.FAULT_SERVER, 1)], LONG)

    assert [None, None, 2, 1] == [place(one) for one in (*found, later)]


def test_the_word_about_one_key_or_model_is_none_about_others() -> None:
    """Another key of the account has money left; a longer model of the vendor takes the longer prompt."""
    spent = failed(pb.FAULT_QUOTA, should_retry="false", other_keys="true")
    short = failed(pb.FAULT_CONTEXT, should_retry="false")

    assert Next(0) == next_attempt(plan(1), 3, [spent], LONG)
    assert Next(1) == next_attempt(plan(2, 8, 200, providers="aa"), 3, [short], LONG)


def test_a_vendor_that_says_to_try_again_is_believed_once() -> None:
    """Elsewhere, and not about what its filter refused."""
    yes = [failed(pb.FAULT_CLIENT, index, should_retry="true") for index in range(2)]
    shopping = failed(pb.FAULT_FILTER, should_retry="true")

    assert Next(1) == next_attempt(plan(3), 3, yes[:1], LONG)
    assert None is next_attempt(plan(3), 3, yes, LONG)
    assert None is next_attempt(plan(1), 3, yes[:1], LONG)
    assert None is next_attempt(plan(3), 3, [shopping], LONG)


@pytest.mark.parametrize("fault", FAULTS, ids=Fault.Name)
def test_what_a_vendor_keeps_is_made_once(fault: Fault.ValueType) -> None:
    """Once it may have begun to, no other attempt follows; a refusal is none."""
    kept = next_attempt(plan(2), 3, [failed(fault)], LONG, facts=RequestFacts(kept=True))
    begun = fault in (pb.FAULT_AMBIGUOUS, pb.FAULT_STALL, pb.FAULT_TRUNCATED)

    assert (None if begun else next_attempt(plan(2), 3, [failed(fault)], LONG)) == kept


def test_what_one_account_can_read_stays_there() -> None:
    """It is tried again there, at another deployment first, and nowhere else; not even when there is no room."""
    bound = RequestFacts(bound=True)
    down = [failed(pb.FAULT_SERVER, 0), failed(pb.FAULT_SERVER, 2)]
    found = [next_attempt(plan(3, providers="aba"), 4, down[:count], LONG, facts=bound) for count in (0, 1, 2)]

    assert [0, 2, 0] == [place(one) for one in found]
    assert 2 == place(next_attempt(plan(3, providers="aba"), 4, [], LONG, (0,), bound))
    assert None is next_attempt(plan(2), 4, [], LONG, (0,), bound)


def filtered(candidates: int, providers: str = "") -> list[Attempt]:
    """A plan whose last deployment is for calls that a filter refused."""
    attempts = plan(candidates, providers=providers)
    attempts[-1].after_filter = True
    return attempts


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != pb.FAULT_FILTER], ids=Fault.Name)
def test_who_is_asked_after_a_filter_is_no_failover(fault: Fault.ValueType) -> None:
    """Other faults go where they went without it."""
    for index in (0, 1):
        failures = [failed(fault, one) for one in range(index + 1)]
        expected = place(next_attempt(plan(2), 3, failures, LONG))

        assert expected == place(next_attempt(filtered(3), 3, failures, LONG))


def test_a_filters_refusal_goes_there_once() -> None:
    """Past everybody else and beyond the number of attempts; a second refusal ends the call."""
    once = [failed(pb.FAULT_FILTER)]
    twice = [*once, failed(pb.FAULT_FILTER, 2)]

    assert Next(2) == next_attempt(filtered(3), 1, once, LONG)
    assert Next(2) == next_attempt(filtered(3), 3, [failed(pb.FAULT_SERVER), failed(pb.FAULT_FILTER, 1)], LONG)
    assert next_attempt(filtered(3), 3, twice, LONG) is None
    assert next_attempt(filtered(3), 3, once, LONG, full={2}) is None
    assert next_attempt(filtered(2, "ab"), 3, once, LONG, facts=RequestFacts(bound=True)) is None


@pytest.mark.parametrize("fault", [pb.FAULT_SERVER, pb.FAULT_RATE, pb.FAULT_FILTER], ids=Fault.Name)
def test_the_first_refusal_stands_when_the_other_fails(fault: Fault.ValueType) -> None:
    """Nobody else is asked, and the caller hears of the filter."""
    failures = [failed(pb.FAULT_FILTER), failed(fault, 2)]

    assert next_attempt(filtered(3), 3, failures, LONG) is None
    assert failures[0].error is verdict(failures)
