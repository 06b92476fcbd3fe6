"""What an operator asks a running gateway: models, usage, health."""

import asyncio
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.table import Table

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.router.v1.router_pb2 import ListModelsRequest, ListModelsResponse, Price
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.output import show
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ROLES

SECONDS: Final = 5.0
NANO: Final = 1_000_000_000


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
