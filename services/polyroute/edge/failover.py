"""Which attempt comes next, if any: the decided rules of fault classes, as a pure function.

The first try at each deployment comes before any second one; a second try at the same deployment waits first. A fault
that another try cannot mend ends the call at once. What a vendor itself says of another try (`x-should-retry`) is
obeyed: `false` rules that provider out, `true` gives one try elsewhere to a call that would end.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt
from polyroute.mesh.errors import MeshError

SHORT_WAIT: Final = 5.0  # s: a vendor's own Retry-After that is worth waiting for
FIRST_BACKOFF: Final = 0.25  # s
LONGEST_BACKOFF: Final = 4.0  # s
COME_BACK: Final = 1.0  # s: what a caller is told whose call every vendor failed

# Another deployment may do better.
ELSEWHERE: Final = frozenset(
    {
        pb.FAULT_CONNECT,
        pb.FAULT_SERVER,
        pb.FAULT_RATE,
        pb.FAULT_QUOTA,
        pb.FAULT_CREDENTIAL,
        pb.FAULT_MODEL_GONE,
        pb.FAULT_AMBIGUOUS,
        pb.FAULT_BAD_ANSWER,
        pb.FAULT_STALL,
        pb.FAULT_TRUNCATED,
        pb.FAULT_UNSUPPORTED,
    }
)
# The same deployment may do better after a while. Credentials, quotas and missing models do not mend in seconds; after
# a stall or a reset the vendor may be at work on the request still.
AGAIN: Final = frozenset({pb.FAULT_CONNECT, pb.FAULT_SERVER, pb.FAULT_RATE, pb.FAULT_BAD_ANSWER, pb.FAULT_TRUNCATED})
# The vendor may have begun to work on the request, or be done with it.
_BEGUN: Final = frozenset({pb.FAULT_AMBIGUOUS, pb.FAULT_STALL, pb.FAULT_TRUNCATED})
# What a vendor's word that another try may help does not change.
_SETTLED: Final = frozenset({pb.FAULT_CONTEXT, pb.FAULT_FILTER})
SHOULD_RETRY: Final = "should_retry"  # what a vendor said of another try, `true` or `false`, in an error's metadata
NOTHING_SPECIAL: Final = RequestFacts()
_BUSY: Final = frozenset({"503", "529"})  # statuses of a vendor that has too much to do
# Faults that say more of where the call was sent than of the call: any other failure tells the caller more.
_OUR_CHOICE: Final = frozenset({pb.FAULT_MODEL_GONE, pb.FAULT_UNSUPPORTED})


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that failed before any content was handed out.

    Attributes:
        index: Its place in the plan, counting from 0.
        error: What happened.
    """

    index: int
    error: MeshError


@dataclass(frozen=True, slots=True)
class Next:
    """The next attempt.

    Attributes:
        index: Its place in the plan.
        wait: Seconds to wait first.
    """

    index: int
    wait: float = 0.0


def next_attempt(
    attempts: Sequence[Attempt],
    most: int,
    failures: Sequence[Failure],
    left: float,
    full: Collection[int] = (),
    facts: RequestFacts = NOTHING_SPECIAL,
) -> Next | None:
    """What to try after `failures`.

    Args:
        attempts: The plan's deployments, in order.
        most: Most attempts in all.
        failures: The attempts so far, oldest first.
        left: Seconds until the call's deadline.
        full: Places in the plan of deployments that have no room for the call.
        facts: Of the call: whether it may be sent again, and to whom.

    Returns:
        The next attempt; None when none can help.
    """
    if not failures and not full:
        return Next(0) if attempts else None
    if failures and failures[-1].error.fault == pb.FAULT_FILTER:
        return _after_filter(attempts, failures, full, facts)
    sent = sum(failure.error.fault != pb.FAULT_UNSUPPORTED for failure in failures)
    if sent >= most or not _goes_on(failures, facts):
        return None
    bounds = _bounds(attempts, failures, facts)
    fresh = max((failure.index for failure in failures), default=-1) + 1
    for index in range(fresh, len(attempts)):
        if index not in full and bounds.admit(attempts[index]) and not attempts[index].after_filter:
            return Next(index)
    open_ones = [one for one in failures if one.index not in full and bounds.admit(attempts[one.index])]
    return _again(open_ones, left)


def fallback_of(attempts: Sequence[Attempt], tried: Attempt) -> int | None:
    """The place in the plan of who is asked once when a filter refused `tried`; None when nobody is."""
    if tried.after_filter:
        return None
    return next((index for index, one in enumerate(attempts) if one.after_filter), None)


def _after_filter(
    attempts: Sequence[Attempt], failures: Sequence[Failure], full: Collection[int], facts: RequestFacts
) -> Next | None:
    """Whom the policy names for a call that a filter refused: it is asked beyond the number of attempts, once."""
    index = fallback_of(attempts, attempts[failures[-1].index])
    if index is None or index in full or not _bounds(attempts, failures, facts).admit(attempts[index]):
        return None
    return Next(index)


