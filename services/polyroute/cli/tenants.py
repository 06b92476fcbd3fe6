"""`polyroute accounts` and `polyroute projects`."""

from typing import Any, Final

from polyroute.api.auth.v1 import admin_pb2 as pb
from polyroute.api.auth.v1 import tenants_pb2
from polyroute.cli.admin import when
from polyroute.cli.desk import Desk
from polyroute.cli.printing import Column, show_line, show_list, show_one
from polyroute.mesh.roles import ConfigError

BILLING: Final = {"postpaid": pb.BILLING_MODE_POSTPAID, "prepaid": pb.BILLING_MODE_PREPAID}
_MODES: Final = {value: name for name, value in BILLING.items()}


def _mode(account: Any) -> str:
    return _MODES.get(account.billing_mode, str(account.billing_mode))


def _state(tenant: Any) -> str:
    return pb.TenantState.Name(tenant.state).removeprefix("TENANT_STATE_").lower()


ACCOUNT: Final[tuple[Column, ...]] = (
    ("id", lambda account: account.id),
    ("name", lambda account: account.name),
    ("billing", _mode),
    ("state", _state),
    ("created", lambda account: when(account.create_time)),
)
PROJECT: Final[tuple[Column, ...]] = (
    ("id", lambda project: project.id),
    ("account", lambda project: project.account_id),
    ("name", lambda project: project.name),
    ("state", _state),
    ("created", lambda project: when(project.create_time)),
)


def list_accounts(desk: Desk, filtered: str, *, deleted: bool) -> None:
    """Prints the accounts, newest first."""
    found = desk.pages("ListAccounts", pb.ListAccountsRequest(filter=filtered, show_deleted=deleted))
    show_list(found, ACCOUNT, "there are no such accounts", as_json=desk.as_json)


def get_account(desk: Desk, account: str) -> None:
    """Prints an account."""
    show_one(desk.ask("GetAccount", pb.GetAccountRequest(account_id=account)).account, ACCOUNT, as_json=desk.as_json)


def create_account(desk: Desk, name: str, billing: str) -> None:
    """Creates an account and prints its id."""
    made = desk.ask("CreateAccount", pb.CreateAccountRequest(name=name, billing_mode=_billing(billing))).account
    show_line(made, made.id, as_json=desk.as_json)


def update_account(desk: Desk, account: str, name: str, billing: str) -> None:
    """Changes an account.

    Raises:
        ConfigError: Nothing is to be changed.
    """
    request = pb.UpdateAccountRequest(account=pb.Account(id=account, name=name))
    if name:
        request.update_mask.paths.append("name")
    if billing:
        request.account.billing_mode = _billing(billing)
        request.update_mask.paths.append("billing_mode")
    if not request.update_mask.paths:
        raise ConfigError("say what is to change: --name or --billing")
    show_one(desk.ask("UpdateAccount", request).account, ACCOUNT, as_json=desk.as_json)


def list_projects(desk: Desk, account: str, filtered: str, *, deleted: bool) -> None:
    """Prints the projects, newest first."""
    own = f'account_id = "{account}"' if account else ""
    request = pb.ListProjectsRequest(filter=" AND ".join(filter(None, (own, filtered))), show_deleted=deleted)
    show_list(desk.pages("ListProjects", request), PROJECT, "there are no such projects", as_json=desk.as_json)


def get_project(desk: Desk, project: str) -> None:
    """Prints a project."""
    show_one(desk.ask("GetProject", pb.GetProjectRequest(project_id=project)).project, PROJECT, as_json=desk.as_json)


def create_project(desk: Desk, account: str, name: str) -> None:
    """Creates a project and prints its id; in the only account when none is named.

    Raises:
        ConfigError: None is named, and there are several.
    """
    made = desk.ask("CreateProject", pb.CreateProjectRequest(account_id=account or _only(desk), name=name)).project
    show_line(made, made.id, as_json=desk.as_json)


def update_project(desk: Desk, project: str, name: str) -> None:
    """Gives a project another name."""
    request = pb.UpdateProjectRequest(project=pb.Project(id=project, name=name))
    request.update_mask.paths.append("name")
    show_one(desk.ask("UpdateProject", request).project, PROJECT, as_json=desk.as_json)


def end_account(desk: Desk, verb: str, account: str, **more: bool) -> None:
    """Suspends, resumes or deletes an account."""
    request = getattr(tenants_pb2, f"{verb}AccountRequest")(account_id=account, **more)
    show_one(desk.ask(f"{verb}Account", request).account, ACCOUNT, as_json=desk.as_json)


def end_project(desk: Desk, verb: str, project: str, **more: bool) -> None:
    """Suspends, resumes or deletes a project."""
    request = getattr(tenants_pb2, f"{verb}ProjectRequest")(project_id=project, **more)
    show_one(desk.ask(f"{verb}Project", request).project, PROJECT, as_json=desk.as_json)


def _only(desk: Desk) -> str:
    accounts = desk.ask("ListAccounts", pb.ListAccountsRequest(page_size=2)).accounts
    if len(accounts) != 1:
        raise ConfigError("there are several accounts: name one by --account (polyroute accounts list)")
    return str(accounts[0].id)


def _billing(name: str) -> pb.BillingMode.ValueType:
    if name and name not in BILLING:
        raise ConfigError(f"--billing: {name!r} is none of {', '.join(BILLING)}")
    return BILLING.get(name, pb.BILLING_MODE_UNSPECIFIED)
