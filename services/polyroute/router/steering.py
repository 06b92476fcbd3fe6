"""Health's say in decisions: which deployments are left out, which call tries one out again, when a retry may follow.

Whoever is ejected or rests is an obstacle of the view, beside those of providers: a filter that every record shows and
every replay repeats. Where all deployments of a model are in trouble none is left out, for to try a bad one is better
than to try nobody. What differs from call to call (a probe, a recovering deployment's share) moves places in the plan,
and stands in the record.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.errors.v1 import errors_pb2
from polyroute.api.metrics.v1.metrics_pb2 import WatchStatsResponse
from polyroute.api.providers.v1.providers_pb2 import Provider
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.catalog import Catalog
from polyroute.router.explaining import apply, note_words
from polyroute.router.health.chronicle import Turn, What
from polyroute.router.health.deadline import timely
from polyroute.router.health.hedge import RULES as HEDGING
from polyroute.router.health.order import Refusal
from polyroute.router.health.outcomes import RESTS, Outcome
from polyroute.router.health.state import State
from polyroute.router.health.tracker import Health
from polyroute.router.health.unit import Member, Standing, Verdict
from polyroute.router.snapshot import CatalogStore

_OUT: Final = frozenset({Verdict.EJECTED, Verdict.COOLING})
_STATES: Final[Mapping[Verdict, pb.HealthState.ValueType]] = {
    Verdict.EJECTED: pb.HEALTH_STATE_EJECTED,
    Verdict.PROBE: pb.HEALTH_STATE_HALF_OPEN,
    Verdict.COOLING: pb.HEALTH_STATE_RESTING,
    Verdict.ALLOWED: pb.HEALTH_STATE_REDUCED,
}
_WORRYING: Final = frozenset({"credential", "quota"})  # rests that somebody has to do something about
_NAMED: Final = 5  # deployments that a refusal names
_MS: Final = 1000
_MICROSECONDS: Final = 1_000_000

_log = structlog.get_logger("router")


class Steering:
    """Keeps health and the view together.

    Args:
        catalogs: Holds the view.
        health: Is told of every attempt.
        enabled: Otherwise decisions go by the ranking alone.
        wall: Seconds since 1970 UTC.
    """

    def __init__(
        self, catalogs: CatalogStore, health: Health, *, enabled: bool = True, wall: Callable[[], float] = time.time
    ) -> None:
        self._wall = wall
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
            self._health.answered(one.request_id, attempt=one.attempt, deployment=one.deployment)

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
            self._catalogs.hear(obstacles(catalog, state, self._wall() - self._health.now))
            for turn in self._health.take_turns():
                _tell(turn)

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
        for name, standing in found.passed:
            _note(record, name, standing, self._health.now)
        if found.refusal is not None:
            refused = _refusal(plan.model, found.refusal, record.health)
            record.refusal = refused.message
            apply(record, plan)
            return refused
        record.probe = found.probe
        if found.order != names:
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


def obstacles(catalog: Catalog, state: State, epoch: float) -> Mapping[str, str]:
    """Why deployments are left out; nobody of a model whose deployments all are in trouble, if only to be tried out.

    Args:
        catalog: What there is.
        state: How it stands.
        epoch: What the times of the state are counted from, seconds since 1970 UTC.
    """
    found: dict[str, str] = {}
    for model in catalog.models:
        if any(state.of(one.name).verdict is Verdict.ALLOWED for one in model.deployments):
            out = (one.name for one in model.deployments if state.of(one.name).verdict in _OUT)
            found |= {name: _words(state.of(name), epoch) for name in out}
    return found


def _refusal(model: str, refusal: Refusal, notes: Sequence[pb.HealthNote]) -> MeshError:
    named = [f"{note.deployment} is {note_words(note)}" for note in notes[:_NAMED]]
    more = [f"{len(notes) - _NAMED} more"] if len(notes) > _NAMED else []
    return MeshError.upstream(
        refusal.fault or errors_pb2.FAULT_SERVER,
        f"every deployment of {model!r} is out of order just now: {'; '.join(named + more)}",
        retry_after=refusal.retry_after,
        cause="health",
    )


def _words(standing: Standing, epoch: float) -> str:
    note = _noted(standing)
    note.until.FromSeconds(round(epoch + standing.until))
    return note_words(note)


def _noted(standing: Standing) -> pb.HealthNote:
    state = _STATES[standing.verdict]
    if standing.verdict is Verdict.PROBE and standing.until:
        state = pb.HEALTH_STATE_PROBED
    resting = standing.verdict is Verdict.COOLING
    return pb.HealthNote(state=state, reason=standing.reason, number=0.0 if resting else standing.number)


def _note(record: pb.DecisionRecord, name: str, standing: Standing, now: float) -> None:
    """Puts on record what health does to a deployment."""
    note = _noted(standing)
    note.deployment = name
    if standing.until:
        left = max(0.0, standing.until - now)
        note.until.FromMicroseconds(record.decide_time.ToMicroseconds() + int(left * _MICROSECONDS))
    record.health.append(note)


def _tell(turn: Turn) -> None:
    """Logs what became of a deployment."""
    whose = "provider" if turn.what is What.PROVIDER_RESTS else "deployment"
    fields: dict[str, object] = {whose: turn.name}
    if turn.reason:
        fields["reason"] = turn.reason
    if turn.number:
        fields["number"] = round(turn.number, 3)
    if turn.seconds:
        fields["seconds"] = round(turn.seconds, 1)
    if turn.operation:
        fields["operation"] = Operation.Name(turn.operation).removeprefix("OPERATION_").lower()
    if turn.told:
        fields["told"] = True  # by another router
    grave = turn.what is What.EJECTED or turn.reason in _WORRYING
    (_log.warning if grave else _log.info)(turn.what.value, **fields)


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
