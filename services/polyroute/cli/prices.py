"""`polyroute prices`: what deployments charge, who says so, and an operator's own say."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml
from rich.table import Table

from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli.catalogs import put, version_of
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.output import show as print_table
from polyroute.mesh.config import validated
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ConfigError
from polyroute.router.document import DocumentError, with_prices
from polyroute.router.fields import as_written
from polyroute.router.prices.book import CATALOG, OPERATOR, project_list
from polyroute.router.prices.config import PricesConfig, RowConfig
from polyroute.router.prices.doubts import bounds_of, doubts, figures, usd
from polyroute.router.prices.published import Published
from polyroute.router.prices.reading import read_rows
from polyroute.router.prices.table import Exchange, RowTariff
from polyroute.router.prices.table import Table as PriceTable

SECONDS: Final = 10.0
_PAGE: Final = 1000
_NEW: Final = "new"


class Change(NamedTuple):
    """What one row of a list changes: its name, what holds before, what holds after, the name in the list."""

    name: str
    before: pb.Price | None
    after: pb.Price | None
    row: str = ""


class Shadows(NamedTuple):
    """What stands above the rows of a name, in words, and the deployments that do go by them."""

    words: tuple[str, ...]
    ruled: tuple[pb.ListedPrice, ...]


def show(config: Config, request: pb.ListPricesRequest, *, as_json: bool) -> None:
    """Prints what deployments charge, and where each figure comes from."""
    listed = _listed(config, request)
    if as_json:
        print(json.dumps([_as_json(one) for one in listed], indent=2, ensure_ascii=False))
        return
    table = Table("deployment", "input", "output", "cached", "written", "beside", "until", "version", "from", box=None)
    for one in listed:
        table.add_row(one.deployment, *_cells(one), _until(one), one.price.version, _origin(one))
        for tier in one.price.tiers:
            table.add_row(f"  {bounds_of(tier)}", *_figures(tier.price), "", "", "")
    if listed:
        print_table(table)
    print(f"{len(listed)} deployments, USD per million tokens", file=sys.stderr)


def diff(config: Config, path: Path | None) -> None:
    """Prints where what is in force differs from the package's data, or from a file."""
    listed = _listed(config, pb.ListPricesRequest())
    other = _file_prices(path, listed) if path is not None else _package_prices(listed)
    changes = [
        Change(one.deployment, one.price if one.HasField("price") else None, other[one.deployment])
        for one in listed
        if one.deployment in other
    ]
    named = str(path) if path is not None else "genai-prices"
    _print_changes(changes, "in force", named)
    _warn(f"{_names(one)[0]}: {_own(one)}" for one in listed if path and one.deployment in other and _owned(one))
    lacking = len(listed) - len(changes)
    print(f"{len(changes)} of {len(listed)} deployments compared; {named} lacks {lacking}", file=sys.stderr)


def put_row(config: Config, name: str, row: Mapping[str, Any], *, force: bool) -> None:
    """Puts one row into the operator's list, beside those of the same name that come into effect at other times.

    Raises:
        ConfigError: It is wrong, or, unless forced, looks like a mistake or is one that no deployment would go by.
    """
    _put_rows(config, {name: [dict(row)]}, force=force, unused=force, note=f"price of {name}")


def take(config: Config, path: Path, *, everything: bool, force: bool) -> None:
    """Puts the rows of a file into the operator's list: those of the catalog's deployments, or all."""
    try:
        read = read_rows(_text(path))
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    rows = read.rows
    if not everything:
        names = {name for one in _listed(config, pb.ListPricesRequest()) for name in _names(one)}
        rows = {name: row for name, row in rows.items() if any(fnmatchcase(one, name.casefold()) for one in names)}
    print(
        f"{path}: {len(read.rows)} models with a price, {len(rows)} taken, {read.skipped} without a price per token",
        file=sys.stderr,
    )
    for name in read.partial:
        if name in rows:
            print(
                f"warning: {name}: its prices by the hour are not taken, only those of all other hours", file=sys.stderr
            )
    if not rows:
        raise ConfigError(f"{path}: no deployment of the catalog is in it; --all takes every row")
    _put_rows(config, rows, force=force, unused=True, note=f"prices of {path.name}")


