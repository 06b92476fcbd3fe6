"""Members of accounts, and invitations."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="List, add, change and remove the members of an account.", no_args_is_help=True)
invitations: Final = typer.Typer(help="Invite people, list and withdraw invitations.", no_args_is_help=True)

Account = Annotated[str, typer.Argument(help="its id")]
Person = Annotated[str, typer.Argument(help="id or e-mail address")]
Role = Annotated[str, typer.Option(help="owner, admin, member, viewer or billing")]


@app.command("list")
@administrative
def members_list(desk: Desk, account: Account) -> None:
    """Lists the members of an account."""
    from polyroute.cli import people

    people.list_members(desk, account)


@app.command("add")
@administrative
def members_add(desk: Desk, account: Account, person: Person, role: Role = "member") -> None:
    """Makes a person a member, unasked; for operators. Others invite: `polyroute invitations create`."""
    from polyroute.cli import people

    people.add_member(desk, account, person, role)


@app.command("role")
@administrative
def members_role(
    desk: Desk,
    account: Account,
    person: Person,
    role: Annotated[str, typer.Argument(help="owner, admin, member, viewer or billing [default: as it is]")] = "",
    project: Annotated[
        list[str] | None, typer.Option(help="`PROJECT=ROLE` where they may do less; `PROJECT=` lifts it")
    ] = None,
) -> None:
    """Changes what a member may do, in the account or in some of its projects."""
    from polyroute.cli import people

    people.change_member(desk, account, person, role, project or [])


@app.command("remove")
@administrative
def members_remove(desk: Desk, account: Account, person: Person) -> None:
    """Takes a person out of an account, and leaves their keys."""
    from polyroute.cli import people

    people.remove_member(desk, account, person)


@invitations.command("list")
@administrative
def invitations_list(
    desk: Desk, account: Annotated[str, typer.Option(help="only those into this account")] = ""
) -> None:
    """Lists invitations, newest first, without their codes."""
    from polyroute.cli import people

    people.list_invitations(desk, account)


@invitations.command("create")
@administrative
def invitations_create(
    desk: Desk,
    email: Annotated[str, typer.Argument(help="only this address may use it")],
    account: Annotated[str, typer.Option(help="account they will be in [default: one of their own]")] = "",
    role: Role = "member",
    days: Annotated[int, typer.Option(min=1, max=90, help="how long it is good")] = 7,
) -> None:
    """Prints the code of an invitation, with which somebody registers or joins (`polyroute register`, `join`)."""
    from polyroute.cli import people

    people.invite(desk, email, account, role, days)


@invitations.command("delete")
@administrative
def invitations_delete(desk: Desk, invitation: Annotated[str, typer.Argument(help="its id")]) -> None:
    """Withdraws an invitation."""
    from polyroute.cli import people

    people.withdraw(desk, invitation)
