"""Usage, added up, and the calls behind it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from polyroute.cli.desk import Address, Desk, Secret
from polyroute.cli.options import ConfigFile, DataDir, settings

if TYPE_CHECKING:
    from polyroute.cli.usage import Source

app: Final = typer.Typer()
usage: Final = typer.Typer(invoke_without_command=True)
app.add_typer(usage, name="usage", rich_help_panel="See what happens")

# as the contract has them
DIMENSIONS: Final = (
    "day",
    "project",
    "key",
    "model",
    "deployment",
    "provider",
    "account",
    "user",
    "workflow",
    "node",
    "tag",
    "operation",
    "hour",
)
_DEFAULT: Final = "day,model,deployment"
_KNOWN: Final = ", ".join("tag:NAME" if name == "tag" else name for name in DIMENSIONS)

By = Annotated[str, typer.Option(help=f"comma-separated: {_KNOWN}")]
Since = Annotated[str, typer.Option(help="how far back, such as 7d or 12h")]
Out = Annotated[Path | None, typer.Option(help="write to this file")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="only with this tag, name=value; may be repeated")]
Account = Annotated[str, typer.Option(help="only of this account, by id")]
Project = Annotated[str, typer.Option(help="only of this project, by id")]
Key = Annotated[str, typer.Option(help="only of this key, by id")]
Model = Annotated[str, typer.Option(help="only of this model")]
Deployment = Annotated[str, typer.Option(help="only of this deployment")]
Provider = Annotated[str, typer.Option(help="only of this provider")]
User = Annotated[str, typer.Option(help="only of this end user")]
Workflow = Annotated[str, typer.Option(help="only of this workflow")]
Node = Annotated[str, typer.Option(help="only of this step of a workflow")]


@usage.callback()
def sums(
    context: typer.Context,
    by: By = _DEFAULT,
    since: Since = "30d",
    form: Annotated[str, typer.Option("--format", help="table (in a file: csv), json, csv or parquet")] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="the same as --format json")] = False,
    out: Out = None,
    account: Account = "",
    project: Project = "",
    key: Key = "",
    model: Model = "",
    deployment: Deployment = "",
    provider: Provider = "",
    user: User = "",
    workflow: Workflow = "",
    node: Node = "",
    tag: Tags = None,
    address: Address = "",
    admin_secret: Secret = "",
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Adds up calls, tokens and cost of whoever is signed in, or of everybody; `export` writes the calls themselves."""
    if context.invoked_subcommand is not None:
        return
    from polyroute.cli.usage import show_usage

    if form not in ("table", "json", "csv", "parquet"):
        raise typer.BadParameter("must be table, json, csv or parquet", param_hint="--format")
    wanted = {
        **_tags(tag),
        "account": account,
        "project": project,
        "key": key,
        "model": model,
        "deployment": deployment,
        "provider": provider,
        "user": user,
        "workflow": workflow,
        "node": node,
    }
    source = _source(Desk(settings(config_file, data_dir), address, admin_secret))
    show_usage(source, by, since, wanted, form="json" if as_json else form, out=out)


@usage.command("export")
def export(
    calls: Annotated[bool, typer.Option("--calls", help="single calls; otherwise sums")] = False,
    by: By = _DEFAULT,
    since: Since = "30d",
    form: Annotated[str, typer.Option("--format", help="csv, json (an object a line) or parquet")] = "csv",
    out: Out = None,
    account: Account = "",
    project: Project = "",
    key: Key = "",
    model: Model = "",
    deployment: Deployment = "",
    provider: Provider = "",
    user: User = "",
    workflow: Workflow = "",
    node: Node = "",
    tag: Tags = None,
    fault: Annotated[str, typer.Option(help="only calls with an attempt that had this fault, such as rate")] = "",
    address: Address = "",
    admin_secret: Secret = "",
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Writes calls, or sums of them, to a file or to standard output."""
    from polyroute.cli.usage import export_calls, show_usage

    if form not in ("csv", "json", "parquet"):
        raise typer.BadParameter("must be csv, json or parquet", param_hint="--format")
    if fault and not calls:
        raise typer.BadParameter("goes with --calls: sums do not know faults", param_hint="--fault")
    wanted = {
        **_tags(tag),
        "account": account,
        "project": project,
        "key": key,
        "model": model,
        "deployment": deployment,
        "provider": provider,
        "user": user,
        "workflow": workflow,
        "node": node,
    }
    source = _source(Desk(settings(config_file, data_dir), address, admin_secret))
    if not calls:
        show_usage(source, by, since, wanted, form=form, out=out)
        return
    count = export_calls(source, since, wanted | ({"fault": fault} if fault else {}), form=form, out=out)
    typer.echo(f"{count} calls", err=True)


def _source(desk: Desk) -> "Source":
    """Where figures come from: what whoever is signed in may see, or everything of this machine's gateway."""
    if desk.presents:
        from polyroute.cli.ownusage import Person

        return Person(desk)
    from polyroute.cli.usage import Operator

    return Operator(desk.config)


def _tags(given: list[str] | None) -> dict[str, str]:
    found = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{one!r} is not name=value", param_hint="--tag")
        found[f"tag:{name}"] = value
    return found
