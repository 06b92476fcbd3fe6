"""`polyroute simulate --synthetic`: policies over made-up traffic, before there is any history.

Vendors that drift, brown out, stall, go down and change their prices come with a checkout, in `bench/`; every draw is
from the seed. A policy decides as in the gateway: live figures and the health of deployments, a slate, draws by the
call's id.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
from rich.table import Table

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.cli.output import show
from polyroute.mesh.roles import ConfigError
from polyroute.router.catalog import Deployment, Times
from polyroute.router.draws import numbers
from polyroute.router.figures import Figures, Spread
from polyroute.router.filters import Entrant, Kind
from polyroute.router.health.outcomes import Outcome
from polyroute.router.health.state import State
from polyroute.router.health.tracker import Health
from polyroute.router.health.unit import Member, Rules
from polyroute.router.policies import Policy
from polyroute.router.slate import Question, Slate

MODEL: Final = "model"
_TIMES: Final = Times(connect=5.0, first_token=60.0, inter_token=30.0, total=600.0)
_NANO_PER_MILLION: Final = 1_000_000_000_000  # of a price in USD per thousand tokens
_ATTEMPTS: Final = 3


class Ruled:
    """A router as the simulation knows them, under a policy.

    Args:
        policy: What rules.
        scenario: What is played: `bench.vendors_sim.Scenario`.
        clock: Its time.
    """

    def __init__(self, policy: Policy, scenario: Any, clock: Any) -> None:
        self._policy = policy
        self._vendors = scenario.vendors
        self._clock = clock
        self._health = Health(Rules(), clock=clock, seed=scenario.seed)
        self._health.arrange(Member(vendor.name, MODEL, vendor.name) for vendor in self._vendors)
        self._made: tuple[object, Slate] | None = None

    def order(self, call: str) -> Sequence[str]:
        """Whom to try, the first first."""
        slate = self._slate()
        order = [slate.runners[i].deployment.name for i in slate.pick(numbers(call), "").order] if slate.runners else []
        return list(self._health.steer(order, call).order)

    def began(self, vendor: str, call: str, attempt: int, hedged: bool) -> None:
        """An attempt is sent."""
        self._health.begin(vendor, call, attempt=attempt, hedged=hedged)

    def answered(self, call: str, attempt: int) -> None:
        """Its first token came."""
        self._health.answered(call, attempt=attempt)

    def ended(self, vendor: str, call: str, attempt: int, outcome: Outcome) -> None:
        """It is over."""
        self._health.end(vendor, call, outcome, attempt=attempt)

    def may_retry(self, vendor: str) -> bool:
        """Whether another attempt may follow."""
        return self._health.may_retry(vendor)

    def hedge_after(self, vendor: str) -> float | None:
        """Seconds until a second vendor is asked; None for never."""
        return self._health.hedge_after(vendor)

    def asks(self) -> Sequence[str]:
        """Vendors to ask whether they are there."""
        return self._health.asks()

    def told(self, vendor: str, there: bool) -> None:
        """What came of it."""
        self._health.told(vendor, there=there)

    def _slate(self) -> Slate:
        """Made again when the figures or a price are others."""
        state = self._health.state()
        prices = tuple(vendor.at(self._clock.now).price for vendor in self._vendors)
        key = (state.version, prices)
        if self._made is None or self._made[0] != key:
            question = Question((MODEL,), Kind(OPERATION_CHAT, (), 0, 0), self._policy, (), _ATTEMPTS, ("", 0))
            pairs = zip(self._vendors, prices, strict=True)
            self._made = key, Slate(question, [_entrant(vendor.name, price, state) for vendor, price in pairs])
        return self._made[1]


def simulate(policies: Sequence[Policy], seed: int, *, as_json: bool) -> None:
    """Prints what came of each scenario under each policy, beside static weights and those who know the future.

    Raises:
        ConfigError: There is no `bench/` here.
    """
    scenarios = _bench("bench.simulation")
    play = _bench("bench.vendors_sim").run
    rows = []
    for scenario, makers in scenarios.cases(seed):
        ours = {f"policy {policy.name}": partial(Ruled, policy) for policy in policies}
        known = {name: maker for name, maker in makers.items() if name in {"static", "oracle"}}
        rows += [_row(scenario, name, play(scenario, maker)) for name, maker in {**known, **ours}.items()]
    if as_json:
        print(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    table = Table(box=None)
    for name in rows[0]:
        table.add_column(name, justify="left" if name in {"scenario", "routing"} else "right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:.6g}" for value in row.values()))
    show(table)


def _bench(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        here = str(Path.cwd())
        if here in sys.path or not (Path.cwd() / "bench").is_dir():
            raise ConfigError("made-up traffic comes with a checkout of the project: run this at its root") from None
    sys.path.append(here)
    return importlib.import_module(name)


def _row(scenario: Any, name: str, tally: Any) -> Mapping[str, str | float]:
    return {
        "scenario": scenario.name,
        "routing": name,
        "calls": tally.calls,
        "USD per 1000 calls": 1000 * tally.cost / max(tally.served, 1),
        "first content P50, ms": 1e3 * tally.first_token(0.5),
        "first content P90, ms": 1e3 * tally.first_token(0.9),
        "success, %": 100 * tally.success,
        "attempts per call": tally.per_call,
    }


def _entrant(name: str, price: float, state: State) -> Entrant:
    deployment = Deployment(
        name, name, name, _TIMES, model=MODEL, price=pb.Price(output=round(price * _NANO_PER_MILLION))
    )
    found = state.of(name).figures
    first, speed = found.first_token, found.speed
    figures = Figures(
        latency=None if first is None else Spread(first.p50, first.p90, first.p99),
        throughput=None if speed is None else Spread(speed.p50, speed.p90, speed.p99),
        success=found.success,
        recent=None,
    )
    return Entrant(deployment, figures, "")
