"""Health's say in decisions: which deployments are left out, which call tries one out again, when a retry may follow.

Whoever is ejected or rests is an obstacle of the view, beside those of providers: a filter that every record shows and
every replay repeats. Where all deployments of a model are in trouble none is left out, for to try a bad one is better
than to try nobody. What differs from call to call (a probe, a recovering deployment's share) moves places in the plan,
and stands in the record.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.metrics.v1.metrics_pb2 import WatchStatsResponse
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.catalog import Catalog
from polyroute.router.explaining import apply
from polyroute.router.health.outcomes import Outcome
from polyroute.router.health.tracker import Health, State
from polyroute.router.health.unit import Member, Verdict
from polyroute.router.snapshot import CatalogStore

_OUT: Final = frozenset({Verdict.EJECTED, Verdict.COOLING})
_MS: Final = 1000


class Steering:
    """Keeps health and the view together.

    Args:
        catalogs: Holds the view.
        health: Is told of every attempt.
        enabled: Otherwise decisions go by the ranking alone.
    """

    def __init__(self, catalogs: CatalogStore, health: Health, *, enabled: bool = True) -> None:
        self._enabled = enabled
        self._catalogs = catalogs
        self._health = health
        self._version = -1
        self._catalog = ""

    def pushed(self, message: WatchStatsResponse) -> None:
        """Takes live figures of the whole fleet."""
        self._health.pushed(message)

    def report(self, reports: Iterable[pb.AttemptReport]) -> None:
        """Takes what became of attempts."""
        for one in reports:
            self._health.end(one.deployment, one.request_id, _outcome(one), attempt=one.attempt)

    def look(self) -> None:
        """Brings the view up to what is known of the deployments."""
        if not self._enabled:
            return
        catalog = self._catalogs.view.catalog
        if catalog.version != self._catalog:
            self._catalog = catalog.version
            self._health.arrange(_members(catalog))
        state = self._health.state()
        if state.version != self._version:
            self._version = state.version
            self._catalogs.hear(obstacles(catalog, state))

    def steer(self, response: pb.DecideResponse, request: pb.DecideRequest) -> None:
        """Moves places in a plan as health wants it, and notes that in the record.

        Raises:
            MeshError: REASON_UPSTREAM when nobody may be tried now, with the time after which that changes.
        """
        plan = response.plan
        if not plan.attempts or not self._enabled:
            return
        names = [attempt.deployment for attempt in plan.attempts]
        found = self._health.steer(names, request.request_id)
        if found.refusal is not None:
            fault = found.refusal.fault or errors_pb2.FAULT_SERVER
            raise MeshError.upstream(
                fault,
                f"every deployment of {plan.model!r} is out of order just now",
                retry_after=found.refusal.retry_after,
                cause="health",
            )
        record = response.record
        if list(found.order) != names:
            record.probe = found.probe
            record.steered.extend([*found.order, *(name for name in names if name not in found.order)])
        first = record.steered[0] if record.steered else names[0]
        record.retries_spent = not self._health.may_retry(first)
        apply(record, plan)
        self._health.begin(first, request.request_id)


def obstacles(catalog: Catalog, state: State) -> Mapping[str, str]:
    """Why deployments are left out; nobody of a model whose deployments all are in trouble."""
    found: dict[str, str] = {}
    for model in catalog.models:
        out = {one.name: _words(state, one.name) for one in model.deployments if state.of(one.name).verdict in _OUT}
        if len(out) < len(model.deployments):
            found |= out
    return found


def _words(state: State, name: str) -> str:
    standing = state.of(name)
    return f"{standing.verdict.value}: {standing.reason} ({standing.number:g})"


def _members(catalog: Catalog) -> list[Member]:
    return [Member(one.name, model.name, one.provider, 1) for model in catalog.models for one in model.deployments]


def _outcome(report: pb.AttemptReport) -> Outcome:
    waits = report.HasField("retry_after_milliseconds")
    return Outcome(
        fault=report.fault,
        first_token_ms=report.first_token_microseconds / _MS,
        total_ms=report.total_microseconds / _MS,
        output_tokens=report.output_tokens,
        cancelled=report.cancelled,
        status=report.upstream_status,
        retry_after=report.retry_after_milliseconds / _MS if waits else None,
    )
