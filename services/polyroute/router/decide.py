"""One decision: what a call asks for, against a view, gives a plan and the record of how it came about.

Pure and deterministic: every draw comes from a digest of the call's id, so the same call, moment, catalog, providers
and figures give the same plan. A call goes through the name it asks for (`names`), the models behind that (`routes`),
the policy that rules it (`ruling`), the filters (`filters`) and the ranking (`ranking`). All but the draws is kept in a
slate for the calls that follow (`slate`).
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from polyroute.api.errors.v1.errors_pb2 import (
    REASON_INVALID_REQUEST,
    REASON_NO_DEPLOYMENT,
    REASON_SERVICE_UNAVAILABLE,
)
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.router.catalog import Model
from polyroute.router.estimate import expected
from polyroute.router.explaining import explain
from polyroute.router.filters import Entrant, Judged, Kind, capability_words, kind_of, operation_word
from polyroute.router.names import Asked, asked
from polyroute.router.routes import NO_WISHES, Route, bounds_of, instead, route, sticky_of
from polyroute.router.ruling import Call, Ruling, resolved, rule_of
from polyroute.router.slate import Question, Slate, wished
from polyroute.router.snapshot import View
from polyroute.router.spelling import hint

_WISHES_PER_UNIT: Final = 1024  # bytes of preferences that weigh as much as a deployment of a slate
COME_BACK: Final = 2.0  # s: when a caller may ask again whose deployments are there and cannot serve
_NAMED: Final = 5  # deployments named per filter in a refusal
_MINUTE: Final = 60
_NANO: Final = 1_000_000_000

Thing = TypeVar("Thing")


class Decided(NamedTuple):
    """A decision and what it was made from: all that its full record needs.

    Args:
        request: What was asked.
        response: The plan and the record; no plan when nobody could serve the call.
        named: What the model's name said beside the model.
        slate: What all calls of the kind share.
    """

    request: pb.DecideRequest
    response: pb.DecideResponse
    named: pb.Preferences
    slate: Slate


def decide(
    request: pb.DecideRequest,
    view: View,
    now: float = 0.0,
    keep: Callable[[Decided], None] | None = None,
    steer: Callable[[pb.DecideResponse, pb.DecideRequest], MeshError | None] | None = None,
) -> pb.DecideResponse:
    """The plan for a call, and its record.

    Args:
        request: The call.
        view: What is known.
        now: The moment, seconds since 1970 UTC.
        keep: Given the decision before it is handed out; also when nobody could serve the call.
        steer: Changes the plan as the health of deployments asks for, and notes that in the record; gives the refusal
            when nobody may be tried.

    Raises:
        MeshError: REASON_MODEL_NOT_FOUND, REASON_NOT_PERMITTED, REASON_INVALID_REQUEST when the model's name says what
            cannot be read or the named policy is none, REASON_NO_DEPLOYMENT when every deployment was filtered out,
            REASON_SERVICE_UNAVAILABLE when providers that could serve it cannot just now, or
            the refusal of `steer`.
    """
    way = _routed(request, view)
    ruled = _ruled(request, way, view, now)
    kind = kind_of(request.facts)
    slate = _slate(request, way, ruled, kind, view)
    response = slate.answer(request, sticky_of(request, ruled.policy.message))
    record = response.record
    record.policy_reason = ruled.reason
    moment, seconds = record.decide_time, int(now)
    moment.seconds = seconds
    moment.nanos = int((now - seconds) * _NANO)
    if way.trail:
        record.alias = way.trail
    if way.names and slate.runners:
        response.plan.names.extend(way.names)
    if way.seen is not None:
        record.content_class, record.class_rule = way.seen
    refused = steer(response, request) if steer is not None else None
    if ruled.policy.message.content_policy_fallback and response.plan.attempts:
        _add_fallback(request, response, way, ruled, view)
    if keep is not None:
        keep(Decided(request, response, way.preferences, slate))
    if refused is not None:
        raise refused
    if not slate.runners:
        raise _no_deployment(slate, kind)
    if request.explain:
        explain(response, request, way.preferences, slate)
    return response


def _add_fallback(
    request: pb.DecideRequest, response: pb.DecideResponse, way: Route, ruled: Ruling, view: View
) -> None:
    """Adds whom to ask once should a vendor's filter refuse the call, and notes who that is or why there is nobody."""
    name, plan, record = ruled.policy.message.content_policy_fallback, response.plan, response.record
    try:
        other = instead(request, name, view.catalog)._replace(preferences=way.preferences)
    except MeshError as error:
        record.content_policy_fallback = error.message
        return
    slate = _slate(request, other, ruled, kind_of(request.facts), view)
    planned = {attempt.deployment for attempt in plan.attempts}
    answer = slate.answer(request, sticky_of(request, ruled.policy.message))
    attempt = next((one for one in answer.plan.attempts if one.deployment not in planned), None)
    if attempt is None:
        record.content_policy_fallback = f"{name} has no other deployment for this call"
        return
    if len(plan.attempts) == 1:
        plan.ClearField("hedge_after")  # the second of the plan is none to be begun beside the first
    attempt.after_filter = True
    plan.attempts.append(attempt)
    record.content_policy_fallback = attempt.deployment


