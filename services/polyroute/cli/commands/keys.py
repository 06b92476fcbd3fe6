"""Keys."""

from pathlib import Path
from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative

app: Final = typer.Typer(help="Create, list, change and revoke keys.", no_args_is_help=True)

Key = Annotated[str, typer.Argument(help="its id, or its prefix")]


@app.command("create")
@administrative
def keys_create(
    desk: Desk,
    name: Annotated[str, typer.Option(help="name for people")] = "",
    project: Annotated[str, typer.Option(help="project id [default: the default project]")] = "",
    model: Annotated[list[str] | None, typer.Option(help="only this model or alias; may be repeated")] = None,
    days: Annotated[int, typer.Option(min=0, help="days until it ends; 0 means never")] = 0,
    route: Annotated[list[str] | None, typer.Option(help="only this path, such as /v1/embeddings or /v1/*")] = None,
    source: Annotated[list[str] | None, typer.Option(help="only from these addresses, such as 203.0.113.0/24")] = None,
) -> None:
    """Creates a key and prints it, this once."""
    from polyroute.cli import admin, keys

    if desk.trusted and not (route or source or desk.as_json):
        admin.create_key(desk.config, name, project, model or [], days)
    else:
        keys.create(desk, keys.wanted(name, project, model or [], days, route or [], source or []))


@app.command("list")
@administrative
def keys_list(
    desk: Desk,
    ended: Annotated[bool, typer.Option("--ended", help="revoked and expired ones as well")] = False,
    project: Annotated[str, typer.Option(help="only this project's")] = "",
) -> None:
    """Lists keys, without their secrets."""
    from polyroute.cli import admin, keys

    if desk.trusted and not (project or desk.as_json):
        admin.list_keys(desk.config, ended=ended)
    else:
        keys.list_all(desk, project, ended=ended)


@app.command("get")
@administrative
def keys_get(desk: Desk, key: Key) -> None:
    """Shows a key, without its secret."""
    from polyroute.cli import keys

    keys.get(desk, key)


@app.command("update")
@administrative
def keys_update(
    desk: Desk,
    key: Key,
    name: Annotated[str | None, typer.Option(help="name for people")] = None,
    model: Annotated[list[str] | None, typer.Option(help="only this model or alias; may be repeated")] = None,
    every_model: Annotated[bool, typer.Option("--every-model", help="no model is barred any more")] = False,
    days: Annotated[int | None, typer.Option(min=0, help="days from now until it ends; 0 means never")] = None,
) -> None:
    """Changes what a key may do."""
    from polyroute.cli import keys

    keys.update(desk, key, name, model or [], days, every_model=every_model)


@app.command("rotate")
@administrative
def keys_rotate(
    desk: Desk,
    key: Key,
    overlap: Annotated[str, typer.Option(help="how long the old secret works, such as 1h; 0: not at all")] = "1d",
) -> None:
    """Gives a key a new secret and prints it, this once."""
    from polyroute.cli import keys

    keys.rotate(desk, key, overlap)


@app.command("revoke")
@administrative
def keys_revoke(desk: Desk, key: Key) -> None:
    """Revokes a key for good."""
    from polyroute.cli import admin, keys

    if desk.trusted and not desk.as_json:
        admin.revoke_key(desk.config, key)
    else:
        keys.revoke(desk, key)


@app.command("import")
@administrative
def keys_import(
    desk: Desk,
    file: Annotated[Path, typer.Argument(help="CSV or JSON with a column sha256, or one key a line")],
    project: Annotated[str, typer.Option(help="where rows belong that name none [default: the default project]")] = "",
) -> None:
    """Takes keys of another gateway over, so that applications need not change theirs."""
    from polyroute.cli import keys

    keys.take_over(desk, file, project)
