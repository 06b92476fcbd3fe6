"""What may stand where a request names its model, for applications that can send nothing but a name.

    large                                     a model or an alias of the catalog
    east/large                                a provider's own
    large:latency                             sorted, as by `provider.sort`; several keys as `large:latency+throughput`
    large:throughput:latency<500,price<1.0    sorted and filtered
    large::provider=east                      filtered only
    large:nitro, large:floor                  as large:throughput and large:price
    models:[large,small]                      one after the other
    auto, auto:quality_first                  whatever suits the content; also auto:latency_critical and auto:cost_first

Filters are `latency` in milliseconds, `throughput` in tokens per second, `price`, `input_price` and `output_price` in
USD per million tokens, `input_length` and `output_length` in tokens, each with `<`, `<=`, `>` or `>=`; and `provider`
(or `only`), `ignore`, `order`, `region`, `tag` and `quantization`, each with `=` and one name or several, as `a|b` or
`a,b`.

A name of the catalog stands for itself whatever colons are in it, and the longest one that fits wins: with the models
`m` and `m:8b` the name `m:8b:latency` sorts the deployments of `m:8b`.
"""

import difflib
import math
import re
from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Final, NamedTuple

from polyroute.api.errors.v1.errors_pb2 import REASON_INVALID_REQUEST, REASON_MODEL_NOT_FOUND
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.policies import COST_FIRST, LATENCY_CRITICAL, QUALITY_FIRST

AUTO: Final = "auto"
SORT_WORDS: Final = {
    **{name.removeprefix("SORT_BY_").lower(): value for name, value in pb.SortBy.items() if value},
    "nitro": pb.SORT_BY_THROUGHPUT,
    "floor": pb.SORT_BY_PRICE,
}
MODES: Final = (COST_FIRST, QUALITY_FIRST, LATENCY_CRITICAL)

_LIST: Final = re.compile(r"models:\[(.+)\]")
_COMPARED: Final = re.compile(r"([a-z_]+)(<=|>=|<|>)(.*)")
_NAMED: Final = re.compile(r"([a-z_]+)=(.*)")
_PRICES: Final = ("input_price", "output_price")
_LENGTHS: Final = ("input_length", "output_length")
_SPEEDS: Final = {"latency": "latency_milliseconds", "throughput": "throughput"}
_LISTS: Final = {
    "provider": "only",
    "only": "only",
    "ignore": "ignore",
    "order": "order",
    "region": "regions",
    "tag": "tags",
    "quantization": "quantizations",
}
_FILTERS: Final = (*_SPEEDS, "price", *_PRICES, *_LENGTHS, *_LISTS)
_NANOS: Final = 1_000_000_000
_MAX: Final = 2**63 - 1
_MOST_MODELS: Final = 17


class Asked(NamedTuple):
    """What a name asks for.

    Args:
        names: Models or aliases, to be tried in this order; none when the gateway is to choose.
        preferences: What the name says beside them.
        mode: How the gateway is to choose; empty when `names` says what.
    """

    names: tuple[str, ...]
    preferences: pb.Preferences
    mode: str = ""


def asked(name: str, known: Callable[[str], bool], passed_on: Callable[[str], bool]) -> Asked:
    """What a model's name asks for.

    Args:
        name: As the caller wrote it.
        known: Whether the catalog holds a name.
        passed_on: Whether some provider would take it although the catalog does not hold it.

    Raises:
        MeshError: REASON_MODEL_NOT_FOUND when what follows a known name is no sort, REASON_INVALID_REQUEST when it is
            one, and what follows that cannot be read. A name that is merely unknown is no error here.
    """
    if known(name) or ":" not in name:
        return Asked((), pb.Preferences(), COST_FIRST) if name == AUTO and not known(name) else _plain(name)
    if listed := _LIST.fullmatch(name):
        return _listed(name, listed[1])
    bases = [(name[:i], name[i + 1 :]) for i in range(len(name) - 1, 0, -1) if name[i] == ":"]
    for base, suffix in bases:
        if known(base):
            return Asked((base,), _suffix(name, base, suffix))
    base, _, suffix = name.partition(":")
    if base == AUTO:
        return Asked((), pb.Preferences(), _mode(name, suffix))
    # a vendor's own name may hold colons too: only what can be nothing else is taken for a suffix
    if passed_on(base) and (suffix.startswith(":") or suffix.partition(":")[0].lower() in SORT_WORDS):
        return Asked((base,), _suffix(name, base, suffix))
    return _plain(name)


def _plain(name: str) -> Asked:
    return Asked((name,), pb.Preferences())


