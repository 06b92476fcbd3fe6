"""The ends of accounts and projects: suspended for a time, or deleted, which leaves what the ledger says of them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from google.protobuf.message import Message
from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, not_, or_, select, update

from polyroute.auth import messages, schema
from polyroute.auth.admin.etags import check_etag
from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.states import account_in, project_in, standing, to_project
from polyroute.auth.admin.tenants import Account, Project, State
from polyroute.auth.flights import Shelter
from polyroute.auth.keyring import Keyring
from polyroute.auth.money import budgets, plans
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.schema import Property
from polyroute.mesh.errors import precondition

_A: Final = schema.accounts.c
_P: Final = schema.projects.c
_K: Final = schema.keys.c
_S: Final = schema.subscriptions.c
_VERBS: Final = {State.ACTIVE: "Resume", State.SUSPENDED: "Suspend"}


class Lifecycle:
    """Suspends, resumes and deletes accounts and projects, each change in one transaction with its event.

    Args:
        ledger: Its transactions are the ones used here.
        journal: Where changes are written down.
        keyring: Told of keys that were revoked.
        changed: Told of each account and project of which something has changed.
    """

    def __init__(self, ledger: Ledger, journal: Journal, keyring: Keyring, changed: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._journal = journal
        self._keyring = keyring
        self._changed = changed
        self._shelter = Shelter()

    async def set_account(self, actor: str, account_id: str, state: State) -> Account:
        """The account, suspended or active.

        Raises:
            MeshError: REASON_NOT_FOUND; REASON_INVALID_REQUEST, as a precondition that failed: it is deleted.
        """

        def work(connection: Connection, _now: int) -> Account:
            before = standing(account_in(connection, account_id))
            after = replace(before, state=state)
            connection.execute(update(schema.accounts).where(_A.id == account_id).values(state=state))
            self._record(
                connection, actor, f"{_VERBS[state]}Account", messages.account(before), messages.account(after)
            )
            return after

        return await self._shelter.run(self._done(work, account_id))

    async def set_project(self, actor: str, project_id: str, state: State) -> Project:
        """The project, suspended or active; raises as `set_account`."""

        def work(connection: Connection, _now: int) -> Project:
            before = standing(project_in(connection, project_id))
            after = replace(before, state=state)
            connection.execute(update(schema.projects).where(_P.id == project_id).values(state=state))
            self._record(
                connection, actor, f"{_VERBS[state]}Project", messages.project(before), messages.project(after)
            )
            return after

        return await self._shelter.run(self._done(work, project_id))

    async def delete_account(self, actor: str, account_id: str, etag: str = "", *, force: bool = False) -> Account:
        """The account, deleted with its projects, their keys revoked; one that was deleted stays as it is.

        Args:
            actor: Who deletes it.
            account_id: Which.
            etag: As it was read; empty for whichever.
            force: Even with money or a subscription.

        Raises:
            MeshError: REASON_NOT_FOUND; REASON_CHANGED, it has another etag; REASON_INVALID_REQUEST, as a precondition
                that failed: it has money or a subscription, or is where keys go for which nothing is said.
        """

        def work(connection: Connection, now: int) -> Account:
            before = account_in(connection, account_id)
            if before.state == State.DELETED:
                return before
            check_etag(messages.account(before), etag, account_id)
            theirs = _S.account_id == account_id
            if not force:
                _check_no_money(connection, account_id, now)
                _check_no_subscription(connection, theirs, account_id)
            plans.give_up(connection, theirs, now)
            projects = and_(_P.account_id == account_id, _P.state != State.DELETED)
            for row in connection.execute(select(schema.projects).where(projects)).mappings().all():
                self._delete_project(connection, actor, to_project(row), now)
            after = replace(before, state=State.DELETED)
            connection.execute(update(schema.accounts).where(_A.id == account_id).values(state=State.DELETED))
            self._record(connection, actor, "DeleteAccount", messages.account(before), messages.account(after))
            return after

        return await self._shelter.run(self._done(work, account_id))

    async def delete_project(self, actor: str, project_id: str, etag: str = "", *, force: bool = False) -> Project:
        """The project, deleted, its keys revoked; as `delete_account`."""

        def work(connection: Connection, now: int) -> Project:
            before = project_in(connection, project_id)
            if before.state == State.DELETED:
                return before
            check_etag(messages.project(before), etag, project_id)
            theirs = _S.scope == project_id
            if not force:
                _check_no_subscription(connection, theirs, project_id)
            plans.give_up(connection, theirs, now)
            return self._delete_project(connection, actor, before, now)

        return await self._shelter.run(self._done(work, project_id))

    async def close(self) -> None:
        """Waits for what is under way."""
        await self._shelter.close()

    async def _done(self, work: Callable[[Connection, int], Any], tenant_id: str) -> Any:
        """The outcome of a change, once everybody was told."""
        done = await self._ledger.transact(work)
        await self._keyring.push()
        self._changed(tenant_id)
        return done

    def _delete_project(self, connection: Connection, actor: str, before: Project, now: int) -> Project:
        default = select(schema.properties.c.value).where(schema.properties.c.name == Property.DEFAULT_PROJECT)
        if connection.scalar(default) == before.id:
            raise precondition("keys go to this project where none is named: it stays", resource=before.id)
        _revoke(connection, before.id, now)
        after = replace(before, state=State.DELETED)
        connection.execute(update(schema.projects).where(_P.id == before.id).values(state=State.DELETED))
        self._record(connection, actor, "DeleteProject", messages.project(before), messages.project(after))
        return after

    def _record(self, connection: Connection, actor: str, action: str, before: Message, after: Any) -> None:
        self._journal.record(connection, Change(actor, action, after.id, before, after))


def _revoke(connection: Connection, project_id: str, now: int) -> None:
    """Ends every key of a project."""
    live = and_(_K.project_id == project_id, _K.revoked.is_(None))
    ended = list(connection.scalars(select(_K.id).where(live).order_by(_K.id)))
    if not ended:
        return
    connection.execute(update(schema.keys).where(live).values(revoked=now))
    keys = select(_K.id).where(_K.project_id == project_id)
    connection.execute(delete(schema.former_secrets).where(schema.former_secrets.c.key_id.in_(keys)))
    connection.execute(insert(schema.revocations), [{"key_id": key_id} for key_id in ended])


def _check_no_money(connection: Connection, account_id: str, now: int) -> None:
    for budget in budgets.of(connection, [account_id], now):
        if budget.prepaid and budget.left > 0:
            raise precondition("the account has money: pay it back, or force the deletion", resource=account_id)


def _check_no_subscription(connection: Connection, theirs: ColumnElement[bool], tenant_id: str) -> None:
    running = select(func.count()).where(theirs, not_(_S.ended), or_(not_(_S.cancelled), _S.ends.is_(None)))
    if connection.scalar(running):
        raise precondition("there is a subscription: cancel it, or force the deletion", resource=tenant_id)
