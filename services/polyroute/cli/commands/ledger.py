"""The ledger: what was charged, paid and corrected."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Read the ledger, check it, pay in and correct.", no_args_is_help=True)

Note = Annotated[str, typer.Option(help="for people; kept with the entry")]


@app.command("entries")
@administrative
def ledger_entries(
    desk: Desk,
    filtered: Annotated[
        str, typer.Option("--filter", help='such as \'account_id = "acc_..." AND kind = "settle"\'')
    ] = "",
    count: Annotated[int, typer.Option(min=0, help="how many; 0 for all")] = 100,
) -> None:
    """Lists entries, newest first."""
    from polyroute.cli import books

    books.list_entries(desk, filtered, count)


@app.command("audit")
@administrative
def ledger_audit(desk: Desk) -> None:
    """Adds the whole ledger up; exits with 1 when something does not add up."""
    from polyroute.cli import books

    raise SystemExit(books.audit(desk))


@app.command("credit")
@administrative
def ledger_credit(
    desk: Desk,
    account: Annotated[str, typer.Argument(help="id of the account")],
    amount: Annotated[str, typer.Option(help="such as 5USD; --amount=-5USD takes it back")],
    request_id: Annotated[str, typer.Option("--id", help="of the payment: repeating it pays once")] = "",
    note: Note = "",
) -> None:
    """Pays money into an account."""
    from polyroute.cli import books

    books.credit(desk, account, amount, request_id, note)


@app.command("correct")
@administrative
def ledger_correct(
    desk: Desk,
    request_id: Annotated[str, typer.Argument(help="the call")],
    amount: Annotated[str, typer.Option(help="what the attempt is to cost in all, such as 0.000123456USD")],
    attempt: Annotated[int, typer.Option(min=1, help="which try of it")] = 1,
    revision: Annotated[int, typer.Option(min=1, help="higher than that of any correction before")] = 1,
    note: Note = "",
) -> None:
    """Changes what a call was charged; the difference becomes an entry of its own."""
    from polyroute.cli import books

    books.correct(desk, request_id, attempt, amount, revision, note)