def _prepared(view: View, key: object, make: Callable[[], Thing], size: int = 1) -> Thing:
    """What is made once per view."""
    found = view.prepared.get(key)
    if found is None:
        found = make()
        view.prepared.keep(key, found, size)
    return found  # type: ignore[return-value] # kept under its own key


def _routed(request: pb.DecideRequest, view: View) -> Route:
    name, catalog = request.facts.model, view.catalog
    entry = catalog.entries.get(name)
    listed = request.HasField("preferences") and request.preferences.models
    bound = listed or request.permitted_models or request.plan_models
    if isinstance(entry, Model) and not bound:  # what nearly every call is
        found = view.prepared.get(entry)
        return found or _prepared(view, entry, lambda: Route((entry,)))  # type: ignore[return-value] # its route
    return route(request, _asked(name, view), catalog)


def _asked(name: str, view: View) -> Asked:
    catalog = view.catalog
    if ":" not in name:
        return asked(name, lambda one: catalog.named(one) is not None, lambda _: False)
    return _prepared(
        view,
        ("name", name),
        lambda: asked(name, lambda one: catalog.named(one) is not None, lambda one: catalog.lookup(one) is not None),
    )


def _ruled(request: pb.DecideRequest, way: Route, view: View, now: float) -> Ruling:
    """The policy that rules a call; worked out once a minute for calls that rules cannot tell apart."""
    catalog = view.catalog
    minute = int(now // _MINUTE) if catalog.schedules else 0
    rules = catalog.routing.rules
    if request.policy:
        return _prepared(view, (request.policy, minute), lambda: _named_policy(request.policy, view, now))
    if way.seen is not None:
        reason = f"class {way.seen.name}"
        return _prepared(
            view, (way.policy, reason, minute), lambda: resolved(catalog, way.policy, reason, now, view.busy)
        )
    if not rules:
        return _prepared(view, minute, lambda: resolved(catalog, *rule_of(catalog, _NOBODY), now, view.busy))
    caller = request.caller
    call = Call(
        model=way.models[0].name,
        aliases=way.aliases,
        project=caller.project_id,
        key=caller.key_id,
        key_name=caller.key_name,
        tags=tuple(sorted(request.tags.items())),
    )
    return _prepared(view, (call, minute), lambda: resolved(catalog, *rule_of(catalog, call), now, view.busy))


def _named_policy(name: str, view: View, now: float) -> Ruling:
    catalog = view.catalog
    if name not in catalog.policies and name not in catalog.schedules:
        known = [*catalog.schedules, *catalog.policies]
        raise MeshError(
            REASON_INVALID_REQUEST, f"no policy is called {name!r}{hint(name, known)}", metadata={"param": "policy"}
        )
    return resolved(catalog, name, "named by the call or its key", now, view.busy)


_NOBODY: Final = Call("", (), "", "", "", ())


def _slate(request: pb.DecideRequest, way: Route, ruled: Ruling, kind: Kind, view: View) -> Slate:
    """The slate of such calls. Names that are merely passed on are without number: theirs is not kept."""
    models = way.models
    model = models[0]
    limits, answers = (model.context_limits, model.answer_limits) if len(models) == 1 else _limits(models)
    wishes = request.preferences.SerializeToString() if request.HasField("preferences") else b""
    if request.permitted_regions:
        wishes += b"\1" + "\0".join(request.permitted_regions).encode()
    if way.preferences is not NO_WISHES:
        wishes += b"\0" + way.preferences.SerializeToString()
    tokens = kind.tokens
    key = (
        models,
        ruled.policy.version,
        wishes,
        kind.operation,
        kind.needs,
        bisect_left(limits, tokens),
        bisect_left(answers, kind.answer),
        kind.pictures,
        expected(kind),
    )
    found = view.prepared.get(key)
    if found is not None:
        return found  # type: ignore[return-value] # kept under such a key only here
    if all(model.name in view.catalog.entries for model in models):
        size = sum(len(model.deployments) for model in models) + len(wishes) // _WISHES_PER_UNIT
        return _prepared(view, key, lambda: _made(request, way, ruled, kind, view), size)
    return _made(request, way, ruled, kind, view)


def _limits(models: tuple[Model, ...]) -> tuple[list[int], list[int]]:
    """Of contexts and of answers: kinds of calls differ in how many of these they exceed."""
    return (
        sorted({limit for model in models for limit in model.context_limits}),
        sorted({limit for model in models for limit in model.answer_limits}),
    )


def _made(request: pb.DecideRequest, way: Route, ruled: Ruling, kind: Kind, view: View) -> Slate:
    deployments = {one.name: one for model in way.models for one in model.deployments}
    question = Question(
        models=tuple(model.name for model in way.models),
        kind=kind,
        policy=ruled.policy,
        wishes=wished(way.preferences, request.preferences, bounds_of(request)),
        max_attempts=view.catalog.max_attempts,
        versions=(view.catalog.version, view.stats.version),
    )
    return Slate(
        question,
        [
            Entrant(one, view.stats.of(one.name), view.obstacle_of(one.name, one.provider))
            for one in deployments.values()
        ],
    )


def _no_deployment(slate: Slate, kind: Kind) -> MeshError:
    if slate.judged and all(_only_provider(one) for one in slate.judged):
        return MeshError(
            REASON_SERVICE_UNAVAILABLE,
            f"no deployment of {' or '.join(map(repr, slate.question.models))} can serve just now:"
            f" {'; '.join(dict.fromkeys(one.entrant.obstacle for one in slate.judged))}",
            metadata={"model": slate.question.models[0]},
            retry_after=COME_BACK,
        )
    removed: dict[str, list[str]] = {}
    for one in slate.judged:
        if one.failed is not None:
            observed = _wanted(one.failed.filter, kind) or one.failed.observed
            removed.setdefault(f"{one.failed.filter} ({observed})", []).append(one.entrant.deployment.name)
    reasons = "; ".join(f"{reason} rules out {_few(names)}" for reason, names in removed.items())
    models = " or ".join(repr(name) for name in slate.question.models)
    return MeshError(
        REASON_NO_DEPLOYMENT,
        f"no deployment of {models} can serve this call: {reasons}",
        metadata={"model": slate.question.models[0], "needs": _needs(kind)},
    )


def _wanted(name: str, kind: Kind) -> str:
    """What a filter on lengths found too long: of this call, and not of the first of its kind."""
    return {"context": f"needs {kind.tokens} tokens", "answer": f"asks for {kind.answer} tokens"}.get(name, "")


def _only_provider(one: Judged) -> bool:
    """Whether nothing but the state of its provider, which may change, keeps a deployment from serving the call."""
    return all(ruling.passed or ruling.filter == "provider" for ruling in one.rulings)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _needs(kind: Kind) -> str:
    """What the call asks for in words, such as `chat, vision, 5210 tokens`."""
    words = [operation_word(kind.operation)]
    if kind.needs:
        words.append(capability_words(kind.needs))
    if kind.tokens:
        words.append(f"{kind.tokens} tokens")
    return ", ".join(words)
