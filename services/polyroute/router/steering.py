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
from polyroute.api.providers.v1.providers_pb2 import Provider
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.catalog import Catalog
from polyroute.router.explaining import apply
from polyroute.router.health.deadline import timely
from polyroute.router.health.hedge import RULES as HEDGING
from polyroute.router.health.order import Refusal
from polyroute.router.health.outcomes import RESTS, Outcome
from polyroute.router.health.state import State
from polyroute.router.health.tracker import Health
from polyroute.router.health.unit import Member, Verdict
from polyroute.router.snapshot import CatalogStore

_OUT: Final = frozenset({Verdict.EJECTED, Verdict.COOLING})
_MS: Final = 1000
_MICROSECONDS: Final = 1_000_000


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
        self._access: dict[str, str] = {}  # provider -> what opens it, as the providers role names that

    def opened(self, providers: Iterable[Provider]) -> None:
        """Takes what opens the providers: one with another key may grant what was refused, and need not rest."""
        access = {provider.name: provider.access_version for provider in providers}
        for name, version in access.items():
            if self._access.get(name, version) != version:
                self._health.forgive(name)
        self._access |= access

    def pushed(self, message: WatchStatsResponse) -> None:
        """Takes live figures of the whole fleet."""
        self._health.pushed(message)

    def report(self, reports: Iterable[pb.AttemptReport]) -> None:
        """Takes what became of attempts."""
        for one in reports:
            if one.hedged:
                self._health.begin(one.deployment, one.request_id, attempt=one.attempt, hedged=True)
            self._health.end(one.deployment, one.request_id, _outcome(one), attempt=one.attempt)

    def answering(self, attempts: Iterable[pb.AttemptAnswering]) -> None:
        """Takes which attempts have content by now."""
        for one in attempts:
            self._health.answered(one.request_id, attempt=one.attempt)

    def look(self) -> None:
        """Brings the view up to what is known of the deployments."""
        if not self._enabled:
            return
        catalog = self._catalogs.view.catalog
        if catalog.version != self._catalog:
            self._catalog = catalog.version
            self._health.arrange(_members(catalog))
            hedged = any(policy.message.hedge for policy in catalog.policies.values())
            self._health.hedge(HEDGING if hedged else None)
        state = self._health.state()
        if state.version != self._version:
            self._version = state.version
            self._catalogs.hear(obstacles(catalog, state))

    def steer(self, response: pb.DecideResponse, request: pb.DecideRequest) -> MeshError | None:
        """Moves places in a plan as health and the caller's time want it, and notes that in the record.

        Returns:
            REASON_UPSTREAM when nobody may be tried now, with the time after which that changes, and the plan is empty.
        """
        plan, record = response.plan, response.record
        if not plan.attempts:
            return None
        if not self._enabled:
            plan.ClearField("hedge_after")
            return None
        names = [attempt.deployment for attempt in plan.attempts]
        able = self._in_time(names, request, record) if request.HasField("left") else names
        found = self._health.steer(able, request.request_id, request.facts.operation)
        if found.refusal is not None:
            refused = _refusal(plan.model, found.refusal)
            record.refusal = refused.message
            apply(record, plan)
            return refused
        if found.order != names:
            record.probe = found.probe
            record.steered.extend([*found.order, *(name for name in able if name not in found.order)])
        first = found.order[0]
        if not self._health.may_retry(first):
            record.retries_spent = True
        elif plan.HasField("hedge_after"):
            after = self._health.hedge_after(first, request.facts.input_tokens_estimate)
            record.hedge_after_microseconds = int((after or 0) * _MICROSECONDS)
        if record.steered or record.retries_spent or plan.HasField("hedge_after"):
            apply(record, plan)
        self._health.begin(first, request.request_id)
        return None

    def _in_time(self, names: list[str], request: pb.DecideRequest, record: pb.DecisionRecord) -> list[str]:
        """Those that 95 of 100 calls come back from in the caller's time; the quickest when there are none."""
        state = self._health.state()
        left = request.left.ToMicroseconds() / _MICROSECONDS
        expected = request.facts.max_output_tokens
        judged = timely([state.of(name).figures for name in names], left, expected)
        able = [name for name, one in zip(names, judged, strict=True) if one.passed]
        if not able:  # with so little time left the edge ends the call by itself
            return names
        record.late.extend(name for name in names if name not in able)
        return able


def obstacles(catalog: Catalog, state: State) -> Mapping[str, str]:
    """Why deployments are left out; nobody of a model whose deployments all are in trouble, if only to be tried out."""
    found: dict[str, str] = {}
    for model in catalog.models:
        if any(state.of(one.name).verdict is Verdict.ALLOWED for one in model.deployments):
            out = (one.name for one in model.deployments if state.of(one.name).verdict in _OUT)
            found |= {name: _words(state, name) for name in out}
    return found


def _refusal(model: str, refusal: Refusal) -> MeshError:
    return MeshError.upstream(
        refusal.fault or errors_pb2.FAULT_SERVER,
        f"every deployment of {model!r} is out of order just now",
        retry_after=refusal.retry_after,
        cause="health",
    )


def _words(state: State, name: str) -> str:
    standing = state.of(name)
    return f"{standing.verdict.value}: {standing.reason} ({standing.number:g})"


def _members(catalog: Catalog) -> list[Member]:
    return [Member(one.name, model.name, one.provider, 1) for model in catalog.models for one in model.deployments]


def _outcome(report: pb.AttemptReport) -> Outcome:
    waits = report.HasField("retry_after_milliseconds")
    return Outcome(
        prompt_tokens=report.prompt_tokens,
        fault=report.fault,
        first_token_ms=report.first_token_microseconds / _MS,
        total_ms=report.total_microseconds / _MS,
        output_tokens=report.output_tokens,
        # one key's trouble is the providers' to remember while another one works
        cancelled=report.cancelled or (report.other_keys and report.fault in RESTS),
        status=report.upstream_status,
        operation=report.operation,
        retry_after=report.retry_after_milliseconds / _MS if waits else None,
    )
