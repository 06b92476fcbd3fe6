"""All price lists in the order in which they are believed, and what they say at one moment.

1. `catalog`: the price that stands with a deployment, if one does; that is the builder's to see.
2. `prices`: the operator's list, the section of that name.
3. `overlay`: the list that comes with the project: vendors that the package lacks, or has in another currency.
4. `genai-prices`: the package.
5. `provider`: what the provider itself says of a model, such as that one's own machine costs nothing.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from math import inf
from typing import Final

import yaml

from polyroute.router.prices.config import PricesConfig
from polyroute.router.prices.published import Published
from polyroute.router.prices.quote import NOTHING, Quote, Tariff
from polyroute.router.prices.table import Exchange, Table

CATALOG: Final = "catalog"
OPERATOR: Final = "prices"
PROJECT: Final = "overlay"
PROVIDER: Final = "provider"
_FILE: Final = "overlay.yaml"
_KEPT: Final = 20_000


class PriceBook:
    """The operator's list, the project's and the package's, in this order.

    Args:
        operator: The section `prices`.
        project: The list that comes with the project; None for the one that does.
    """

    def __init__(self, operator: PricesConfig, project: PricesConfig | None = None) -> None:
        self._written = operator
        self._given = project
        self._tables: tuple[Table, Table] | None = None

    def faults(self) -> list[str]:
        """What makes the operator's list useless, each with its path in the YAML."""
        if not self._written.models:
            return []
        known = self._exchange()
        return [
            f"prices.models.{name}[{i}].currency: what a dollar costs in {row.currency} is not known: say it in "
            f"prices.exchange.{row.currency}"
            for name, rows in self._written.models.items()
            for i, row in enumerate(rows)
            if row.currency not in known
        ]

    def tariffs(self, provider: str, book: str, model: str, *, answers: bool = True) -> list[Tariff]:
        """The lists' rows for a model, the one that is believed first; what can never be reached is left out.

        Args:
            provider: Its name in the catalog.
            book: Its name in the lists; empty when they do not have it.
            model: The upstream id.
            answers: The model gives tokens.
        """
        found: list[Tariff] = []
        for tariff in self._asked(provider, book, model, answers=answers):
            if tariff is not None:
                found.append(tariff)
                if tariff.always:
                    break
        return found

    def _asked(self, provider: str, book: str, model: str, *, answers: bool) -> Iterator[Tariff | None]:
        operator, project = self._lists(needed=bool(book))
        if operator is not None:
            for name in dict.fromkeys((provider, book or provider)):
                yield operator.tariff(f"{name}/{model}")
        if book and project is not None:
            yield project.tariff(f"{book}/{model}")
            yield _package().tariff(book, model, answers=answers)

    def _lists(self, *, needed: bool) -> tuple[Table | None, Table | None]:
        """Both lists; nothing is read for a catalog that has no need of them."""
        if self._tables is None and (needed or self._written.models):
            exchange = self._exchange()
            self._tables = Table(OPERATOR, self._written, exchange), Table(PROJECT, self._project, exchange)
        return self._tables if self._tables is not None else (None, None)

    def _exchange(self) -> Exchange:
        return Exchange(self._written.exchange, self._project.exchange)

    @property
    def _project(self) -> PricesConfig:
        return project_list() if self._given is None else self._given


class PricesAt:
    """What all lists say at one moment; remembers when that may be otherwise.

    Attributes:
        until: Seconds since 1970 UTC of the first moment at which one of the prices it gave may be another.

    Args:
        book: The lists.
        books: Provider -> its name in the lists.
        moment: Seconds since 1970 UTC.
    """

    def __init__(self, book: PriceBook, books: Mapping[str, str], moment: float) -> None:
        self._book = book
        self._books = books
        self._moment = moment
        self._found: dict[tuple[str, str, bool], tuple[Quote, str]] = {}
        self.until = inf

    def listed(self, provider: str, model: str, *, answers: bool = True) -> tuple[Quote, str]:
        """What a model charges by the lists, and a digest of all they say of it at any time; empty for nothing."""
        key = (provider, model, answers)
        if key not in self._found:
            if len(self._found) >= _KEPT:
                self._found.clear()  # callers may think of many names
            self._found[key] = self._listed(provider, model, answers=answers)
        return self._found[key]

    def _listed(self, provider: str, model: str, *, answers: bool) -> tuple[Quote, str]:
        tariffs = self._book.tariffs(provider, self._books.get(provider, ""), model, answers=answers)
        found, until = NOTHING, inf
        for tariff in tariffs:
            quote = tariff.quote(self._moment)
            until = min(until, quote.until)
            if quote.origin:
                found = quote
                break
        self.until = min(self.until, until)
        return found._replace(until=until), " ".join(tariff.version for tariff in tariffs)


@cache
def project_list() -> PricesConfig:
    """The list that comes with the project."""
    text = files("polyroute.router.prices").joinpath(_FILE).read_text(encoding="utf-8")
    return PricesConfig.model_validate(yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # noqa: S506


@cache
def _package() -> Published:
    return Published()
