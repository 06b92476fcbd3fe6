"""`polyroute billing`: what is asked of BillingService, and how its answers are printed."""

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from polyroute.api.auth.v1 import admin_pb2
from polyroute.api.auth.v1 import billing_pb2 as pb
from polyroute.cli import plans
from polyroute.cli.admin import when
from polyroute.cli.bounds import PERIODS
from polyroute.cli.desk import Desk
from polyroute.cli.money import nanos, usd
from polyroute.cli.printing import Column, show_line, show_list, show_one
from polyroute.mesh.roles import ConfigError

MILLIONTHS: Final = 1_000_000
DAY: Final = timedelta(days=1)
FORMS: Final = ("table", "json", "csv")
DOCUMENT: Final = "document"
CSV_COLUMNS: Final = (
    "type",
    "project_id",
    "model",
    "deployment",
    "attempts",
    "vendor_cost_usd",
    "amount_usd",
    "estimated_usd",
    "unpriced_attempts",
    "time",
    "reference",
    "note",
)
_PERIOD_NAMES: Final = {value: name for name, value in PERIODS.items()}


def _until(thing: Any, field: str) -> str:
    return when(getattr(thing, field)) if thing.HasField(field) else ""


def _delivered(delivery: Any) -> str:
    if delivery.HasField("deliver_time"):
        return f"arrived {when(delivery.deliver_time)}"
    return "given up" if delivery.given_up else "on its way"


LINE: Final[tuple[Column, ...]] = (
    ("project", lambda line: line.project_id),
    ("model", lambda line: line.model),
    ("deployment", lambda line: line.deployment),
    ("attempts", lambda line: f"{line.attempts:,}"),
    ("vendors ask", lambda line: usd(line.cost_nanos)),
    ("charged", lambda line: usd(line.amount_nanos)),
    ("estimated", lambda line: usd(line.estimated_nanos) if line.estimated_nanos else ""),
    ("no price", lambda line: str(line.unpriced_attempts or "")),
)
ITEM: Final[tuple[Column, ...]] = (
    ("time", lambda item: when(item.post_time)),
    ("kind", lambda item: _kind(item.kind)),
    ("project", lambda item: item.project_id),
    ("amount", lambda item: usd(item.amount_nanos)),
    ("reference", lambda item: item.request_id),
    ("note", lambda item: item.note),
)
SUMS: Final[tuple[Column, ...]] = (
    ("account", lambda found: f"{found.account_id} ({found.account_name})"),
    ("from", lambda found: when(found.start_time) if found.start_time.seconds else "the beginning"),
    ("until", lambda found: when(found.end_time)),
    ("before", lambda found: usd(found.opening_nanos)),
    ("paid in", lambda found: usd(found.paid_in_nanos)),
    ("plans", lambda found: usd(found.plans_nanos)),
    ("spent", lambda found: usd(found.spent_nanos)),
    ("after", lambda found: usd(found.closing_nanos)),
)
INVOICE: Final[tuple[Column, ...]] = (
    ("number", lambda found: found.number),
    ("issued", lambda found: when(found.issue_time)),
    ("account", lambda found: found.statement.account_id),
    ("until", lambda found: when(found.statement.end_time)),
    ("spent", lambda found: usd(found.statement.spent_nanos)),
    ("after", lambda found: usd(found.statement.closing_nanos)),
    ("digest", lambda found: found.digest),
)
CODE: Final[tuple[Column, ...]] = (
    ("id", lambda code: code.id),
    ("batch", lambda code: code.batch),
    ("amount", lambda code: usd(code.amount_nanos)),
    ("until", lambda code: _until(code, "expire_time")),
    ("used", lambda code: _until(code, "redeem_time")),
    ("by", lambda code: code.redeemed_by),
)
PLAN: Final[tuple[Column, ...]] = (
    ("name", lambda plan: plan.name),
    ("period", lambda plan: _PERIOD_NAMES.get(plan.period, str(plan.period))),
    ("price", lambda plan: usd(plan.price_nanos)),
    ("quota", lambda plan: usd(plan.quota_nanos)),
    ("beyond it", lambda plan: "is paid" if plan.overage else "is refused"),
    ("limits", plans.limits_of),
    ("opens", lambda plan: plans.opens_of(plan) or "everything"),
    ("open", lambda plan: "no" if plan.closed else "yes"),
)
SUBSCRIPTION: Final[tuple[Column, ...]] = (
    ("id", lambda one: one.id),
    ("scope", lambda one: one.scope),
    ("plan", lambda one: one.plan.name),
    ("spent", lambda one: usd(one.spent_nanos)),
    ("quota", lambda one: usd(one.plan.quota_nanos)),
    ("until", lambda one: _until(one, "end_time")),
    ("then", lambda one: "is over" if one.ended else "ends" if one.cancelled else "is renewed"),
)
MULTIPLIER: Final[tuple[Column, ...]] = (
    ("group", lambda one: one.group),
    ("factor", lambda one: _factor(one.millionths)),
)
ALERT: Final[tuple[Column, ...]] = (
    ("id", lambda alert: alert.id),
    ("scope", lambda alert: alert.scope or "all budgets"),
    ("at", lambda alert: ", ".join(f"{percent} %" for percent in alert.percents)),
    ("to", lambda alert: alert.url),
)
DELIVERY: Final[tuple[Column, ...]] = (
    ("id", lambda one: one.id),
    ("alert", lambda one: one.alert_id),
    ("budget", lambda one: one.budget_id),
    ("at", lambda one: f"{one.percent} %"),
    ("passed", lambda one: when(one.create_time)),
    ("tries", lambda one: str(one.tries)),
    ("state", _delivered),
    ("problem", lambda one: one.problem),
)


