"""BillingService: messages into what is done at the desk, and its outcome into messages."""

import time
from collections.abc import Callable
from typing import Any

import grpc

from polyroute.api.auth.v1 import admin_pb2, billing_pb2_grpc, limits_pb2
from polyroute.api.auth.v1 import billing_pb2 as pb
from polyroute.auth import messages
from polyroute.auth.admin.paging import Page
from polyroute.auth.money.alerts import Alert, Delivery
from polyroute.auth.money.bills import Invoice, Item, Line, Statement
from polyroute.auth.money.codes import Code
from polyroute.auth.money.desk import Desk
from polyroute.auth.money.periods import Period
from polyroute.auth.money.plans import Plan, Subscription
from polyroute.auth.people.actors import Reach, admitted

Context = grpc.aio.ServicerContext[Any, Any]
Who = Callable[[Context], tuple[str, Reach | None]]
"""Who calls, as the log of changes names them, and whose things they may list; None means everybody's."""


class BillingService(billing_pb2_grpc.BillingServiceServicer):
    """Billing, over the contract.

    Args:
        desk: Where it is done.
        who: Says who calls; raises where they may not.
    """

    def __init__(self, desk: Desk, who: Who) -> None:
        self._desk = desk
        self._who = who

    async def GetStatement(self, request: pb.GetStatementRequest, context: Context) -> pb.GetStatementResponse:  # noqa: N802
        """Adds up what an account spent and paid."""
        self._who(context)
        times = messages.micros(request, "start_time"), messages.micros(request, "end_time")
        found = await self._desk.bills.statement(request.account_id, *times, round(time.time() * 1e6))
        return pb.GetStatementResponse(statement=_statement(found))

    async def IssueInvoice(self, request: pb.IssueInvoiceRequest, context: Context) -> pb.IssueInvoiceResponse:  # noqa: N802
        """Issues an invoice."""
        actor, _ = self._who(context)
        issued = await self._desk.issue(actor, request.account_id, messages.micros(request, "end_time"))
        return pb.IssueInvoiceResponse(invoice=_invoice(issued))

    async def GetInvoice(self, request: pb.GetInvoiceRequest, context: Context) -> pb.GetInvoiceResponse:  # noqa: N802
        """Shows an invoice."""
        _, reach = self._who(context)
        return pb.GetInvoiceResponse(invoice=_invoice(await self._desk.bills.invoice(request.number, reach)))

    async def ListInvoices(self, request: pb.ListInvoicesRequest, context: Context) -> pb.ListInvoicesResponse:  # noqa: N802
        """Lists invoices."""
        found, token = await self._desk.bills.invoices(request.account_id, self._page(request, context))
        return pb.ListInvoicesResponse(invoices=[_invoice(one, whole=False) for one in found], next_page_token=token)

    async def CreateCodes(self, request: pb.CreateCodesRequest, context: Context) -> pb.CreateCodesResponse:  # noqa: N802
        """Makes codes."""
        actor, _ = self._who(context)
        expires = messages.micros(request, "expire_time")
        secrets, made = await self._desk.create_codes(
            actor, request.batch, request.count, request.amount_nanos, expires
        )
        return pb.CreateCodesResponse(secrets=secrets, codes=map(_code, made))

    async def ListCodes(self, request: pb.ListCodesRequest, context: Context) -> pb.ListCodesResponse:  # noqa: N802
        """Lists codes."""
        found, token = await self._desk.codes.page(request.batch, self._page(request, context))
        return pb.ListCodesResponse(codes=map(_code, found), next_page_token=token)

    async def RedeemCode(self, request: pb.RedeemCodeRequest, context: Context) -> pb.RedeemCodeResponse:  # noqa: N802
        """Redeems a code."""
        actor, _ = self._who(context)
        row = await self._desk.redeem(actor, request.account_id, request.code)
        return pb.RedeemCodeResponse(entry=messages.entry(row))

    async def SetPlan(self, request: pb.SetPlanRequest, context: Context) -> pb.SetPlanResponse:  # noqa: N802
        """Sets a plan."""
        actor, _ = self._who(context)
        wanted = request.plan
        period = Period(wanted.period)
        plan = Plan(wanted.name, period, wanted.price_nanos, wanted.quota_nanos, wanted.overage, wanted.closed)
        return pb.SetPlanResponse(plan=_plan(await self._desk.put_plan(actor, plan)))

    async def ListPlans(self, request: pb.ListPlansRequest, context: Context) -> pb.ListPlansResponse:  # noqa: N802
        """Lists plans."""
        found, token = await self._desk.plans.plans(self._page(request, context))
        return pb.ListPlansResponse(plans=map(_plan, found), next_page_token=token)

    async def CreateSubscription(  # noqa: N802
        self, request: pb.CreateSubscriptionRequest, context: Context
    ) -> pb.CreateSubscriptionResponse:
        """Subscribes."""
        actor, _ = self._who(context)
        made = await self._desk.subscribe(actor, request.scope, request.plan, request.time_zone)
        spent = await self._desk.plans.spent(made)
        return pb.CreateSubscriptionResponse(subscription=_subscription(made, spent))

    async def ListSubscriptions(  # noqa: N802
        self, request: pb.ListSubscriptionsRequest, context: Context
    ) -> pb.ListSubscriptionsResponse:
        """Lists subscriptions."""
        found, token = await self._desk.plans.subscriptions(request.account_id, self._page(request, context))
        listed = [_subscription(one, spent) for one, spent in found]
        return pb.ListSubscriptionsResponse(subscriptions=listed, next_page_token=token)

    async def CancelSubscription(  # noqa: N802
        self, request: pb.CancelSubscriptionRequest, context: Context
    ) -> pb.CancelSubscriptionResponse:
        """Ends a subscription."""
        actor, _ = self._who(context)
        found = await self._desk.cancel(actor, request.subscription_id)
        spent = await self._desk.plans.spent(found)
        return pb.CancelSubscriptionResponse(subscription=_subscription(found, spent))

    async def SetMultiplier(self, request: pb.SetMultiplierRequest, context: Context) -> pb.SetMultiplierResponse:  # noqa: N802
        """Sets a multiplier."""
        actor, _ = self._who(context)
        await self._desk.put_multiplier(actor, request.multiplier.group, request.multiplier.millionths)
        return pb.SetMultiplierResponse(multiplier=request.multiplier)

    async def ListMultipliers(self, request: pb.ListMultipliersRequest, context: Context) -> pb.ListMultipliersResponse:  # noqa: N802
        """Lists multipliers."""
        found, token = await self._desk.multipliers(self._page(request, context))
        listed = [pb.Multiplier(group=group, millionths=millionths) for group, millionths in found]
        return pb.ListMultipliersResponse(multipliers=listed, next_page_token=token)

    async def SetAccountGroup(self, request: pb.SetAccountGroupRequest, context: Context) -> pb.SetAccountGroupResponse:  # noqa: N802
        """Puts an account into a group."""
        actor, _ = self._who(context)
        return pb.SetAccountGroupResponse(millionths=await self._desk.join(actor, request.account_id, request.group))

    async def CreateAlert(self, request: pb.CreateAlertRequest, context: Context) -> pb.CreateAlertResponse:  # noqa: N802
        """Creates an alert."""
        actor, _ = self._who(context)
        wanted = request.alert
        alert, secret = await self._desk.create_alert(actor, wanted.scope, wanted.url, wanted.percents)
        return pb.CreateAlertResponse(alert=_alert(alert), secret=secret)

    async def ListAlerts(self, request: pb.ListAlertsRequest, context: Context) -> pb.ListAlertsResponse:  # noqa: N802
        """Lists alerts."""
        found, token = await self._desk.alerts.alerts(request.scope, self._page(request, context))
        return pb.ListAlertsResponse(alerts=map(_alert, found), next_page_token=token)

    async def DeleteAlert(self, request: pb.DeleteAlertRequest, context: Context) -> pb.DeleteAlertResponse:  # noqa: N802
        """Ends an alert."""
        actor, reach = self._who(context)
        await self._desk.delete_alert(actor, request.alert_id, reach)
        return pb.DeleteAlertResponse()

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Context) -> pb.ListDeliveriesResponse:  # noqa: N802
        """Lists messages of alerts."""
        found, token = await self._desk.alerts.deliveries(request.alert_id, self._page(request, context))
        return pb.ListDeliveriesResponse(deliveries=map(_delivery, found), next_page_token=token)

    def _page(self, request: Any, context: Context) -> Page:
        _, reach = self._who(context)
        return Page.of(request.page_size, request.page_token, "", (), reach)


