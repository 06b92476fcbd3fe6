"""Which models a call means: by the name it asks for, the aliases behind that, or the class of its content."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from polyroute.api.errors.v1.errors_pb2 import REASON_MODEL_NOT_FOUND, REASON_NOT_PERMITTED
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.errors import MeshError
from polyroute.mesh.patterns import covered
from polyroute.router import auto
from polyroute.router.catalog import Alias, Catalog, Model
from polyroute.router.draws import point
from polyroute.router.names import AUTO, Asked
from polyroute.router.policies import QUALITY_FIRST

NO_WISHES: Final = pb.Preferences()
_STICKY: Final = {pb.STICKY_BY_KEY: "key", pb.STICKY_BY_PROJECT: "project", pb.STICKY_BY_USER: "user"}
_TOGETHER: Final = pb.Preferences(partition=pb.PARTITION_NONE)


class Route(NamedTuple):
    """Where a name leads for one call.

    Args:
        models: To be tried, the first one first.
        aliases: Those that were followed.
        trail: The same in words, such as `fast -> gpt-6-sol (90 of 100)`; may be empty.
        preferences: What the name says beside the models.
        seen: The class of the content, where the gateway chose.
        policy: What ranks them, where the gateway chose; empty otherwise.
        names: That led there, other than the models' own.
    """

    models: tuple[Model, ...]
    aliases: tuple[str, ...] = ()
    trail: str = ""
    preferences: pb.Preferences = NO_WISHES
    seen: auto.Class | None = None
    policy: str = ""
    names: tuple[str, ...] = ()


def route(request: pb.DecideRequest, wanted: Asked, catalog: Catalog) -> Route:
    """Where a call goes.

    Args:
        request: The call.
        wanted: What its model's name asks for.
        catalog: What there is.

    Raises:
        MeshError: REASON_MODEL_NOT_FOUND or REASON_NOT_PERMITTED.
    """
    return _chosen(request, wanted, catalog) if wanted.mode else _followed(request, wanted, catalog)


def instead(request: pb.DecideRequest, name: str, catalog: Catalog) -> Route:
    """Where a call goes that was refused by a filter.

    Args:
        request: The call.
        name: The model or alias that its policy names for that.
        catalog: What there is.

    Raises:
        MeshError: REASON_MODEL_NOT_FOUND or REASON_NOT_PERMITTED.
    """
    _check_permitted(request, (name,), catalog)
    return Route(_Walk(request, catalog).models((name,)))


def bounds_of(request: pb.DecideRequest) -> pb.Preferences:
    """What the caller's key is bound to, as a wish that nothing lifts."""
    return pb.Preferences(regions=request.permitted_regions) if request.permitted_regions else NO_WISHES


def sticky_of(request: pb.DecideRequest, policy: pb.Policy) -> str:
    """What keeps a call together with others under a policy; empty when nothing does."""
    kind = _STICKY.get(policy.sticky)
    return owner(request, kind) if kind else ""


def owner(request: pb.DecideRequest, sticky: str) -> str:
    """Whose calls go together: `key`, `project` or `user`; empty when this call stands alone."""
    match sticky:
        case "key":
            return request.caller.key_id
        case "project":
            return request.caller.project_id
        case "user":
            # end users of different projects are different people
            return request.sticky_key and f"{request.caller.project_id}\0{request.sticky_key}"
    return ""


class _Bound(NamedTuple):
    """What a call may ask for by whoever bounds it, and what is said of anything else."""

    permits: Callable[[str], bool]
    refusal: Callable[[str], MeshError]


class _Walk:
    """Follows names to models; knows the aliases on the way."""

    def __init__(self, request: pb.DecideRequest, catalog: Catalog) -> None:
        self._request = request
        self._catalog = catalog
        self.aliases: list[str] = []
        self.trails: list[str] = []

    def models(self, names: Iterable[str]) -> tuple[Model, ...]:
        """The models behind some names, each once."""
        return tuple({model.name: model for model in map(self._model, names)}.values())

    def _model(self, name: str) -> Model:
        entry = self._catalog.lookup(name)
        trail: list[str] = []
        while isinstance(entry, Alias):
            if not trail:
                trail.append(entry.name)
            self.aliases.append(entry.name)
            target, share = _drawn(entry, self._request)
            trail.append(f"{target}{share}")
            entry = self._catalog.entries[target]
        if trail:
            self.trails.append(" -> ".join(trail))
        if entry is None:
            raise _not_found(self._catalog, name)
        return entry


