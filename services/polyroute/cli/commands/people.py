"""People, for operators; and what somebody does for themselves."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Create, list and shut out people; for operators.", no_args_is_help=True)
own: Final = typer.Typer()  # commands without a name above them

Email = Annotated[str, typer.Argument(help="by which they sign in")]
Person = Annotated[str, typer.Argument(help="id or e-mail address")]
Name = Annotated[str, typer.Option(help="name for people [default: the address]")]
Role = Annotated[str, typer.Option(help="owner, admin, member, viewer or billing")]


@app.command("list")
@administrative
def people_list(desk: Desk, email: Annotated[str, typer.Option(help="only who signs in by it")] = "") -> None:
    """Lists people, newest first."""
    from polyroute.cli import people

    people.list_people(desk, email)


@app.command("create")
@administrative
def people_create(
    desk: Desk,
    email: Email,
    name: Name = "",
    account: Annotated[str, typer.Option(help="account they will be in [default: one of their own]")] = "",
    role: Role = "member",
) -> None:
    """Creates a person, and prints the code by which they set their password (`polyroute set-password --code`)."""
    from polyroute.cli import people

    people.create_person(desk, email, name, account, role)


@app.command("disable")
@administrative
def people_disable(desk: Desk, person: Person) -> None:
    """Keeps a person out; their sessions end at once, their keys do not."""
    from polyroute.cli import people

    people.set_disabled(desk, person, disabled=True)


@app.command("enable")
@administrative
def people_enable(desk: Desk, person: Person) -> None:
    """Lets a person in again."""
    from polyroute.cli import people

    people.set_disabled(desk, person, disabled=False)


@app.command("reset-password")
@administrative
def people_reset(desk: Desk, person: Person) -> None:
    """Prints a code by which a person sets a new password, once, within a day."""
    from polyroute.cli import people

    people.offer_reset(desk, person)


@own.command("register", rich_help_panel="Be somebody")
@administrative
def register(
    desk: Desk,
    email: Email,
    name: Name = "",
    invitation: Annotated[str, typer.Option(help="code of an invitation")] = "",
) -> None:
    """Registers, with a password from standard input, and signs in."""
    from polyroute.cli import people

    people.register(desk, email, name, invitation)


@own.command("sign-in", rich_help_panel="Be somebody")
@administrative
def sign_in(
    desk: Desk,
    email: Annotated[str, typer.Argument(help="by which one signs in")] = "",
    provider: Annotated[str, typer.Option(help="identity provider of the gateway's settings, instead")] = "",
) -> None:
    """Signs in, with a password from standard input; other commands then act as this person."""
    from polyroute.cli import people

    people.sign_in(desk, email, provider)


@own.command("sign-out", rich_help_panel="Be somebody")
@administrative
def sign_out(desk: Desk) -> None:
    """Ends the session."""
    from polyroute.cli import people

    people.sign_out(desk)


@own.command("whoami", rich_help_panel="Be somebody")
@administrative
def whoami(desk: Desk) -> None:
    """Says who is signed in, and what they are in which account."""
    from polyroute.cli import people

    people.who_am_i(desk)


@own.command("set-password", rich_help_panel="Be somebody")
@administrative
def set_password(
    desk: Desk,
    by_code: Annotated[bool, typer.Option("--code", help="by a code from an operator, not by the password")] = False,
) -> None:
    """Sets one's own password: standard input has the code or the present one, and on the next line the new one."""
    from polyroute.cli import people

    people.set_password(desk, by_code=by_code)


@own.command("join", rich_help_panel="Be somebody")
@administrative
def join(desk: Desk, code: Annotated[str, typer.Argument(help="of the invitation")]) -> None:
    """Joins the account that one is invited into."""
    from polyroute.cli import people

    people.join(desk, code)
