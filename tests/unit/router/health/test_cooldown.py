"""Cool-downs: how long something is left alone, and when it is not the whole deployment."""

import pytest

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.router.health.cooldown import Cooldown, of_provider
from polyroute.router.health.outcomes import Outcome


def left(cooldown: Cooldown, now: float) -> float:
    rest = cooldown.current(now)
    return 0.0 if rest is None else rest.until - now


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        (pb.FAULT_RATE, [1, 2, 4, 8, 16, 32, 60, 60]),
        (pb.FAULT_QUOTA, [900, 900, 900]),
        (pb.FAULT_CREDENTIAL, [60, 120, 240, 480, 960, 1920, 3600, 3600]),
        (pb.FAULT_MODEL_GONE, [60, 120, 240]),
    ],
)
def test_rests_grow(fault: pb.Fault.ValueType, seconds: list[float]) -> None:
    """Each refusal after a rest makes the next rest longer, up to a bound."""
    cooldown, now, found = Cooldown(), 100.0, []
    for _ in seconds:
        cooldown.rest(Outcome(fault), now)
        found.append(left(cooldown, now))
        now += left(cooldown, now)

    assert seconds == found


def test_the_vendor_knows_best() -> None:
    """Its own Retry-After is obeyed, within an hour."""
    cooldown, greedy = Cooldown(), Cooldown()
    cooldown.rest(Outcome(pb.FAULT_RATE, retry_after=17.0), 100.0)
    greedy.rest(Outcome(pb.FAULT_RATE, retry_after=1e6), 100.0)

    assert (17.0, 3600.0) == (left(cooldown, 100.0), left(greedy, 100.0))


def test_refusals_together_are_one() -> None:
    """Calls that were under way when the limit was reached do not make the rest longer."""
    cooldown = Cooldown()
    for _ in range(20):
        cooldown.rest(Outcome(pb.FAULT_RATE), 100.0)

    assert 1.0 == left(cooldown, 100.0)


def test_success_forgives() -> None:
    """Once it worked, the next refusal is a first one again."""
    cooldown = Cooldown()
    for now in (100.0, 102.0, 106.0):
        cooldown.rest(Outcome(pb.FAULT_RATE), now)
    cooldown.worked(0, 120.0)
    cooldown.rest(Outcome(pb.FAULT_RATE), 130.0)

    assert 1.0 == left(cooldown, 130.0)


def test_success_of_an_earlier_call_forgives_nothing() -> None:
    """What comes while it rests was sent before."""
    cooldown = Cooldown()
    cooldown.rest(Outcome(pb.FAULT_RATE, retry_after=30.0), 100.0)
    cooldown.worked(0, 101.0)

    assert 29.0 == left(cooldown, 101.0)


def test_one_key_of_several() -> None:
    """A deployment rests only when all keys do, and until the first is back."""
    cooldown = Cooldown(keys=2)
    cooldown.rest(Outcome(pb.FAULT_RATE, retry_after=30.0, key=1), 100.0)
    one = left(cooldown, 100.0)
    cooldown.rest(Outcome(pb.FAULT_RATE, retry_after=10.0, key=2), 100.0)

    assert (0.0, 10.0, 0.0) == (one, left(cooldown, 100.0), left(cooldown, 111.0))


def test_all_keys() -> None:
    """An account that says all of its keys rest is believed."""
    cooldown = Cooldown(keys=3)
    cooldown.rest(Outcome(pb.FAULT_RATE, retry_after=30.0), 100.0)

    assert 30.0 == left(cooldown, 100.0)


def test_changed_keys() -> None:
    """Who changes the keys starts anew."""
    cooldown = Cooldown()
    cooldown.rest(Outcome(pb.FAULT_CREDENTIAL, status=401), 100.0)
    cooldown.forget()

    assert (0.0, False) == (left(cooldown, 100.0), cooldown.any)


@pytest.mark.parametrize(
    ("outcome", "whole"),
    [
        (Outcome(pb.FAULT_RATE, status=429), False),
        (Outcome(pb.FAULT_QUOTA, status=402), True),
        (Outcome(pb.FAULT_CREDENTIAL, status=401), True),
        (Outcome(pb.FAULT_CREDENTIAL, status=403), False),
        (Outcome(pb.FAULT_MODEL_GONE, status=404), False),
    ],
)
def test_whose_rest_it_is(outcome: Outcome, whole: bool) -> None:
    """Money and refused keys are the provider's; limits and forbidden or missing models the deployment's."""
    assert whole == of_provider(outcome)