def _listed(name: str, inner: str) -> Asked:
    names = tuple(one.strip().strip("\"'") for one in inner.split(","))
    if not all(names) or len(names) > _MOST_MODELS:
        raise _unreadable(name, f"a list of models has 1 to {_MOST_MODELS} names")
    return Asked(names, pb.Preferences())


def _mode(name: str, word: str) -> str:
    if word.lower() not in MODES:
        raise MeshError(
            REASON_MODEL_NOT_FOUND,
            f"unknown model {name!r}: {AUTO!r} is followed by one of {', '.join(MODES)}",
            metadata={"model": name},
        )
    return word.lower()


def _suffix(name: str, base: str, suffix: str) -> pb.Preferences:
    """The preferences in what follows the model's name: sort keys, filters or both."""
    preferences = pb.Preferences()
    sort, colon, filters = suffix.partition(":")
    if not colon and ("<" in sort or ">" in sort or "=" in sort):
        sort, filters = "", suffix  # the empty sort may be left out with its colon
    for word in re.split(r"[+|,]", sort) if sort else ():
        if word.lower() not in SORT_WORDS:
            close = difflib.get_close_matches(word.lower(), SORT_WORDS, 1)
            meant = f", did you mean {close[0]!r}?" if close else ""
            raise MeshError(
                REASON_MODEL_NOT_FOUND,
                f"unknown model {name!r}: {base!r} is one, but {word!r} is no sort key{meant}",
                metadata={"model": name},
            )
        preferences.sort.add(by=SORT_WORDS[word.lower()])
    for item in _items(name, filters):
        _filter(preferences, name, item)
    return preferences


def _items(name: str, filters: str) -> Iterator[str]:
    """The filters one by one; a name without an operator goes on with the list before it."""
    pending = ""
    for part in filters.split(",") if filters else ():
        item = part.strip()
        if _COMPARED.fullmatch(item) or _NAMED.fullmatch(item):
            if pending:
                yield pending
            pending = item
        elif _NAMED.fullmatch(pending) and item:
            pending = f"{pending}|{item}"
        else:
            raise _unreadable(name, f"{item!r} is no filter such as latency<500")
    if pending:
        yield pending


def _filter(preferences: pb.Preferences, name: str, item: str) -> None:
    compared = _COMPARED.fullmatch(item)
    named = None if compared else _NAMED.fullmatch(item)
    if compared and compared[1] not in _LISTS and compared[1] in _FILTERS:
        _compare(preferences, name, compared[1], compared[2], compared[3])
    elif named and named[1] in _LISTS:
        words = [word.strip() for word in named[2].split("|")]
        if not all(words):
            raise _unreadable(name, f"{named[1]!r} lacks a name")
        getattr(preferences, _LISTS[named[1]]).extend(words)
    else:
        word = (compared or named or [item, item])[1]
        close = difflib.get_close_matches(word, _FILTERS, 1)
        meant = f", did you mean {close[0]!r}?" if close and close[0] != word else ""
        raise _unreadable(name, f"{item!r} is no filter{meant or '; known are ' + ', '.join(_FILTERS)}")


def _compare(preferences: pb.Preferences, name: str, figure: str, operator: str, text: str) -> None:
    value = _amount(name, text)
    if figure in _SPEEDS:
        bounds = getattr(preferences, _SPEEDS[figure])
        number = float(value)
        if operator[0] == "<":
            bounds.max = number if operator == "<=" else max(0.0, math.nextafter(number, 0))
        else:
            bounds.min = number if operator == ">=" else math.nextafter(number, math.inf)
        return
    for field in _PRICES if figure == "price" else (figure,):
        scaled = value if figure in _LENGTHS else value * _NANOS
        _bound(getattr(preferences, field), operator, scaled)


def _bound(bounds: pb.Int64Range, operator: str, value: Decimal) -> None:
    """Sets a bound of whole numbers that lets in just what the comparison does."""
    if operator == "<=":
        bounds.max = _whole(value, ROUND_FLOOR)
    elif operator == "<":
        bounds.max = max(0, _whole(value, ROUND_CEILING) - 1)
    elif operator == ">=":
        bounds.min = _whole(value, ROUND_CEILING)
    else:
        bounds.min = min(_MAX, _whole(value, ROUND_FLOOR) + 1)


def _whole(value: Decimal, rounding: str) -> int:
    return int(min(value, Decimal(_MAX)).to_integral_value(rounding))


def _amount(name: str, text: str) -> Decimal:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise _unreadable(name, f"{text!r} is not a number") from None
    if not value.is_finite() or not 0 <= value <= _MAX:
        raise _unreadable(name, f"{text!r} is out of range")
    return value


def _unreadable(name: str, what: str) -> MeshError:
    return MeshError(
        REASON_INVALID_REQUEST, f"model {name!r}: {what}", metadata={"param": "model"}, violations=[("model", what)]
    )
