"""Which attempt comes next, if any: the decided rules of fault classes, as a pure function.

The first try at each deployment comes before any second one; a second try at the same deployment waits first. A fault
that another try cannot mend ends the call at once.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from polyroute.api.errors.v1 import errors_pb2 as pb
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
    candidates: int, most: int, failures: Sequence[Failure], left: float, full: Collection[int] = ()
) -> Next | None:
    """What to try after `failures`.

    Args:
        candidates: Deployments in the plan.
        most: Most attempts in all.
        failures: The attempts so far, oldest first.
        left: Seconds until the call's deadline.
        full: Places in the plan of deployments that have no room for the call.

    Returns:
        The next attempt; None when none can help.
    """
    if not failures:
        first = max(full, default=-1) + 1
        return Next(first) if first < candidates else None
    sent = sum(failure.error.fault != pb.FAULT_UNSUPPORTED for failure in failures)
    if sent >= most or not _retryable(failures[-1].error, ELSEWHERE):
        return None
    if _ambiguous(failures) > 1:
        return None  # the request may have been charged twice already
    fresh = max((*full, *(failure.index for failure in failures))) + 1
    if fresh < candidates:
        return Next(fresh)
    return _again([failure for failure in failures if failure.index not in full], left)


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


def _ambiguous(failures: Sequence[Failure]) -> int:
    return sum(failure.error.fault == pb.FAULT_AMBIGUOUS for failure in failures)


def _backoff(rounds: int) -> float:
    """Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/."""
    return random.uniform(0, min(FIRST_BACKOFF * 2**rounds, LONGEST_BACKOFF))  # noqa: S311 - spreads retries only


def verdict(failures: Sequence[Failure]) -> MeshError:
    """What the caller is told when nothing is left to try: the last failure, with the soonest way back of all."""
    last = failures[-1].error
    waits = [failure.error.retry_after for failure in failures if failure.error.retry_after is not None]
    if last.fault == pb.FAULT_RATE and waits:
        last.retry_after = min(waits)
    if last.metadata.get("upstream_status") in _BUSY and last.retry_after is None:  # when, nobody said
        last.retry_after = COME_BACK
    if last.fault in _OUR_CHOICE:
        return next((failure.error for failure in failures if failure.error.fault not in _OUR_CHOICE), last)
    return last
