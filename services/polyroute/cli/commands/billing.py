"""Billing: statements, invoices, codes, plans, multipliers, alerts, and the comparison with what vendors say."""

from pathlib import Path
from typing import Annotated, Final

import typer

from polyroute.cli.desk import Desk, administrative
from polyroute.cli.options import AsJson, ConfigFile, DataDir, settings

app: Final = typer.Typer(help="Bill accounts, and check vendors' bills.", no_args_is_help=True)
invoice: Final = typer.Typer(help="Issue and show invoices.", no_args_is_help=True)
codes: Final = typer.Typer(help="Make codes that pay money in, each once.", no_args_is_help=True)
plans: Final = typer.Typer(help="Set and list plans.", no_args_is_help=True)
multipliers: Final = typer.Typer(help="Set by what cost is multiplied to make a charge.", no_args_is_help=True)
alerts: Final = typer.Typer(help="Have messages sent at thresholds of budgets.", no_args_is_help=True)
for name, group in (
    ("invoice", invoice),
    ("codes", codes),
    ("plans", plans),
    ("multipliers", multipliers),
    ("alerts", alerts),
):
    app.add_typer(group, name=name)

Account = Annotated[str, typer.Argument(help="id of an account")]
Format = Annotated[str, typer.Option("--format", help="table, json or csv")]
Scope = Annotated[str, typer.Argument(help="id of an account or a project")]


@app.command("statement")
@administrative
def statement(
    desk: Desk,
    account: Account,
    month: Annotated[str, typer.Option(help="such as 2026-03, UTC")] = "",
    since: Annotated[str, typer.Option(help="first moment, such as 2026-03-01 or 2026-03-01T08:00+08:00")] = "",
    until: Annotated[str, typer.Option(help="first moment that is not included")] = "",
    form: Format = "table",
) -> None:
    """Adds up what an account spent and paid."""
    from polyroute.cli import billing

    billing.statement(desk, account, billing.times(month, since, until), form)


@invoice.command("issue")
@administrative
def invoice_issue(
    desk: Desk,
    account: Account,
    until: Annotated[
        str, typer.Option(help="first moment that is not on it [default: the last first of a month, UTC]")
    ] = "",
) -> None:
    """Issues an invoice over everything that is on none yet, and prints its number."""
    from polyroute.cli import billing

    billing.issue(desk, account, until)


@invoice.command("list")
@administrative
def invoice_list(desk: Desk, account: Annotated[str, typer.Option(help="only of this account")] = "") -> None:
    """Lists invoices."""
    from polyroute.cli import billing

    billing.invoices(desk, account)


@invoice.command("show")
@administrative
def invoice_show(
    desk: Desk,
    number: Annotated[str, typer.Argument(help="such as INV-000042")],
    form: Annotated[
        str, typer.Option("--format", help="table, json, csv, or document: what its digest is of, byte for byte")
    ] = "table",
) -> None:
    """Prints an invoice."""
    from polyroute.cli import billing

    billing.show_invoice(desk, number, form)


@codes.command("create")
@administrative
def codes_create(
    desk: Desk,
    amount: Annotated[str, typer.Option(help="what each pays in, such as 5USD")],
    batch: Annotated[str, typer.Option(help="name of the batch")],
    count: Annotated[int, typer.Option(min=1, max=1000, help="how many")] = 1,
    days: Annotated[int, typer.Option(min=0, help="days until they end; 0 means never")] = 0,
) -> None:
    """Makes codes and prints them, this once."""
    from polyroute.cli import billing

    billing.create_codes(desk, amount, batch, count, days)


@codes.command("list")
@administrative
def codes_list(desk: Desk, batch: Annotated[str, typer.Option(help="only of this batch")] = "") -> None:
    """Lists codes, and who used them."""
    from polyroute.cli import billing

    billing.list_codes(desk, batch)


@app.command("redeem")
@administrative
def redeem(desk: Desk, account: Account, code: Annotated[str, typer.Argument(help="the code")]) -> None:
    """Pays a code's amount into an account."""
    from polyroute.cli import billing

    billing.redeem(desk, account, code)


@plans.command("list")
@administrative
def plans_list(desk: Desk) -> None:
    """Lists plans."""
    from polyroute.cli import billing

    billing.list_plans(desk)


