"""What a key may do: the bounds of its verdict, judged for one call."""

import ipaddress
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from polyroute.api.auth.v1.auth_pb2 import KeyScope, PlanInForce, Verdict
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, OPERATION_COUNT_TOKENS, OPERATION_RELAY, Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Model, Preferences
from polyroute.dialects import jsontools
from polyroute.dialects.preferences import read_preferences
from polyroute.edge.call import Call, Relayed
from polyroute.edge.paths import opened
from polyroute.mesh.errors import MeshError
from polyroute.mesh.patterns import covered

OPERATION_PREFIX: Final = "OPERATION_"
# Where vendors' paths name a model: `deployments/NAME` (whose case Azure ignores), `models/NAME:method`, `model/NAME`.
_NAMING: Final = re.compile(
    r"[/\\](?i:deployments|models?|engines|tunedmodels)[/\\]+"
    r"([^/\\]+?)(?::(?:predict|[a-z]+(?:[A-Z][a-z]+)+))?(?=[/\\]|$)"  # `:free` would be another model, not a method
)
# Where they name one in a way that no name of the catalog can be held against, or work that is kept elsewhere.
_UNJUDGED: Final = re.compile(
    r"[/\\](?:batches|run|predictions|async-invoke|endpoints[/\\]+(?!openapi[/\\])[^/\\]+)(?=[/\\]|$)", re.IGNORECASE
)
_IN_QUERY: Final = frozenset({"model", "models", "deployment", "engine"})

_network = lru_cache(maxsize=4096)(ipaddress.ip_network)
_address = lru_cache(maxsize=4096)(ipaddress.ip_address)


def permit(verdict: Verdict, *, operation: Operation.ValueType, route: str, source: str) -> None:
    """Lets a call through that its key and its plan permit; of its models the router judges, who reads their names.

    Args:
        verdict: What auth says of the key.
        operation: What kind of work it is.
        route: The path of the HTTP request or of the RPC, without its query.
        source: The address it comes from; empty when unknown, which no bound on addresses lets through.

    Raises:
        MeshError: REASON_NOT_PERMITTED.
    """
    if verdict.HasField("scope"):
        _check(verdict.scope, operation, route, source)
    if verdict.HasField("plan"):
        _check_plan(verdict.plan, operation, route)


def may_use(verdict: Verdict, model: Model) -> bool:
    """Whether a key and its plan permit a model or alias, and any of the work that it is for."""
    plan = verdict.plan.opens
    return (
        (not verdict.models or model.name in verdict.models)
        and (not plan.models or covered(plan.models, model.name))
        and all(_serves(model, operations) for operations in (verdict.scope.operations, plan.operations))
    )


def _serves(model: Model, operations: Collection[Operation.ValueType]) -> bool:
    """Whether a model is for some of these kinds of work; where its own are not known, it may be."""
    if not operations or not model.operations or OPERATION_RELAY in operations:  # any may be named to a vendor itself
        return True
    wanted = {OPERATION_CHAT if one == OPERATION_COUNT_TOKENS else one for one in operations}
    return not wanted.isdisjoint(model.operations)


def bind(call: Call, verdict: Verdict) -> None:
    """Puts into a call what its key says of routing: tags, regions and policies, and wishes where it has none.

    Raises:
        MeshError: REASON_NOT_PERMITTED; it names a policy that the key may not name.
    """
    if not verdict.HasField("scope"):
        if call.policy:
            raise _policy_refusal(call.policy)
        return
    scope = verdict.scope
    if call.policy and call.policy not in scope.policies:
        raise _policy_refusal(call.policy)
    if scope.policies and not call.policy:
        call.policy = scope.policies[0]
    call.regions = scope.regions
    if scope.tags:
        call.trail.tags = {**call.trail.tags, **scope.tags}
    if scope.provider_defaults:
        call.preferences = _merged(_defaults(scope.provider_defaults), call.preferences)
        call.facts.require_parameters = call.preferences.require_parameters


def _merged(defaults: Preferences, said: Preferences | None) -> Preferences:
    """A key's defaults where the caller says nothing: field by field, the caller's own stands."""
    found = Preferences()
    found.CopyFrom(defaults)
    if said is not None:
        for field, _ in said.ListFields():
            found.ClearField(field.name)  # type: ignore[arg-type] # a name of its own fields
        found.MergeFrom(said)
    return found