def times(month: str, since: str, until: str) -> tuple[Timestamp | None, Timestamp | None]:
    """First moment, and first one after: of a month, or as they are given.

    Raises:
        ConfigError: One of them is none, or both forms are used.
    """
    if month and (since or until):
        raise ConfigError("give --month, or --since and --until")
    if not month:
        return _moment(since, "--since"), _moment(until, "--until")
    try:
        first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise ConfigError(f"--month: {month!r} is not a month such as 2026-03") from None
    return _timestamp(first), _timestamp((first + 32 * DAY).replace(day=1))


def statement(desk: Desk, account: str, period: tuple[Timestamp | None, Timestamp | None], form: str) -> None:
    """Prints a statement."""
    _check(form)
    request = pb.GetStatementRequest(account_id=account, start_time=period[0], end_time=period[1])
    _show(desk.ask("GetStatement", request).statement, "json" if desk.as_json else form)


def issue(desk: Desk, account: str, until: str) -> None:
    """Issues an invoice and prints its number; says so where there is nothing that it would be of."""
    request = pb.IssueInvoiceRequest(account_id=account, end_time=_moment(until, "--until"))
    response = desk.ask("IssueInvoice", request)
    if not response.HasField("invoice"):
        print(f"{account}: skipped, nothing was posted that is on no invoice yet", file=sys.stderr)
        return
    issued = response.invoice
    issued.ClearField("document")
    show_line(issued, f"{issued.number} {usd(issued.statement.closing_nanos)}", as_json=desk.as_json)


def invoices(desk: Desk, account: str) -> None:
    """Prints invoices, newest first."""
    found = desk.pages("ListInvoices", pb.ListInvoicesRequest(account_id=account))
    show_list(found, INVOICE, "there are no invoices", as_json=desk.as_json)


def show_invoice(desk: Desk, number: str, form: str) -> None:
    """Prints an invoice; as `document`, what is kept of it and what its digest is of, byte for byte."""
    _check(form, (*FORMS, DOCUMENT))
    found = desk.ask("GetInvoice", pb.GetInvoiceRequest(number=number)).invoice
    if form == DOCUMENT:
        sys.stdout.buffer.write(found.document)
        return
    if form == "json" or desk.as_json:
        found.ClearField("document")
        show_one(found, (), as_json=True)
        return
    if form == "table":
        show_one(found, INVOICE[:2] + INVOICE[-1:], as_json=False)
    _show(found.statement, form)


