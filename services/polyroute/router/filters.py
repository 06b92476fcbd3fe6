"""Who may serve a call: every filter's verdict on a deployment, with the number it saw.

First the filters of the call itself (operation, capabilities, lengths, provider there), then those of the policy, then
those of the caller. All are asked, also after one has failed: whoever reads the record sees everything that stands in a
deployment's way. What is unknown passes a filter on a live figure or a length, and fails one on a price, a data policy
or a quantization: those are promises about money and privacy.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final, Literal, NamedTuple, TypeVar

from polyroute.api.chat.v1.chat_pb2 import OPERATION_IMAGE, Capability, Operation, RequestFacts
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.router.catalog import Deployment
from polyroute.router.figures import Figures

POLICY: Final = "policy."  # begins the name of a filter that the policy set
_UNKNOWN: Final = "unknown"
_NANOS: Final = 1_000_000_000
_LATENCY_PERCENTILE: Final = 90
_THROUGHPUT_PERCENTILE: Final = 50
# Fields of `MaxPrice`, and the unit of `Price.other` that each bounds.
_UNITS: Final[Mapping[Literal["image", "audio"], str]] = {"image": "images", "audio": "audio_milliseconds"}


class Kind(NamedTuple):
    """What a call asks for, as far as filters care.

    Args:
        operation: Of chat.v1.
        needs: Capabilities that it cannot do without, in order and each once.
        prompt: Tokens of the prompt by estimate; 0 when unknown.
        answer: The caller's bound of the answer in tokens; 0 when there is none.
        pictures: To be made, rounded up to a power of two; 0 unless it asks for pictures.
    """

    operation: int
    needs: tuple[int, ...]
    prompt: int
    answer: int
    pictures: int = 0

    @property
    def tokens(self) -> int:
        """Prompt and answer together; 0 without an estimate: the bound of the answer alone says little."""
        return self.prompt + self.answer if self.prompt else 0


def kind_of(facts: RequestFacts) -> Kind:
    """What a call asks for."""
    needs = tuple(facts.needs)
    if len(needs) > 1:
        needs = tuple(sorted(set(needs)))
    pictures = 1 << (max(1, facts.choices) - 1).bit_length() if facts.operation == OPERATION_IMAGE else 0
    return Kind(facts.operation, needs, facts.input_tokens_estimate, max(0, facts.max_output_tokens), pictures)


class Entrant(NamedTuple):
    """A deployment as a decision sees it: its facts, its live figures, and why its provider cannot serve, if so."""

    deployment: Deployment
    figures: Figures
    obstacle: str


class Ruling(NamedTuple):
    """A filter's verdict on a deployment: the fields of `Verdict`."""

    filter: str
    passed: bool
    observed: str


class Judged(NamedTuple):
    """A deployment and what the filters said of it.

    Args:
        rulings: In the order they were asked.
        failed: The first that did not let it pass.
        barred: One that cannot be lifted did not let it pass.
    """

    entrant: Entrant
    rulings: tuple[Ruling, ...]
    failed: Ruling | None
    barred: bool


class Panel:
    """The filters that are asked for one kind of call, of every deployment.

    Args:
        kind: Of the call.
        policy: What the operator wants.
        caller: What the caller wants.
    """

    def __init__(self, kind: Kind, policy: pb.Preferences, caller: Iterable[pb.Preferences]) -> None:
        wishes = tuple(caller)
        self._kind = kind
        self._whole = all(
            wish.allow_filter_prompt_length or not wish.HasField("allow_filter_prompt_length") for wish in wishes
        )
        self._asked = [*_asked(policy, POLICY), *(one for wish in wishes for one in _asked(wish, ""))]

    def judge(self, entrant: Entrant) -> Judged:
        """Asks every filter that has something to compare."""
        rulings = self._of_call(entrant)
        for prefix, ask, wish in self._asked:
            for ruling in ask(entrant, wish):
                rulings.append(Ruling(prefix + ruling.filter, ruling.passed, ruling.observed) if prefix else ruling)
        failed = [ruling for ruling in rulings if not ruling.passed]
        if not failed:
            return Judged(entrant, tuple(rulings), None, False)
        barred = any(ruling.filter.removeprefix(POLICY) not in _SOFT for ruling in failed)
        return Judged(entrant, tuple(rulings), failed[0], barred)

    def _of_call(self, entrant: Entrant) -> list[Ruling]:
        """What the call itself needs."""
        deployment, kind = entrant.deployment, self._kind
        rulings = []
        if deployment.operations is not None:
            rulings.append(_by_operation(deployment.operations, kind))
        if kind.needs and deployment.capabilities is not None:
            rulings.append(_by_capability(deployment.capabilities, kind.needs))
        tokens, most = kind.tokens, deployment.context_tokens
        if tokens and most and self._whole:
            rulings.append(Ruling("context", tokens <= most, f"needs {tokens} of {most}"))
        answer, most = kind.answer, deployment.max_output_tokens
        if answer and most and self._whole:
            rulings.append(Ruling("answer", answer <= most, f"asks for {answer} of {most}"))
        rulings.append(Ruling("provider", not entrant.obstacle, entrant.obstacle))
        return rulings