def _followed(request: pb.DecideRequest, wanted: Asked, catalog: Catalog) -> Route:
    """The models behind the names that were asked for."""
    names = (*wanted.names, *request.preferences.models)
    _check_permitted(request, names, catalog)
    walk = _Walk(request, catalog)
    models = walk.models(names)
    named = _named((*names, *walk.aliases), models)
    return Route(models, tuple(walk.aliases), "; ".join(walk.trails), wanted.preferences, names=named)


def _chosen(request: pb.DecideRequest, wanted: Asked, catalog: Catalog) -> Route:
    """The models for a call's class of content."""
    config = catalog.routing.auto
    if not config.models:
        raise MeshError(
            REASON_MODEL_NOT_FOUND,
            f"unknown model {AUTO!r}: routing.auto names no models to choose from",
            metadata={"model": request.facts.model},
        )
    seen = auto.classified(auto.seen_in(request.facts, request.hints), config.rules)
    policy = auto.policy_of(config, seen.name, wanted.mode)
    # one that no provider offers any more is none to choose
    names = [name for name in auto.models_of(config, seen.name) if catalog.lookup(name) is not None]
    for bound in _bounds(request):
        if not bound.permits(AUTO):
            names = [name for name in names if bound.permits(name)]
            if not names:
                raise bound.refusal(AUTO)
    _check_permitted(request, request.preferences.models, catalog)
    walk = _Walk(request, catalog)
    models = walk.models((*names, *request.preferences.models))
    preferences = NO_WISHES if policy == QUALITY_FIRST else _TOGETHER
    named = _named((AUTO, *request.preferences.models, *walk.aliases), models)
    return Route(models, tuple(walk.aliases), "; ".join(walk.trails), preferences, seen, policy, named)


def _named(names: Iterable[str], models: Iterable[Model]) -> tuple[str, ...]:
    """The names among some that are none of the models', each once."""
    own = {model.name for model in models}
    return tuple(dict.fromkeys(name for name in names if name not in own))


def _check_permitted(request: pb.DecideRequest, names: Sequence[str], catalog: Catalog) -> None:
    for bound in _bounds(request):
        for name in names:
            entry = catalog.named(name)
            if not bound.permits(name) and (entry is None or not bound.permits(entry.name)):
                raise bound.refusal(name)


def _bounds(request: pb.DecideRequest) -> Iterator[_Bound]:
    if request.permitted_models:
        yield _Bound(frozenset(request.permitted_models).__contains__, _not_permitted)
    if request.plan_models:
        yield _Bound(lambda name: covered(request.plan_models, name), _not_in_plan)


def _drawn(alias: Alias, request: pb.DecideRequest) -> tuple[str, str]:
    """A target and its share in words.

    The alias is part of the draw, so nested aliases draw apart from each other; and whoever sticks to the last target
    keeps it while its weight grows at the cost of the others.
    """
    if len(alias.targets) == 1:
        return alias.targets[0][0], ""
    total = sum(weight for _, weight in alias.targets)
    sticky = owner(request, alias.sticky)
    at = point(f"{sticky or request.request_id}\0{alias.name}", total)
    for name, weight in alias.targets:
        if at < weight:
            return name, f" ({weight} of {total}{f', by {alias.sticky}' if sticky else ''})"
        at -= weight
    raise AssertionError("a point below the total lies in one of the weights")


def _not_permitted(name: str) -> MeshError:
    return MeshError(REASON_NOT_PERMITTED, f"this key may not use {name}", metadata={"model": name, "param": "model"})


def _not_in_plan(name: str) -> MeshError:
    message = f"the plan of this key does not include {name}"
    return MeshError(REASON_NOT_PERMITTED, message, metadata={"model": name, "param": "model", "cause": "plan"})


def _not_found(catalog: Catalog, name: str) -> MeshError:
    similar = catalog.similar(name)
    meant = f", did you mean {' or '.join(repr(other) for other in similar)}?" if similar else ""
    return MeshError(REASON_MODEL_NOT_FOUND, f"unknown model {name!r}{meant}", metadata={"model": name})
