"""`polyroute`: every command's name, options and help. What a command does is in the module it calls."""

import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from polyroute.cli import admin, chat, report
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
config = typer.Typer(help="Check and describe the configuration.", no_args_is_help=True)
app.add_typer(keys, name="keys")
app.add_typer(config, name="config")

ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file [default: polyroute.yaml]")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="where databases, spools and sockets are kept")]
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
