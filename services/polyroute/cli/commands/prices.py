"""What deployments charge."""

from pathlib import Path
from typing import Annotated, Final

import typer

from polyroute.cli.options import AsJson, ConfigFile, DataDir, settings

app: Final = typer.Typer(help="See what deployments charge, and say what they do.", no_args_is_help=True)
Figure = Annotated[str | None, typer.Option(help="in the currency, per million tokens")]
Force = Annotated[bool, typer.Option("--force", help="take what looks like a mistake")]


@app.command("show")
def prices_show(
    model: Annotated[str, typer.Argument(help="public name, upstream id or deployment [default: all]")] = "",
    provider: Annotated[str, typer.Option(help="only of this provider")] = "",
    at: Annotated[str, typer.Option(help="at another moment, such as 2026-03-02T09:00+08:00")] = "",
    missing: Annotated[bool, typer.Option("--missing", help="only those whose price nobody knows")] = False,
    as_json: AsJson = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Prints what deployments charge, and who says so."""
    from polyroute.api.router.v1.router_pb2 import ListPricesRequest
    from polyroute.cli import prices

    request = ListPricesRequest(model=model, provider=provider, missing=missing)
    if at:
        request.time.FromDatetime(prices.moment_of(at))
    prices.show(settings(config_file, data_dir), request, as_json=as_json)


@app.command("diff")
def prices_diff(
    file: Annotated[Path | None, typer.Argument(help="a price list [default: the data of genai-prices]")] = None,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Prints where the prices in force differ from another list."""
    from polyroute.cli import prices

    prices.diff(settings(config_file, data_dir), file)


@app.command("set")
def prices_set(
    name: Annotated[str, typer.Argument(metavar="PROVIDER/MODEL", help="`*` in the model stands for anything")],
    price_input: Annotated[
        str | None, typer.Option("--input", help="per million prompt tokens, in the currency")
    ] = None,
    output: Annotated[str | None, typer.Option(help="per million tokens of the answer")] = None,
    cache_read: Figure = None,
    cache_write: Figure = None,
    cache_write_1h: Figure = None,
    reasoning: Figure = None,
    request: Annotated[str | None, typer.Option(help="per million calls")] = None,
    image: Annotated[str | None, typer.Option(help="per picture")] = None,
    audio_minute: Annotated[str | None, typer.Option(help="per minute of sound")] = None,
    currency: Annotated[str, typer.Option(help="of all figures")] = "USD",
    since: Annotated[str, typer.Option("--from", help="day or moment of effect [default: always]")] = "",
    until: Annotated[str, typer.Option(help="day or moment that is not included any more")] = "",
    zone: Annotated[str, typer.Option(help="of the days [default: UTC]")] = "",
    source: Annotated[str, typer.Option(help="address of the page that says so")] = "",
    force: Force = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Puts a price into your own list, as a new version of the catalog."""
    from polyroute.cli import prices

    figures = {
        "input": price_input,
        "output": output,
        "cache_read": cache_read,
        "cache_write": cache_write,
        "cache_write_1h": cache_write_1h,
        "reasoning": reasoning,
        "request": request,
        "image": image,
        "audio_minute": audio_minute,
    }
    texts = {
        "currency": currency,
        "effective_from": since,
        "effective_until": until,
        "zone": zone,
        "source": source,
    }
    prices.put_row(settings(config_file, data_dir), name, prices.row_of(figures, texts), force=force)


@app.command("import")
def prices_import(
    file: Annotated[Path, typer.Argument(help="CSV, YAML or JSON; also JSON with costs per token by model")],
    everything: Annotated[bool, typer.Option("--all", help="also rows of models that the catalog lacks")] = False,
    force: Force = False,
    config_file: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Puts the rows of a file into your own list, as a new version of the catalog."""
    from polyroute.cli import prices

    prices.take(settings(config_file, data_dir), file, everything=everything, force=force)
