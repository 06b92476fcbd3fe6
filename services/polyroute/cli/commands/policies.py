"""Policies and schedules."""

from typing import Annotated, Final

import typer

from polyroute.cli.options import ConfigFile, DataDir, settings

app: Final = typer.Typer(help="Look at policies and schedules.", no_args_is_help=True)


@app.command("preview")
def policies_preview(
    when: Annotated[str, typer.Argument(help="such as 'monday 09:00' or '2026-03-02 09:00'; default: now")] = "",
    zone: Annotated[str, typer.Option(help="time zone of the moment")] = "UTC",
    name: Annotated[str, typer.Option(help="schedule or policy [default: what rules calls that no rule matches]")] = "",
    load: Annotated[float | None, typer.Option(min=0, help="calls per second to assume")] = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Says which policy would rule at a moment."""
    from polyroute.cli import routing

    routing.preview(settings(config_file, data_dir), when, zone, name, load)
