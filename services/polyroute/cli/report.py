"""What an operator asks a running gateway: models, usage, health."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.router.v1.router_pb2 import ListModelsRequest, ListModelsResponse, Price
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.moments import span
from polyroute.cli.output import show
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ROLES, ConfigError

SECONDS: Final = 5.0
NANO: Final = 1_000_000_000
DIMENSIONS: Final = {
    name.removeprefix("USAGE_DIMENSION_").lower(): value for name, value in pb.UsageDimension.items() if value
}


def models(config: Config) -> None:
    """Prints the models and aliases as a table."""

    async def work(node: Node) -> ListModelsResponse:
        stub = RouterServiceStub(node.channel("router"))
        response: ListModelsResponse = await stub.ListModels(ListModelsRequest(), timeout=SECONDS)
        return response

    listed = run(config, work)
    table = Table("model", "for", "providers", "context", "USD per M tokens in/out", "alias of", box=None)
    for model in listed.models:
        table.add_row(
            model.name,
            ", ".join(Operation.Name(operation).removeprefix("OPERATION_").lower() for operation in model.operations),
            ", ".join(model.providers),
            f"{model.context_tokens:,}" if model.context_tokens else "",
            _price(model.price) if model.HasField("price") else "unknown",
            ", ".join(model.alias_of),
        )
    show(table)
    Console().print(f"[dim]catalog {listed.catalog_version}[/]")


def _price(price: Price) -> str:
    return f"{price.input / NANO:g} / {price.output / NANO:g}"


def usage(config: Config, by: str, since: str, *, as_json: bool) -> None:
    """Prints sums of calls, tokens and cost."""
    names = [name.strip() for name in by.split(",") if name.strip()]
    unknown = [name for name in names if name not in DIMENSIONS]
    if unknown:
        raise ConfigError(f"--by: unknown {unknown[0]!r} (known: {', '.join(DIMENSIONS)})")
    start = int(time.time()) - span(since, "--since")

    async def work(node: Node) -> list[pb.UsageRow]:
        request = pb.QueryUsageRequest(group_by=[DIMENSIONS[name] for name in names])
        request.start_time.FromSeconds(start)
        response = await MetricsServiceStub(node.channel("metrics")).QueryUsage(request, timeout=SECONDS)
        return list(response.rows)

    rows = run(config, work)
    if as_json:
        print(orjson.dumps([_as_json(names, row) for row in rows], option=orjson.OPT_INDENT_2).decode())
    else:
        _print_usage(names, rows)


def _print_usage(names: list[str], rows: Iterable[pb.UsageRow]) -> None:
    table = Table(*names, box=None)
    for column in ("calls", "failed", "input", "cached", "output", "reasoning", "USD"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            *row.values,
            f"{row.calls:,}",
            f"{row.failed_calls:,}",
            f"{row.usage.input_tokens + row.usage.cache_write_tokens:,}",
            f"{row.usage.cache_read_tokens:,}",
            f"{row.usage.output_tokens:,}",
            f"{row.usage.reasoning_tokens:,}",
            f"{row.cost_nanos / NANO:.9f}" + (f" + {row.unpriced_calls} unpriced" if row.unpriced_calls else ""),
        )
    show(table)


def _as_json(names: list[str], row: pb.UsageRow) -> dict[str, Any]:
    return {
        **dict(zip(names, row.values, strict=True)),
        "calls": row.calls,
        "failed_calls": row.failed_calls,
        "input_tokens": row.usage.input_tokens,
        "cache_read_tokens": row.usage.cache_read_tokens,
        "cache_write_tokens": row.usage.cache_write_tokens,
        "output_tokens": row.usage.output_tokens,
        "reasoning_tokens": row.usage.reasoning_tokens,
        "cost_nanos": row.cost_nanos,
        "unpriced_calls": row.unpriced_calls,
    }


def health(config: Config, roles: Iterable[str], timeout: float) -> int:
    """Prints whether each role can serve; 0 when all can, 1 otherwise."""
    wanted = [role for role in ROLES if role in set(roles)]
    peers = {**config.mesh.peers, "edge": config.mesh.peers.get("edge") or config.edge.grpc.listen}
    reachable = config.model_copy(update={"mesh": config.mesh.model_copy(update={"peers": peers})})

    async def work(node: Node) -> list[bool]:
        async with asyncio.timeout(timeout):
            return await asyncio.gather(*(node.healthy(role) for role in wanted))

    try:
        answers = run(reachable, work)
    except TimeoutError:
        answers = [False] * len(wanted)
    for role, serving in zip(wanted, answers, strict=True):
        print(f"{role:<10} {'serving' if serving else 'not serving'}")
    return 0 if all(answers) else 1
