"""Accounts: people and teams."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Create, list, change, suspend and delete accounts.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(help="its id")]
Filter = Annotated[str, typer.Option("--filter", help="such as 'name = \"team\"'; joined by AND")]
Name = Annotated[str, typer.Option(help="name for people")]
Billing = Annotated[str, typer.Option(help="postpaid or prepaid")]

Deleted = Annotated[bool, typer.Option("--show-deleted", help="deleted ones as well")]
Force = Annotated[bool, typer.Option("--force", help="even with money or a subscription")]


@app.command("list")
@administrative
def accounts_list(desk: Desk, filtered: Filter = "", deleted: Deleted = False) -> None:
    """Lists accounts, newest first."""
    from polyroute.cli import tenants

    tenants.list_accounts(desk, filtered, deleted=deleted)


@app.command("get")
@administrative
def accounts_get(desk: Desk, account: Account) -> None:
    """Shows an account."""
    from polyroute.cli import tenants

    tenants.get_account(desk, account)


@app.command("create")
@administrative
def accounts_create(desk: Desk, name: Name, billing: Billing = "postpaid") -> None:
    """Creates an account and prints its id."""
    from polyroute.cli import tenants

    tenants.create_account(desk, name, billing)


@app.command("update")
@administrative
def accounts_update(desk: Desk, account: Account, name: Name = "", billing: Billing = "") -> None:
    """Changes an account."""
    from polyroute.cli import tenants

    tenants.update_account(desk, account, name, billing)


@app.command("suspend")
@administrative
def accounts_suspend(desk: Desk, account: Account) -> None:
    """Suspends an account: every call in it is refused within a second."""
    from polyroute.cli import tenants

    tenants.end_account(desk, "Suspend", account)


@app.command("resume")
@administrative
def accounts_resume(desk: Desk, account: Account) -> None:
    """Ends the suspension of an account."""
    from polyroute.cli import tenants

    tenants.end_account(desk, "Resume", account)


@app.command("delete")
@administrative
def accounts_delete(desk: Desk, account: Account, force: Force = False) -> None:
    """Deletes an account: its projects go with it, and their keys; what it spent stays in the ledger."""
    from polyroute.cli import tenants

    tenants.end_account(desk, "Delete", account, force=force)
