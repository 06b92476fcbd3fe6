"""The gateway: start it, look at it, ask it."""

import sys
from typing import Annotated, Final

import typer

from polyroute.cli.options import AsJson, ConfigFile, Database, DataDir, LogLevel, Redis, overrides, settings
from polyroute.mesh.roles import ROLES

app: Final = typer.Typer()


@app.command(rich_help_panel="Run it")
def up(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    listen: Annotated[str | None, typer.Option(help="address of the HTTP door, `host:port`")] = None,
    workers: Annotated[int, typer.Option(min=0, help="data-plane processes; 0 runs everything in this one")] = 0,
    database: Database = None,
    redis: Redis = None,
    log_level: LogLevel = None,
) -> None:
    """Starts the whole gateway on this machine."""
    from polyroute.cli.checking import accounts_of
    from polyroute.cli.config import find, load
    from polyroute.cli.roles import Process
    from polyroute.cli.serve import serve as run_roles
    from polyroute.cli.supervisor import supervise
    from polyroute.cli.welcome import Welcome

    # nothing balances on a gateway that a person starts: it need not wait to be noticed when it stops
    said = overrides(data_dir, log_level, listen, {"mesh": {"drain_delay": 0}}, database=database, redis=redis)
    path = find(config_file)
    config = load(path, said)
    if sys.stderr.isatty() and "log" not in config.model_fields_set:
        # a person is watching and did not say what to log: a line for each RPC would bury the greeting
        said["log"] = {"level": "warning"}
        config = load(path, said)
    accounts_of(config)  # what cannot be started makes no databases, and prints no key that is shown once
    welcome = Welcome(config)
    if workers:
        supervise(path, said, config, workers, welcome)
        return
    process = Process(config, path, said, frozenset(ROLES), announce=welcome.key, progress=welcome.progress)
    run_roles(process, welcome.greet)


@app.command(rich_help_panel="Run it")
def serve(
    roles: Annotated[list[str], typer.Argument(help=f"one or more of {', '.join(ROLES)}")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    listen: Annotated[str | None, typer.Option(help="address of the HTTP door, `host:port`")] = None,
    instance: Annotated[str, typer.Option(help="name of this process among several of one machine")] = "",
    database: Database = None,
    redis: Redis = None,
    log_level: LogLevel = None,
) -> None:
    """Runs one or more roles in this process."""
    from polyroute.cli.config import find, load
    from polyroute.cli.roles import Process, chosen
    from polyroute.cli.serve import serve as run_roles
    from polyroute.cli.welcome import Welcome

    said = overrides(data_dir, log_level, listen, database=database, redis=redis)
    path = find(config_file)
    config = load(path, said)
    process = Process(config, path, said, chosen(roles, ROLES), instance=instance, announce=Welcome(config).key)
    run_roles(process)


@app.command(rich_help_panel="Run it")
def health(
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    role: Annotated[list[str] | None, typer.Option(help="only this role; may be repeated")] = None,
    timeout: Annotated[float, typer.Option(help="seconds to wait for each answer")] = 3.0,
) -> None:
    """Asks each role whether it can serve; exits with 1 when one cannot."""
    from polyroute.cli import report
    from polyroute.cli.roles import chosen

    raise SystemExit(report.health(settings(config_file, data_dir), chosen(role or list(ROLES), ROLES), timeout))


@app.command(rich_help_panel="Ask it")
def models(as_json: AsJson = False, config_file: ConfigFile = None, data_dir: DataDir = None) -> None:
    """Lists the models and aliases, who serves them, and what they cost."""
    from polyroute.cli import report

    report.models(settings(config_file, data_dir), as_json=as_json)


@app.command(name="chat", rich_help_panel="Ask it")
def chat_command(
    prompt: Annotated[str, typer.Argument(help="the question")],
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    key: Annotated[str, typer.Option(envvar="POLYROUTE_KEY", help="an API key")] = "",
    model: Annotated[str, typer.Option(help="model or alias [default: the first that chats]")] = "",
    address: Annotated[str, typer.Option(help="the gRPC door, `host:port` [default: as configured]")] = "",
) -> None:
    """Asks a model, and prints its answer as it is made."""
    from polyroute.cli import chat

    config = settings(config_file, data_dir)
    raise SystemExit(chat.ask(address or config.edge.grpc.listen, key, model, prompt))


@app.command(rich_help_panel="Run it")
def version() -> None:
    """Prints the version."""
    import importlib.metadata

    print(importlib.metadata.version("polyroute"))
