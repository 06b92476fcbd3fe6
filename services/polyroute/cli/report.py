"""What an operator asks a running gateway: models, usage, health."""

import asyncio
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Final

from rich.console import Console
from rich.table import Table

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.router.v1.router_pb2 import ListModelsRequest, ListModelsResponse, Model, Price
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.output import show
from polyroute.cli.printing import show_list
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ROLES
from polyroute.router.prices.doubts import usd

SECONDS: Final = 5.0
NANO: Final = 1_000_000_000
MILLION: Final = 1_000_000
# What is charged beside tokens by the name that usage has: how many are priced together, and what they are called.
_UNITS: Final = {
    "images": (1, "picture"),
    "audio_milliseconds": (60_000, "minute of sound"),
    "web_search_requests": (1, "search"),
}


def models(config: Config, *, as_json: bool = False) -> None:
    """Prints the models and aliases: what each costs where most calls go, and from the cheapest to the dearest."""

    async def work(node: Node) -> ListModelsResponse:
        stub = RouterServiceStub(node.channel("router"))
        response: ListModelsResponse = await stub.ListModels(ListModelsRequest(), timeout=SECONDS)
        return response

    listed = run(config, work)
    if as_json:
        show_list(listed.models, (), "", as_json=True)
        return
    table = Table("model", "for", "providers", "context", "USD per M tokens in/out", "range", "alias of", box=None)
    for model in listed.models:
        table.add_row(
            model.name,
            ", ".join(Operation.Name(operation).removeprefix("OPERATION_").lower() for operation in model.operations),
            ", ".join(model.providers),
            f"{model.context_tokens:,}" if model.context_tokens else "",
            _price(model.first_price) if model.HasField("first_price") else "unknown",
            _range(model),
            ", ".join(model.alias_of),
        )
    show(table)
    Console().print(f"[dim]catalog {listed.catalog_version}[/]")


def _range(model: Model) -> str:
    """From the lowest price to the highest; empty when they are the same."""
    lowest, highest = _price(model.price), _price(model.highest_price)
    return f"{lowest} - {highest}" if lowest != highest else ""


def _price(price: Price) -> str:
    """What tokens cost, and whatever else does by its own unit."""
    tokens = [f"{usd(price.input)} / {usd(price.output)}"] if price.input or price.output else []
    found = [
        f"{(Decimal(value) * units / MILLION / NANO).normalize():f} per {word}"
        for value, units, word in _beside_tokens(price)
    ]
    return ", ".join(tokens + found) or "0 / 0"


def _beside_tokens(price: Price) -> Iterator[tuple[int, int, str]]:
    """What else is charged: nano-USD per million, how many a unit is, and its name."""
    if price.request:
        yield price.request, 1, "call"
    for name, (units, word) in _UNITS.items():
        if name in price.other:
            yield price.other[name], units, word


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
