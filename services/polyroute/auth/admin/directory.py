"""Accounts, projects, limits and budgets: what administrators set, each change in one transaction with its event."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final, TypeVar

from google.protobuf.message import Message
from sqlalchemy import Connection, Select, Table, delete, insert, select, tuple_, update
from sqlalchemy.engine import RowMapping

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import keys, messages, schema
from polyroute.auth.admin import journal
from polyroute.auth.admin.journal import Change
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.admin.tenants import Account, AccountKind, Billing, Project
from polyroute.auth.database import Database
from polyroute.auth.money import budgets
from polyroute.auth.money.budgets import Budget
from polyroute.auth.money.periods import Period, window, zone
from polyroute.auth.people.reach import within
from polyroute.auth.rates.limits import COMMON, DEPLOYMENT, Kind, Limit, Place
from polyroute.mesh.errors import MeshError

ACCOUNT_FIELDS: Final = ("id", "name")
PROJECT_FIELDS: Final = ("id", "name", "account_id")
LIMIT_FIELDS: Final = ("scope", "model")
BUDGET_FIELDS: Final = ("id", "scope")

_TABLES: Final[Mapping[str, Table]] = {"key": schema.keys, "prj": schema.projects, "acc": schema.accounts}
_L: Final = schema.limits.c
_B: Final = schema.budgets.c

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
        return await self._database.read(lambda connection: _account(connection, account_id))

    async def accounts(self, page: Page) -> tuple[list[Account], str]:
        """A page of accounts, newest first, and the token that asks for the next."""
        return await self._page(schema.accounts, page, _to_account)

    async def update_account(self, actor: str, account_id: str, name: str | None, billing: Billing | None) -> Account:
        """The account with another name or another way to pay; None leaves either as it is."""

        def work(connection: Connection) -> Account:
            before = _account(connection, account_id)
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
            _account(connection, account_id)
            connection.execute(insert(schema.projects).values(asdict(project)))
            self._record(connection, actor, "CreateProject", messages.project, project.id, None, project)
            return project

        return await self._database.write(work)

    async def project(self, project_id: str) -> Project:
        """The project of that id."""
        return await self._database.read(lambda connection: _project(connection, project_id))

    async def projects(self, page: Page) -> tuple[list[Project], str]:
        """A page of projects, newest first, and the token that asks for the next."""
        return await self._page(schema.projects, page, _to_project)

    async def update_project(self, actor: str, project_id: str, name: str | None) -> Project:
        """The project with another name; None leaves it as it is."""

        def work(connection: Connection) -> Project:
            before = _project(connection, project_id)
            after = replace(before, name=name or before.name)
            which = schema.projects.c.id == project_id
            connection.execute(update(schema.projects).where(which).values(name=after.name))
            self._record(connection, actor, "UpdateProject", messages.project, project_id, before, after)
            return after

        return await self._database.write(work)

    async def set_limit(self, actor: str, limit: Limit) -> Limit:
        """Sets a limit in the place of one that is there.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such key, project or account.
        """

        def work(connection: Connection) -> Limit:
            _check_place(connection, limit.place)
            before = _limit(connection, limit.place)
            connection.execute(delete(schema.limits).where(*_at(limit.place)))
            row = {**limit.place._asdict(), "amount": limit.amount, "burst": limit.burst}
            connection.execute(insert(schema.limits).values(row))
            self._record(connection, actor, "SetLimit", messages.limit, limit.place.scope, before, limit)
            return limit

        return await self._telling(limit.place.scope, work)

    async def delete_limit(self, actor: str, place: Place) -> None:
        """Lifts a limit, if there is one."""

        def work(connection: Connection) -> None:
            before = _limit(connection, place)
            if before is not None:
                connection.execute(delete(schema.limits).where(*_at(place)))
                self._record(connection, actor, "DeleteLimit", messages.limit, place.scope, before, None)

        await self._telling(place.scope, work)

    async def limits(self, page: Page) -> tuple[list[Limit], str]:
        """A page of limits, by scope, and the token that asks for the next."""
        columns = (_L.scope, _L.kind, _L.model)
        query = select(schema.limits).where(*(_L[name] == value for name, value in page.wanted.items()))
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
        """The limit of that place."""
        return await self._database.read(lambda connection: _limit(connection, place))

    async def set_budget(self, actor: str, wanted: Budget) -> Budget:
        """Sets a new budget, or changes the one with the id of `wanted`; what it has spent comes from the ledger.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such budget, or nobody whom it could bind.
        """
        now = self._micros()

        def work(connection: Connection) -> Budget:
            before = _budget(connection, wanted.id) if wanted.id else None
            if before and before.prepaid:
                raise MeshError(
                    errors_pb2.REASON_INVALID_REQUEST,
                    "the balance of an account comes of its billing mode",
                    metadata={"param": "budget.id"},
                )
            scope = before.scope if before else wanted.scope
            _check_scope(connection, scope)
            after = _counted(connection, replace(wanted, scope=scope, id=wanted.id or keys.new_id("bud")), now)
            connection.execute(delete(schema.budgets).where(_B.id == after.id))
            connection.execute(insert(schema.budgets).values(asdict(after) | {"created": now}))
            self._record(connection, actor, "SetBudget", messages.budget, scope, before, after)
            return after

        done = await self._database.write(work)
        self._changed(done.scope)
        return done

    async def delete_budget(self, actor: str, budget_id: str) -> None:
        """Lifts a budget, if there is one."""

        def work(connection: Connection) -> str:
            row = connection.execute(select(schema.budgets).where(_B.id == budget_id)).mappings().one_or_none()
            if row is None or row["prepaid"]:
                return ""
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

    async def _page(self, table: Table, page: Page, made: Callable[[RowMapping], T]) -> tuple[list[T], str]:
        """Rows of a table whose ids ascend in time, newest first unless said."""
        query: Select[Any] = select(table).where(*(table.c[name] == value for name, value in page.wanted.items()))
        query = page.ordered(query.where(*within(table, page.reach)), table.c.id)
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


def _to_account(row: RowMapping) -> Account:
    return Account(row["id"], row["name"], Billing(row["billing_mode"]), row["created"], AccountKind(row["kind"]))


def _to_project(row: RowMapping) -> Project:
    return Project(row["id"], row["account_id"], row["name"], row["created"])


def _to_limit(row: RowMapping) -> Limit:
    return Limit(Place(row["scope"], Kind(row["kind"]), row["model"]), row["amount"], row["burst"])


def _account(connection: Connection, account_id: str) -> Account:
    return _to_account(_one(connection, schema.accounts, account_id, "account"))


def _project(connection: Connection, project_id: str) -> Project:
    return _to_project(_one(connection, schema.projects, project_id, "project"))


def _budget(connection: Connection, budget_id: str) -> Budget:
    return budgets.budget_of(_one(connection, schema.budgets, budget_id, "budget"))


def _limit(connection: Connection, place: Place) -> Limit | None:
    row = connection.execute(select(schema.limits).where(*_at(place))).mappings().one_or_none()
    return None if row is None else _to_limit(row)


def _at(place: Place) -> tuple[Any, ...]:
    return _L.scope == place.scope, _L.kind == place.kind, _L.model == place.model


def _one(connection: Connection, table: Table, wanted: str, what: str) -> RowMapping:
    row = connection.execute(select(table).where(table.c.id == wanted)).mappings().one_or_none()
    if row is None:
        raise MeshError(errors_pb2.REASON_NOT_FOUND, f"there is no such {what}", metadata={"resource": wanted})
    return row


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
