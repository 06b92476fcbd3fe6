"""Limits of models: taken once it is known which models may serve a call."""

import pytest

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.auth.v1.limits_pb2 import LIMIT_KIND_CONCURRENCY, LIMIT_KIND_REQUESTS, Limit
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt
from tests.unit.edge.peers import CALLER
from tests.unit.edge.test_allowance import Counter, counter, limited, refused

__all__ = ["counter"]


def attempts_at(*models: str) -> list[Attempt]:
    """A plan, by the models of its attempts."""
    return [Attempt(deployment=f"a/{model}", model=model) for model in models]


@pytest.mark.parametrize(
    ("names", "models"),
    [
        (["m"], ["m"]),
        (["m:floor"], ["m"]),
        (["a/m-1"], ["m"]),
        (["fast"], ["m"]),
        (["M"], ["other"]),  # asked for, as the catalog would read it
        (["fast:floor", "m"], ["other"]),  # an alias that another name led to
    ],
)
async def test_limit_of_a_model_binds_whoever_may_be_served_by_it(
    counter: Counter, names: list[str], models: list[str]
) -> None:
    """However it was asked for."""
    admission = await counter.admit(limited(LIMIT_KIND_REQUESTS, model="m"))
    error = await refused(admission.count(names, attempts_at(*models)))

    assert (pb.REASON_RATE_LIMITED, "m") == (error.reason, error.metadata["model"])


async def test_limit_of_a_model_binds_no_other(counter: Counter) -> None:
    """Nobody is asked about it."""
    admission = await counter.admit(limited(LIMIT_KIND_REQUESTS, model="other"))
    closed = await admission.count(["m"], attempts_at("m"))

    assert ({}, []) == (closed, counter.limits.claims)


async def test_model_whose_limit_is_reached_gives_way_to_the_next(counter: Counter) -> None:
    """As long as there is one; what the call takes of other limits is counted once, and comes back if it is refused."""
    counter.limits.there, counter.limits.shut = 9, {"m", "n"}
    limits = [
        Limit(scope="key_1", kind=LIMIT_KIND_CONCURRENCY, amount=9),
        Limit(scope="key_1", kind=LIMIT_KIND_REQUESTS, amount=60, model="m"),
        Limit(scope="key_1", kind=LIMIT_KIND_REQUESTS, amount=60, model="n"),
    ]
    admission = await counter.admit(Verdict(caller=CALLER, limits=limits[:2]))
    closed = await admission.count(["m"], attempts_at("m", "o", "m"))
    under_way = [share.under_way for share, _ in admission.taken]
    admission.close([], None)
    other = await counter.admit(Verdict(caller=CALLER, limits=limits))
    error = await refused(other.count(["m"], attempts_at("m", "n")))
    free = counter.allowances.shares.share(limits[0]).under_way

    assert ([0, 2], [1], 0) == (sorted(closed), under_way, free)
    assert "m" == error.metadata["model"]
    other.close([], None)
    assert 0 == counter.allowances.shares.share(limits[0]).under_way


async def test_limits_are_asked_for_together_once_the_models_are_known(counter: Counter) -> None:
    """One question; and none at all about a call that is refused anyway."""
    limits = [
        Limit(scope="key_1", kind=LIMIT_KIND_REQUESTS, amount=60),
        Limit(scope="key_1", kind=LIMIT_KIND_REQUESTS, amount=60, model="m"),
    ]
    verdict = Verdict(caller=CALLER, limits=limits)
    admission = await counter.admit(verdict)
    before = len(counter.limits.claims)
    await refused(admission.count(["m"], attempts_at("m")))
    asked = len(counter.limits.claims)
    await refused(counter.admit(verdict))

    assert (0, 2, 2) == (before, asked, len(counter.limits.claims))
