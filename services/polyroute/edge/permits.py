"""What a key may do: the bounds of its verdict, judged for one call."""

import ipaddress
from functools import lru_cache
from typing import Final

from polyroute.api.auth.v1.auth_pb2 import KeyScope, Verdict
from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.edge.call import Call
from polyroute.edge.preferences import read_preferences
from polyroute.mesh.errors import MeshError

OPERATION_PREFIX: Final = "OPERATION_"

_network = lru_cache(maxsize=4096)(ipaddress.ip_network)
_address = lru_cache(maxsize=4096)(ipaddress.ip_address)


def permit(verdict: Verdict, *, operation: Operation.ValueType, route: str, source: str) -> None:
    """Lets a call through that its key may make; of its models the router judges, who reads what a name may say.

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


def bind(call: Call, verdict: Verdict) -> None:
    """Puts into a call what its key says of routing: tags, regions and policies, and wishes where it brings none.

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
    if scope.provider_defaults and call.preferences is None:
        call.preferences = _defaults(scope.provider_defaults)
        call.facts.require_parameters = call.preferences.require_parameters


_defaults = lru_cache(maxsize=4096)(read_preferences)


def _policy_refusal(name: str) -> MeshError:
    return _refusal(f"this key may not name the policy {name!r}", param="policy")


def _check(scope: KeyScope, operation: Operation.ValueType, route: str, source: str) -> None:
    if scope.operations and operation not in scope.operations:
        name = Operation.Name(operation).removeprefix(OPERATION_PREFIX).lower()
        raise _refusal(f"this key may not be used for {name}", operation=name)
    if scope.routes and not any(_covers(pattern, route) for pattern in scope.routes):
        raise _refusal("this key may not be used here", route=route)
    if scope.source_ranges and not _within(source, scope):
        raise _refusal("this key may not be used from this address")


def _covers(pattern: str, route: str) -> bool:
    return route.startswith(pattern[:-1]) if pattern.endswith("*") else route == pattern


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
