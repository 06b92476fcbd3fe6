"""Keys."""

from typing import Annotated, Final

import typer

from polyroute.cli.options import ConfigFile, DataDir, settings

app: Final = typer.Typer(help="Create, list and revoke keys.", no_args_is_help=True)


@app.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="name for people")] = "",
    project: Annotated[str, typer.Option(help="project id [default: the default project]")] = "",
    model: Annotated[list[str] | None, typer.Option(help="only this model or alias; may be repeated")] = None,
    days: Annotated[int, typer.Option(min=0, help="days until it ends; 0 means never")] = 0,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Creates a key and prints it, this once."""
    from polyroute.cli import admin

    admin.create_key(settings(config_file, data_dir), name, project, model or [], days)


@app.command("list")
def keys_list(
    ended: Annotated[bool, typer.Option("--ended", help="revoked and expired ones as well")] = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Lists keys, without their secrets."""
    from polyroute.cli import admin

    admin.list_keys(settings(config_file, data_dir), ended=ended)


@app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="its id, or its prefix")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Revokes a key for good."""
    from polyroute.cli import admin

    admin.revoke_key(settings(config_file, data_dir), key)
