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
    members,
    people,
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
for commands in (gateway.app, usage.app, routing.app):
    app.add_typer(commands)
GROUPS: Final = {
    "Say what is served": {
        "catalog": catalog.app,
        "policies": policies.app,
        "prices": prices.app,
        "vendor-keys": vendorkeys.app,
        "config": config.app,
    },
    "Say who may use it": {
        "keys": keys.app,
        "limits": limits.app,
        "budgets": budgets.app,
        "projects": projects.app,
        "accounts": accounts.app,
        "people": people.app,
        "members": members.app,
        "invitations": members.invitations,
        "audit": audit.app,
    },
    "Account for it": {"billing": billing.app, "ledger": ledger.app},
}
for panel, groups in GROUPS.items():
    for name, group in groups.items():
        app.add_typer(group, name=name, rich_help_panel=panel)
app.add_typer(people.own)
app.add_typer(database.app, name="migrate", rich_help_panel="Keep it")
app.add_typer(database.copies)


def main() -> None:
    """The program."""
    try:
        app()
    except ConfigError as error:
        raise SystemExit(f"polyroute: {error}") from None
