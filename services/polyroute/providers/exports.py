"""What vendors say that was used: their usage and cost exports, read into rows per day and model.

Three shapes are known: OpenAI's usage and costs (https://platform.openai.com/docs/api-reference/usage), Anthropic's
usage and cost reports (https://platform.claude.com/docs/en/api/admin/cost_report), and a table with plain columns for
every other vendor: `date`, `model`, then any of `input_tokens`, `cache_read_tokens`, `cache_write_tokens`,
`output_tokens`, `reasoning_tokens`, `requests` and `cost_usd`. Money is read as text, never by way of a float.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any, Final

import orjson

NANO: Final = 10**9
CENT: Final = 10**7  # nano-USD
REQUESTS: Final = "requests"
COST: Final = "cost_nanos"
BUCKETS: Final = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
ANY_MODEL: Final = ""

_DATES: Final = ("date", "day", "usage_date", "start_date", "start_time_iso", "start_time", "starting_at", "timestamp")
_MODELS: Final = ("model", "model_name", "model_id", "snapshot_id")
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": ("input_tokens", "prompt_tokens", "uncached_input_tokens"),
    "cache_read_tokens": ("cache_read_tokens", "cache_read_input_tokens", "cached_tokens"),
    "cache_write_tokens": ("cache_write_tokens", "cache_creation_input_tokens"),
    "output_tokens": ("output_tokens", "completion_tokens"),
    "reasoning_tokens": ("reasoning_tokens",),
    REQUESTS: ("requests", "num_model_requests", "num_requests", "calls"),
}
_COSTS: Final = ("cost_usd", "cost", "amount_usd", "amount_value", "total_cost")


class UnreadableError(ValueError):
    """The file is none of the exports that can be read."""


@dataclass(slots=True)
class Used:
    """What was used of a model on a day.

    Attributes:
        day: UTC, such as `2026-03-02`.
        model: As the vendor calls it; ANY_MODEL where the export does not say.
        figures: By bucket, REQUESTS and COST; only those that the export has.
    """

    day: str
    model: str
    figures: dict[str, int] = field(default_factory=dict)


def read(data: bytes) -> list[Used]:
    """The rows of an export, one per day and model, in their order.

    Raises:
        UnreadableError: It is none that can be read.
    """
    text = data.lstrip(b"\xef\xbb\xbf").lstrip()
    rows = _from_json(text) if text[:1] in (b"{", b"[") else _from_table(text)
    found: dict[tuple[str, str], Used] = {}
    for row in rows:
        known = found.setdefault((row.day, row.model), Used(row.day, row.model))
        for name, value in row.figures.items():
            known.figures[name] = known.figures.get(name, 0) + value
    if not found:
        raise UnreadableError("nothing was used, or the export has another shape")
    return [found[place] for place in sorted(found)]


def _from_json(text: bytes) -> Iterator[Used]:
    try:
        tree = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"not JSON: {error}") from None
    buckets = tree.get("data", ()) if isinstance(tree, dict) else tree
    if not isinstance(buckets, list):
        raise UnreadableError("there is no list of days in it")
    for bucket in buckets:
        if not isinstance(bucket, dict):
            raise UnreadableError("a day is not an object")
        results = bucket.get("results", bucket.get("result"))
        if isinstance(results, list):
            day = _day(_first(bucket, _DATES))
            yield from (_reported(day, result) for result in results)
        else:
            yield _plain(bucket)


def _reported(day: str, result: Mapping[str, Any]) -> Used:
    """A row of a report that is grouped by day: OpenAI's, or Anthropic's."""
    model = str(result.get("model") or _line_model(result) or ANY_MODEL)
    amount = result.get("amount")
    if isinstance(amount, dict):  # costs of OpenAI: USD
        return Used(day, model, {COST: _nanos(amount.get("value"), NANO)})
    if amount is not None:  # costs of Anthropic: cents, as a decimal string
        return Used(day, model, {COST: _nanos(amount, CENT)})
    if "uncached_input_tokens" in result:
        written = result.get("cache_creation") or {}
        figures = {
            "input_tokens": _count(result["uncached_input_tokens"]),
            "cache_read_tokens": _count(result.get("cache_read_input_tokens")),
            "cache_write_tokens": sum(map(_count, written.values()))
            or _count(result.get("cache_creation_input_tokens")),
            "output_tokens": _count(result.get("output_tokens")),
        }
        return Used(day, model, figures)
    return Used(day, model, _inclusive(result))


def _inclusive(result: Mapping[str, Any]) -> dict[str, int]:
    """OpenAI's figures, in which cached tokens are a part of the prompt's."""
    cached, written = _count(result.get("input_cached_tokens")), _count(result.get("input_cache_write_tokens"))
    figures = {
        "input_tokens": _count(result.get("input_tokens")) - cached - written,
        "cache_read_tokens": cached,
        "output_tokens": _count(result.get("output_tokens")),
    }
    if written:
        figures["cache_write_tokens"] = written
    if "num_model_requests" in result:
        figures[REQUESTS] = _count(result["num_model_requests"])
    return figures


def _line_model(result: Mapping[str, Any]) -> str:
    """The model in a line of OpenAI's costs, such as `gpt-4o-2024-08-06, input`."""
    return str(result.get("line_item") or "").partition(",")[0].strip()


def _from_table(text: bytes) -> Iterator[Used]:
    try:
        reader = csv.DictReader(io.StringIO(text.decode()))
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnreadableError(f"not a table: {error}") from None
    for row in rows:
        yield _plain({(name or "").strip().lower(): value for name, value in row.items() if name is not None})


def _plain(row: Mapping[str, Any]) -> Used:
    """A row of a table with one column per figure."""
    figures = {name: _count(value) for name, value in _present(row, _COLUMNS)}
    if "input_cached_tokens" in row:
        figures |= _inclusive(row)
    cost = _first(row, _COSTS)
    if cost not in (None, ""):
        figures[COST] = _nanos(cost, NANO)
    return Used(_day(_first(row, _DATES)), str(_first(row, _MODELS) or ANY_MODEL), figures)


def _present(row: Mapping[str, Any], names: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, Any]]:
    for name, spellings in names.items():
        value = _first(row, spellings)
        if value not in (None, ""):
            yield name, value


def _first(row: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _day(value: Any) -> str:
    """The UTC day of a time in seconds, or of one in ISO 8601."""
    text = str(value)
    try:
        if text.isdecimal():
            return datetime.fromtimestamp(int(text), UTC).date().isoformat()
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
        raise UnreadableError(f"a row has no date: {text!r}") from None
    return (found.astimezone(UTC) if found.tzinfo else found).date().isoformat()


def _count(value: Any) -> int:
    try:
        found = Decimal(str(value or 0).replace(",", ""))
        if found != int(found):
            raise UnreadableError(f"not a count: {value!r}")
    except (InvalidOperation, OverflowError, ValueError):
        raise UnreadableError(f"not a count: {value!r}") from None
    return int(found)


def _nanos(value: Any, unit: int) -> int:
    """An amount of so many nano-USD each, to the nearest."""
    try:
        amount = Decimal(str(value or 0).replace(",", "").removeprefix("$"))
        return int((amount * unit).to_integral_value(ROUND_HALF_UP))
    except (InvalidOperation, OverflowError):
        raise UnreadableError(f"not an amount: {value!r}") from None
