"""`polyroute`: every command."""

from typing import Final

import typer

from polyroute.cli.commands import (
    accounts,
    audit,
    billing,
    budgets,
    catalog,
    config,
    database,
    gateway,
    keys,
    ledger,
    limits,
    policies,
    prices,
    projects,
    routing,
    usage,
    vendorkeys,
)
from polyroute.mesh.roles import ConfigError

app: Final = typer.Typer(
    help="An open, self-hosted gateway to every large-model vendor.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for commands in (gateway, usage, routing):
    app.add_typer(commands.app)
for name, group in (
    ("accounts", accounts),
    ("projects", projects),
    ("keys", keys),
    ("limits", limits),
    ("budgets", budgets),
    ("ledger", ledger),
    ("audit", audit),
    ("billing", billing),
    ("catalog", catalog),
    ("policies", policies),
    ("prices", prices),
    ("config", config),
    ("vendor-keys", vendorkeys),
    ("migrate", database),
):
    app.add_typer(group.app, name=name)
app.command("backup")(database.backup)
app.command("restore")(database.restore)


def main() -> None:
    """The program."""
    try:
        app()
    except ConfigError as error:
        raise SystemExit(f"polyroute: {error}") from None
