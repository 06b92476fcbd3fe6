"""Staged rollouts: an alias led to another model step by step, and back by itself when a guard is broken.

Pure: what was asked for, how far it is, what the calls of both models did, and the time give how far it is next. Every
router of one file follows the same row of its database, and one of them at a time evaluates it.

What the guards compare, over the calls of the alias since the step began:

- `error_rate`: the share that failed or broke, seen from the caller;
- `refusal_rate`: the share that ended because a filter or the model refused;
- `first_token_p90`: seconds to the first content, of those that had any;
- `cost_per_call`: USD, of those whose price is known.

Calls that the caller gave up, or that the gateway refused, say nothing. A share is broken as soon as even
`min_calls` good calls could not have kept it; the other two need `min_calls` values. A factor such as `1.5x` compares
with the old model's calls of the same time, which must be `min_calls` too; a share of nothing counts as one in
`min_calls`, or a single failure would break it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import FINISH_REASON_CONTENT_FILTER
from polyroute.api.metrics.v1 import metrics_pb2 as metrics
from polyroute.router.config import AliasConfig, CatalogConfig, RolloutConfig
from polyroute.router.fields import as_written
from polyroute.router.sources import digest_of
from polyroute.router.store import RolloutRow

RUNNING: Final = "running"
DONE: Final = "done"
ROLLED_BACK: Final = "rolled_back"

_MILLION: Final = 1_000_000
_NANO: Final = 1_000_000_000
_FINE: Final = 1000  # percentages are kept to a thousandth
_TOLD: Final = frozenset({metrics.OUTCOME_COMPLETED, metrics.OUTCOME_FAILED, metrics.OUTCOME_BROKEN})


class Side(NamedTuple):
    """What the calls of a model did.

    Args:
        calls: Those that say something.
        failed: Of these, those that failed or broke.
        refused: Of these, those that were refused.
        first_tokens: Seconds to the first content, ascending.
        costs: USD of each call of known price.
    """

    calls: int = 0
    failed: int = 0
    refused: int = 0
    first_tokens: Sequence[float] = ()
    costs: Sequence[float] = ()

    @property
    def first_token_p90(self) -> float:
        """Seconds; 0 without any."""
        return self.first_tokens[math.ceil(0.9 * len(self.first_tokens)) - 1] if self.first_tokens else 0.0

    @property
    def cost_per_call(self) -> float:
        """USD; 0 without any."""
        return sum(self.costs) / len(self.costs) if self.costs else 0.0


def began(alias: str, config: RolloutConfig, targets: Mapping[str, int], now: float) -> RolloutRow:
    """A rollout at its first step."""
    moment = int(now * _MILLION)
    return RolloutRow(alias, plan_of(config, targets), RUNNING, 0, moment, moment, "", now)


def plan_of(config: RolloutConfig, targets: Mapping[str, int]) -> str:
    """A digest of what a rollout is to do: another one begins anew."""
    return digest_of([as_written(config), sorted(targets.items())])


def percent_of(config: RolloutConfig, row: RolloutRow) -> float:
    """The share of the calls that go to the new model."""
    return 0.0 if row.state == ROLLED_BACK else config.steps[min(row.step, len(config.steps) - 1)]


def side(records: Iterable[metrics.CallRecord], names: frozenset[str]) -> Side:
    """What the calls did that were asked for by one of some names."""
    told = [record for record in records if record.outcome in _TOLD and _asked_for(record, names)]
    return Side(
        calls=len(told),
        failed=sum(record.outcome != metrics.OUTCOME_COMPLETED for record in told),
        refused=sum(record.finish_reason == FINISH_REASON_CONTENT_FILTER for record in told),
        first_tokens=sorted(one.first_token_microseconds / _MILLION for one in told if one.first_token_microseconds),
        costs=[record.cost_nanos / _NANO for record in told if record.HasField("cost_nanos")],
    )


def next_row(config: RolloutConfig, row: RolloutRow, new: Side, old: Side, now: float) -> RolloutRow:
    """How far a rollout is after one evaluation.

    Args:
        config: What was asked for.
        row: How far it was.
        new: Calls of the new model since the step began.
        old: Calls of the old ones in the same time.
        now: Seconds since 1970 UTC.
    """
    if row.state != RUNNING:
        return row
    moment = int(now * _MILLION)
    broken = next(_broken(config, new, old), None)
    if broken is not None:
        return row._replace(state=ROLLED_BACK, since_us=moment, reason=broken)
    if moment - row.since_us < config.every * _MILLION or new.calls < config.min_calls:
        return row._replace(reason=f"{new.calls} calls of {config.min_calls}, {new.failed} failed")
    reason = f"{new.calls} calls, {new.failed} failed"
    if row.step + 1 < len(config.steps):
        return row._replace(step=row.step + 1, since_us=moment, reason=reason)
    return row._replace(state=DONE, since_us=moment, reason=reason)


def overlaid(config: CatalogConfig, rows: Mapping[str, RolloutRow]) -> CatalogConfig:
    """A catalog whose aliases with a rollout have the weights of its step."""
    aliases = {name: _led(one, rows.get(name)) for name, one in config.aliases.items()}
    return config.model_copy(update={"aliases": aliases})


def wanted(config: CatalogConfig) -> dict[str, RolloutConfig]:
    """The rollouts of a catalog, by alias."""
    return {name: one.rollout for name, one in config.aliases.items() if one.rollout is not None}


def told(config: RolloutConfig, row: RolloutRow) -> str:
    """How far a rollout is, in words, such as `fast: 5 % to next`."""
    if row.state == ROLLED_BACK:
        return f"{row.alias}: rolled back from {config.to}: {row.reason}"
    done = ", done" if row.state == DONE else ""
    return f"{row.alias}: {percent_of(config, row):g} % to {config.to}{done}"


def _led(alias: AliasConfig, row: RolloutRow | None) -> AliasConfig:
    rollout = alias.rollout
    if rollout is None:
        return alias
    followed = row is not None and row.plan == plan_of(rollout, alias.targets)
    percent = percent_of(rollout, row) if row is not None and followed else rollout.steps[0]
    others = {name: weight for name, weight in alias.targets.items() if name != rollout.to}
    return alias.model_copy(update={"targets": _weights(others, rollout.to, percent)})


def _weights(others: Mapping[str, int], to: str, percent: float) -> dict[str, int]:
    """Targets with the new one last: whoever sticks to it keeps it while its share grows."""
    share = round(percent * _FINE)
    if not share:
        return dict(others)
    rest = 100 * _FINE - share
    weights = {name: weight * rest for name, weight in others.items()} if rest else {}
    weights[to] = sum(others.values()) * share
    divisor = math.gcd(*weights.values())
    total = sum(weights.values()) // divisor
    factor = 100 // total if 100 % total == 0 else 1  # shares of a hundred read best
    return {name: weight // divisor * factor for name, weight in weights.items()}


def _asked_for(record: metrics.CallRecord, names: frozenset[str]) -> bool:
    asked = record.requested_model.casefold()
    return asked in names or asked.partition(":")[0] in names


def _broken(config: RolloutConfig, new: Side, old: Side) -> Iterator[str]:
    """Every guard that is broken, in words."""
    guards, least = config.guards, config.min_calls
    for name, limit, count, before in (
        ("error_rate", guards.error_rate, new.failed, old.failed),
        ("refusal_rate", guards.refusal_rate, new.refused, old.refused),
    ):
        bound = _bound(limit, max(before, old.calls / least) / max(old.calls, 1), old.calls >= least)
        if bound is not None and count > bound * max(new.calls, least):
            yield f"{name} is {count / new.calls:.3g} of at most {bound:.3g} in {new.calls} calls"
    for name, limit, value, values, usual, values_before in (
        ("first_token_p90", guards.first_token_p90, new.first_token_p90, new.first_tokens, old.first_token_p90,
         old.first_tokens),
        ("cost_per_call", guards.cost_per_call, new.cost_per_call, new.costs, old.cost_per_call, old.costs),
    ):  # fmt: skip
        bound = _bound(limit, usual, len(values_before) >= least)
        if bound is not None and len(values) >= least and value > bound:
            yield f"{name} is {value:.3g} of at most {bound:.3g} in {len(values)} calls"


def _bound(limit: float | str | None, usual: float, known: bool) -> float | None:
    """What a guard allows; None when there is none, or nothing to compare with."""
    if isinstance(limit, str):
        return float(limit.removesuffix("x")) * usual if known else None
    return limit
