"""Budgets: what callers may spend in a period."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Set, list and lift budgets.", no_args_is_help=True)


@app.command("list")
@administrative
def budgets_list(
    desk: Desk, scope: Annotated[str, typer.Option(help="only of this key, project or account")] = ""
) -> None:
    """Lists budgets, with what was spent of them."""
    from polyroute.cli import bounds

    bounds.list_budgets(desk, scope)


@app.command("set")
@administrative
def budgets_set(
    desk: Desk,
    scope: Annotated[str, typer.Argument(help="id of a key, a project or an account")] = "",
    amount: Annotated[str | None, typer.Option(help="such as 5USD or 0.25; needed for a new one")] = None,
    period: Annotated[
        str | None, typer.Option(help="total, daily, weekly or monthly [default for a new one: monthly]")
    ] = None,
    hard: Annotated[
        bool | None,
        typer.Option("--hard/--soft", help="refuse what it cannot pay, or only count [default for a new one: hard]"),
    ] = None,
    zone: Annotated[str | None, typer.Option(help="where midnight is, such as Asia/Shanghai [default: UTC]")] = None,
    budget_id: Annotated[str, typer.Option("--id", help="change what is said of this one instead")] = "",
) -> None:
    """Sets a budget and prints its id."""
    from polyroute.cli import bounds

    bounds.set_budget(desk, scope, budget_id, amount=amount, period=period, zone=zone, hard=hard)


@app.command("delete")
@administrative
def budgets_delete(desk: Desk, budget: Annotated[str, typer.Argument(help="its id")]) -> None:
    """Lifts a budget."""
    from polyroute.cli import bounds

    bounds.delete_budget(desk, budget)