def create_codes(desk: Desk, amount: str, batch: str, count: int, days: int) -> None:
    """Prints new codes, one a line."""
    request = pb.CreateCodesRequest(batch=batch, count=count, amount_nanos=nanos(amount, "--amount"))
    if days:
        request.expire_time.FromDatetime(datetime.now(UTC) + days * DAY)
    made = desk.ask("CreateCodes", request)
    show_line(made, "\n".join(made.secrets), as_json=desk.as_json)


def list_codes(desk: Desk, batch: str) -> None:
    """Prints codes, newest first."""
    found = desk.pages("ListCodes", pb.ListCodesRequest(batch=batch))
    show_list(found, CODE, "there are no codes", as_json=desk.as_json)


def redeem(desk: Desk, account: str, code: str) -> None:
    """Redeems a code, and prints what it paid in."""
    entry = desk.ask("RedeemCode", pb.RedeemCodeRequest(account_id=account, code=code)).entry
    show_line(entry, f"{usd(entry.amount_nanos)} paid in", as_json=desk.as_json)


def list_plans(desk: Desk) -> None:
    """Prints plans, by name."""
    show_list(desk.pages("ListPlans", pb.ListPlansRequest()), PLAN, "there are no plans", as_json=desk.as_json)


def set_plan(desk: Desk, plan: pb.Plan) -> None:
    """Sets a plan."""
    done = desk.ask("SetPlan", pb.SetPlanRequest(plan=plan)).plan
    also = "".join(f", {said}" for said in (plans.limits_of(done), plans.opens_of(done)) if said)
    show_line(done, f"{done.name}: {usd(done.price_nanos)} for {usd(done.quota_nanos)}{also}", as_json=desk.as_json)


def subscribe(desk: Desk, scope: str, plan: str, zone: str) -> None:
    """Subscribes, and prints the subscription's id."""
    request = pb.CreateSubscriptionRequest(scope=scope, plan=plan, time_zone=zone)
    made = desk.ask("CreateSubscription", request).subscription
    show_line(made, made.id, as_json=desk.as_json)


def list_subscriptions(desk: Desk, account: str) -> None:
    """Prints subscriptions, newest first."""
    found = desk.pages("ListSubscriptions", pb.ListSubscriptionsRequest(account_id=account))
    show_list(found, SUBSCRIPTION, "there are no subscriptions", as_json=desk.as_json)


def cancel(desk: Desk, subscription: str) -> None:
    """Ends a subscription."""
    request = pb.CancelSubscriptionRequest(subscription_id=subscription)
    done = desk.ask("CancelSubscription", request).subscription
    ends = _until(done, "end_time") or "now"
    show_line(done, f"{done.id} ends: {ends}", as_json=desk.as_json)


def list_multipliers(desk: Desk) -> None:
    """Prints multipliers, by name."""
    found = desk.pages("ListMultipliers", pb.ListMultipliersRequest())
    show_list(found, MULTIPLIER, "there are no multipliers: charges are what vendors ask", as_json=desk.as_json)


def set_multiplier(desk: Desk, group: str, factor: str) -> None:
    """Sets a multiplier.

    Raises:
        ConfigError: It is no number, or finer than a millionth.
    """
    try:
        millionths = Decimal(factor) * MILLIONTHS
    except InvalidOperation:
        millionths = Decimal(-1)
    if not 0 <= millionths <= 1000 * MILLIONTHS or millionths != int(millionths):
        raise ConfigError(f"{factor!r} is not a factor such as 1.1, from 0 to 1000, to the millionth")
    multiplier = pb.Multiplier(group=group, millionths=int(millionths))
    done = desk.ask("SetMultiplier", pb.SetMultiplierRequest(multiplier=multiplier)).multiplier
    show_line(done, f"{done.group}: {_factor(done.millionths)}", as_json=desk.as_json)


