"""BillingService: messages into what is done at the desk, and its outcome into messages."""

import time
from collections.abc import Callable
from typing import Any

import grpc

from polyroute.api.auth.v1 import billing_pb2 as pb
from polyroute.api.auth.v1 import billing_pb2_grpc
from polyroute.auth import messages
from polyroute.auth.admin.etags import all_tagged, tagged
from polyroute.auth.admin.filters import NO_FIELDS, Fields
from polyroute.auth.admin.paging import Page
from polyroute.auth.money.billing import fields
from polyroute.auth.money.billing import messages as told
from polyroute.auth.money.desk import Desk
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
        return pb.GetStatementResponse(statement=told.statement(found))

    async def IssueInvoice(self, request: pb.IssueInvoiceRequest, context: Context) -> pb.IssueInvoiceResponse:  # noqa: N802
        """Issues an invoice."""
        actor, _ = self._who(context)
        issued = await self._desk.issue(actor, request.account_id, messages.micros(request, "end_time"))
        return pb.IssueInvoiceResponse(invoice=None if issued is None else told.invoice(issued))

    async def GetInvoice(self, request: pb.GetInvoiceRequest, context: Context) -> pb.GetInvoiceResponse:  # noqa: N802
        """Shows an invoice."""
        _, reach = self._who(context)
        return pb.GetInvoiceResponse(invoice=told.invoice(await self._desk.bills.invoice(request.number, reach)))

    async def ListInvoices(self, request: pb.ListInvoicesRequest, context: Context) -> pb.ListInvoicesResponse:  # noqa: N802
        """Lists invoices."""
        found, token = await self._desk.bills.invoices(
            request.account_id, self._page(request, context, fields.INVOICES)
        )
        return pb.ListInvoicesResponse(
            invoices=[told.invoice(one, whole=False) for one in found], next_page_token=token
        )

    async def CreateCodes(self, request: pb.CreateCodesRequest, context: Context) -> pb.CreateCodesResponse:  # noqa: N802
        """Makes codes."""
        actor, _ = self._who(context)
        expires = messages.micros(request, "expire_time")
        secrets, made = await self._desk.create_codes(
            actor, request.batch, request.count, request.amount_nanos, expires
        )
        return pb.CreateCodesResponse(secrets=secrets, codes=map(told.code, made))

    async def ListCodes(self, request: pb.ListCodesRequest, context: Context) -> pb.ListCodesResponse:  # noqa: N802
        """Lists codes."""
        found, token = await self._desk.codes.page(request.batch, self._page(request, context, fields.CODES))
        return pb.ListCodesResponse(codes=map(told.code, found), next_page_token=token)

    async def RedeemCode(self, request: pb.RedeemCodeRequest, context: Context) -> pb.RedeemCodeResponse:  # noqa: N802
        """Redeems a code."""
        actor, _ = self._who(context)
        row = await self._desk.redeem(actor, request.account_id, request.code)
        return pb.RedeemCodeResponse(entry=messages.entry(row))

    async def SetPlan(self, request: pb.SetPlanRequest, context: Context) -> pb.SetPlanResponse:  # noqa: N802
        """Sets a plan."""
        actor, _ = self._who(context)
        plan = told.to_plan(request.plan)
        done = await self._desk.put_plan(actor, plan, request.plan.etag)
        return pb.SetPlanResponse(plan=tagged(told.plan(done)))

    async def ListPlans(self, request: pb.ListPlansRequest, context: Context) -> pb.ListPlansResponse:  # noqa: N802
        """Lists plans."""
        found, token = await self._desk.plans.plans(self._page(request, context, fields.PLANS))
        return pb.ListPlansResponse(plans=all_tagged(map(told.plan, found)), next_page_token=token)

    async def CreateSubscription(  # noqa: N802
        self, request: pb.CreateSubscriptionRequest, context: Context
    ) -> pb.CreateSubscriptionResponse:
        """Subscribes."""
        actor, _ = self._who(context)
        made = await self._desk.subscribe(actor, request.scope, request.plan, request.time_zone)
        spent = await self._desk.plans.spent(made)
        return pb.CreateSubscriptionResponse(subscription=told.subscription(made, spent))

    async def ListSubscriptions(  # noqa: N802
        self, request: pb.ListSubscriptionsRequest, context: Context
    ) -> pb.ListSubscriptionsResponse:
        """Lists subscriptions."""
        found, token = await self._desk.plans.subscriptions(
            request.account_id, self._page(request, context, fields.SUBSCRIPTIONS)
        )
        listed = [told.subscription(one, spent) for one, spent in found]
        return pb.ListSubscriptionsResponse(subscriptions=listed, next_page_token=token)

    async def CancelSubscription(  # noqa: N802
        self, request: pb.CancelSubscriptionRequest, context: Context
    ) -> pb.CancelSubscriptionResponse:
        """Ends a subscription."""
        actor, _ = self._who(context)
        found = await self._desk.cancel(actor, request.subscription_id)
        spent = await self._desk.plans.spent(found)
        return pb.CancelSubscriptionResponse(subscription=told.subscription(found, spent))

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
        return pb.CreateAlertResponse(alert=tagged(told.alert(alert)), secret=secret)

    async def ListAlerts(self, request: pb.ListAlertsRequest, context: Context) -> pb.ListAlertsResponse:  # noqa: N802
        """Lists alerts."""
        found, token = await self._desk.alerts.alerts(request.scope, self._page(request, context, fields.ALERTS))
        return pb.ListAlertsResponse(alerts=all_tagged(map(told.alert, found)), next_page_token=token)

    async def DeleteAlert(self, request: pb.DeleteAlertRequest, context: Context) -> pb.DeleteAlertResponse:  # noqa: N802
        """Ends an alert."""
        actor, reach = self._who(context)
        await self._desk.delete_alert(actor, request.alert_id, reach, request.etag)
        return pb.DeleteAlertResponse()

    async def ListDeliveries(self, request: pb.ListDeliveriesRequest, context: Context) -> pb.ListDeliveriesResponse:  # noqa: N802
        """Lists messages of alerts."""
        found, token = await self._desk.alerts.deliveries(
            request.alert_id, self._page(request, context, fields.DELIVERIES)
        )
        return pb.ListDeliveriesResponse(deliveries=map(told.delivery, found), next_page_token=token)

    def _page(self, request: Any, context: Context, known: Fields = NO_FIELDS) -> Page:
        _, reach = self._who(context)
        return Page.of(request.page_size, request.page_token, request.filter if known else "", known, reach)


def by_admission(_: Context) -> tuple[str, Reach | None]:
    """Whoever was let in at the door, and as far as they reach."""
    admission = admitted()
    return admission.actor.name, admission.reach
