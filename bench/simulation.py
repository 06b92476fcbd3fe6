"""`python -m bench.simulation`: routing compared in simulated time, beside static weights and an oracle.

The oracle knows how every vendor really is at every moment, though not the dice: it sends each call to the vendor that
is best then, never to one that fails. Nobody can be expected to do better; the distance to it is what counts.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from bench.vendors_sim import Change, Clock, Maker, Router, Scenario, Tally, Vendor, run
from polyroute.router.health.chance import explorer
from polyroute.router.health.hedge import HedgeRules
from polyroute.router.health.outcomes import Outcome
from polyroute.router.health.state import State
from polyroute.router.health.tracker import Health
from polyroute.router.health.unit import Member, Rules

EXPLORE: Final = 0.02  # of calls, where the sort needs figures
HOUR: Final = 3600.0
Sort = Callable[[Scenario, float, State], list[str]]


class Static:
    """Weights and nothing else: each call is drawn for itself, and failures are tried elsewhere."""

    def __init__(self, scenario: Scenario, clock: Clock) -> None:
        self._names = [vendor.name for vendor in scenario.vendors]
        self._chance = random.Random(f"{scenario.seed}/static")

    def order(self, call: str) -> Sequence[str]:
        return self._chance.sample(self._names, len(self._names))

    def began(self, vendor: str, call: str, attempt: int, hedged: bool) -> None:
        pass

    def answered(self, call: str, attempt: int) -> None:
        pass

    def ended(self, vendor: str, call: str, attempt: int, outcome: Outcome) -> None:
        pass

    def may_retry(self, vendor: str) -> bool:
        return True

    def hedge_after(self, vendor: str) -> float | None:
        return None

    def asks(self) -> Sequence[str]:
        return ()

    def told(self, vendor: str, there: bool) -> None:
        pass


class Oracle(Static):
    """Knows how every vendor is now.

    Args:
        key: What it sorts by: `price` or `latency`.
    """

    def __init__(self, scenario: Scenario, clock: Clock, key: str) -> None:
        super().__init__(scenario, clock)
        self._vendors = scenario.vendors
        self._clock = clock
        self._key = key

    def order(self, call: str) -> Sequence[str]:
        found = [(vendor.at(self._clock.now), vendor.name) for vendor in self._vendors]
        found.sort(key=lambda one: (one[0].failing, one[0].price if self._key == "price" else one[0].first_ms))
        return [name for _, name in found]


class Healthy:
    """Sorts by price or live latency, and lets health have its say.

    Args:
        scenario: What is played.
        clock: Its time.
        sort: Gives the vendors in order.
        explore: Share of calls given to vendors whose figures are stale.
        hedging: The numbers of hedging; None for none.
    """

    def __init__(
        self, scenario: Scenario, clock: Clock, sort: Sort, explore: float = 0.0, hedging: HedgeRules | None = None
    ) -> None:
        self.health = Health(Rules(hedging=hedging), clock=clock, seed=scenario.seed)
        self.health.arrange(Member(vendor.name, "model", vendor.name) for vendor in scenario.vendors)
        self._scenario = scenario
        self._clock = clock
        self._sort = sort
        self._explore = explore
        self._at = -1
        self._sorted: list[str] = []
        self._stale: list[str] = []

    def order(self, call: str) -> Sequence[str]:
        state = self.health.state()
        if state.version != self._at:
            self._at = state.version
            self._stale = state.stale(vendor.name for vendor in self._scenario.vendors) if self._explore else []
        order = self._sort(self._scenario, self._clock.now, state)
        first = explorer(call, self._stale, self._explore)
        if first:
            order.remove(first)
            order.insert(0, first)
        return self.health.steer(order, call).order

    def began(self, vendor: str, call: str, attempt: int, hedged: bool) -> None:
        self.health.begin(vendor, call, attempt=attempt, hedged=hedged)

    def answered(self, call: str, attempt: int) -> None:
        self.health.answered(call, attempt=attempt)

    def ended(self, vendor: str, call: str, attempt: int, outcome: Outcome) -> None:
        self.health.end(vendor, call, outcome, attempt=attempt)

    def may_retry(self, vendor: str) -> bool:
        return self.health.may_retry(vendor)

    def hedge_after(self, vendor: str) -> float | None:
        return self.health.hedge_after(vendor)

    def asks(self) -> Sequence[str]:
        return self.health.asks()

    def told(self, vendor: str, there: bool) -> None:
        self.health.told(vendor, there=there)


def by_price(scenario: Scenario, now: float, state: State) -> list[str]:
    """The cheapest first."""
    return [vendor.name for vendor in sorted(scenario.vendors, key=lambda vendor: vendor.at(now).price)]


def by_latency(scenario: Scenario, now: float, state: State) -> list[str]:
    """The lowest live P90 of the first token first; those without figures last."""

    def value(vendor: Vendor) -> float:
        spread = state.of(vendor.name).figures.first_token
        return float("inf") if spread is None else spread.p90

    return [vendor.name for vendor in sorted(scenario.vendors, key=value)]


def even(scenario: Scenario, clock: Clock) -> Router:
    """Equal weights among those that are well."""
    chance = random.Random(f"{scenario.seed}/even")
    names = [vendor.name for vendor in scenario.vendors]
    return Healthy(scenario, clock, lambda *_: chance.sample(names, len(names)))


def price_first(scenario: Scenario, clock: Clock) -> Router:
    """The cheapest that is well."""
    return Healthy(scenario, clock, by_price)


def latency_first(scenario: Scenario, clock: Clock) -> Router:
    """The quickest that is well."""
    return Healthy(scenario, clock, by_latency, EXPLORE)


def hedged(scenario: Scenario, clock: Clock) -> Router:
    """The quickest, and a second one when the first is late."""
    return Healthy(scenario, clock, by_latency, EXPLORE, HedgeRules())


def oracle(key: str) -> Maker:
    """The one that knows."""
    return partial(Oracle, key=key)


def brownout(seed: int = 1, seconds: float = 240.0, rate: float = 50.0) -> Scenario:
    """One of two vendors fails half of its calls and stalls a third, for two minutes."""
    change = Change(30.0, 150.0, errors=0.5, stalls=1 / 3)
    return Scenario("brownout", (Vendor("a"), Vendor("b", changes=(change,))), seconds, rate, seed, back=150.0)


def stalled(seed: int = 1) -> Scenario:
    """One of two vendors no longer answers at all, and says nothing."""
    change = Change(30.0, 150.0, stalls=1.0)
    return Scenario("silence", (Vendor("a"), Vendor("b", changes=(change,))), 240.0, 50.0, seed, back=150.0)


def outage(seed: int = 1, rate: float = 50.0) -> Scenario:
    """Every vendor is down for a minute."""
    change = Change(60.0, 120.0, errors=1.0)
    vendors = (Vendor("a", changes=(change,)), Vendor("b", changes=(change,)))
    return Scenario("outage", vendors, 180.0, rate, seed, back=120.0)


def drift(seed: int = 1, seconds: float = 1800.0, rate: float = 10.0) -> Scenario:
    """Four vendors whose latencies wander, one of which becomes slow for a while and another one fails for a while."""
    vendors = (
        Vendor("a", first_ms=420, swing=1.7, period=900),
        Vendor("b", first_ms=480, swing=1.6, period=1300, offset=400, changes=(Change(700, 900, slower=4.0),)),
        Vendor("c", first_ms=520, swing=1.8, period=1100, offset=700, changes=(Change(300, 420, errors=0.8),)),
        Vendor("d", first_ms=900, swing=1.2, period=700),
    )
    return Scenario("drift", vendors, seconds, rate, seed)


def prices(seed: int = 1, seconds: float = HOUR, rate: float = 5.0) -> Scenario:
    """Three vendors whose prices change; the cheapest is down for two minutes and browns out for three."""
    vendors = (
        Vendor("a", price=0.6, changes=(Change(600, 720, errors=1.0), Change(2400, 2580, errors=0.5, stalls=0.2))),
        Vendor("b", price=0.8, changes=(Change(1500, 2100, dearer=0.5),)),
        Vendor("c", price=1.2),
    )
    return Scenario("prices", vendors, seconds, rate, seed)


def late(seed: int = 1, seconds: float = 600.0, rate: float = 20.0, tail: float = 0.05) -> Scenario:
    """Two vendors that are late with one first token in twenty."""
    vendors = tuple(
        Vendor(name, first_ms=first, tail=tail, tail_factor=8.0) for name, first in (("a", 400), ("b", 440))
    )
    return Scenario("late tail", vendors, seconds, rate, seed)


def cases(seed: int) -> list[tuple[Scenario, dict[str, Maker]]]:
    """What the table shows: scenarios, and who routes in each."""
    both: dict[str, Maker] = {"static": Static, "health": even}
    return [
        (brownout(seed), both),
        (stalled(seed), both),
        (outage(seed), both),
        (drift(seed), {"static": Static, "latency": latency_first, "oracle": oracle("latency")}),
        (prices(seed), {"static": Static, "price": price_first, "oracle": oracle("price")}),
        (late(seed), {"latency": latency_first, "hedged": hedged}),
    ]


def row(scenario: Scenario, name: str, tally: Tally) -> str:
    """A line of the table."""
    back = scenario.back
    recovery = "" if back is None else f"{tally.recovery(back):.0f}"
    readmitted = "" if back is None else f"{tally.readmitted:.1f}"
    cells = [
        scenario.name,
        name,
        f"{tally.calls}",
        f"{1000 * tally.cost / max(tally.served, 1):.2f}",
        f"{1e3 * tally.first_token(0.9):.0f}",
        f"{1e3 * tally.first_token(0.99):.0f}",
        f"{100 * tally.success:.2f}",
        f"{tally.per_call:.3f}",
        recovery,
        readmitted,
    ]
    return f"| {' | '.join(cells)} |"


COLUMNS: Final = (
    "scenario",
    "routing",
    "calls",
    "USD per 1000",
    "P90 first token, ms",
    "P99, ms",
    "success, %",
    "attempts per call",
    "recovery, s",
    "vendor back, s",
)
HEAD: Final = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    print(HEAD)
    for scenario, makers in cases(seed):
        for name, make in makers.items():
            print(row(scenario, name, run(scenario, make)), flush=True)


if __name__ == "__main__":
    main()
