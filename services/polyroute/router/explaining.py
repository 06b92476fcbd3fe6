"""The full record of a decision, and the decision again out of its record alone.

A full record holds everything that the decision read: the request, the policy, each candidate's facts, figures and
obstacle. So it can be asked again without the catalog, years later, and must give the same plan byte for byte; and it
can be asked what another policy would have done.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal

from polyroute.api.errors.v1.errors_pb2 import REASON_INVALID_REQUEST
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.catalog import deployment_of
from polyroute.router.draws import UNIT, numbers
from polyroute.router.figures import Figures, Spread
from polyroute.router.filters import Entrant, Judged, kind_of
from polyroute.router.policies import Policy, policy_of
from polyroute.router.ranking import Term
from polyroute.router.routes import bounds_of, sticky_of
from polyroute.router.slate import Question, Slate, judged, wished

OF_OTHERS: Final[Sequence[Literal["reports", "answering"]]] = ("reports", "answering")
"""What comes along with a request and is of other calls."""


def explain(response: pb.DecideResponse, request: pb.DecideRequest, named: pb.Preferences, slate: Slate) -> None:
    """Writes the record of a decision out in full.

    Args:
        response: The decision.
        request: What was asked.
        named: What the model's name said beside the model.
        slate: What the decision was made from.
    """
    record, question = response.record, slate.question
    record.request.CopyFrom(request)
    for others in OF_OTHERS:
        record.request.ClearField(others)
    record.name_preferences.CopyFrom(named)
    record.policy_rules.CopyFrom(question.policy.message)
    record.pool.extend(question.models)
    record.draws.extend(number * UNIT for number in numbers(request.request_id))
    record.max_attempts = question.max_attempts
    places = {attempt.deployment: place for place, attempt in enumerate(response.plan.attempts, 1)}
    terms = {runner.deployment.name: found for runner, found in zip(slate.runners, slate.ranking.terms, strict=True)}
    exact = question._replace(kind=kind_of(request.facts))  # the slate's is that of the first call of its kind
    for one in judged(exact, [before.entrant for before in slate.judged]):
        name = one.entrant.deployment.name
        record.candidates.append(_candidate(one, places.get(name, 0), terms.get(name, [])))


def replay(record: pb.DecisionRecord, policy: Policy | None = None) -> pb.DecideResponse:
    """The decision again, out of a full record.

    Args:
        record: As `explain` wrote it.
        policy: Another policy to decide by; the recorded one without.

    Returns:
        The plan, and the small record. Under the recorded policy the plan is the same byte for byte.

    Raises:
        MeshError: REASON_INVALID_REQUEST when the record is not a full one, or nobody may serve under the other policy.
    """
    request = record.request
    slate = _slate(record, policy or policy_of(record.policy_rules))
    if not slate.runners:
        raise MeshError(
            REASON_INVALID_REQUEST, f"under policy {slate.question.policy.name!r} nobody may serve this call"
        )
    response = slate.answer(request, sticky_of(request, slate.question.policy.message))
    if policy is None:
        apply(record, response.plan)
    return response


def apply(record: pb.DecisionRecord, plan: pb.Plan) -> None:
    """Changes a plan as the health of deployments asked for, which the record has noted."""
    if record.refusal:
        plan.Clear()
        return
    if plan.HasField("hedge_after"):
        if record.hedge_after_microseconds:
            plan.hedge_after.FromMicroseconds(record.hedge_after_microseconds)
        else:
            plan.ClearField("hedge_after")
    if record.retries_spent:
        plan.max_attempts = 1
    if record.steered:
        places = {name: place for place, name in enumerate(record.steered)}
        able = [attempt for attempt in plan.attempts if attempt.deployment not in record.late]
        moved = sorted(able, key=lambda attempt: places.get(attempt.deployment, len(places)))
        kept = [pb.Attempt.FromString(attempt.SerializeToString()) for attempt in moved]
        del plan.attempts[:]
        plan.attempts.extend(kept)


def note_words(note: pb.HealthNote) -> str:
    """How a deployment stood, such as `ejected: failures in a row (6), until 2026-11-22T19:30:00Z`."""
    words = pb.HealthState.Name(note.state).removeprefix("HEALTH_STATE_").lower().replace("_", " ")
    if note.reason:
        words += f": {note.reason}"
    if note.number:
        words += f" ({note.number:.3g})"
    if note.HasField("until"):
        words += f", until {datetime.fromtimestamp(note.until.seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return words


def rebuilt(record: pb.DecisionRecord) -> pb.DecideResponse:
    """A decision with its full record, out of one that holds no more than what a replay needs.

    Args:
        record: A full record, or one without verdicts, terms, positions and draws.

    Raises:
        MeshError: REASON_INVALID_REQUEST when the record does not hold what a replay needs.
    """
    request = record.request
    slate = _slate(record, policy_of(record.policy_rules))
    response = slate.answer(request, sticky_of(request, slate.question.policy.message))
    apply(record, response.plan)
    explain(response, request, record.name_preferences, slate)
    told = pb.DecisionRecord()  # what no replay can know, such as when it was decided and why this policy ruled
    told.CopyFrom(record)
    for field, _ in response.record.ListFields():
        told.ClearField(field.name)  # type: ignore[arg-type] # the names are the message's own
    response.record.MergeFrom(told)
    return response


def _slate(record: pb.DecisionRecord, ruling: Policy) -> Slate:
    """What a recorded decision was made from, under a policy."""
    if not record.HasField("request") or not record.candidates:
        raise MeshError(REASON_INVALID_REQUEST, "the record does not hold what a replay needs")
    request = record.request
    question = Question(
        models=tuple(record.pool),
        kind=kind_of(request.facts),
        policy=ruling,
        wishes=wished(record.name_preferences, request.preferences, bounds_of(request)),
        max_attempts=record.max_attempts,
        versions=(record.catalog_version, record.stats_version),
    )
    return Slate(question, [_entrant(candidate) for candidate in record.candidates])


def _candidate(one: Judged, place: int, terms: list[Term]) -> pb.Candidate:
    deployment, figures, obstacle = one.entrant
    return pb.Candidate(
        deployment=deployment.name,
        position=place,
        verdicts=[pb.Verdict(filter=name, passed=passed, observed=observed) for name, passed, observed in one.rulings],
        terms=[pb.ScoreTerm(name=name, value=value) for name, value in terms],
        facts=deployment.message,
        figures=pb.Figures(
            latency_milliseconds=_percentiles(figures.latency),
            throughput=_percentiles(figures.throughput),
            success_rate=figures.success,
            recent_success_rate=figures.recent,
        ),
        obstacle=obstacle,
    )


def _percentiles(spread: Spread | None) -> pb.FigurePercentiles | None:
    return None if spread is None else pb.FigurePercentiles(**spread._asdict())


def _entrant(candidate: pb.Candidate) -> Entrant:
    said = candidate.figures
    figures = Figures(
        latency=_spread(said.latency_milliseconds) if said.HasField("latency_milliseconds") else None,
        throughput=_spread(said.throughput) if said.HasField("throughput") else None,
        success=said.success_rate if said.HasField("success_rate") else None,
        recent=said.recent_success_rate if said.HasField("recent_success_rate") else None,
    )
    return Entrant(deployment_of(candidate.facts), figures, candidate.obstacle)


def _spread(percentiles: pb.FigurePercentiles) -> Spread:
    return Spread(percentiles.p50, percentiles.p90, percentiles.p99)