def _goes_on(failures: Sequence[Failure], facts: RequestFacts) -> bool:
    """Whether any other attempt may follow these."""
    if not failures:
        return True
    if facts.kept and any(failure.error.fault in _BEGUN for failure in failures):
        return False  # the vendor may have it already, and would have it twice
    if _count(failures, pb.FAULT_AMBIGUOUS) > 1:
        return False  # the request may have been charged twice already
    if _count(failures, pb.FAULT_FILTER):
        return False  # whoever was asked instead is asked once
    last = failures[-1].error
    if _retryable(last, ELSEWHERE):
        return True
    if last.fault == pb.FAULT_CONTEXT:
        return _count(failures, pb.FAULT_CONTEXT) == 1
    return _asked_back(last) and sum(_asked_back(failure.error) for failure in failures) == 1


@dataclass(frozen=True, slots=True)
class _Bounds:
    """Which deployments may be tried after some failures.

    Attributes:
        only: The one provider that can read the request; empty when any can.
        closed: Providers that said not to come again.
        above: The context, in tokens, that was too short.
    """

    only: str
    closed: frozenset[str]
    above: float

    def admit(self, attempt: Attempt) -> bool:
        """Whether this one may be."""
        if self.only and attempt.provider != self.only:
            return False
        return attempt.provider not in self.closed and (not self.above or attempt.context_tokens > self.above)


def _bounds(attempts: Sequence[Attempt], failures: Sequence[Failure], facts: RequestFacts) -> _Bounds:
    closed = (attempts[failure.index].provider for failure in failures if _closed(failure.error))
    short = (
        attempts[failure.index].context_tokens or inf  # than what is not known nothing is known to be larger
        for failure in failures
        if failure.error.fault == pb.FAULT_CONTEXT
    )
    return _Bounds(attempts[0].provider if facts.bound else "", frozenset(closed), max(short, default=0))


def _closed(error: MeshError) -> bool:
    """Whether a vendor said not to try again; of one key that says nothing about others, of a model not of a larger."""
    told = error.metadata.get(SHOULD_RETRY) == "false"
    return told and not _by_another_key(error) and error.fault != pb.FAULT_CONTEXT


def _asked_back(error: MeshError) -> bool:
    """Whether a vendor said to try again where its fault would end the call; nobody goes shopping for a lax filter."""
    if error.reason != pb.REASON_UPSTREAM or error.fault in ELSEWHERE or error.fault in _SETTLED:
        return False
    return error.metadata.get(SHOULD_RETRY) == "true"


def _again(failures: Sequence[Failure], left: float) -> Next | None:
    """A second try at the deployment that failed longest ago and may have recovered."""
    latest = {failure.index: failure.error for failure in failures}
    for index in dict.fromkeys(failure.index for failure in failures):
        error = latest[index]
        if not (_retryable(error, AGAIN) or _by_another_key(error)):
            continue
        rounds = sum(failure.index == index for failure in failures)
        wait = _wait(error, rounds)
        if wait <= SHORT_WAIT and wait < left:
            return Next(index, wait)
    return None


def _retryable(error: MeshError, faults: frozenset[pb.Fault.ValueType]) -> bool:
    if error.reason == pb.REASON_SERVICE_UNAVAILABLE:  # the providers role itself is restarting
        return True
    return error.reason == pb.REASON_UPSTREAM and error.fault in faults


def _by_another_key(error: MeshError) -> bool:
    """Whether one key of the account was refused and another one need not be."""
    return error.metadata.get("other_keys") == "true"


def _wait(error: MeshError, rounds: int) -> float:
    """Seconds before another try at the same deployment."""
    if _by_another_key(error):
        return 0.0
    return _backoff(rounds) if error.retry_after is None else error.retry_after


def _count(failures: Sequence[Failure], fault: pb.Fault.ValueType) -> int:
    return sum(failure.error.fault == fault for failure in failures)


def _backoff(rounds: int) -> float:
    """Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/."""
    return random.uniform(0, min(FIRST_BACKOFF * 2**rounds, LONGEST_BACKOFF))  # noqa: S311 - spreads retries only


def verdict(failures: Sequence[Failure]) -> MeshError:
    """What the caller is told when nothing is left to try: the last failure, with the soonest way back of all.

    A filter's refusal stands, whatever became of whom the policy named instead.
    """
    last = next((one.error for one in failures if one.error.fault == pb.FAULT_FILTER), failures[-1].error)
    waits = [failure.error.retry_after for failure in failures if failure.error.retry_after is not None]
    if last.fault == pb.FAULT_RATE and waits:
        last.retry_after = min(waits)
    if last.metadata.get("upstream_status") in _BUSY and last.retry_after is None:  # when, nobody said
        last.retry_after = COME_BACK
    if last.fault in _OUR_CHOICE:
        return next((failure.error for failure in failures if failure.error.fault not in _OUR_CHOICE), last)
    return last
