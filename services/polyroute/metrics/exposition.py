"""The figures of all calls for Prometheus, counted from call records since this process began.

No label names a key, a project or a user. Models, providers and deployments come from the catalog, so there are few:
what a caller made up, where a provider takes any name, is counted under `other`. Should there be more combinations than
allowed all the same, so is the rest.

The text is written here (https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format) and not by
prometheus_client, which takes about 20 microseconds a line: a scrape of a hundred models would hold up every stream of
this process for 80 ms.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import Operation, Usage
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.api.metrics.v1.metrics_pb2 import AttemptRecord, CallRecord, Outcome

OTHER: Final = "other"  # a model that no catalog names, or a combination beyond the cap
NONE: Final = "none"  # there was none

# Seconds. Whole answers, first tokens, and what the gateway itself adds, differ by orders of magnitude.
DURATIONS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
FIRST_TOKENS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
BETWEEN_TOKENS: Final = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 5.0)
OVERHEADS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

_OUTCOMES: Final = {number: name.removeprefix("OUTCOME_").lower() for name, number in Outcome.items()}
_OPERATIONS: Final = {number: name.removeprefix("OPERATION_").lower() for name, number in Operation.items()}
_FAULTS: Final = {number: name.removeprefix("FAULT_").lower() for name, number in Fault.items()} | {0: NONE}
_TOKENS: Final = ("input", "cache_read", "cache_write", "output", "reasoning")

_ROUTE: Final = ("operation", "model", "provider", "stream")
_ATTEMPT: Final = ("deployment", "provider", "fault")

Labels = tuple[str, ...]


class Exposition:
    """Counts call records and renders the counts.

    Args:
        max_series: Most label combinations per metric, not counting outcomes and kinds of tokens.
    """

    def __init__(self, *, max_series: int = 1000) -> None:
        self._cap = max_series - 1  # one more for what lies beyond
        self._routes: dict[Labels, _Route] = {}
        self._attempts: dict[Labels, int] = {}
        self._overheads = {stream: _Histogram(OVERHEADS) for stream in ("false", "true")}

    def observe(self, record: CallRecord) -> None:
        """Counts one call; each must come once."""
        self._route(record).observe(record)
        if record.first_token_microseconds > 0:
            self._overheads["true" if record.stream else "false"].add(record.overhead_microseconds)
        for attempt in record.attempts:
            self._observe_attempt(attempt)

    def shift(self, record: CallRecord, cost: int) -> None:
        """Counts by what the ledger has changed the cost of a call since, nano-USD."""
        if cost:
            self._route(record).shifted += cost

    def _route(self, record: CallRecord) -> "_Route":
        stream = "true" if record.stream else "false"
        operation = _OPERATIONS.get(record.operation, OTHER)
        model = OTHER if record.passed_on else record.model or OTHER
        labels: Labels = (operation, model, record.provider or NONE, stream)
        route = self._routes.get(labels)
        if route is None:
            if len(self._routes) >= self._cap:
                labels = (OTHER,) * len(_ROUTE)
            route = self._routes.setdefault(labels, _Route(_text(_ROUTE, labels)))
        return route

    def _observe_attempt(self, attempt: AttemptRecord) -> None:
        fault = "cancelled" if attempt.cancelled else _FAULTS.get(attempt.fault, OTHER)
        labels: Labels = (OTHER if attempt.passed_on else attempt.deployment, attempt.provider, fault)
        if labels not in self._attempts and len(self._attempts) >= self._cap:
            labels = (OTHER,) * len(_ATTEMPT)
        self._attempts[labels] = self._attempts.get(labels, 0) + 1

    def text(self) -> bytes:
        """Everything in Prometheus text format 0.0.4."""
        return ("\n".join(self._lines()) + "\n").encode()

    def _lines(self) -> Iterator[str]:
        routes = self._routes.values()
        yield from _head(
            "polyroute_requests_total", "counter", "Calls by how they ended, and the class of their status."
        )
        for route in routes:
            yield from route.outcome_lines("polyroute_requests_total")
        name = "polyroute_request_duration_seconds"
        yield from _head(name, "histogram", "From a call's first byte to its last.")
        for route in routes:
            yield from route.durations.lines(name, route.labels)
        name = "polyroute_time_to_first_token_seconds"
        yield from _head(name, "histogram", "To the first content handed out.")
        for route in routes:
            yield from route.first_tokens.lines(name, route.labels)
        name = "polyroute_inter_token_latency_seconds"
        yield from _head(name, "histogram", "Between two tokens of a streamed answer: of each answer the mean.")
        for route in routes:
            yield from route.between_tokens.lines(name, route.labels)
        name = "polyroute_overhead_seconds"
        yield from _head(name, "histogram", "The part of the time before the first content that the gateway added.")
        for stream, overheads in self._overheads.items():
            yield from overheads.lines(name, _text(("stream",), (stream,)))
        yield from self._sum_lines()

    def _sum_lines(self) -> Iterator[str]:
        routes = self._routes.values()
        yield from _head("polyroute_tokens_total", "counter", "Tokens by bucket; buckets do not overlap.")
        for route in routes:
            for kind, tokens in zip(_TOKENS, route.tokens, strict=True):
                yield f'polyroute_tokens_total{{{route.labels},type="{kind}"}} {tokens}'
        yield from _head("polyroute_cost_usd_total", "counter", "What calls of known price cost.")
        for route in routes:
            yield f"polyroute_cost_usd_total{{{route.labels}}} {_decimal(route.cost_nanos, 9)}"
        yield from _head(
            "polyroute_cost_adjustments_usd",
            "gauge",
            "What later entries of the ledger have added to that, or taken off.",
        )
        for route in routes:
            if route.shifted:
                yield f"polyroute_cost_adjustments_usd{{{route.labels}}} {_decimal(route.shifted, 9)}"
        yield from _head("polyroute_unpriced_requests_total", "counter", "Calls whose price is unknown.")
        for route in routes:
            yield f"polyroute_unpriced_requests_total{{{route.labels}}} {route.unpriced}"
        yield from _head("polyroute_fallbacks_total", "counter", "Further deployments tried after one had failed.")
        for route in routes:
            yield f"polyroute_fallbacks_total{{{route.labels}}} {route.fallbacks}"
        yield from _head("polyroute_upstream_attempts_total", "counter", "Tries by what went wrong.")
        for labels, count in self._attempts.items():
            yield f"polyroute_upstream_attempts_total{{{_text(_ATTEMPT, labels)}}} {count}"


class _Route:
    """What is counted per operation, model, provider and way of answering."""

    __slots__ = (
        "between_tokens",
        "cost_nanos",
        "durations",
        "fallbacks",
        "first_tokens",
        "labels",
        "outcomes",
        "shifted",
        "tokens",
        "unpriced",
    )

    def __init__(self, labels: str) -> None:
        self.labels = labels
        self.outcomes: dict[tuple[str, str], int] = {}
        self.durations = _Histogram(DURATIONS)
        self.first_tokens = _Histogram(FIRST_TOKENS)
        self.between_tokens = _Histogram(BETWEEN_TOKENS)
        self.fallbacks = 0
        self.tokens = [0] * len(_TOKENS)
        self.cost_nanos = 0
        self.shifted = 0
        self.unpriced = 0

    def observe(self, record: CallRecord) -> None:
        ended = _OUTCOMES.get(record.outcome, OTHER), _status(record.http_status)
        self.outcomes[ended] = self.outcomes.get(ended, 0) + 1
        self.fallbacks += _fallbacks(record.attempts)
        self.durations.add(record.total_microseconds)
        if record.first_token_microseconds > 0:
            self.first_tokens.add(record.first_token_microseconds)
        if record.HasField("usage"):
            self._observe_usage(record.usage)
            self._observe_pace(record)
        if record.HasField("cost_nanos"):
            self.cost_nanos += max(record.cost_nanos, 0)
        else:
            self.unpriced += 1

    def _observe_usage(self, usage: Usage) -> None:
        tokens = self.tokens  # in the order of `_TOKENS`; a counter never falls, whatever a vendor says
        tokens[0] += max(usage.input_tokens, 0)
        tokens[1] += max(usage.cache_read_tokens, 0)
        tokens[2] += max(usage.cache_write_tokens, 0)
        tokens[3] += max(usage.output_tokens, 0)
        tokens[4] += max(usage.reasoning_tokens, 0)

    def _observe_pace(self, record: CallRecord) -> None:
        between = record.usage.output_tokens + record.usage.reasoning_tokens - 1
        if record.stream and between > 0 and 0 < record.first_token_microseconds < record.total_microseconds:
            self.between_tokens.add((record.total_microseconds - record.first_token_microseconds) // between)

    def outcome_lines(self, name: str) -> Iterator[str]:
        for (outcome, status), count in self.outcomes.items():
            yield f'{name}{{{self.labels},outcome="{outcome}",status="{status}"}} {count}'


class _Histogram:
    """How many durations fell below each bound."""

    __slots__ = ("_bounds", "_counts", "_limits", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._limits = _limits(bounds)
        self._counts = [0] * (len(bounds) + 1)  # the last one for what lies above
        self._sum = 0

    def add(self, microseconds: int) -> None:
        self._counts[bisect_left(self._limits, microseconds)] += 1
        self._sum += max(microseconds, 0)

    def lines(self, name: str, labels: str) -> Iterator[str]:
        *below, total = accumulate(self._counts)
        for bound, count in zip(self._bounds, below, strict=True):
            yield f'{name}_bucket{{{labels},le="{bound}"}} {count}'
        yield f'{name}_bucket{{{labels},le="+Inf"}} {total}'
        yield f"{name}_sum{{{labels}}} {_decimal(self._sum, 6)}"
        yield f"{name}_count{{{labels}}} {total}"


def _status(code: int) -> str:
    """The class of an HTTP status, such as `2xx`; a call over gRPC has none."""
    return f"{code // 100}xx" if 100 <= code < 600 else NONE


def _fallbacks(attempts: Sequence[AttemptRecord]) -> int:
    """How often another deployment was tried instead of one that had failed; one begun beside another is none."""
    if len(attempts) < 2:
        return 0
    return sum(not later.hedged and before.deployment != later.deployment for before, later in pairwise(attempts))


def _limits(bounds: Sequence[float]) -> list[int]:
    return [round(bound * 1e6) for bound in bounds]


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _text(names: Iterable[str], values: Iterable[str]) -> str:
    """Labels as they stand between the braces."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _decimal(value: int, places: int) -> str:
    """`value` / 10**places, exactly."""
    whole, part = divmod(abs(value), 10**places)
    return f"{'-' if value < 0 else ''}{whole}.{part:0{places}}"
