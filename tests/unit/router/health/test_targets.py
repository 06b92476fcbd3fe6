"""What routing by health has to achieve against simulated vendors, on fixed seeds: the figures promised, no less."""

import pytest

from bench.simulation import (
    Healthy,
    brownout,
    by_latency,
    drift,
    even,
    hedged,
    late,
    latency_first,
    oracle,
    outage,
    price_first,
    prices,
    stalled,
)
from bench.vendors_sim import Clock, Scenario, Vendor, run
from polyroute.router.health.hedge import HedgeRules

SEEDS = (1, 2)


class Counted(Healthy):
    """Counts the hedges that begin in the middle of the outage."""

    hedges = 0

    def __init__(self, scenario: Scenario, clock: Clock) -> None:
        super().__init__(scenario, clock, by_latency, hedging=HedgeRules())
        self._now = clock

    def began(self, vendor: str, call: str, attempt: int, hedged: bool) -> None:
        super().began(vendor, call, attempt, hedged)
        Counted.hedges += hedged and 65.0 <= self._now() < 120.0


@pytest.mark.parametrize("seed", SEEDS)
def test_brownout(seed: int) -> None:
    """One of two vendors fails half of its calls and stalls a third: neither callers nor the other vendor suffer."""
    scenario = brownout(seed, rate=20.0)
    tally = run(scenario, even)

    assert tally.success >= 0.999
    assert tally.per_call <= 1.2
    assert tally.recovery(scenario.back or 0) <= 10
    assert tally.readmitted <= 10
    assert tally.first_token(0.99) <= 2 * 0.95  # s; twice what a healthy vendor gives


@pytest.mark.parametrize("seed", SEEDS)
def test_outage(seed: int) -> None:
    """When all are down, few calls still try, the others are told at once; when they are back, so is service."""
    scenario = outage(seed, rate=20.0)
    tally = run(scenario, even)

    assert tally.per_call <= 1.2
    assert tally.recovery(120.0) <= 10
    assert tally.refused > 0.5 * (tally.calls - tally.served)


@pytest.mark.parametrize("seed", SEEDS)
def test_silence(seed: int) -> None:
    """A vendor that hangs is left within five seconds, not after the minute that its first victims wait.

    Of those victims, retries are enough for all but a few; of the calls that come later none is lost.
    """
    tally = run(stalled(seed), even)
    since = [counts for second, counts in tally.spells.items() if second >= 35]

    assert tally.first_token(0.9) <= 1.0
    assert tally.per_call <= 1.2
    assert tally.success >= 0.995
    assert sum(served for _, served in since) >= 0.999 * sum(calls for calls, _ in since)


@pytest.mark.parametrize("seed", SEEDS)
def test_latency_first(seed: int) -> None:
    """Within 15 of a hundred of one that knows how quick every vendor is."""
    scenario = drift(seed, seconds=1200.0, rate=8.0)
    best, tally = run(scenario, oracle("latency")), run(scenario, latency_first)

    assert tally.first_token(0.9) <= 1.15 * best.first_token(0.9)
    assert tally.success >= 0.995


@pytest.mark.parametrize("seed", SEEDS)
def test_price_first(seed: int) -> None:
    """Within 2 of a hundred of one that knows who is well and what they charge."""
    scenario = prices(seed, rate=2.0)
    best, tally = run(scenario, oracle("price")), run(scenario, price_first)

    assert tally.cost / tally.served <= 1.02 * best.cost / best.served
    assert tally.success >= 0.995


def test_hedging_a_rare_tail() -> None:
    """Where the late ones are no more than hedges may be, the tail is halved for two calls of a hundred."""
    scenario = late(tail=0.015)
    plain, tally = run(scenario, latency_first), run(scenario, hedged)

    assert tally.first_token(0.99) <= 0.5 * plain.first_token(0.99)
    assert tally.hedges <= 0.02 * tally.calls


def test_hedging_a_common_tail() -> None:
    """Where they are more, it is cut as far as the budget reaches, and the budget holds."""
    scenario = late()
    plain, tally = run(scenario, latency_first), run(scenario, hedged)

    assert tally.first_token(0.99) < plain.first_token(0.99)
    assert tally.hedges <= 0.02 * tally.calls


def test_no_hedges_in_an_outage() -> None:
    """What fails is not hit twice."""
    tally = run(outage(rate=20.0), Counted)

    assert 0 == Counted.hedges
    assert tally.per_call <= 1.2


def test_the_same_seed_plays_the_same() -> None:
    """Or nothing could be compared."""
    assert run(drift(seconds=60.0), latency_first) == run(drift(seconds=60.0), latency_first)


def test_drift_stays_within_its_swing() -> None:
    """A vendor's latency wanders between its bounds and comes back."""
    vendor = Vendor("a", first_ms=100.0, swing=2.0, period=100.0)

    assert [100.0, 200.0, 100.0, 50.0, 100.0] == pytest.approx(
        [vendor.at(now).first_ms for now in (0, 25, 50, 75, 100)]
    )
