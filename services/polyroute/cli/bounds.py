"""`polyroute limits` and `polyroute budgets`: what callers may do and spend."""

from typing import Any, Final

from polyroute.api.auth.v1 import admin_pb2 as pb
from polyroute.api.auth.v1 import limits_pb2
from polyroute.cli.admin import when
from polyroute.cli.desk import Desk
from polyroute.cli.money import nanos, usd
from polyroute.cli.printing import Column, show_line, show_list
from polyroute.mesh.roles import ConfigError

KINDS: Final = {
    "requests": limits_pb2.LIMIT_KIND_REQUESTS,
    "tokens": limits_pb2.LIMIT_KIND_TOKENS,
    "concurrency": limits_pb2.LIMIT_KIND_CONCURRENCY,
}
PERIODS: Final = {
    "total": limits_pb2.PERIOD_TOTAL,
    "daily": limits_pb2.PERIOD_DAILY,
    "weekly": limits_pb2.PERIOD_WEEKLY,
    "monthly": limits_pb2.PERIOD_MONTHLY,
}
_KIND_NAMES: Final = {value: name for name, value in KINDS.items()}
_PERIOD_NAMES: Final = {value: name for name, value in PERIODS.items()}


def _amount(limit: Any) -> str:
    return f"{limit.amount:,}" + ("" if limit.kind == limits_pb2.LIMIT_KIND_CONCURRENCY else " a minute")


def _burst(limit: Any) -> str:
    return f"{limit.burst:,}" if limit.burst else ""


LIMIT: Final[tuple[Column, ...]] = (
    ("scope", lambda limit: limit.scope),
    ("kind", lambda limit: _KIND_NAMES.get(limit.kind, str(limit.kind))),
    ("model", lambda limit: limit.model or "all"),
    ("amount", _amount),
    ("burst", _burst),
)


def _kind_of(budget: Any) -> str:
    return "balance" if budget.prepaid else "hard" if budget.hard else "soft"


def _until(budget: Any) -> str:
    return when(budget.end_time) if budget.HasField("end_time") else ""


BUDGET: Final[tuple[Column, ...]] = (
    ("id", lambda budget: budget.id),
    ("scope", lambda budget: budget.scope),
    ("period", lambda budget: _PERIOD_NAMES.get(budget.period, str(budget.period))),
    ("kind", _kind_of),
    ("amount", lambda budget: usd(budget.amount_nanos)),
    ("spent", lambda budget: usd(budget.spent_nanos)),
    ("held", lambda budget: usd(budget.held_nanos)),
    ("until", _until),
)


def list_limits(desk: Desk, scope: str) -> None:
    """Prints limits, by scope."""
    request = pb.ListLimitsRequest(filter=_of(scope))
    show_list(desk.pages("ListLimits", request), LIMIT, "there are no such limits", as_json=desk.as_json)


def set_limit(desk: Desk, scope: str, kind: str, model: str, amount: int, burst: int) -> None:
    """Sets a limit, in the place of the one that is there."""
    limit = limits_pb2.Limit(scope=scope, kind=_kind(kind), model=model, amount=amount, burst=burst)
    done = desk.ask("SetLimit", pb.SetLimitRequest(limit=limit)).limit
    what = f"{kind} of {done.scope}" + (f" for {done.model}" if done.model else "")
    show_line(done, f"{what}: {_amount(done)}", as_json=desk.as_json)


def delete_limit(desk: Desk, scope: str, kind: str, model: str) -> None:
    """Lifts a limit."""
    limit = limits_pb2.Limit(scope=scope, kind=_kind(kind), model=model)
    done = desk.ask("DeleteLimit", pb.DeleteLimitRequest(limit=limit))
    show_line(done, f"{kind} of {scope}" + (f" for {model}" if model else "") + ": no limit", as_json=desk.as_json)


def list_budgets(desk: Desk, scope: str) -> None:
    """Prints budgets with what was spent of them, newest first."""
    request = pb.ListBudgetsRequest(filter=_of(scope))
    show_list(desk.pages("ListBudgets", request), BUDGET, "there are no such budgets", as_json=desk.as_json)


def set_budget(
    desk: Desk,
    scope: str,
    budget_id: str,
    *,
    amount: str | None,
    period: str | None,
    zone: str | None,
    hard: bool | None,
) -> None:
    """Sets a new budget of a scope, or changes what is said of the one of an id; prints its id.

    Raises:
        ConfigError: The amount or the period cannot be understood, or neither a scope nor an id is given, or of a new
            budget no amount, or of one that is there nothing that is to change.
    """
    if period is not None and period not in PERIODS:
        raise ConfigError(f"--period: {period!r} is none of {', '.join(PERIODS)}")
    if not scope and not budget_id:
        raise ConfigError("say whom it binds (the id of a key, a project or an account), or which it is: --id")
    if amount is None and not budget_id:
        raise ConfigError("say how much may be spent: --amount")
    said = {"amount_nanos": amount, "period": period, "time_zone": zone, "hard": hard}
    changes = [name for name, value in said.items() if value is not None]
    if not changes:
        raise ConfigError("say what is to change: --amount, --period, --zone, --hard or --soft")
    budget = limits_pb2.Budget(
        id=budget_id,
        scope=scope,
        period=PERIODS[period or "monthly"],
        time_zone=zone or "",
        amount_nanos=0 if amount is None else nanos(amount, "--amount"),
        hard=hard is not False,
    )
    request = pb.SetBudgetRequest(budget=budget)
    if budget_id:
        request.update_mask.paths.extend(changes)
    done = desk.ask("SetBudget", request).budget
    show_line(done, done.id, as_json=desk.as_json)


def delete_budget(desk: Desk, budget: str) -> None:
    """Lifts a budget."""
    done = desk.ask("DeleteBudget", pb.DeleteBudgetRequest(budget_id=budget))
    show_line(done, f"{budget}: no budget", as_json=desk.as_json)


def _kind(name: str) -> limits_pb2.LimitKind.ValueType:
    if name not in KINDS:
        raise ConfigError(f"{name!r} is none of {', '.join(KINDS)}")
    return KINDS[name]


def _of(scope: str) -> str:
    return f'scope = "{scope}"' if scope else ""
