"""What may be called and how it is chosen."""

from pathlib import Path
from typing import Annotated, Final

import typer

from polyroute.cli.options import ConfigFile, DataDir, overrides, settings

app: Final = typer.Typer(help="Change what may be called and how it is chosen, and go back.", no_args_is_help=True)
CatalogPath = Annotated[Path, typer.Argument(help="YAML of models, aliases, policies, routing and router")]


@app.command("apply")
def catalog_apply(
    file: CatalogPath,
    note: Annotated[str, typer.Option(help="what for; kept in the history")] = "",
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Puts a catalog in force, everywhere; a bad one is refused and changes nothing."""
    from polyroute.cli import catalogs

    catalogs.apply(settings(config_file, data_dir), file, note)


@app.command("check")
def catalog_check(file: CatalogPath, config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Says whether a catalog could be in force, and which of its rules can never fire."""
    from polyroute.cli import catalogs
    from polyroute.cli.config import find

    catalogs.check(find(config_file), overrides(data_dir), file)


@app.command("diff")
def catalog_diff(file: CatalogPath, config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Says what a catalog would change."""
    from polyroute.cli import catalogs

    catalogs.diff(settings(config_file, data_dir), file)


@app.command("history")
def catalog_history(
    count: Annotated[int, typer.Option(min=1, max=1000, help="how many")] = 50,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Lists the catalogs that were in force: when, by whom, what for."""
    from polyroute.cli import catalogs

    catalogs.history(settings(config_file, data_dir), count)


@app.command("rollback")
def catalog_rollback(
    to: Annotated[str, typer.Argument(metavar="VERSION", help="number or catalog version [default: the last]")] = "",
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Puts an older catalog in force again."""
    from polyroute.cli import catalogs

    catalogs.rollback(settings(config_file, data_dir), to)


@app.command("alias")
def catalog_alias(
    name: Annotated[str, typer.Argument(help="the alias")],
    targets: Annotated[list[str], typer.Argument(help="model=weight of each, such as large=90 next=10")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Leads an alias to other models; ends a rollout of it."""
    from polyroute.cli import catalogs

    catalogs.alias(settings(config_file, data_dir), name, targets)


@app.command("status")
def catalog_status(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Says what is in force, what is doubtful in it, and how far rollouts are."""
    from polyroute.cli import catalogs

    catalogs.status(settings(config_file, data_dir))
