"""The log of administrative changes."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Read and check the log of administrative changes.", no_args_is_help=True)


@app.command("list")
@administrative
def audit_list(
    desk: Desk,
    filtered: Annotated[str, typer.Option("--filter", help="such as 'action = \"SetBudget\"'; joined by AND")] = "",
    count: Annotated[int, typer.Option(min=0, help="how many; 0 for all")] = 100,
) -> None:
    """Lists changes, newest first: who, what, before and after."""
    from polyroute.cli import books

    books.list_events(desk, filtered, count)


@app.command("verify")
@administrative
def audit_verify(
    desk: Desk,
    known: Annotated[
        str, typer.Option(help="`ID:DIGEST` of an event that was seen before, as this command prints it")
    ] = "",
) -> None:
    """Says whether the log is as it was written; exits with 1 when it is not."""
    from polyroute.cli import books

    raise SystemExit(books.verify(desk, known))
