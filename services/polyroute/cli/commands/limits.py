"""Limits: what callers may do in a minute, and at once."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Set, list and lift limits.", no_args_is_help=True)

Scope = Annotated[str, typer.Argument(help="id of a key, a project or an account; or installation, or deployment")]
Kind = Annotated[str, typer.Argument(help="requests or tokens (a minute), or concurrency (at once)")]
Model = Annotated[str, typer.Option(help="only calls that ask for this model or alias; of deployment, which")]


@app.command("list")
@administrative
def limits_list(
    desk: Desk, scope: Annotated[str, typer.Option(help="only of this key, project or account")] = ""
) -> None:
    """Lists limits."""
    from polyroute.cli import bounds

    bounds.list_limits(desk, scope)


@app.command("set")
@administrative
def limits_set(
    desk: Desk,
    scope: Scope,
    kind: Kind,
    amount: Annotated[int, typer.Argument(min=0, help="how many")],
    model: Model = "",
    burst: Annotated[int, typer.Option(min=0, help="so many at one moment after a pause [default: a sixth]")] = 0,
) -> None:
    """Sets a limit, in the place of the one that is there."""
    from polyroute.cli import bounds

    bounds.set_limit(desk, scope, kind, model, amount, burst)


@app.command("delete")
@administrative
def limits_delete(desk: Desk, scope: Scope, kind: Kind, model: Model = "") -> None:
    """Lifts a limit."""
    from polyroute.cli import bounds

    bounds.delete_limit(desk, scope, kind, model)
