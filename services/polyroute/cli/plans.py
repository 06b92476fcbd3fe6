"""Plans as they are written on a command line, and as they are printed: limits, and what they open."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from polyroute.api.auth.v1 import auth_pb2, limits_pb2
from polyroute.api.auth.v1 import billing_pb2 as pb
from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.cli.bounds import KINDS, PERIODS
from polyroute.cli.money import nanos
from polyroute.mesh.roles import ConfigError

_PREFIX: Final = "OPERATION_"
_LIMIT: Final = re.compile(r"(?P<kind>[a-z]+)=(?P<amount>[0-9]{1,13})(?::(?P<burst>[0-9]{1,13}))?(?:@(?P<model>.+))?")
_KIND_NAMES: Final = {value: name for name, value in KINDS.items()}


def wanted(
    name: str, price: str, quota: str, period: str, limits: Iterable[pb.PlanLimit], opens: auth_pb2.PlanScope | None
) -> pb.Plan:
    """A plan.

    Raises:
        ConfigError: An amount or the period cannot be understood.
    """
    if period not in PERIODS:
        raise ConfigError(f"--period: {period!r} is none of {', '.join(PERIODS)}")
    return pb.Plan(
        name=name,
        period=PERIODS[period],
        price_nanos=nanos(price, "--price"),
        quota_nanos=nanos(quota, "--quota"),
        limits=limits,
        opens=opens,
    )


def limits(texts: Iterable[str]) -> list[pb.PlanLimit]:
    """Limits such as `requests=600`, or `requests=30:5@large` with a burst and for one model.

    Raises:
        ConfigError: One of them cannot be understood.
    """
    return [_limit(text) for text in texts]


def opens(models: Sequence[str], operations: Iterable[str], routes: Sequence[str]) -> auth_pb2.PlanScope | None:
    """What a plan opens; None for everything.

    Raises:
        ConfigError: There is no such kind of work.
    """
    kinds = [_operation(name) for name in operations]
    return auth_pb2.PlanScope(models=models, operations=kinds, routes=routes) if models or kinds or routes else None


def limits_of(plan: Any) -> str:
    """The limits of a plan in the words of the command line."""
    return ", ".join(map(_written, plan.limits))


def opens_of(plan: Any) -> str:
    """What a plan opens, in words; empty for everything."""
    kinds = [Operation.Name(one).removeprefix(_PREFIX).lower() for one in plan.opens.operations]
    return ", ".join((*plan.opens.models, *kinds, *plan.opens.routes))


def _limit(text: str) -> pb.PlanLimit:
    found = _LIMIT.fullmatch(text)
    if found is None or found["kind"] not in KINDS:
        raise ConfigError(f"--limit: {text!r} is not one such as requests=600 or concurrency=20@large")
    burst = int(found["burst"] or 0)
    return pb.PlanLimit(kind=KINDS[found["kind"]], model=found["model"] or "", amount=int(found["amount"]), burst=burst)


def _written(limit: Any) -> str:
    name = _KIND_NAMES.get(limit.kind, limits_pb2.LimitKind.Name(limit.kind))
    burst, model = (f":{limit.burst}" if limit.burst else ""), (f"@{limit.model}" if limit.model else "")
    return f"{name}={limit.amount}{burst}{model}"


def _operation(name: str) -> Operation.ValueType:
    known = [one.removeprefix(_PREFIX).lower() for one in Operation.keys()[1:]]
    if name.lower() not in known:
        raise ConfigError(f"--operation: {name!r} is none of {', '.join(known)}")
    return Operation.Value(_PREFIX + name.upper())
