"""Price lists in other people's files: rows out of CSV, YAML and JSON, and out of the JSON of one well-known list.

Of a file only facts are taken: names, figures, their source. What a row has beside that is counted, not guessed at.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, NamedTuple

import yaml

from polyroute.router.prices.config import FIGURES

_MILLION: Final = 1_000_000
_TEXTS: Final = ("currency", "zone", "effective_from", "effective_until", "source", "via", "checked")
# A list of figures per token: its names for them, and ours for the same per million.
_PER_TOKEN: Final = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
}
_ABOVE: Final = "_above_"
_TOKENS: Final = "k_tokens"
_OWNER: Final = "litellm_provider"
_OFF_PEAK: Final = "off_peak_pricing"


class ReadRows(NamedTuple):
    """Rows of a file.

    Args:
        rows: By `provider/model`, each as the section `prices` has it; not checked yet.
        skipped: How many entries have no price per token.
        partial: Names of entries that say more than was taken, such as prices by the hour.
    """

    rows: dict[str, list[dict[str, Any]]]
    skipped: int = 0
    partial: tuple[str, ...] = ()


def read_rows(text: str) -> ReadRows:
    """The rows of a price list.

    Args:
        text: A file: a section `prices`, or what stands below it; a CSV with a head; or a JSON object of models with
            figures per token.

    Raises:
        ValueError: It is none of these.
    """
    stripped = text.lstrip()
    if stripped.startswith("{"):
        tree = json.loads(text, parse_float=Decimal)
        if any(isinstance(one, Mapping) and _PER_TOKEN.keys() & one.keys() for one in tree.values()):
            return _per_token(tree)
        return ReadRows(_own(tree))
    head = stripped.partition("\n")[0]
    if "," in head and not set(head) & set(":[{"):
        return ReadRows(_table(text))
    try:
        return ReadRows(_own(yaml.safe_load(text)))
    except yaml.YAMLError as error:
        raise ValueError(f"neither JSON, nor YAML, nor CSV with a head: {error}") from None


def _own(tree: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows as the configuration has them."""
    for name in ("prices", "models"):
        if isinstance(tree, Mapping) and isinstance(tree.get(name), Mapping):
            tree = tree[name]
    if not isinstance(tree, Mapping) or not tree:
        raise ValueError("no price list: a mapping of provider/model to rows is needed")
    return {str(name): rows if isinstance(rows, list) else [rows] for name, rows in tree.items()}


def _table(text: str) -> dict[str, list[dict[str, Any]]]:
    """Rows of a CSV: `model` as provider/model, or with a column `provider`; figures and texts by their names."""
    found: dict[str, list[dict[str, Any]]] = {}
    reader = csv.DictReader(io.StringIO(text.strip()), skipinitialspace=True)
    known = {"provider", "model", *FIGURES, *_TEXTS}
    unknown = [name for name in reader.fieldnames or () if name not in known]
    if unknown:
        raise ValueError(f"unknown column {unknown[0]!r} (known: {', '.join(sorted(known))})")
    for line in reader:
        name = "/".join(part for part in (line.pop("provider", ""), line.pop("model", "")) if part)
        found.setdefault(name, []).append({key: value.strip() for key, value in line.items() if value})
    return found


def _per_token(tree: Mapping[str, Any]) -> ReadRows:
    rows: dict[str, list[dict[str, Any]]] = {}
    skipped, partial = 0, []
    for key, entry in tree.items():
        row = _row(entry) if isinstance(entry, Mapping) else None
        if row is None:
            skipped += 1
            continue
        owner = str(entry.get(_OWNER, ""))
        name = key if not owner or key.startswith(f"{owner}/") else f"{owner}/{key}"
        if "/" not in name:
            skipped += 1
            continue
        rows[name] = [row]
        if entry.get(_OFF_PEAK):
            partial.append(name)
    return ReadRows(rows, skipped, tuple(partial))


def _row(entry: Mapping[str, Any]) -> dict[str, Any] | None:
    """An entry with prices per token; None where it has none."""
    bands = entry.get("tiered_pricing")
    if isinstance(bands, list) and bands:
        row = _figures(bands[0])
        tiers = [{"above": int(band["range"][0]), **_figures(band)} for band in bands[1:]]
    else:
        row, tiers = _figures(entry), list(_tiers(entry))
    if "input" not in row or "output" not in row:
        return None
    if tiers:
        row["tiers"] = [{**{name: row[name] for name in FIGURES if name in row}, **tier} for tier in tiers]
    source = entry.get("source")
    return {**row, **({"source": str(source)[:512]} if source else {})}


def _tiers(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Figures for prompts above some thousands of tokens, the shortest first."""
    bounds = {
        int(bound)
        for name in entry
        if name.endswith(_TOKENS) and (bound := name.removesuffix(_TOKENS).rpartition(_ABOVE)[2]).isdecimal()
    }
    for thousands in sorted(bounds):
        yield {"above": thousands * 1000, **_figures(entry, f"{_ABOVE}{thousands}{_TOKENS}")}


def _figures(entry: Mapping[str, Any], ending: str = "") -> dict[str, Any]:
    found: Iterable[tuple[str, Any]] = ((ours, entry.get(f"{name}{ending}")) for name, ours in _PER_TOKEN.items())
    return {name: _per_million(value) for name, value in found if isinstance(value, Decimal | int)}


def _per_million(value: Decimal | int) -> str:
    return f"{(Decimal(value) * _MILLION).normalize():f}"