def _by_capability(capabilities: frozenset[int], needs: tuple[int, ...]) -> Ruling:
    missing = [need for need in needs if need not in capabilities]
    observed = f"lacks {capability_words(missing)}" if missing else f"has {capability_words(needs)}"
    return Ruling("capability", not missing, observed)


def _by_operation(operations: frozenset[int], kind: Kind) -> Ruling:
    if kind.operation in operations:
        return Ruling("operation", True, operation_word(kind.operation))
    return Ruling("operation", False, f"serves {', '.join(operation_word(one) for one in sorted(operations))}")


def _asked(wish: pb.Preferences, prefix: str) -> Iterator[tuple[str, "Filter", pb.Preferences]]:
    """The filters that are set in some preferences, in the order of their fields."""
    for field, _ in wish.ListFields():
        ask = _FILTERS.get(field.name)
        if ask is not None:
            yield prefix, ask, wish


Filter = Callable[[Entrant, pb.Preferences], Iterator[Ruling]]


def called(deployment: Deployment, names: Iterable[str]) -> str:
    """The first of some names that is a deployment's, its provider's, or its provider's in its region; else empty."""
    return next((name for name in names if name.casefold() in deployment.names), "")


def _only(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    name = called(entrant.deployment, wish.only)
    yield Ruling("only", bool(name), name or "not on the list")


def _ignore(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    name = called(entrant.deployment, wish.ignore)
    yield Ruling("ignore", not name, name or "not on the list")


def _order(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    if wish.HasField("allow_fallbacks") and not wish.allow_fallbacks:
        name = called(entrant.deployment, wish.order)
        yield Ruling("order", bool(name), name or "not on the list, and no fallbacks are allowed")


def _regions(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    region = entrant.deployment.region
    yield Ruling("region", any(within(region, wanted) for wanted in wish.regions), region or _UNKNOWN)


def within(region: str, wanted: str) -> bool:
    """Whether a region is one that was named, or a part of it: `cn` holds `cn-beijing`."""
    folded, name = region.casefold(), wanted.casefold()
    return folded == name or folded.startswith(f"{name}-")


def _tags(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    missing = [tag for tag in wish.tags if tag not in entrant.deployment.tags]
    yield Ruling("tags", not missing, f"lacks {', '.join(missing)}" if missing else f"has {', '.join(wish.tags)}")


def _quantizations(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    word = entrant.deployment.quantization or _UNKNOWN
    yield Ruling("quantization", word in wish.quantizations, word)


def _data_collection(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    if wish.data_collection == pb.DATA_COLLECTION_DENY:
        deployment = entrant.deployment
        passed = deployment.zdr is True or (deployment.trains is False and deployment.retains is False)
        said = [_said("trains", deployment.trains), _said("retains", deployment.retains)]
        yield Ruling("data_collection", passed, "zero retention" if deployment.zdr else ", ".join(said))


def _zdr(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    if wish.zdr:
        yield Ruling("zdr", entrant.deployment.zdr is True, _said("zero retention", entrant.deployment.zdr))


def _said(what: str, value: bool | None) -> str:
    return f"{what} unknown" if value is None else f"{what}: {'yes' if value else 'no'}"


def _input_price(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    price = entrant.deployment.price
    yield _in_prices("input_price", None if price is None else price.input, wish.input_price)


def _output_price(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    price = entrant.deployment.price
    yield _in_prices("output_price", None if price is None else price.output, wish.output_price)


def _max_price(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    price, most = entrant.deployment.price, wish.max_price
    for name in ("input", "output", "request"):
        if most.HasField(name):
            bound = pb.Int64Range(max=getattr(most, name))
            yield _in_prices(f"max_price.{name}", None if price is None else getattr(price, name), bound)
    for one, unit in _UNITS.items():
        if most.HasField(one):
            bound = pb.Int64Range(max=getattr(most, one))
            yield _in_prices(f"max_price.{one}", None if price is None else price.other.get(unit, 0), bound)


def _in_prices(name: str, price: int | None, bounds: pb.Int64Range) -> Ruling:
    if price is None:
        return Ruling(name, False, _UNKNOWN)
    low = bounds.min if bounds.HasField("min") else None
    high = bounds.max if bounds.HasField("max") else None
    passed = (low is None or price >= low) and (high is None or price <= high)
    return Ruling(name, passed, f"{_usd(price)} USD per million{_of(low, high, _usd)}")


def _throughput(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    spread = entrant.figures.throughput
    seen = None if spread is None else spread.at(_THROUGHPUT_PERCENTILE)
    yield _in_numbers("throughput", seen, wish.throughput, "tokens/s")


def _latency(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    spread = entrant.figures.latency
    seen = None if spread is None else spread.at(_LATENCY_PERCENTILE)
    yield _in_numbers("latency", seen, wish.latency_milliseconds, "ms")


def _input_length(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    yield _in_numbers("input_length", entrant.deployment.context_tokens or None, wish.input_length, "tokens")


def _output_length(entrant: Entrant, wish: pb.Preferences) -> Iterator[Ruling]:
    yield _in_numbers("output_length", entrant.deployment.max_output_tokens or None, wish.output_length, "tokens")


def _in_numbers(name: str, value: float | None, bounds: pb.DoubleRange | pb.Int64Range, unit: str) -> Ruling:
    if value is None:
        return Ruling(name, True, _UNKNOWN)
    low = bounds.min if bounds.HasField("min") else None
    high = bounds.max if bounds.HasField("max") else None
    passed = (low is None or value >= low) and (high is None or value <= high)
    return Ruling(name, passed, f"{_number(value)} {unit}{_of(low, high, _number)}")


Bound = TypeVar("Bound", int, float)


def _of(low: Bound | None, high: Bound | None, words: Callable[[Bound], str]) -> str:
    """Bounds in words, such as ` of at most 500`."""
    least = [f"at least {words(low)}"] if low is not None else []
    most = [f"at most {words(high)}"] if high is not None else []
    return f" of {' and '.join(least + most)}" if least or most else ""


def _usd(nanos: int) -> str:
    """Nano-USD as exact USD."""
    return f"{nanos // _NANOS}.{nanos % _NANOS:09}".rstrip("0").rstrip(".")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.6g}"


# Lifted when they leave nobody, unless no fallbacks are allowed.
_SOFT: Final = frozenset({"throughput", "latency", "input_length", "output_length"})
# By the field of `Preferences` that sets it.
_FILTERS: Final[dict[str, Filter]] = {
    "only": _only,
    "ignore": _ignore,
    "order": _order,
    "regions": _regions,
    "tags": _tags,
    "quantizations": _quantizations,
    "data_collection": _data_collection,
    "zdr": _zdr,
    "input_price": _input_price,
    "output_price": _output_price,
    "max_price": _max_price,
    "throughput": _throughput,
    "latency_milliseconds": _latency,
    "input_length": _input_length,
    "output_length": _output_length,
}


@lru_cache(maxsize=256)
def operation_word(number: int) -> str:
    """An operation as the catalog writes it, such as `chat`; its number when a newer peer knows more of them."""
    known = number in Operation.values()
    return Operation.Name(number).removeprefix("OPERATION_").lower() if known else str(number)  # type: ignore[arg-type]


def capability_words(numbers: Iterable[int]) -> str:
    """Capabilities as the catalog writes them, such as `tools, vision`."""
    return ", ".join(_capability_word(number) for number in numbers)


@lru_cache(maxsize=256)
def _capability_word(number: int) -> str:
    known = number in Capability.values()
    return Capability.Name(number).removeprefix("CAPABILITY_").lower() if known else str(number)  # type: ignore[arg-type]
