"""`polyroute`: every command's name, options and help. What a command does is in the module it calls."""

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from polyroute.api.chat.v1 import chat_pb2
from polyroute.cli import admin, catalogs, chat, report, routing, simulate, synthetic
from polyroute.cli.config import Config, find, load
from polyroute.cli.reference import reference
from polyroute.cli.roles import Process, chosen
from polyroute.cli.serve import serve as run_roles
from polyroute.cli.supervisor import supervise
from polyroute.cli.welcome import Welcome
from polyroute.mesh.config import ROLES, ConfigError

app = typer.Typer(
    help="An open, self-hosted gateway to every large-model vendor.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
keys = typer.Typer(help="Create, list and revoke keys.", no_args_is_help=True)
catalog = typer.Typer(help="Change what may be called and how it is chosen, and go back.", no_args_is_help=True)
policies = typer.Typer(help="Look at policies and schedules.", no_args_is_help=True)
config = typer.Typer(help="Check and describe the configuration.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(catalog, name="catalog")
app.add_typer(policies, name="policies")
app.add_typer(config, name="config")

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file [default: polyroute.yaml]")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="where databases, spools and sockets are kept")]
AsJson = Annotated[bool, typer.Option("--json", help="as JSON, for programs")]
CatalogPath = Annotated[Path, typer.Argument(help="YAML of models, aliases, policies, routing and router")]
LogLevel = Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error")]


def main() -> None:
    """The program."""
    try:
        app()
    except ConfigError as error:
        raise SystemExit(f"polyroute: {error}") from None


@app.command()
def up(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    listen: Annotated[str | None, typer.Option(help="address of the HTTP door, `host:port`")] = None,
    workers: Annotated[int, typer.Option(min=0, help="data-plane processes; 0 runs everything in this one")] = 0,
    log_level: LogLevel = None,
) -> None:
    """Starts the whole gateway on this machine."""
    # nothing balances on a gateway that a person starts: it need not wait to be noticed when it stops
    overrides = _overrides(data_dir, log_level, listen, {"mesh": {"drain_delay": 0}})
    path = find(config_file)
    settings = load(path, overrides)
    if sys.stderr.isatty() and "log" not in settings.model_fields_set:
        # a person is watching and did not say what to log: a line for each RPC would bury the greeting
        overrides["log"] = {"level": "warning"}
        settings = load(path, overrides)
    welcome = Welcome(settings)
    if workers:
        supervise(path, overrides, settings, workers, welcome)
        return
    process = Process(settings, path, overrides, frozenset(ROLES), announce=welcome.key, progress=welcome.progress)
    run_roles(process, welcome.greet)


@app.command()
def serve(
    roles: Annotated[list[str], typer.Argument(help=f"one or more of {', '.join(ROLES)}")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    listen: Annotated[str | None, typer.Option(help="address of the HTTP door, `host:port`")] = None,
    instance: Annotated[str, typer.Option(help="name of this process among several of one machine")] = "",
    log_level: LogLevel = None,
) -> None:
    """Runs one or more roles in this process."""
    overrides = _overrides(data_dir, log_level, listen, {})
    path = find(config_file)
    settings = load(path, overrides)
    process = Process(
        settings, path, overrides, chosen(roles, ROLES), instance=instance, announce=Welcome(settings).key
    )
    run_roles(process)


@app.command()
def health(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    role: Annotated[list[str] | None, typer.Option(help="only this role; may be repeated")] = None,
    timeout: Annotated[float, typer.Option(help="seconds to wait for each answer")] = 3.0,
) -> None:
    """Asks each role whether it can serve; exits with 1 when one cannot."""
    settings = _settings(config_file, data_dir)
    raise SystemExit(report.health(settings, chosen(role or list(ROLES), ROLES), timeout))


@app.command()
def models(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Lists the models and aliases, and who serves them."""
    report.models(_settings(config_file, data_dir))


@app.command()
def usage(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    by: Annotated[str, typer.Option(help=f"comma-separated: {', '.join(report.DIMENSIONS)}")] = "day,model,deployment",
    since: Annotated[str, typer.Option(help="how far back, such as 7d or 12h")] = "30d",
    as_json: Annotated[bool, typer.Option("--json", help="rows as JSON")] = False,
) -> None:
    """Adds up calls, tokens and cost."""
    report.usage(_settings(config_file, data_dir), by, since, as_json=as_json)


@app.command(name="chat")
def chat_command(
    prompt: Annotated[str, typer.Argument(help="the question")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    key: Annotated[str, typer.Option(envvar="POLYROUTE_KEY", help="an API key")] = "",
    model: Annotated[str, typer.Option(help="model or alias [default: the first that chats]")] = "",
    address: Annotated[str, typer.Option(help="the gRPC door, `host:port` [default: as configured]")] = "",
) -> None:
    """Asks a model, and prints its answer as it is made."""
    settings = _settings(config_file, data_dir)
    raise SystemExit(chat.ask(address or settings.edge.grpc.listen, key, model, prompt))


@keys.command("create")
def keys_create(
    name: Annotated[str, typer.Option(help="name for people")] = "",
    project: Annotated[str, typer.Option(help="project id [default: the default project]")] = "",
    model: Annotated[list[str] | None, typer.Option(help="only this model or alias; may be repeated")] = None,
    days: Annotated[int, typer.Option(min=0, help="days until it ends; 0 means never")] = 0,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Creates a key and prints it, this once."""
    admin.create_key(_settings(config_file, data_dir), name, project, model or [], days)


@keys.command("list")
def keys_list(
    ended: Annotated[bool, typer.Option("--ended", help="revoked and expired ones as well")] = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Lists keys, without their secrets."""
    admin.list_keys(_settings(config_file, data_dir), ended=ended)


@keys.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="its id, or its prefix")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Revokes a key for good."""
    admin.revoke_key(_settings(config_file, data_dir), key)


@app.command()
def explain(
    request_id: Annotated[str, typer.Argument(help="the call: the header x-request-id of its answer")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Says why a call went where it went, and what became of each attempt."""
    routing.explain(_settings(config_file, data_dir), request_id, as_json=as_json)


@app.command(name="route")
def route_command(
    model: Annotated[str, typer.Option(help="model, alias, or any other form of a name")],
    provider: Annotated[str, typer.Option(help="the `provider` object of the request, JSON")] = "",
    operation: Annotated[str, typer.Option("--for", help=f"one of {', '.join(routing.OPERATIONS)}")] = "chat",
    tokens: Annotated[int, typer.Option(min=0, help="tokens of the prompt; 0 for unknown")] = 0,
    answer: Annotated[int, typer.Option(min=0, help="most tokens of the answer; 0 for no bound")] = 0,
    messages: Annotated[int, typer.Option(min=0, help="messages of the conversation")] = 1,
    tools: Annotated[int, typer.Option(min=0, help="tools offered")] = 0,
    vision: Annotated[bool, typer.Option("--vision", help="it holds pictures")] = False,
    code: Annotated[bool, typer.Option("--code", help="it holds program code")] = False,
    urgency: Annotated[str, typer.Option(help=f"one of {', '.join(routing.URGENCIES)}")] = "",
    fallback: Annotated[list[str] | None, typer.Option(help="a model to fall back to; may be repeated")] = None,
    session: Annotated[str, typer.Option(help="session or end user")] = "",
    project: Annotated[str, typer.Option(help="the caller's project, by id")] = "",
    key: Annotated[str, typer.Option(help="the caller's key, by id")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="name=value; may be repeated")] = None,
    explained: Annotated[bool, typer.Option("--explain", help="every candidate and verdict")] = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Says where a call would go; none is made."""
    wanted = routing.Wanted(
        model=model,
        provider=provider,
        operation=operation,
        tokens=tokens,
        answer=answer,
        messages=messages,
        tools=tools,
        needs=[chat_pb2.CAPABILITY_VISION] if vision else [],
        code=code,
        urgency=urgency,
        models=fallback or [],
        session=session,
        project=project,
        key=key,
        tags=tag or [],
    )
    routing.route(_settings(config_file, data_dir), wanted, explain=explained, as_json=as_json)


@app.command(name="simulate")
def simulate_command(
    policy: Annotated[list[str], typer.Option(help="YAML file of one policy or several, or a policy's name")],
    since: Annotated[str, typer.Option(help="how far back, such as 7d or 12h")] = "7d",
    calls: Annotated[int, typer.Option(min=1, help="about how many calls to look at, evenly over the time")] = 5000,
    seed: Annotated[int, typer.Option(help="of the bounds")] = 1,
    made_up: Annotated[
        int | None, typer.Option("--synthetic", help="seed of made-up traffic to use instead of recorded calls")
    ] = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Says what a policy would have cost, and how quick and reliable it would have been."""
    settings = _settings(config_file, data_dir)
    if made_up is not None:
        synthetic.simulate(simulate.candidates(settings, policy), made_up, as_json=as_json)
    else:
        simulate.simulate(settings, policy, since, calls=calls, seed=seed, as_json=as_json)


@policies.command("preview")
def policies_preview(
    when: Annotated[str, typer.Argument(help="such as 'monday 09:00' or '2026-03-02 09:00'; default: now")] = "",
    zone: Annotated[str, typer.Option(help="time zone of the moment")] = "UTC",
    name: Annotated[str, typer.Option(help="schedule or policy [default: what rules calls that no rule matches]")] = "",
    load: Annotated[float | None, typer.Option(min=0, help="calls per second to assume")] = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Says which policy would rule at a moment."""
    routing.preview(_settings(config_file, data_dir), when, zone, name, load)


@catalog.command("apply")
def catalog_apply(
    file: CatalogPath,
    note: Annotated[str, typer.Option(help="what for; kept in the history")] = "",
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Puts a catalog in force, everywhere; a bad one is refused and changes nothing."""
    catalogs.apply(_settings(config_file, data_dir), file, note)


@catalog.command("check")
def catalog_check(file: CatalogPath, config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Says whether a catalog could be in force, and which of its rules can never fire."""
    catalogs.check(find(config_file), _overrides(data_dir, None, None, {}), file)


@catalog.command("diff")
def catalog_diff(file: CatalogPath, config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Says what a catalog would change."""
    catalogs.diff(_settings(config_file, data_dir), file)


@catalog.command("history")
def catalog_history(
    count: Annotated[int, typer.Option(min=1, max=1000, help="how many")] = 50,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Lists the catalogs that were in force: when, by whom, what for."""
    catalogs.history(_settings(config_file, data_dir), count)


@catalog.command("rollback")
def catalog_rollback(
    to: Annotated[str, typer.Argument(metavar="VERSION", help="number or catalog version [default: the last]")] = "",
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Puts an older catalog in force again."""
    catalogs.rollback(_settings(config_file, data_dir), to)


@catalog.command("alias")
def catalog_alias(
    name: Annotated[str, typer.Argument(help="the alias")],
    targets: Annotated[list[str], typer.Argument(help="model=weight of each, such as large=90 next=10")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Leads an alias to other models; ends a rollout of it."""
    catalogs.alias(_settings(config_file, data_dir), name, targets)


@catalog.command("status")
def catalog_status(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Says what is in force, what is doubtful in it, and how far rollouts are."""
    catalogs.status(_settings(config_file, data_dir))


@config.command("check")
def config_check(config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Says whether the configuration can be used, and everything that is wrong with it."""
    path = find(config_file)
    if path is None:
        raise ConfigError("there is no configuration file; the defaults would be used")
    report.check(path, _settings(path, data_dir))


@config.command("schema")
def config_schema() -> None:
    """Prints the JSON Schema of the configuration file, for editors."""
    print(json.dumps(Config.model_json_schema(), indent=2))


@config.command("reference")
def config_reference() -> None:
    """Prints every section and key with its default, as Markdown."""
    print(reference(), end="")


@app.command()
def version() -> None:
    """Prints the version."""
    print(importlib.metadata.version("polyroute"))


def _settings(config_file: Path | None, data_dir: Path | None) -> Config:
    return load(find(config_file), _overrides(data_dir, None, None, {}))


def _overrides(
    data_dir: Path | None, log_level: str | None, listen: str | None, base: dict[str, Any]
) -> dict[str, Any]:
    """What the command line says, in the configuration's form."""
    overrides = dict(base)
    if data_dir is not None:
        overrides["data_dir"] = str(data_dir)
    if log_level is not None:
        overrides["log"] = {"level": log_level}
    if listen is not None:
        overrides["edge"] = {"http": {"listen": listen}}
    return overrides
