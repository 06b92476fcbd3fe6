"""Accounts and projects as they are kept, and whether calls may be made in them."""

from typing import Final, TypeVar

from sqlalchemy import Connection, Table, select
from sqlalchemy.engine import RowMapping

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.tenants import Account, AccountKind, Billing, Project, State
from polyroute.auth.keys import Halted, Key
from polyroute.mesh.errors import MeshError, precondition

_A: Final = schema.accounts.c
_P: Final = schema.projects.c

Tenant = TypeVar("Tenant", Account, Project)


def halted(connection: Connection, key: Key) -> Halted | None:
    """Why a key is refused though it was not revoked; None where it is not."""
    states = select(_A.state, _P.state).join_from(schema.projects, schema.accounts).where(_P.id == key.project_id)
    account, project = connection.execute(states).one()
    if State.DELETED in (account, project):
        return Halted.GONE
    if account == State.SUSPENDED:
        return Halted.ACCOUNT
    return Halted.PROJECT if project == State.SUSPENDED else None


def is_there(connection: Connection, tenant_id: str) -> bool:
    """Whether there is an account or a project of an id that was not deleted."""
    table = schema.projects if tenant_id.startswith("prj_") else schema.accounts
    kept = (table.c.id == tenant_id, table.c.state != State.DELETED)
    return connection.scalar(select(table.c.id).where(*kept)) is not None


def to_account(row: RowMapping) -> Account:
    """An account, from its row."""
    what = Billing(row["billing_mode"]), row["created"], AccountKind(row["kind"]), State(row["state"])
    return Account(row["id"], row["name"], *what)


def to_project(row: RowMapping) -> Project:
    """A project, from its row."""
    return Project(row["id"], row["account_id"], row["name"], row["created"], State(row["state"]))


def standing(tenant: Tenant) -> Tenant:
    """The account or project, where it was not deleted.

    Raises:
        MeshError: REASON_INVALID_REQUEST, as a precondition that failed.
    """
    if tenant.state == State.DELETED:
        raise precondition("it is deleted", resource=tenant.id)
    return tenant


def account_in(connection: Connection, account_id: str) -> Account:
    """The account of an id; raises `MeshError` with REASON_NOT_FOUND."""
    return to_account(row_of(connection, schema.accounts, account_id, "account"))


def project_in(connection: Connection, project_id: str) -> Project:
    """The project of an id; raises as `account_in`."""
    return to_project(row_of(connection, schema.projects, project_id, "project"))


def row_of(connection: Connection, table: Table, wanted: str, what: str) -> RowMapping:
    """The row of an id; raises `MeshError` with REASON_NOT_FOUND where there is none."""
    row = connection.execute(select(table).where(table.c.id == wanted)).mappings().one_or_none()
    if row is None:
        raise MeshError(errors_pb2.REASON_NOT_FOUND, f"there is no such {what}", metadata={"resource": wanted})
    return row
