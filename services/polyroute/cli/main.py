"""`polyroute`: every command."""

from typing import Final

import typer

from polyroute.cli.commands import catalog, config, gateway, keys, policies, routing, usage
from polyroute.mesh.roles import ConfigError

app: Final = typer.Typer(
    help="An open, self-hosted gateway to every large-model vendor.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for commands in (gateway, usage, routing):
    app.add_typer(commands.app)
for name, group in (("keys", keys), ("catalog", catalog), ("policies", policies), ("config", config)):
    app.add_typer(group.app, name=name)


def main() -> None:
    """The program."""
    try:
        app()
    except ConfigError as error:
        raise SystemExit(f"polyroute: {error}") from None
