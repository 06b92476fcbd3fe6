"""What is done with bills, codes, plans, multipliers and alerts, each change with its event in the log of changes."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import select

from polyroute.api.auth.v1 import billing_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import messages, schema
from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Database
from polyroute.auth.money import multipliers, statement
from polyroute.auth.money.alerts import Alert, Alerts
from polyroute.auth.money.billing import messages as told
from polyroute.auth.money.bills import Bills, Invoice
from polyroute.auth.money.codes import Code, Codes
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.money.plans import Plan, Plans, Subscription
from polyroute.auth.people.actors import Reach
from polyroute.mesh.errors import MeshError


class Desk:
    """Billing, for operators and the people of an account.

    Args:
        database: Where the ledger is.
        ledger: Posts.
        bills: Statements and invoices.
        codes: Codes that pay money in.
        plans: Plans and subscriptions.
        alerts: Messages at thresholds.
        journal: Where changes are written down.
        changed: Told of each account of which something has changed.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        bills: Bills,
        codes: Codes,
        plans: Plans,
        alerts: Alerts,
        journal: Journal,
        changed: Callable[[str], None],
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._journal = journal
        self._changed = changed
        self.bills = bills
        self.codes = codes
        self.plans = plans
        self.alerts = alerts

    async def issue(self, actor: str, account_id: str, ends: int | None) -> Invoice:
        """An invoice; see `Bills.issue`."""
        invoice = await self.bills.issue(account_id, ends)
        await self._record(actor, "IssueInvoice", account_id, None, told.invoice(invoice, whole=False))
        return invoice

    async def create_codes(
        self, actor: str, batch: str, count: int, amount: int, expires: int | None
    ) -> tuple[list[str], list[Code]]:
        """Codes; see `Codes.create`."""
        made = await self.codes.create(batch, count, amount, expires)
        after = pb.CreateCodesRequest(
            batch=batch, count=count, amount_nanos=amount, expire_time=messages.timestamp(expires)
        )
        await self._record(actor, "CreateCodes", batch, None, after)
        return made

    async def redeem(self, actor: str, account_id: str, code: str) -> Any:
        """The entry of the payment that a code makes; see `Codes.redeem`."""
        payment = await self.codes.redeem(account_id, code)
        row = await statement.latest(self._database, payment)
        used = await self.codes.code(payment)
        before = replace(used, redeemed=None, account_id="")
        await self._record(actor, "RedeemCode", account_id, told.code(before), told.code(used))
        return row

    async def put_plan(self, actor: str, plan: Plan) -> Plan:
        """A plan; see `Plans.put`."""
        before = await self.plans.put(plan)
        was = None if before is None else told.plan(before)
        await self._record(actor, "SetPlan", plan.name, was, told.plan(plan))
        return plan

    async def subscribe(self, actor: str, scope: str, plan: str, time_zone: str) -> Subscription:
        """A subscription; see `Plans.subscribe`."""
        made = await self.plans.subscribe(scope, plan, time_zone)
        await self._record(actor, "CreateSubscription", scope, None, told.subscription(made, 0))
        return made

    async def cancel(self, actor: str, subscription_id: str) -> Subscription:
        """A subscription that will end; see `Plans.cancel`."""
        before = await self.plans.subscription(subscription_id)
        found = await self.plans.cancel(subscription_id)
        spent = await self.plans.spent(found)
        states = told.subscription(before, spent), told.subscription(found, spent)
        await self._record(actor, "CancelSubscription", found.scope, *states)
        return found

    async def put_multiplier(self, actor: str, group: str, millionths: int) -> None:
        """Sets by what the cost of a group's calls is multiplied, or of everybody's."""
        before, touched = await self._ledger.transact(
            lambda connection, _now: (
                multipliers.set_for(connection, group),
                multipliers.put(connection, group, millionths),
            )
        )
        was = None if before is None else pb.Multiplier(group=group, millionths=before)
        await self._record(actor, "SetMultiplier", group, was, pb.Multiplier(group=group, millionths=millionths))
        for account_id in touched:
            self._changed(account_id)

    async def multipliers(self, page: Page) -> tuple[list[tuple[str, int]], str]:
        """A page of multipliers in millionths, by name, and the token that asks for the next."""
        columns = schema.multipliers.c
        query = select(columns.name, columns.millionths).order_by(columns.name).limit(page.size + 1)
        if page.after:
            query = query.where(columns.name > str(page.after[0]))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        found = [(row.name, row.millionths) for row in rows[: page.size]]
        return found, token(found[-1][0]) if len(rows) > page.size else ""

    async def join(self, actor: str, account_id: str, group: str) -> int:
        """Puts an account into a group, or out of any; by what its cost is multiplied from now on, in millionths.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such account.
        """
        accounts = schema.accounts.c
        query = select(accounts.id).where(accounts.id == account_id)
        if await self._database.read(lambda connection: connection.scalar(query)) is None:
            raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such account", metadata={"resource": account_id})
        before, millionths = await self._ledger.transact(
            lambda connection, _now: (
                multipliers.group_of(connection, account_id),
                multipliers.join(connection, account_id, group),
            )
        )
        states = (pb.SetAccountGroupRequest(account_id=account_id, group=one) for one in (before, group))
        await self._record(actor, "SetAccountGroup", account_id, *states)
        self._changed(account_id)
        return millionths

    async def create_alert(self, actor: str, scope: str, url: str, percents: Iterable[int]) -> tuple[Alert, str]:
        """An alert and its secret; see `Alerts.create`."""
        alert, secret = await self.alerts.create(scope, url, percents)
        await self._record(actor, "CreateAlert", scope or alert.id, None, told.alert(alert))
        return alert, secret

    async def delete_alert(self, actor: str, alert_id: str, reach: Reach | None) -> None:
        """Ends an alert within somebody's reach; see `Alerts.delete`."""
        ended = await self.alerts.delete(alert_id, reach)
        if ended is not None:
            await self._record(actor, "DeleteAlert", ended.scope or alert_id, told.alert(ended), None)

    async def _record(
        self, actor: str, action: str, resource: str, before: Message | None, after: Message | None
    ) -> None:
        await self._journal.record(Change(actor, action, resource, before, after))
