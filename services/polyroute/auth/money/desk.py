"""What is done with bills, codes, plans, multipliers and alerts, each change with its event in the log of changes."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Connection, select

from polyroute.api.auth.v1 import billing_pb2 as pb
from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import messages, schema
from polyroute.auth.admin.etags import check_etag
from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.database import Database
from polyroute.auth.money import multipliers, statement
from polyroute.auth.money.alerts import Alert, Alerts
from polyroute.auth.money.billing import messages as told
from polyroute.auth.money.bills import Bills, Invoice
from polyroute.auth.money.codes import Code, Codes
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.money.plans import Cancelled, Plan, Plans, Subscription
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

    async def issue(self, actor: str, account_id: str, ends: int | None) -> Invoice | None:
        """An invoice, or none; see `Bills.issue`."""

        def note(connection: Connection, issued: Invoice) -> None:
            self._record(connection, actor, "IssueInvoice", account_id, None, told.invoice(issued, whole=False))

        return await self.bills.issue(account_id, ends, note)

    async def create_codes(
        self, actor: str, batch: str, count: int, amount: int, expires: int | None
    ) -> tuple[list[str], list[Code]]:
        """Codes; see `Codes.create`."""
        after = pb.CreateCodesRequest(
            batch=batch, count=count, amount_nanos=amount, expire_time=messages.timestamp(expires)
        )

        def note(connection: Connection, _made: list[Code]) -> None:
            self._record(connection, actor, "CreateCodes", batch, None, after)

        return await self.codes.create(batch, count, amount, expires, note)

    async def redeem(self, actor: str, account_id: str, code: str) -> Any:
        """The entry of the payment that a code makes; see `Codes.redeem`."""

        def note(connection: Connection, used: Code) -> None:
            before = replace(used, redeemed=None, account_id="")
            self._record(connection, actor, "RedeemCode", account_id, told.code(before), told.code(used))

        return await statement.latest(self._database, await self.codes.redeem(account_id, code, note))

    async def put_plan(self, actor: str, plan: Plan, etag: str = "") -> Plan:
        """A plan; see `Plans.put`.

        Raises:
            MeshError: REASON_CHANGED, the one of that name has another etag, or there is none.
        """

        def note(connection: Connection, before: Plan | None) -> None:
            was = None if before is None else told.plan(before)
            check_etag(was, etag, plan.name)
            self._record(connection, actor, "SetPlan", plan.name, was, told.plan(plan))

        await self.plans.put(plan, note)
        return plan

    async def subscribe(self, actor: str, scope: str, plan: str, time_zone: str) -> Subscription:
        """A subscription; see `Plans.subscribe`."""

        def note(connection: Connection, made: Subscription) -> None:
            self._record(connection, actor, "CreateSubscription", scope, None, told.subscription(made, 0))

        return await self.plans.subscribe(scope, plan, time_zone, note)

    async def cancel(self, actor: str, subscription_id: str) -> Subscription:
        """A subscription that will end; see `Plans.cancel`."""

        def note(connection: Connection, done: Cancelled) -> None:
            states = (told.subscription(one, done.spent) for one in (done.before, done.after))
            self._record(connection, actor, "CancelSubscription", done.after.scope, *states)

        return await self.plans.cancel(subscription_id, note)

    async def put_multiplier(self, actor: str, group: str, millionths: int) -> None:
        """Sets by what the cost of a group's calls is multiplied, or of everybody's."""

        def work(connection: Connection, _now: int) -> list[str]:
            before = multipliers.set_for(connection, group)
            was = None if before is None else pb.Multiplier(group=group, millionths=before)
            after = pb.Multiplier(group=group, millionths=millionths)
            self._record(connection, actor, "SetMultiplier", group, was, after)
            return multipliers.put(connection, group, millionths)

        for account_id in await self._ledger.transact(work):
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

        def work(connection: Connection, _now: int) -> int:
            groups = multipliers.group_of(connection, account_id), group
            states = (pb.SetAccountGroupRequest(account_id=account_id, group=one) for one in groups)
            self._record(connection, actor, "SetAccountGroup", account_id, *states)
            return multipliers.join(connection, account_id, group)

        millionths = await self._ledger.transact(work)
        self._changed(account_id)
        return millionths

    async def create_alert(self, actor: str, scope: str, url: str, percents: Iterable[int]) -> tuple[Alert, str]:
        """An alert and its secret; see `Alerts.create`."""

        def note(connection: Connection, alert: Alert) -> None:
            self._record(connection, actor, "CreateAlert", scope or alert.id, None, told.alert(alert))

        return await self.alerts.create(scope, url, percents, note)

    async def delete_alert(self, actor: str, alert_id: str, reach: Reach | None, etag: str = "") -> None:
        """Ends an alert within somebody's reach; see `Alerts.delete`.

        Raises:
            MeshError: REASON_CHANGED, it has another etag.
        """

        def note(connection: Connection, ended: Alert) -> None:
            check_etag(told.alert(ended), etag, alert_id)
            self._record(connection, actor, "DeleteAlert", ended.scope or alert_id, told.alert(ended), None)

        await self.alerts.delete(alert_id, reach, note)

    def _record(
        self,
        connection: Connection,
        actor: str,
        action: str,
        resource: str,
        before: Message | None,
        after: Message | None,
    ) -> None:
        self._journal.record(connection, Change(actor, action, resource, before, after))