def _put_rows(
    config: Config, rows: Mapping[str, list[dict[str, Any]]], *, force: bool, unused: bool, note: str
) -> None:
    text = version_of(config, "").text
    written = (yaml.safe_load(text) or {}).get("prices") or {}
    checked = validated(PricesConfig, {"models": rows}, source="prices")
    before = validated(PricesConfig, written, source="prices in force")
    merged = {name: _merged(before.models.get(name, ()), given) for name, given in checked.models.items()}
    listed = _listed(config, pb.ListPricesRequest())
    table = PriceTable(
        OPERATOR,
        PricesConfig(models={**before.models, **{name: tuple(rows) for name, rows in merged.items()}}),
        Exchange(),
    )
    shadows = {name: _shadows(name, table, listed) for name in merged}
    idle = [name for name, found in shadows.items() if found.words and not found.ruled]
    if idle and not unused:
        lines = [f"{name}: {words}" for name in idle for words in shadows[name].words]
        raise ConfigError("\n".join([*lines, "nothing was changed; --force puts it into the list all the same"]))
    changes = list(_changes(checked, before, shadows))
    unknown = [change.name for change in changes if change.after is None]
    if unknown:
        raise ConfigError(f"{unknown[0]}: what a dollar costs in its currency is not known: say it in prices.exchange")
    _warn(f"{name}: {words}" for name, found in shadows.items() for words in found.words)
    _print_changes([one for one in changes if one.row not in idle], "in force", _NEW)
    found = [f"{one.name}: {doubt}" for one in changes if one.after for doubt in doubts(one.before, one.after)]
    if found and not force:
        raise ConfigError("\n".join([*found, "nothing was changed; --force takes it as it is"]))
    try:
        put(config, with_prices(text, {name: [as_written(row) for row in kept] for name, kept in merged.items()}), note)
    except DocumentError as error:
        raise ConfigError(str(error)) from None


def _merged(before: Sequence[RowConfig], given: Sequence[RowConfig]) -> list[RowConfig]:
    """Rows of a name: the given ones stand instead of those that come into effect at the same time."""
    begins = {row.effective_from for row in given}
    kept = [row for row in before if row.effective_from not in begins]
    return sorted([*kept, *given], key=lambda row: str(row.effective_from or ""))


def _changes(new: PricesConfig, before: PricesConfig, shadows: Mapping[str, Shadows]) -> Iterator[Change]:
    """What each new row is, from when it holds, beside what is in force where it will hold."""
    exchange = Exchange(before.exchange, project_list().exchange)
    for name, rows in new.models.items():
        now = next((one.price for one in shadows[name].ruled if one.HasField("price")), None)
        for row in rows:
            tariff = RowTariff(_NEW, name, [row.model_copy(update={"effective_until": None})], exchange)
            start = tariff.quote(time.time())
            price = start.price if start.origin else tariff.quote(start.until).price
            when = f" from {row.effective_from}" if row.effective_from else ""
            yield Change(f"{name}{when}", now, price, name)


def _shadows(name: str, table: PriceTable, listed: Iterable[pb.ListedPrice]) -> Shadows:
    """What is believed before the rows of a name, of the deployments that it means; see `prices.book`."""
    meant = [one for one in listed if any(fnmatchcase(known, name.casefold()) for known in _names(one))]
    words = [_own(one) if _owned(one) else _other_row(name, table, one) for one in meant]
    ruled = (one for one, above in zip(meant, words, strict=True) if not above)
    return Shadows(tuple(filter(None, words)), tuple(ruled))


def _owned(one: pb.ListedPrice) -> bool:
    """Whether a price stands with the deployment itself."""
    return one.origin == CATALOG


def _own(one: pb.ListedPrice) -> str:
    return (
        f"{_place(one)} has a `price` of its own "
        f"({', '.join(f'{name} {usd(value)}' for name, value in figures(one.price).items())}), "
        "which stands above every list: change it there"
    )


def _place(one: pb.ListedPrice) -> str:
    return f"deployment {one.deployment} of models.{one.model}"


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _other_row(name: str, table: PriceTable, one: pb.ListedPrice) -> str:
    """Which row of the list a deployment goes by instead of those of a name; empty when by those."""
    first = ""
    for tariff in filter(None, (table.tariff(known) for known in _names(one))):
        if tariff.name == name:
            return ""
        first = first or tariff.name
        if tariff.always:
            break
    return f"prices.models.{first} stands above this row for {_place(one)}"


def _package_prices(listed: Iterable[pb.ListedPrice]) -> dict[str, pb.Price | None]:
    published, now, found = Published(), time.time(), {}
    for one in listed:
        tariff = published.tariff(one.price_book, one.upstream_model)
        if tariff is not None:
            found[one.deployment] = tariff.quote(now).price
    return found


