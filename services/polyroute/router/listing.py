"""The models and aliases of a catalog as callers see them, and its prices as operators do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Final

from polyroute.api.router.v1.router_pb2 import ListedPrice, ListPricesRequest, ListPricesResponse, Price
from polyroute.api.router.v1.router_pb2 import Model as ModelEntry
from polyroute.router.catalog import Alias, Catalog, Deployment, Entry, Model

PAGE: Final = 500
LONGEST_PAGE: Final = 1000


def listing(catalog: Catalog, operation: int) -> Iterator[ModelEntry]:
    """Models in catalog order, then aliases.

    Args:
        catalog: What is listed.
        operation: Only what can do this; 0 for all. An alias is listed when one of its models can.
    """
    for model in catalog.models:
        if _able(model.deployments, operation):
            yield _entry(model.name, model.deployments, model.deployments)
    for alias in catalog.aliases:
        deployments = [deployment for model in catalog.targets(alias) for deployment in model.deployments]
        if _able(deployments, operation):
            first = _heaviest(catalog, alias).deployments
            yield _entry(alias.name, deployments, first, [name for name, _ in alias.targets])


def price_list(catalog: Catalog, request: ListPricesRequest, books: Mapping[str, str]) -> ListPricesResponse:
    """What deployments charge, in catalog order.

    A model that the catalog does not name is listed when its provider is named too and passes all names on.

    Args:
        catalog: With the prices of the moment that is asked for.
        request: What is listed.
        books: Provider -> its name in the price lists.
    """
    found = [one for one in _deployments(catalog) if _asked_for(one, request)]
    if not found and request.provider and request.model:
        beyond = catalog.lookup(f"{request.provider}/{request.model}")
        found = [*beyond.deployments] if isinstance(beyond, Model) and not request.missing else []
    begin = int(request.page_token) if request.page_token.isdecimal() else 0
    end = begin + min(request.page_size or PAGE, LONGEST_PAGE)
    return ListPricesResponse(
        prices=[_listed(one, books) for one in found[begin:end]],
        catalog_version=catalog.version,
        next_page_token=str(end) if end < len(found) else "",
    )


def _deployments(catalog: Catalog) -> Iterator[Deployment]:
    for model in catalog.models:
        yield from model.deployments


def _asked_for(deployment: Deployment, request: ListPricesRequest) -> bool:
    names = {deployment.model.casefold(), deployment.upstream_model.casefold(), deployment.name.casefold()}
    return (
        (not request.model or request.model.casefold() in names)
        and (not request.provider or request.provider.casefold() == deployment.provider.casefold())
        and (not request.missing or deployment.price is None)
    )


def _listed(deployment: Deployment, books: Mapping[str, str]) -> ListedPrice:
    quote = deployment.quote
    listed = ListedPrice(
        model=deployment.model,
        deployment=deployment.name,
        provider=deployment.provider,
        upstream_model=deployment.upstream_model,
        price=deployment.price,
        origin=quote.origin,
        row=quote.row,
        currency=quote.currency,
        source=quote.source,
        checked=quote.checked,
        price_book=books.get(deployment.provider, ""),
    )
    if quote.until < inf:
        listed.until.FromMicroseconds(round(quote.until * 1e6))
    return listed


def _able(deployments: Iterable[Deployment], operation: int) -> bool:
    return not operation or any(one.operations is None or operation in one.operations for one in deployments)


def _heaviest(catalog: Catalog, alias: Alias) -> Model:
    """The model that most calls of an alias go to; of equal ones the first."""
    entry: Entry = alias
    while isinstance(entry, Alias):
        entry = catalog.entries[max(entry.targets, key=lambda target: target[1])[0]]
    return entry


def _entry(
    name: str, served: Sequence[Deployment], first: Sequence[Deployment], alias_of: Iterable[str] = ()
) -> ModelEntry:
    priority = min(one.priority for one in first)
    prices = [one.price for one in served if one.price is not None]
    return ModelEntry(
        name=name,
        alias_of=alias_of,
        providers=dict.fromkeys(one.provider for one in served),
        operations=sorted(frozenset[int]().union(*(one.operations or () for one in served))),  # type: ignore[arg-type]
        capabilities=sorted(frozenset[int]().union(*(one.capabilities or () for one in served))),  # type: ignore[arg-type]
        context_tokens=max(one.context_tokens for one in served),
        max_output_tokens=max(one.max_output_tokens for one in served),
        price=min(prices, key=_dearness, default=None),
        highest_price=max(prices, key=_dearness, default=None),
        first_price=min(
            (one.price for one in first if one.price is not None and one.priority == priority),
            key=_dearness,
            default=None,
        ),
    )


def _dearness(price: Price) -> tuple[int, int]:
    """What a prompt token and a token of the answer cost together; then what everything beside tokens does."""
    return price.input + price.output, price.request + sum(price.other.values())