def by_admission(_: Context) -> tuple[str, Reach | None]:
    """Whoever was let in at the door, and as far as they reach."""
    admission = admitted()
    return admission.actor.name, admission.reach


def _statement(known: Statement) -> pb.Statement:
    return pb.Statement(
        account_id=known.account_id,
        account_name=known.account_name,
        start_time=messages.timestamp(known.started),
        end_time=messages.timestamp(known.ends),
        lines=map(_line, known.lines),
        items=map(_item, known.items),
        opening_nanos=known.opening,
        paid_in_nanos=known.paid_in,
        plans_nanos=known.plans,
        spent_nanos=known.spent,
        closing_nanos=known.closing,
    )


def _line(known: Line) -> pb.StatementLine:
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


def _item(known: Item) -> pb.StatementItem:
    return pb.StatementItem(
        kind=admin_pb2.EntryKind.ValueType(known.kind),
        post_time=messages.timestamp(known.posted),
        request_id=known.request_id,
        project_id=known.project_id,
        amount_nanos=known.amount,
        note=known.note,
    )


def _invoice(known: Invoice, *, whole: bool = True) -> pb.Invoice:
    statement = _statement(known.statement)
    if not whole:
        statement.ClearField("lines")
        statement.ClearField("items")
    return pb.Invoice(
        number=known.name,
        issue_time=messages.timestamp(known.issued),
        statement=statement,
        digest=known.digest.hex(),
        last_entry=known.last_entry,
        document=known.document if whole else b"",
    )