@plans.command("set")
@administrative
def plans_set(
    desk: Desk,
    plan: Annotated[str, typer.Argument(help="its name")],
    quota: Annotated[str, typer.Option(help="what may be spent in a period, such as 20USD")] = "0",
    price: Annotated[str, typer.Option(help="what a period costs")] = "0",
    period: Annotated[str, typer.Option(help="total, daily, weekly or monthly")] = "monthly",
    overage: Annotated[bool, typer.Option("--overage/--no-overage", help="more may be spent, and is paid")] = False,
    closed: Annotated[bool, typer.Option("--closed", help="nobody can subscribe to it any more")] = False,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="such as requests=600 or tokens=2000000 (a minute), concurrency=20, requests=30:5@MODEL"),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="opens only this model or alias, or such as small-*")] = None,
    operation: Annotated[list[str] | None, typer.Option(help="opens only this kind of work, such as chat")] = None,
    route: Annotated[list[str] | None, typer.Option(help="opens only this path, such as /v1/chat/*")] = None,
) -> None:
    """Sets a plan; subscriptions take its new terms when they are renewed."""
    from polyroute.cli import billing, plans

    limits, opens = plans.limits(limit or []), plans.opens(model or [], operation or [], route or [])
    wanted = plans.wanted(plan, price, quota, period, limits, opens)
    wanted.overage, wanted.closed = overage, closed
    billing.set_plan(desk, wanted)


@app.command("subscribe")
@administrative
def subscribe(
    desk: Desk,
    scope: Scope,
    plan: Annotated[str, typer.Argument(help="name of a plan")],
    zone: Annotated[str, typer.Option(help="where periods begin, such as Asia/Shanghai [default: UTC]")] = "",
) -> None:
    """Subscribes an account or a project to a plan, and prints the subscription's id."""
    from polyroute.cli import billing

    billing.subscribe(desk, scope, plan, zone)


@app.command("subscriptions")
@administrative
def subscriptions(desk: Desk, account: Annotated[str, typer.Option(help="only of this account")] = "") -> None:
    """Lists subscriptions, with what was spent in their periods."""
    from polyroute.cli import billing

    billing.list_subscriptions(desk, account)


@app.command("cancel")
@administrative
def cancel(desk: Desk, subscription: Annotated[str, typer.Argument(help="its id")]) -> None:
    """Ends a subscription when its period does."""
    from polyroute.cli import billing

    billing.cancel(desk, subscription)


@multipliers.command("list")
@administrative
def multipliers_list(desk: Desk) -> None:
    """Lists multipliers."""
    from polyroute.cli import billing

    billing.list_multipliers(desk)


@multipliers.command("set")
@administrative
def multipliers_set(
    desk: Desk,
    group: Annotated[str, typer.Argument(help="a group of accounts, or * for everybody")],
    factor: Annotated[str, typer.Argument(help="such as 1.1, with six digits behind the point at most")],
) -> None:
    """Sets by what cost is multiplied, for everybody or for a group."""
    from polyroute.cli import billing

    billing.set_multiplier(desk, group, factor)


@app.command("group")
@administrative
def group_account(
    desk: Desk, account: Account, group: Annotated[str, typer.Argument(help="a group; empty for none")] = ""
) -> None:
    """Puts an account into a group, or out of any, and prints by what its cost is multiplied."""
    from polyroute.cli import billing

    billing.set_group(desk, account, group)


@alerts.command("create")
@administrative
def alerts_create(
    desk: Desk,
    url: Annotated[str, typer.Argument(help="where messages go, https://...")],
    scope: Annotated[str, typer.Option(help="only budgets of this key, project or account")] = "",
    at: Annotated[list[int] | None, typer.Option(help="percent; may be repeated [default: 50, 80, 100]")] = None,
) -> None:
    """Creates an alert and prints the key of its signatures, this once."""
    from polyroute.cli import billing

    billing.create_alert(desk, url, scope, at or [])


@alerts.command("list")
@administrative
def alerts_list(desk: Desk, scope: Annotated[str, typer.Option(help="only of this scope")] = "") -> None:
    """Lists alerts."""
    from polyroute.cli import billing

    billing.list_alerts(desk, scope)


@alerts.command("delete")
@administrative
def alerts_delete(desk: Desk, alert: Annotated[str, typer.Argument(help="its id")]) -> None:
    """Ends an alert."""
    from polyroute.cli import billing

    billing.delete_alert(desk, alert)


@alerts.command("deliveries")
@administrative
def alerts_deliveries(desk: Desk, alert: Annotated[str, typer.Option(help="only of this alert")] = "") -> None:
    """Lists messages of alerts: those on their way, and those that arrived."""
    from polyroute.cli import billing

    billing.list_deliveries(desk, alert)


@app.command("reconcile")
def reconcile(
    file: Annotated[Path, typer.Argument(help="the vendor's export, CSV or JSON")],
    provider: Annotated[str, typer.Option(help="the provider whose export it is, as the catalog calls it")],
    tolerance: Annotated[str, typer.Option(help="percent of drift that is not worth a line")] = "0",
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Compares a vendor's usage export with our records, day by day; exits with 1 when they differ."""
    from polyroute.cli import reconcile

    raise SystemExit(reconcile.reconcile(settings(config_file, data_dir), file, provider, tolerance, as_json=as_json))
