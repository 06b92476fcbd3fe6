"""Usage, added up."""

from typing import Annotated, Final

import typer

from polyroute.cli.options import ConfigFile, DataDir, settings

app: Final = typer.Typer()
DIMENSIONS: Final = ("day", "project", "key", "model", "deployment", "provider")  # as the contract has them


@app.command()
def usage(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    by: Annotated[str, typer.Option(help=f"comma-separated: {', '.join(DIMENSIONS)}")] = "day,model,deployment",
    since: Annotated[str, typer.Option(help="how far back, such as 7d or 12h")] = "30d",
    as_json: Annotated[bool, typer.Option("--json", help="rows as JSON")] = False,
) -> None:
    """Adds up calls, tokens and cost."""
    from polyroute.cli import report

    report.usage(settings(config_file, data_dir), by, since, as_json=as_json)