def _code(known: Code) -> pb.Code:
    return pb.Code(
        id=known.id,
        batch=known.batch,
        amount_nanos=known.amount,
        create_time=messages.timestamp(known.created),
        expire_time=messages.timestamp(known.expires),
        redeem_time=messages.timestamp(known.redeemed),
        redeemed_by=known.account_id,
    )


def _plan(known: Plan) -> pb.Plan:
    return pb.Plan(
        name=known.name,
        period=limits_pb2.Period.ValueType(known.period),
        price_nanos=known.price,
        quota_nanos=known.quota,
        overage=known.overage,
        closed=known.closed,
    )


def _subscription(known: Subscription, spent: int) -> pb.Subscription:
    plan = Plan(known.plan, known.period, known.price, known.quota, known.overage, closed=False)
    return pb.Subscription(
        id=known.id,
        scope=known.scope,
        account_id=known.account_id,
        plan=_plan(plan),
        time_zone=known.time_zone,
        start_time=messages.timestamp(known.started),
        end_time=messages.timestamp(known.ends),
        cancelled=known.cancelled,
        ended=known.ended,
        spent_nanos=spent,
        budget_id=known.budget_id,
    )


def _alert(known: Alert) -> pb.Alert:
    created = messages.timestamp(known.created)
    return pb.Alert(id=known.id, scope=known.scope, url=known.url, percents=known.percents, create_time=created)


def _delivery(known: Delivery) -> pb.Delivery:
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
