"""`polyroute billing reconcile`: a vendor's export beside our own records, per day, model and bucket."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import orjson
from rich.table import Table

from polyroute.api.metrics.v1 import metrics_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.api.router.v1.router_pb2 import ListModelsRequest
from polyroute.api.router.v1.router_pb2_grpc import RouterServiceStub
from polyroute.cli.client import run
from polyroute.cli.config import Config
from polyroute.cli.money import usd
from polyroute.cli.output import show
from polyroute.mesh.node import Node
from polyroute.mesh.roles import ConfigError
from polyroute.providers.exports import ANY_MODEL, BUCKETS, COST, REQUESTS, UnreadableError, Used, read

SECONDS: Final = 30.0

Figures = Mapping[tuple[str, str], Mapping[str, int]]
"""(day, model) -> bucket, REQUESTS or COST -> how much."""


@dataclass(frozen=True, slots=True)
class Drift:
    """Where a vendor and we differ; tokens, calls, or nano-USD."""

    day: str
    model: str
    bucket: str
    theirs: int
    ours: int

    @property
    def difference(self) -> int:
        """What the vendor has more than we."""
        return self.theirs - self.ours

    @property
    def percent(self) -> str:
        """The difference as a part of the vendor's figure; empty where that is nothing."""
        return f"{Decimal(100 * self.difference) / self.theirs:+.3f} %" if self.theirs else ""


def reconcile(config: Config, file: Path, provider: str, tolerance: str, *, as_json: bool) -> int:
    """Prints where an export and our records differ; the exit status: 0 when they do not, 1 when they do.

    Raises:
        ConfigError: The file or the tolerance cannot be read, or there is no such provider.
    """
    least = _percent(tolerance)
    try:
        theirs = read(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except UnreadableError as error:
        raise ConfigError(f"{file}: {error}") from None
    rows = run(config, lambda node: _ours(node, theirs, provider))
    known = {*config.providers, *(row.values[1].partition("/")[0] for row in rows)}
    if provider not in known:
        known |= run(config, _serving)
        if provider not in known:
            names = ", ".join(sorted(filter(None, known))) or "none"
            raise ConfigError(f"--provider: {provider!r} is no provider here (known: {names})")
    found = [one for one in drifts(theirs, figures_of(rows, provider)) if beyond(one, least)]
    if as_json:
        tree = [{**asdict(one), "difference": one.difference} for one in found]
        print(orjson.dumps(tree, option=orjson.OPT_INDENT_2).decode())
    else:
        _show(theirs, found)
    return 1 if found else 0


def figures_of(rows: Iterable[pb.UsageRow], provider: str) -> Figures:
    """Our own figures, from rows by day, deployment and model, of one provider's deployments.

    A deployment is `provider/upstream model`, with `#region` or `@...` behind it where there are several of it.
    """
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        day, deployment = row.values[0], row.values[1]
        owner, _, model = deployment.partition("/")
        if owner != provider:
            continue
        figures = found.setdefault((day, model.partition("#")[0]), {})
        for bucket in BUCKETS:
            figures[bucket] = figures.get(bucket, 0) + getattr(row.usage, bucket)
        figures[REQUESTS] = figures.get(REQUESTS, 0) + row.calls
        figures[COST] = figures.get(COST, 0) + row.cost_nanos
    return found


def drifts(theirs: Sequence[Used], ours: Figures) -> Iterator[Drift]:
    """Where an export and our figures differ: in what the export says, and in models that only we have."""
    named = {name for row in theirs for name in row.figures}
    # a vendor that does not count reasoning apart counts it as a part of the answer
    apart = "reasoning_tokens" in named
    said = {(row.day, row.model): row.figures for row in theirs}
    days = {row.day for row in theirs}
    whole = {day for day, model in said if model == ANY_MODEL}
    places = {*said, *(place for place in ours if place[0] in days - whole)}
    for day, model in sorted(places):
        own = _sum(figures for (when, _), figures in ours.items() if when == day) if model == ANY_MODEL else {}
        own = own or dict(ours.get((day, model), {}))
        if not apart:
            own["output_tokens"] = own.get("output_tokens", 0) + own.pop("reasoning_tokens", 0)
        figures = said.get((day, model), dict.fromkeys(named, 0))
        for bucket in sorted(figures):
            if figures[bucket] != own.get(bucket, 0):
                yield Drift(day, model, bucket, figures[bucket], own.get(bucket, 0))


def beyond(drift: Drift, percent: Decimal) -> bool:
    """Whether a difference is more than so many percent of the vendor's figure."""
    return abs(drift.difference) * 100 > percent * abs(drift.theirs)


def _sum(figures: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for one in figures:
        for name, value in one.items():
            found[name] = found.get(name, 0) + value
    return found


async def _ours(node: Node, theirs: Sequence[Used], provider: str) -> Sequence[pb.UsageRow]:
    days = sorted(row.day for row in theirs)
    request = pb.QueryUsageRequest(group_by=[pb.USAGE_DIMENSION_DAY, pb.USAGE_DIMENSION_DEPLOYMENT], provider=provider)
    request.start_time.FromDatetime(_midnight(days[0]))
    request.end_time.FromDatetime(_midnight(days[-1]) + timedelta(days=1))
    response = await MetricsServiceStub(node.channel("metrics")).QueryUsage(request, timeout=SECONDS)
    return list(response.rows)


async def _serving(node: Node) -> set[str]:
    """The providers of the catalog, found ones too."""
    listed = await RouterServiceStub(node.channel("router")).ListModels(ListModelsRequest(), timeout=SECONDS)
    return {provider for model in listed.models for provider in model.providers}


def _midnight(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC)


def _percent(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found < 0:
        raise ConfigError(f"--tolerance: {text!r} is not a number of percent")
    return found


def _show(theirs: Sequence[Used], found: Sequence[Drift]) -> None:
    days = sorted(row.day for row in theirs)
    span = f"{days[0]} to {days[-1]}"
    if not found:
        print(f"no drift: {len(theirs)} rows, {span}")
        return
    table = Table("day", "model", "bucket", "vendor", "ours", "difference", "of vendor's", box=None)
    for one in found:
        figures = (one.theirs, one.ours, one.difference)
        texts = [usd(value) if one.bucket == COST else f"{value:,}" for value in figures]
        bucket = "cost" if one.bucket == COST else one.bucket
        table.add_row(one.day, one.model or "all models", bucket, *texts, one.percent)
    show(table)
