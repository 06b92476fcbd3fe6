"""What billing knows, as messages of the contract."""

from polyroute.api.auth.v1 import admin_pb2, limits_pb2
from polyroute.api.auth.v1 import billing_pb2 as pb
from polyroute.auth import messages
from polyroute.auth.money.alerts import Alert, Delivery
from polyroute.auth.money.bills import Invoice, Item, Line, Statement
from polyroute.auth.money.codes import Code
from polyroute.auth.money.periods import Period
from polyroute.auth.money.plans import Plan, Subscription
from polyroute.auth.money.terms import Terms
from polyroute.auth.rates.limits import Kind, Limit, Place


def statement(known: Statement) -> pb.Statement:
    """What an account spent and paid."""
    return pb.Statement(
        account_id=known.account_id,
        account_name=known.account_name,
        start_time=messages.timestamp(known.started),
        end_time=messages.timestamp(known.ends),
        lines=map(line, known.lines),
        items=map(item, known.items),
        opening_nanos=known.opening,
        paid_in_nanos=known.paid_in,
        plans_nanos=known.plans,
        spent_nanos=known.spent,
        closing_nanos=known.closing,
    )


def line(known: Line) -> pb.StatementLine:
    """A sum of charges on a statement."""
    return pb.StatementLine(
        project_id=known.project_id,
        model=known.model,
        deployment=known.deployment,
        attempts=known.attempts,
        cost_nanos=known.cost,
        amount_nanos=known.amount,
        estimated_nanos=known.estimated,
        unpriced_attempts=known.unpriced,
    )


def item(known: Item) -> pb.StatementItem:
    """What moved beside calls."""
    return pb.StatementItem(
        kind=admin_pb2.EntryKind.ValueType(known.kind),
        post_time=messages.timestamp(known.posted),
        request_id=known.request_id,
        project_id=known.project_id,
        amount_nanos=known.amount,
        note=known.note,
    )


def invoice(known: Invoice, *, whole: bool = True) -> pb.Invoice:
    """An invoice; not `whole` is without its lines and its document."""
    said = statement(known.statement)
    if not whole:
        said.ClearField("lines")
        said.ClearField("items")
    return pb.Invoice(
        number=known.name,
        issue_time=messages.timestamp(known.issued),
        statement=said,
        digest=known.digest.hex(),
        last_entry=known.last_entry,
        document=known.document if whole else b"",
    )


def code(known: Code) -> pb.Code:
    """A code, without what redeems it."""
    return pb.Code(
        id=known.id,
        batch=known.batch,
        amount_nanos=known.amount,
        create_time=messages.timestamp(known.created),
        expire_time=messages.timestamp(known.expires),
        redeem_time=messages.timestamp(known.redeemed),
        redeemed_by=known.account_id,
    )


def plan(known: Plan) -> pb.Plan:
    """A plan."""
    return pb.Plan(
        name=known.name,
        period=limits_pb2.Period.ValueType(known.period),
        price_nanos=known.price,
        quota_nanos=known.quota,
        overage=known.overage,
        closed=known.closed,
        limits=map(plan_limit, known.terms.limits),
        opens=messages.plan_scope(known.terms),
    )


def plan_limit(known: Limit) -> pb.PlanLimit:
    """A limit that comes with a plan."""
    place = known.place
    kind = limits_pb2.LimitKind.ValueType(place.kind)
    return pb.PlanLimit(kind=kind, model=place.model, amount=known.amount, burst=known.burst)


def to_plan(message: pb.Plan) -> Plan:
    """A plan as it is wanted."""
    opens = message.opens
    limits = (Limit(Place("", Kind(one.kind), one.model), one.amount, one.burst) for one in message.limits)
    return Plan(
        message.name,
        Period(message.period),
        message.price_nanos,
        message.quota_nanos,
        message.overage,
        message.closed,
        Terms(tuple(limits), tuple(opens.models), tuple(opens.operations), tuple(opens.routes)),
    )


def subscription(known: Subscription, spent: int) -> pb.Subscription:
    """A subscription, and what was spent in its period, nano-USD."""
    terms = Plan(known.plan, known.period, known.price, known.quota, known.overage, False, known.terms)
    return pb.Subscription(
        id=known.id,
        scope=known.scope,
        account_id=known.account_id,
        plan=plan(terms),
        time_zone=known.time_zone,
        start_time=messages.timestamp(known.started),
        end_time=messages.timestamp(known.ends),
        cancelled=known.cancelled,
        ended=known.ended,
        spent_nanos=spent,
        budget_id=known.budget_id,
    )


def alert(known: Alert) -> pb.Alert:
    """An alert, without its secret."""
    created = messages.timestamp(known.created)
    return pb.Alert(id=known.id, scope=known.scope, url=known.url, percents=known.percents, create_time=created)


def delivery(known: Delivery) -> pb.Delivery:
    """A message of an alert."""
    return pb.Delivery(
        id=known.id,
        alert_id=known.alert_id,
        budget_id=known.budget_id,
        percent=known.percent,
        create_time=messages.timestamp(known.created),
        tries=known.tries,
        deliver_time=messages.timestamp(known.delivered),
        problem=known.problem,
        given_up=known.next_try is None and known.delivered is None,
    )
