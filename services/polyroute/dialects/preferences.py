"""The caller's say in routing: the `provider` object of a request body as the contract's `Preferences`.

A superset of the two objects that clients have met elsewhere: one of lists and ranges (`sort` a list of keys,
`latency_range`), one of words and bounds (`sort` a word or `{by, partition}`, `max_price`). Units, always these:

- prices in USD per million tokens (`max_price`: `request` and `image` in USD each, `audio` in USD per minute of sound),
  numbers or decimal strings;
- latencies in seconds, to the first content; milliseconds only where the name says so (`max_latency_ms`);
- throughputs in tokens per second, lengths in tokens;
- ranges as `[min, max]` or `{"min": ..., "max": ...}`, both ends included, `null` for an open end.

A field that is `null` is as good as absent. Whatever else is not understood is an error with its path, never ignored: a
filter with a typing error in its name would let a prompt go where it must not.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any, Final

import orjson

from polyroute.api.errors.v1.errors_pb2 import REASON_INVALID_REQUEST
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError

ROOT: Final = "provider"
QUANTIZATIONS: Final = frozenset(
    "int4 int8 fp4 mxfp4 nvfp4 fp6 fp8 mxfp8 fp16 bf16 fp32 unknown".split()  # noqa: SIM905 - a table of words
)
SORT_WORDS: Final = {name.removeprefix("SORT_BY_").lower(): value for name, value in pb.SortBy.items() if value} | {
    "exacto": pb.SORT_BY_SUCCESS_RATE  # who does what was asked; this share is what is measured of it
}
DISTILLABLE: Final = "distillable"  # the tag that `enforce_distillable_text` asks for

_ORDERS: Final = {"asc": pb.SORT_ORDER_ASCENDING, "desc": pb.SORT_ORDER_DESCENDING}
_PARTITIONS: Final = {"model": pb.PARTITION_MODEL, "none": pb.PARTITION_NONE}
_COLLECTIONS: Final = {"allow": pb.DATA_COLLECTION_ALLOW, "deny": pb.DATA_COLLECTION_DENY}
_PERCENTILES: Final = {"p50": 50, "p75": 75, "p90": 90, "p99": 99}
_MAX_INT64: Final = 2**63 - 1
_MAX_TOLERANCE: Final = 10
_NANOS: Final = Decimal(1_000_000_000)
_MILLION: Final = Decimal(1_000_000)
_MINUTE: Final = Decimal(60_000)  # milliseconds
_MS: Final = 1000.0
_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
    type(None): "null",
}

Reader = Callable[[pb.Preferences, Any, str], None]


def read_preferences(raw_json: bytes) -> pb.Preferences:
    """The `provider` object of a request body.

    Raises:
        MeshError: REASON_INVALID_REQUEST; metadata `param` is the path of what is wrong, such as
            `provider.latency_range[0]`, and `status` is `422` where the fields contradict each other.
    """
    tree = _loaded(raw_json, ROOT)
    preferences = pb.Preferences()
    if tree is None:
        return preferences
    for name, value in _object(tree, ROOT).items():
        reader = _READERS.get(name)
        if reader is None:
            raise _unknown(f"{ROOT}.{name}", name, _READERS)
        if value is not None:
            reader(preferences, value, f"{ROOT}.{name}")
    _check_overlap(preferences)
    return preferences


def read_models(raw_json: bytes) -> list[str]:
    """The `models` list of a request body: what to try when the model itself cannot serve.

    Raises:
        MeshError: REASON_INVALID_REQUEST.
    """
    tree = _loaded(raw_json, "models")
    return [] if tree is None else _names(tree, "models", most=16)


def _check_overlap(preferences: pb.Preferences) -> None:
    ignored = {name.casefold() for name in preferences.ignore}
    both = [name for name in preferences.only if name.casefold() in ignored]
    if both:
        raise _wrong(f"{ROOT}.ignore", f"{both[0]!r} is in {ROOT}.only as well", status="422")


def _sort(preferences: pb.Preferences, value: Any, path: str) -> None:
    if isinstance(value, list):
        keys = [_sort_key(one, f"{path}[{i}]") for i, one in enumerate(_bounded(value, path, 8))]
    else:
        keys = [_sort_key(value, path, preferences)]
    del preferences.sort[:]  # an order that held sort keys gives way
    preferences.sort.extend(keys)


def _sort_key(value: Any, path: str, preferences: pb.Preferences | None = None) -> pb.SortKey:
    if isinstance(value, str):
        return pb.SortKey(by=_word(value, SORT_WORDS, path))
    members = _object(value, path, "a string, an object or a list of these")
    allowed = ["by", "order", "percentile", "tolerance", *(["partition"] if preferences is not None else [])]
    for name in members:
        if name not in allowed:
            raise _unknown(f"{path}.{name}", name, allowed)
    key = pb.SortKey(by=_word(members.get("by"), SORT_WORDS, f"{path}.by"))
    if members.get("order") is not None:
        key.order = _word(members["order"], _ORDERS, f"{path}.order")
    if members.get("percentile") is not None:
        key.percentile = _word(members["percentile"], _PERCENTILES, f"{path}.percentile")
    if members.get("tolerance") is not None:
        key.tolerance = _number(members["tolerance"], f"{path}.tolerance", most=_MAX_TOLERANCE)
    if preferences is not None and members.get("partition") is not None:
        preferences.partition = _word(members["partition"], _PARTITIONS, f"{path}.partition")
    return key


def _order(preferences: pb.Preferences, value: Any, path: str) -> None:
    """Names of providers; or, as one of the two documentations has it, sort keys, when every one of them is one."""
    names = _names(value, path)
    if names and all(name in SORT_WORDS for name in names):
        if not preferences.sort:
            _sort(preferences, names, path)
        return
    preferences.order.extend(names)


def _names_into(field: str) -> Reader:
    def read(preferences: pb.Preferences, value: Any, path: str) -> None:
        getattr(preferences, field).extend(_names(value, path))

    return read


def _quantizations(preferences: pb.Preferences, value: Any, path: str) -> None:
    for i, name in enumerate(_names(value, path, most=32)):
        if name.lower() not in QUANTIZATIONS:
            raise _unknown_word(name, QUANTIZATIONS, f"{path}[{i}]")
        preferences.quantizations.append(name.lower())


def _flag_into(field: str) -> Reader:
    def read(preferences: pb.Preferences, value: Any, path: str) -> None:
        setattr(preferences, field, _flag(value, path))

    return read


def _word_into(field: str, words: Mapping[str, int]) -> Reader:
    def read(preferences: pb.Preferences, value: Any, path: str) -> None:
        setattr(preferences, field, _word(value, words, path))

    return read


def _prices_into(field: str) -> Reader:
    def read(preferences: pb.Preferences, value: Any, path: str) -> None:
        low, high = _ends(value, path, _decimal)
        found: pb.Int64Range = getattr(preferences, field)
        if low is not None:
            found.min = _whole(low * _NANOS, ROUND_CEILING)
        if high is not None:
            found.max = _whole(high * _NANOS, ROUND_FLOOR)

    return read


def _lengths_into(field: str) -> Reader:
    def read(preferences: pb.Preferences, value: Any, path: str) -> None:
        low, high = _ends(value, path, _decimal)
        found: pb.Int64Range = getattr(preferences, field)
        if low is not None:
            found.min = _whole(low, ROUND_CEILING)
        if high is not None:
            found.max = _whole(high, ROUND_FLOOR)

    return read


def _range_into(field: str, scale: float) -> Reader:
    def read(preferences: pb.Preferences, value: Any, path: str) -> None:
        low, high = _ends(value, path, _number)
        found: pb.DoubleRange = getattr(preferences, field)
        if low is not None:
            found.min = low * scale
        if high is not None:
            found.max = min(high * scale, found.max) if found.HasField("max") else high * scale

    return read


def _max_latency(preferences: pb.Preferences, value: Any, path: str) -> None:
    bound = _number(value, path)
    found = preferences.latency_milliseconds
    found.max = min(bound, found.max) if found.HasField("max") else bound


def _max_price(preferences: pb.Preferences, value: Any, path: str) -> None:
    for name, amount in _object(value, path).items():
        here = f"{path}.{name}"
        if name not in _MAX_PRICES:
            raise _unknown(here, name, _MAX_PRICES)
        if amount is not None:
            field, units = _MAX_PRICES[name]
            bound = _decimal(amount, here) * _NANOS * _MILLION / units
            # a price per minute is rounded in the catalog as well: equal ones are to stay equal
            setattr(preferences.max_price, field, _whole(bound, ROUND_CEILING if units == _MINUTE else ROUND_FLOOR))


def _thresholds_into(field: str, scale: float) -> Reader:
    def read(preferences: pb.Preferences, value: Any, path: str) -> None:
        found = getattr(preferences, field)
        if not isinstance(value, dict):
            found.add(percentile=50, value=_number(value, path) * scale)
            return
        for name, bound in value.items():
            if name not in _PERCENTILES:
                raise _unknown(f"{path}.{name}", name, _PERCENTILES)
            if bound is not None:
                found.add(percentile=_PERCENTILES[name], value=_number(bound, f"{path}.{name}") * scale)

    return read


def _flag_of_pictures(_: pb.Preferences, value: Any, path: str) -> None:
    """What one of the two documentations has of how pictures come; here `response_format` says it."""
    _flag(value, path)


def _distillable(preferences: pb.Preferences, value: Any, path: str) -> None:
    if _flag(value, path):
        preferences.tags.append(DISTILLABLE)


# What a caller's words bound, and of how many units together they give the price.
_MAX_PRICES: Final = {
    "prompt": ("input", _MILLION),
    "completion": ("output", _MILLION),
    "input": ("input", _MILLION),
    "output": ("output", _MILLION),
    "request": ("request", Decimal(1)),
    "image": ("image", Decimal(1)),
    "audio": ("audio", _MINUTE),
}
_READERS: Final[Mapping[str, Reader]] = {
    "only": _names_into("only"),
    "ignore": _names_into("ignore"),
    "order": _order,
    "sort": _sort,
    "input_price_range": _prices_into("input_price"),
    "output_price_range": _prices_into("output_price"),
    "throughput_range": _range_into("throughput", 1.0),
    "latency_range": _range_into("latency_milliseconds", _MS),
    "input_length_range": _lengths_into("input_length"),
    "output_length_range": _lengths_into("output_length"),
    "allow_filter_prompt_length": _flag_into("allow_filter_prompt_length"),
    "allow_fallbacks": _flag_into("allow_fallbacks"),
    "require_parameters": _flag_into("require_parameters"),
    "data_collection": _word_into("data_collection", _COLLECTIONS),
    "zdr": _flag_into("zdr"),
    "enforce_distillable_text": _distillable,
    "enable_image_base64": _flag_of_pictures,
    "enable_image_origin_data": _flag_of_pictures,
    "quantizations": _quantizations,
    "preferred_min_throughput": _thresholds_into("preferred_min_throughput", 1.0),
    "preferred_max_latency": _thresholds_into("preferred_max_latency", _MS),
    "max_price": _max_price,
    "region": _names_into("regions"),
    "max_latency_ms": _max_latency,
    "partition": _word_into("partition", _PARTITIONS),
    "models": _names_into("models"),
    "tags": _names_into("tags"),
}


def _loaded(raw_json: bytes, path: str) -> Any:
    try:
        return orjson.loads(raw_json)
    except orjson.JSONDecodeError:
        raise _wrong(path, "is not JSON") from None


def _object(value: Any, path: str, expected: str = "an object") -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _mistyped(value, expected, path)
    return value


def _names(value: Any, path: str, most: int = 256) -> list[str]:
    """A list of names; one name alone is read as a list of it."""
    if isinstance(value, str):
        return [_name(value, path)]
    if not isinstance(value, list):
        raise _mistyped(value, "a list of strings", path)
    return [_name(one, f"{path}[{i}]") for i, one in enumerate(_bounded(value, path, most))]


def _name(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _mistyped(value, "a string", path)
    if not 0 < len(value.encode()) <= 256 or not value.isprintable():
        raise _wrong(path, "must be 1 to 256 bytes of printable text")
    return value


def _bounded(value: list[Any], path: str, most: int) -> list[Any]:
    if len(value) > most:
        raise _wrong(path, f"must have at most {most} items")
    return value


def _flag(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _mistyped(value, "true or false", path)
    return value


def _word(value: Any, words: Mapping[str, int], path: str) -> Any:
    if not isinstance(value, str):
        raise _mistyped(value, f"one of {', '.join(words)}", path)
    if value not in words:
        raise _unknown_word(value, words, path)
    return words[value]


def _number(value: Any, path: str, most: float = 1e15) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _mistyped(value, "a number", path)
    if not 0 <= value <= most:
        raise _wrong(path, f"must be from 0 to {most:g}")
    return float(value)


def _decimal(value: Any, path: str) -> Decimal:
    """An exact amount; a float counts as its shortest decimal form, so 0.1 is 0.1."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _mistyped(value, "a number or a decimal string", path)
    try:
        amount = Decimal(str(value)) if len(str(value)) <= 64 else Decimal("NaN")
    except InvalidOperation:
        raise _wrong(path, "is not a decimal number") from None
    if not amount.is_finite() or not 0 <= amount <= _MAX_INT64:
        raise _wrong(path, "is out of range")
    return amount