def set_group(desk: Desk, account: str, group: str) -> None:
    """Puts an account into a group, or out of any."""
    done = desk.ask("SetAccountGroup", pb.SetAccountGroupRequest(account_id=account, group=group))
    show_line(done, f"{account}: {_factor(done.millionths)}", as_json=desk.as_json)


def create_alert(desk: Desk, url: str, scope: str, percents: Sequence[int]) -> None:
    """Creates an alert; its secret goes to standard output, everything else to standard error."""
    alert = pb.Alert(scope=scope, url=url, percents=percents)
    made = desk.ask("CreateAlert", pb.CreateAlertRequest(alert=alert))
    if not desk.as_json:
        print(f"{made.alert.id}, the key of its signatures, shown this once:", file=sys.stderr)
    show_line(made, made.secret, as_json=desk.as_json)


def list_alerts(desk: Desk, scope: str) -> None:
    """Prints alerts, newest first."""
    found = desk.pages("ListAlerts", pb.ListAlertsRequest(scope=scope))
    show_list(found, ALERT, "there are no alerts", as_json=desk.as_json)


def delete_alert(desk: Desk, alert: str) -> None:
    """Ends an alert."""
    done = desk.ask("DeleteAlert", pb.DeleteAlertRequest(alert_id=alert))
    show_line(done, f"{alert}: no alert", as_json=desk.as_json)


def list_deliveries(desk: Desk, alert: str) -> None:
    """Prints messages of alerts, newest first."""
    found = desk.pages("ListDeliveries", pb.ListDeliveriesRequest(alert_id=alert))
    show_list(found, DELIVERY, "there are no messages", as_json=desk.as_json)


def written(found: pb.Statement) -> str:
    """A statement as CSV: a row per line and item, then the totals; amounts in USD, exact to the nano-dollar."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows([_safe(str(cell)) for cell in row] for row in _rows(found))
    return text.getvalue()


def _rows(found: pb.Statement) -> Iterator[Sequence[object]]:
    for line in found.lines:
        yield (
            "usage",
            line.project_id,
            line.model,
            line.deployment,
            line.attempts,
            _plain(line.cost_nanos),
            _plain(line.amount_nanos),
            _plain(line.estimated_nanos),
            line.unpriced_attempts,
            "",
            "",
            "",
        )
    for item in found.items:
        row = (_plain(item.amount_nanos), "", "", when(item.post_time), item.request_id, item.note)
        yield (_kind(item.kind), item.project_id, "", "", "", "", *row)
    for name in ("opening", "paid_in", "plans", "spent", "closing"):
        yield (name, "", "", "", "", "", _plain(getattr(found, f"{name}_nanos")), "", "", "", "", "")


def _show(found: pb.Statement, form: str) -> None:
    if form == "csv":
        print(written(found), end="")
        return
    show_one(found, SUMS, as_json=form == "json")
    if form == "table":
        print()
        show_list(found.lines, LINE, "no calls were charged", as_json=False)
        if found.items:
            print()
            show_list(found.items, ITEM, "", as_json=False)


def _safe(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula (https://owasp.org/www-community/attacks/CSV_Injection)."""
    try:
        Decimal(cell)
    except InvalidOperation:
        return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
    return cell


def _plain(amount: int) -> str:
    return usd(amount).removesuffix(" USD")


def _kind(kind: admin_pb2.EntryKind.ValueType) -> str:
    return admin_pb2.EntryKind.Name(kind).removeprefix("ENTRY_KIND_").lower()


def _factor(millionths: int) -> str:
    return format((Decimal(millionths) / MILLIONTHS).normalize(), "f")


def _check(form: str, known: Sequence[str] = FORMS) -> None:
    if form not in known:
        raise ConfigError(f"--format: {form!r} is none of {', '.join(known)}")


def _moment(text: str, option: str) -> Timestamp | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is not a time such as 2026-03-01 or 2026-03-01T08:00+08:00") from None
    return _timestamp(found if found.tzinfo else found.replace(tzinfo=UTC))


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
