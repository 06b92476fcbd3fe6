"""What a key may do, and whether one key may do no more than another."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.people.roles import GRANTS, Role
from polyroute.dialects.preferences import read_preferences
from polyroute.mesh.errors import MeshError
from polyroute.mesh.patterns import covered

_LISTS: Final = ("operations", "routes", "source_ranges", "policies", "regions")
_NUMBERS: Final = ("spend_class", "admin_role")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Scope:
    """What binds a key beside its models and its end. Whatever is empty does not bind."""

    operations: tuple[int, ...] = ()
    """Kinds of work, by the contract's numbers."""
    routes: tuple[str, ...] = ()
    """Paths; one that ends in `*` stands for all that begin so."""
    source_ranges: tuple[str, ...] = ()
    """Networks, such as `203.0.113.0/24`."""
    provider_defaults: bytes = b""
    """What the `provider` object of calls leaves unsaid, as JSON; only looked at when it is set."""
    tags: Mapping[str, str] = field(default_factory=dict)
    policies: tuple[str, ...] = ()
    """Policies that calls may name; the first one rules calls that name none."""
    regions: tuple[str, ...] = ()
    spend_class: int = 0
    """By the contract's numbers: the higher, the narrower; 0 is any money."""
    admin_role: int = 0
    """What the key may do as an administrator of its project, a `Role`; 0 is nothing."""

    @classmethod
    def from_json(cls, tree: Mapping[str, Any] | None) -> Self:
        """The scope that `to_json` gave."""
        if not tree:
            return cls()
        values: dict[str, Any] = {name: tuple(tree.get(name, ())) for name in _LISTS}
        values |= {name: int(tree.get(name, 0)) for name in _NUMBERS}
        defaults = tree.get("provider_defaults", "").encode()
        return cls(**values, provider_defaults=defaults, tags=tree.get("tags", {}))

    def to_json(self) -> dict[str, Any] | None:
        """The scope as a row keeps it; None when nothing binds."""
        tree: dict[str, Any] = {name: list(getattr(self, name)) for name in _LISTS if getattr(self, name)}
        tree |= {name: int(getattr(self, name)) for name in _NUMBERS if getattr(self, name)}
        if self.provider_defaults:
            tree["provider_defaults"] = self.provider_defaults.decode()
        if self.tags:
            tree["tags"] = dict(self.tags)
        return tree or None

    def check(self) -> None:
        """Refuses what could never be meant.

        Raises:
            MeshError: REASON_INVALID_REQUEST, metadata `param`.
        """
        for text in self.source_ranges:
            try:
                ipaddress.ip_network(text)
            except ValueError as error:
                raise _invalid("scope.source_ranges", str(error)) from None
        if self.provider_defaults:
            _check_defaults(self.provider_defaults)
        check_routes(self.routes, "scope.routes")


@dataclass(frozen=True, slots=True)
class Grant:
    """All that one key is allowed; `expires` in microseconds, None means never."""

    models: tuple[str, ...] = ()
    expires: int | None = None
    scope: Scope = field(default_factory=Scope)


def check_routes(routes: Iterable[str], param: str) -> None:
    """Refuses what could never be meant as a path, or as a pattern of paths.

    Raises:
        MeshError: REASON_INVALID_REQUEST, metadata `param`.
    """
    for route in routes:
        if not route.startswith(("/", "*")) or "*" in route[:-1]:
            raise _invalid(param, f"a route begins with / and has no * but at its end: {route}")


def excess(wanted: Grant, creator: Grant) -> Iterator[str]:
    """The fields in which `wanted` allows more than `creator` has."""
    if not _within(wanted.models, creator.models):
        yield "models"
    if creator.expires is not None and (wanted.expires is None or wanted.expires > creator.expires):
        yield "lifetime"
    if not _within(wanted.scope.operations, creator.scope.operations):
        yield "scope.operations"
    if not _covered(wanted.scope.routes, creator.scope.routes):
        yield "scope.routes"
    if not _contained(wanted.scope.source_ranges, creator.scope.source_ranges):
        yield "scope.source_ranges"
    if not _within(wanted.scope.policies, creator.scope.policies):
        yield "scope.policies"
    if not _within(wanted.scope.regions, creator.scope.regions):
        yield "scope.regions"
    if max(wanted.scope.spend_class, 1) < creator.scope.spend_class:
        yield "scope.spend_class"
    if not _administers(wanted.scope.admin_role, creator.scope.admin_role):
        yield "scope.admin_role"
    if any(wanted.scope.tags.get(name) != value for name, value in creator.scope.tags.items()):
        yield "scope.tags"  # whatever its creator's calls are attributed to, its own are too


def _administers(wanted: int, had: int) -> bool:
    """Whether one role of keys allows no more than another."""
    return not wanted or (bool(had) and GRANTS[Role(wanted)] <= GRANTS[Role(had)])


def _within(wanted: Sequence[object], had: Sequence[object]) -> bool:
    return not had or (bool(wanted) and set(wanted) <= set(had))


def _covered(wanted: Sequence[str], had: Sequence[str]) -> bool:
    return not had or (bool(wanted) and all(covered(had, route) for route in wanted))


def _contained(wanted: Sequence[str], had: Sequence[str]) -> bool:
    if not had:
        return True
    outer = [ipaddress.ip_network(text) for text in had]
    return bool(wanted) and all(
        any(_inside(ipaddress.ip_network(text), network) for network in outer) for text in wanted
    )


def _inside(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner.subnet_of(outer)
    return False


def _check_defaults(text: bytes) -> None:
    """Refuses what the edge would refuse in a call: whoever makes a key is there to mend it, and callers are not."""
    try:
        read_preferences(text)
    except MeshError as error:
        raise _invalid("scope.provider_defaults", f"scope.provider_defaults: {error.message}") from None


def _invalid(param: str, message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": param})
