"""The models and aliases of a catalog as callers see them."""

from collections.abc import Iterable, Iterator

from polyroute.api.router.v1.router_pb2 import Model as ModelEntry
from polyroute.api.router.v1.router_pb2 import Price
from polyroute.router.catalog import Catalog, Deployment


def listing(catalog: Catalog, operation: int) -> Iterator[ModelEntry]:
    """Models in catalog order, then aliases.

    Args:
        catalog: What is listed.
        operation: Only what can do this; 0 for all. An alias is listed when one of its models can.
    """
    for model in catalog.models:
        if _able(model.deployments, operation):
            yield _entry(model.name, model.deployments)
    for alias in catalog.aliases:
        deployments = [deployment for model in catalog.targets(alias) for deployment in model.deployments]
        if _able(deployments, operation):
            yield _entry(alias.name, deployments, [name for name, _ in alias.targets])


def _able(deployments: Iterable[Deployment], operation: int) -> bool:
    return not operation or any(one.operations is None or operation in one.operations for one in deployments)


def _entry(name: str, deployments: Iterable[Deployment], alias_of: Iterable[str] = ()) -> ModelEntry:
    served = list(deployments)
    return ModelEntry(
        name=name,
        alias_of=alias_of,
        providers=dict.fromkeys(one.provider for one in served),
        operations=sorted(frozenset[int]().union(*(one.operations or () for one in served))),  # type: ignore[arg-type]
        capabilities=sorted(frozenset[int]().union(*(one.capabilities or () for one in served))),  # type: ignore[arg-type]
        context_tokens=max(one.context_tokens for one in served),
        max_output_tokens=max(one.max_output_tokens for one in served),
        price=_lowest([one.price for one in served if one.price is not None]),
    )


def _lowest(prices: Iterable[Price]) -> Price | None:
    """By what a prompt token and a token of the answer cost together."""
    return min(prices, key=lambda price: price.input + price.output, default=None)