def _file_prices(path: Path, listed: Iterable[pb.ListedPrice]) -> dict[str, pb.Price | None]:
    try:
        rows = read_rows(_text(path)).rows
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    config = validated(PricesConfig, {"models": rows}, source=str(path))
    table = PriceTable(path.name, config, Exchange(project_list().exchange))
    now, found = time.time(), {}
    for one in listed:
        tariff = next((known for name in _names(one) if (known := table.tariff(name))), None)
        if tariff is not None:
            found[one.deployment] = tariff.quote(now).price
    return found


def _listed(config: Config, request: pb.ListPricesRequest) -> list[pb.ListedPrice]:
    async def work(node: Node) -> list[pb.ListedPrice]:
        stub = RouterServiceStub(node.channel("router"))
        asked, found = pb.ListPricesRequest(), list[pb.ListedPrice]()
        asked.CopyFrom(request)
        asked.page_size = _PAGE
        while True:
            page = await stub.ListPrices(asked, timeout=SECONDS)
            found += page.prices
            asked.page_token = page.next_page_token
            if not page.next_page_token:
                return found

    return run(config, work)


def _names(one: pb.ListedPrice) -> list[str]:
    """What a list may call a deployment's model, case folded."""
    owners = dict.fromkeys(owner for owner in (one.provider, one.price_book) if owner)
    return [f"{owner}/{one.upstream_model}".casefold() for owner in owners]


def _print_changes(changes: Iterable[Change], before: str, after: str) -> None:
    table = Table("model", "figure", before, after, box=None)
    for change in changes:
        old = figures(change.before) if change.before is not None else {}
        new = figures(change.after) if change.after is not None else {}
        for name in dict.fromkeys([*old, *new]):
            if old.get(name) != new.get(name):
                table.add_row(change.name, name, *(usd(one[name]) if name in one else "none" for one in (old, new)))
    if table.row_count:
        print_table(table)
    else:
        print("no difference")


def _cells(one: pb.ListedPrice) -> tuple[str, ...]:
    return _figures(one.price) if one.HasField("price") else ("unknown", "", "", "", "")


def _figures(price: pb.Price) -> tuple[str, ...]:
    beside = [f"reasoning {usd(price.reasoning)}"] if price.HasField("reasoning") else []
    beside += [f"call {usd(price.request)}"] if price.HasField("request") else []
    beside += [f"{name} {usd(value)}" for name, value in sorted(price.other.items())]
    return (
        usd(price.input),
        usd(price.output),
        usd(price.cache_read) if price.HasField("cache_read") else "",
        usd(price.cache_write) if price.HasField("cache_write") else "",
        ", ".join(beside),
    )


def _until(one: pb.ListedPrice) -> str:
    return one.until.ToDatetime(UTC).strftime("%Y-%m-%d %H:%MZ") if one.HasField("until") else ""


def _origin(one: pb.ListedPrice) -> str:
    words = (one.origin, one.row, one.currency, one.source, f"checked {one.checked}" if one.checked else "")
    return " ".join(word for word in words if word)


def _as_json(one: pb.ListedPrice) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: getattr(one, name)
        for name in (
            "model",
            "deployment",
            "provider",
            "upstream_model",
            "origin",
            "row",
            "currency",
            "source",
            "checked",
        )
    }
    found["until"] = one.until.ToJsonString() if one.HasField("until") else None
    found["version"] = one.price.version
    found["nano_usd_per_million"] = figures(one.price) if one.HasField("price") else None
    found["tiers"] = [
        {"above": tier.above, "answer_above": tier.answer_above, "reasoned": tier.reasoned} for tier in one.price.tiers
    ]
    return found


def moment_of(text: str) -> datetime:
    """A moment with its offset, or a day in UTC.

    Raises:
        ConfigError: It is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--at: {text!r} is not a moment such as 2026-03-02T09:00+08:00") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def row_of(figures_given: Mapping[str, str | None], texts: Mapping[str, str]) -> dict[str, Any]:
    """A row out of what a command line says; checked today, as whoever writes it just looked."""
    row: dict[str, Any] = {name: value for name, value in figures_given.items() if value is not None}
    row |= {name: value for name, value in texts.items() if value}
    return {**row, "checked": date.today().isoformat()}  # noqa: DTZ011 - the operator's own day


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
