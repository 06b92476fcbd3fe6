"""Accounts, projects, limits and budgets: what administrators set, each change in one transaction with its event."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from sqlalchemy import ColumnElement, Connection, Select, Table, delete, insert, select, tuple_, update
from sqlalchemy.engine import RowMapping

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys, messages, schema
from polyroute.auth.admin import journal
from polyroute.auth.admin.etags import check_etag
from polyroute.auth.admin.journal import Change
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.admin.states import account_in, project_in, row_of, standing, to_account, to_project
from polyroute.auth.admin.tenants import Account, Billing, Project, State
from polyroute.auth.database import Database
from polyroute.auth.money import budgets
from polyroute.auth.money.budgets import Budget
from polyroute.auth.money.inforce import PREFIX, limit_at
from polyroute.auth.money.periods import Period, window, zone
from polyroute.auth.people.reach import within
from polyroute.auth.rates.limits import COMMON, DEPLOYMENT, Kind, Limit, Place
from polyroute.mesh.errors import MeshError

_TABLES: Final[Mapping[str, Table]] = {"key": schema.keys, "prj": schema.projects, "acc": schema.accounts}
_L: Final = schema.limits.c
_B: Final = schema.budgets.c

BUDGET_MEMBERS: Final = ("period", "time_zone", "amount", "hard")  # what is set of a budget that is there

T = TypeVar("T")


class Directory:
    """What administrators set.

    Args:
        database: Where it is written.
        changed: Told of each key, project and account of which something has changed.
        now: Wall clock, seconds since the Unix epoch.
    """

    def __init__(
        self, database: Database, changed: Callable[[str], None], *, now: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._changed = changed
        self._now = now

    async def create_account(self, actor: str, name: str, billing: Billing) -> Account:
        """A new account."""
        account = Account(keys.new_id("acc"), name, billing, self._micros())

        def work(connection: Connection) -> Account:
            open_account(connection, account)
            self._record(connection, actor, "CreateAccount", messages.account, account.id, None, account)
            return account

        return await self._database.write(work)

    async def account(self, account_id: str) -> Account:
        """The account of that id."""
        return await self._database.read(lambda connection: account_in(connection, account_id))

    async def accounts(self, page: Page, *, show_deleted: bool = False) -> tuple[list[Account], str]:
        """A page of accounts, newest first, and the token that asks for the next."""
        return await self._page(schema.accounts, page, to_account, *_there(schema.accounts, show_deleted=show_deleted))

    async def update_account(
        self, actor: str, account_id: str, name: str | None, billing: Billing | None, etag: str = ""
    ) -> Account:
        """The account with another name or another way to pay; None leaves either as it is.

        Raises:
            MeshError: REASON_NOT_FOUND; REASON_CHANGED, it has another etag.
        """

        def work(connection: Connection) -> Account:
            before = standing(account_in(connection, account_id))
            check_etag(messages.account(before), etag, account_id)
            after = replace(before, name=name or before.name, billing=billing or before.billing)
            which = schema.accounts.c.id == account_id
            values = {"name": after.name, "billing_mode": after.billing}
            connection.execute(update(schema.accounts).where(which).values(values))
            _set_balance(connection, after)
            self._record(connection, actor, "UpdateAccount", messages.account, account_id, before, after)
            return after

        return await self._telling(account_id, work)

    async def create_project(self, actor: str, account_id: str, name: str) -> Project:
        """A new project."""
        project = Project(keys.new_id("prj"), account_id, name, self._micros())

        def work(connection: Connection) -> Project:
            standing(account_in(connection, account_id))
            connection.execute(insert(schema.projects).values(asdict(project)))
            self._record(connection, actor, "CreateProject", messages.project, project.id, None, project)
            return project

        return await self._database.write(work)

    async def project(self, project_id: str) -> Project:
        """The project of that id."""
        return await self._database.read(lambda connection: project_in(connection, project_id))

    async def projects(self, page: Page, *, show_deleted: bool = False) -> tuple[list[Project], str]:
        """A page of projects, newest first, and the token that asks for the next."""
        return await self._page(schema.projects, page, to_project, *_there(schema.projects, show_deleted=show_deleted))

    async def update_project(self, actor: str, project_id: str, name: str | None, etag: str = "") -> Project:
        """The project with another name; None leaves it as it is.

        Raises:
            MeshError: REASON_NOT_FOUND; REASON_CHANGED, it has another etag.
        """

        def work(connection: Connection) -> Project:
            before = standing(project_in(connection, project_id))
            check_etag(messages.project(before), etag, project_id)
            after = replace(before, name=name or before.name)
            which = schema.projects.c.id == project_id
            connection.execute(update(schema.projects).where(which).values(name=after.name))
            self._record(connection, actor, "UpdateProject", messages.project, project_id, before, after)
            return after

        return await self._database.write(work)

    async def set_limit(self, actor: str, limit: Limit, etag: str = "") -> Limit:
        """Sets a limit in the place of one that is there.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such key, project or account; REASON_CHANGED, the one that is there
                has another etag, or none is.
        """

        def work(connection: Connection) -> Limit:
            _check_place(connection, limit.place)
            before = _limit(connection, limit.place)
            check_etag(messages.limit(before) if before else None, etag, limit.place.scope)
            connection.execute(delete(schema.limits).where(*_at(limit.place)))
            row = {**limit.place._asdict(), "amount": limit.amount, "burst": limit.burst}
            connection.execute(insert(schema.limits).values(row))
            self._record(connection, actor, "SetLimit", messages.limit, limit.place.scope, before, limit)
            return limit

        return await self._telling(limit.place.scope, work)

    async def delete_limit(self, actor: str, place: Place, etag: str = "") -> None:
        """Lifts a limit, if there is one.

        Raises:
            MeshError: REASON_CHANGED, it has another etag.
        """

        def work(connection: Connection) -> None:
            before = _limit(connection, place)
            if before is not None:
                check_etag(messages.limit(before), etag, place.scope)
                connection.execute(delete(schema.limits).where(*_at(place)))
                self._record(connection, actor, "DeleteLimit", messages.limit, place.scope, before, None)

        await self._telling(place.scope, work)

    async def limits(self, page: Page) -> tuple[list[Limit], str]:
        """A page of limits, by scope, and the token that asks for the next."""
        columns = (_L.scope, _L.kind, _L.model)
        query = select(schema.limits).where(*page.wanted)
        query = query.where(*within(schema.limits, page.reach)).order_by(*columns).limit(page.size + 1)
        if len(page.after) == len(columns):
            query = query.where(tuple_(*columns) > tuple_(*page.after))
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        found = [_to_limit(row) for row in rows[: page.size]]
        return found, token(*found[-1].place) if len(rows) > page.size else ""

    async def common_limits(self) -> list[Limit]:
        """The limits that bind more than one caller."""
        query = select(schema.limits).where(_L.scope.in_(COMMON)).order_by(_L.scope, _L.kind, _L.model)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [_to_limit(row) for row in rows]

    async def limit(self, place: Place) -> Limit | None:
        """The limit of that place, which may be one that comes with a plan."""
        found = limit_at if place.scope.startswith(PREFIX) else _limit
        return await self._database.read(lambda connection: found(connection, place))

    async def set_budget(
        self, actor: str, wanted: Budget, members: Collection[str] = BUDGET_MEMBERS, etag: str = ""
    ) -> Budget:
        """Sets a new budget, or changes the one with the id of `wanted`; what it has spent comes from the ledger.

        Args:
            actor: Who does.
            wanted: The budget.
            members: What of one that is there is changed.
            etag: That it must have; empty for any.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such budget, or nobody whom it could bind; REASON_INVALID_REQUEST,
                it binds somebody else; REASON_CHANGED, it has another etag.
        """
        now = self._micros()

        def work(connection: Connection) -> Budget:
            before = _budget(connection, wanted.id) if wanted.id else None
            if before is not None:
                _check_same(before, wanted)
                check_etag(messages.budget(before), etag, before.id)
            budget = replace(before or wanted, **{name: getattr(wanted, name) for name in members})
            _check_scope(connection, budget.scope)
            after = _counted(connection, replace(budget, id=wanted.id or keys.new_id("bud")), now)
            if before is None:
                connection.execute(insert(schema.budgets).values(asdict(after) | {"created": now}))
            else:
                connection.execute(update(schema.budgets).where(_B.id == after.id).values(asdict(after)))
            self._record(connection, actor, "SetBudget", messages.budget, after.scope, before, after)
            return after

        done = await self._database.write(work)
        self._changed(done.scope)
        return done

    async def delete_budget(self, actor: str, budget_id: str, etag: str = "") -> None:
        """Lifts a budget, if there is one.

        Raises:
            MeshError: REASON_CHANGED, it has another etag.
        """

        def work(connection: Connection) -> str:
            row = connection.execute(select(schema.budgets).where(_B.id == budget_id)).mappings().one_or_none()
            if row is None or row["prepaid"]:
                return ""
            check_etag(messages.budget(budgets.budget_of(row)), etag, budget_id)
            connection.execute(delete(schema.budgets).where(_B.id == budget_id))
            self._record(connection, actor, "DeleteBudget", messages.budget, row["scope"], budgets.budget_of(row), None)
            return str(row["scope"])

        scope = await self._database.write(work)
        if scope:
            self._changed(scope)

    async def budgets(self, page: Page) -> tuple[list[Budget], str]:
        """A page of budgets, newest first, and the token that asks for the next."""
        found, following = await self._page(schema.budgets, page, budgets.budget_of)
        return [budgets.current(budget, self._micros()) for budget in found], following

    async def _page(
        self, table: Table, page: Page, made: Callable[[RowMapping], T], *conditions: ColumnElement[bool]
    ) -> tuple[list[T], str]:
        """Rows of a table whose ids ascend in time, newest first unless said."""
        query: Select[Any] = select(table).where(*page.wanted)
        query = page.ordered(query.where(*conditions, *within(table, page.reach)), table.c.id)
        rows = await self._database.read(lambda connection: connection.execute(query).mappings().all())
        found = [made(row) for row in rows[: page.size]]
        return found, token(rows[page.size - 1]["id"]) if len(rows) > page.size else ""

    async def _telling(self, scope: str, work: Callable[[Connection], T]) -> T:
        done = await self._database.write(work)
        self._changed(scope)
        return done

    def _record(
        self,
        connection: Connection,
        actor: str,
        action: str,
        told: Callable[[T], Message],
        resource: str,
        before: T | None,
        after: T | None,
    ) -> None:
        states = (None if one is None else told(one) for one in (before, after))
        journal.record(connection, Change(actor, action, resource, *states), self._micros())

    def _micros(self) -> int:
        return round(self._now() * 1e6)


def _there(table: Table, *, show_deleted: bool) -> list[ColumnElement[bool]]:
    return [] if show_deleted else [table.c.state != State.DELETED]


def _to_limit(row: RowMapping) -> Limit:
    return Limit(Place(row["scope"], Kind(row["kind"]), row["model"]), row["amount"], row["burst"])


def _budget(connection: Connection, budget_id: str) -> Budget:
    return budgets.budget_of(row_of(connection, schema.budgets, budget_id, "budget"))


def _limit(connection: Connection, place: Place) -> Limit | None:
    row = connection.execute(select(schema.limits).where(*_at(place))).mappings().one_or_none()
    return None if row is None else _to_limit(row)


def _at(place: Place) -> tuple[Any, ...]:
    return _L.scope == place.scope, _L.kind == place.kind, _L.model == place.model


def _check_place(connection: Connection, place: Place) -> None:
    if place.scope == DEPLOYMENT and not place.model:
        raise MeshError(
            errors_pb2.REASON_INVALID_REQUEST, "a limit of a deployment names it in model", metadata={"param": "model"}
        )
    if place.scope not in COMMON:
        _check_scope(connection, place.scope)


def _check_scope(connection: Connection, scope: str) -> None:
    table = _TABLES.get(scope.partition("_")[0])
    if table is None or connection.scalar(select(table.c.id).where(table.c.id == scope)) is None:
        raise MeshError(
            errors_pb2.REASON_NOT_FOUND, "there is no such key, project or account", metadata={"resource": scope}
        )


def _check_same(before: Budget, wanted: Budget) -> None:
    if before.prepaid:
        raise MeshError(
            errors_pb2.REASON_INVALID_REQUEST,
            "the balance of an account comes of its billing mode",
            metadata={"param": "budget.id"},
        )
    if wanted.scope not in ("", before.scope):
        raise MeshError(
            errors_pb2.REASON_INVALID_REQUEST,
            f"the budget binds {before.scope}, and goes on doing so: set another one for {wanted.scope}",
            metadata={"param": "budget.scope"},
        )


def _counted(connection: Connection, budget: Budget, now: int) -> Budget:
    """The budget in its current period, with what the ledger and the open holds say of it."""
    started, ends = window(budget.period, zone(budget.time_zone), now)
    return replace(
        budget,
        started=started,
        ends=ends,
        spent=budgets.spent_since(connection, budget.scope, started),
        held=budgets.held_now(connection, budget.scope),
    )


def open_account(connection: Connection, account: Account) -> None:
    """Writes a new account, with the balance that it has if it pays in advance."""
    row = {"id": account.id, "name": account.name, "created": account.created, "billing_mode": account.billing}
    connection.execute(insert(schema.accounts).values(row | {"kind": account.kind}))
    _set_balance(connection, account)


def _set_balance(connection: Connection, account: Account) -> None:
    """Gives an account that pays in advance the budget that bounds it, and takes it from one that does not."""
    connection.execute(delete(schema.budgets).where(_B.scope == account.id, _B.prepaid))
    if account.billing == Billing.PREPAID:
        paid = budgets.paid_in(connection, account.id)
        balance = Budget(keys.new_id("bud"), account.id, Period.TOTAL, "", paid, True, True, 0, None, 0, 0)
        values = asdict(_counted(connection, balance, account.created)) | {"created": account.created}
        connection.execute(insert(schema.budgets).values(values))