def permit_relay(call: Relayed, verdict: Verdict) -> None:
    """Lets a request through to a vendor's own API that its key may make.

    No router judges it, so that a key whose calls the router bounds may go there only as far as that can be told here:
    with models of its own, each named in one way; with regions or policies not at all.

    Raises:
        MeshError: REASON_NOT_PERMITTED; REASON_INVALID_REQUEST, two parsers could find different models in the body.
    """
    scope = verdict.scope
    if scope.regions:
        raise _refusal("this key is bound to regions, and where a vendor's own API runs is not known", param="regions")
    if scope.policies:
        raise _refusal("this key is bound to policies, and none is asked about a vendor's own API", param="policy")
    if verdict.models or verdict.plan.opens.models:
        _check_models(call, verdict)


def models_in(path: str) -> list[str]:
    """The models that a path of a vendor's own API names, with its query."""
    path, _, query = path.partition("?")
    named = [found[1] for found in _NAMING.finditer(_opened(path))]
    return named + [value for name, value in parse_qsl(query) if name.lower() in _IN_QUERY]


def _check_models(call: Relayed, verdict: Verdict) -> None:
    request, allowed, plan = call.request, verdict.models, verdict.plan
    named = [*models_in(request.path), *_models_of(request.body)]
    for model in named or [call.facts.model]:
        names = (model, f"{request.provider}/{model}")
        if allowed and (not named or not any(name in allowed for name in names)):
            raise _refusal(f"this key may not use {model}", model=model, param="model")
        if plan.opens.models and (not named or not any(covered(plan.opens.models, name) for name in names)):
            raise _not_in(plan, model, model=model, param="model")
    if _UNJUDGED.search(_opened(request.path.partition("?")[0])):
        raise _refusal("this key is bound to models, and this path may reach others", param="path")


def _models_of(body: bytes) -> Iterator[str]:
    """The model that a body names to any parser: those of some vendors ignore case, and some take a list as well."""
    if not body:
        return
    jsontools.check_once(body)
    for member in jsontools.members(body):
        if member.name.lower() not in ("model", "models"):
            continue
        if member.name != "model":
            raise _refusal(f"this key is bound to models: name one as `model`, not {member.name}", param=member.name)
        try:
            yield msgspec.json.decode(body[member.value : member.end], type=str)
        except jsontools.BAD_JSON:
            raise _refusal("this key is bound to models, and `model` is no text", param="model") from None


def _opened(path: str) -> str:
    return unquote(unquote(path))  # twice, as a vendor behind a proxy may


_defaults = lru_cache(maxsize=4096)(read_preferences)


def _policy_refusal(name: str) -> MeshError:
    return _refusal(f"this key may not name the policy {name!r}", param="policy")


def _check(scope: KeyScope, operation: Operation.ValueType, route: str, source: str) -> None:
    if scope.operations and operation not in scope.operations:
        name = _name_of(operation)
        raise _refusal(f"this key may not be used for {name}", operation=name)
    if scope.routes and not opened(scope.routes, route):
        raise _refusal("this key may not be used here", route=route)
    if scope.source_ranges and not _within(source, scope):
        raise _refusal("this key may not be used from this address")


def _check_plan(plan: PlanInForce, operation: Operation.ValueType, route: str) -> None:
    opens = plan.opens
    if opens.operations and operation not in opens.operations:
        name = _name_of(operation)
        raise _not_in(plan, name, operation=name)
    if opens.routes and not opened(opens.routes, route):
        raise _not_in(plan, route, route=route)


def _not_in(plan: PlanInForce, what: str, **metadata: str) -> MeshError:
    return _refusal(f"the plan of this key does not include {what}", cause="plan", plan=plan.name, **metadata)


def _name_of(operation: Operation.ValueType) -> str:
    return Operation.Name(operation).removeprefix(OPERATION_PREFIX).lower()


def _within(source: str, scope: KeyScope) -> bool:
    try:
        address = _address(source)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:  # how a socket for both shows IPv4 callers
        address = address.ipv4_mapped
    return any(address in _network(text) for text in scope.source_ranges)


def _refusal(message: str, **metadata: str) -> MeshError:
    return MeshError(pb.REASON_NOT_PERMITTED, message, metadata=metadata)
