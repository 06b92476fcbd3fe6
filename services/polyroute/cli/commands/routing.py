"""Where calls go, and why."""

from typing import Annotated, Final

import typer

from polyroute.cli.desk import Address, Desk, Secret
from polyroute.cli.options import AsJson, ConfigFile, DataDir, settings

app: Final = typer.Typer()
# What the contract's names are called here; a test compares.
OPERATIONS: Final = (
    "chat",
    "completion",
    "embedding",
    "rerank",
    "image",
    "speech",
    "transcription",
    "moderation",
    "count_tokens",
    "relay",
)
URGENCIES: Final = ("low", "normal", "high")


@app.command(rich_help_panel="See what happens")
def explain(
    request_id: Annotated[str, typer.Argument(help="the call: the header x-request-id of its answer")],
    address: Address = "",
    admin_secret: Secret = "",
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Says why a call went where it went, and what became of each attempt."""
    from polyroute.cli import routing

    routing.explain(Desk(settings(config_file, data_dir), address, admin_secret, as_json=as_json), request_id)


@app.command(name="route", rich_help_panel="See what happens")
def route_command(
    model: Annotated[str, typer.Option(help="model, alias, or any other form of a name")],
    provider: Annotated[str, typer.Option(help="the `provider` object of the request, JSON")] = "",
    operation: Annotated[str, typer.Option("--for", help=f"one of {', '.join(OPERATIONS)}")] = "chat",
    tokens: Annotated[int, typer.Option(min=0, help="tokens of the prompt; 0 for unknown")] = 0,
    answer: Annotated[int, typer.Option(min=0, help="most tokens of the answer; 0 for no bound")] = 0,
    messages: Annotated[int, typer.Option(min=0, help="messages of the conversation")] = 1,
    tools: Annotated[int, typer.Option(min=0, help="tools offered")] = 0,
    vision: Annotated[bool, typer.Option("--vision", help="it holds pictures")] = False,
    code: Annotated[bool, typer.Option("--code", help="it holds program code")] = False,
    urgency: Annotated[str, typer.Option(help=f"one of {', '.join(URGENCIES)}")] = "",
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
    from polyroute.api.chat.v1 import chat_pb2
    from polyroute.cli import routing

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
    routing.route(settings(config_file, data_dir), wanted, explain=explained, as_json=as_json)


@app.command(name="simulate", rich_help_panel="See what happens")
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
    from polyroute.cli import simulate, synthetic

    config = settings(config_file, data_dir)
    if made_up is not None:
        synthetic.simulate(simulate.candidates(config, policy), made_up, as_json=as_json)
    else:
        simulate.simulate(config, policy, since, calls=calls, seed=seed, as_json=as_json)