def _whole(amount: Decimal, rounding: str) -> int:
    """Rounded into the range, so that nothing outside of it is let in; an amount beyond int64 bounds nothing."""
    return int(min(amount, Decimal(_MAX_INT64)).to_integral_value(rounding))


def _ends(value: Any, path: str, read: Callable[[Any, str], Any]) -> tuple[Any, Any]:
    """The two ends of a range; an empty list is no range."""
    if isinstance(value, dict):
        for name in value:
            if name not in {"min", "max"}:
                raise _unknown(f"{path}.{name}", name, ("min", "max"))
        ends = [(value.get(name), f"{path}.{name}") for name in ("min", "max")]
    elif isinstance(value, list) and len(value) in {0, 2}:
        ends = [(one, f"{path}[{i}]") for i, one in enumerate(value)] or [(None, path)] * 2
    else:
        raise _mistyped(value, "a list of two numbers", path)
    low, high = (None if end is None else read(end, where) for end, where in ends)
    if low is not None and high is not None and low > high:
        raise _wrong(path, f"begins at {low:f} and ends below it at {high:f}")
    return low, high


def _mistyped(value: Any, expected: str, path: str) -> MeshError:
    return _wrong(path, f"must be {expected}, not {_KINDS[type(value)]}")


def _unknown(path: str, name: str, known: Iterable[str]) -> MeshError:
    return _wrong(path, f"unknown field{_meant(name, known)}")


def _unknown_word(word: str, known: Iterable[str], path: str) -> MeshError:
    return _wrong(path, f"unknown value {word[:64]!r}{_meant(word, known)}")


def _meant(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name[:64], names, 1)
    return f", did you mean {close[0]!r}?" if close else f"; known are {', '.join(names)}"


def _wrong(path: str, what: str, **metadata: str) -> MeshError:
    return MeshError(
        REASON_INVALID_REQUEST, f"{path}: {what}", metadata={"param": path, **metadata}, violations=[(path, what)]
    )
