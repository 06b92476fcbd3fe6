"""What a plan gives beside money: limits on what its subscriber's calls may do at once, and what they may ask for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth.rates.limits import Kind, Limit, Place
from polyroute.auth.scopes import check_routes
from polyroute.mesh.errors import MeshError

_LISTS: Final = ("models", "operations", "routes")


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan says of calls. Whatever is empty does not bind."""

    limits: tuple[Limit, ...] = ()
    """Of places without a scope: whoever subscribes gives it; see `limits_of`."""
    models: tuple[str, ...] = ()
    """Models and aliases; one that ends in `*` stands for all that begin so."""
    operations: tuple[int, ...] = ()
    """Kinds of work, by the contract's numbers."""
    routes: tuple[str, ...] = ()
    """Paths; as models."""

    @property
    def open(self) -> bool:
        """Whether everything may be asked for."""
        return not (self.models or self.operations or self.routes)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any] | None) -> Self:
        """The terms that `to_json` gave."""
        if not tree:
            return cls()
        limits = (
            Limit(Place("", Kind(one["kind"]), one["model"]), one["amount"], one["burst"])
            for one in tree.get("limits", ())
        )
        return cls(tuple(limits), **{name: tuple(tree.get(name, ())) for name in _LISTS})

    def to_json(self) -> dict[str, Any] | None:
        """The terms as a row keeps them; None when nothing binds."""
        tree: dict[str, Any] = {name: list(getattr(self, name)) for name in _LISTS if getattr(self, name)}
        if self.limits:
            tree["limits"] = [
                {"kind": int(one.place.kind), "model": one.place.model, "amount": one.amount, "burst": one.burst}
                for one in self.limits
            ]
        return tree or None

    def limits_of(self, subscription_id: str) -> tuple[Limit, ...]:
        """The limits of a subscription: its own, so that nobody else's calls count against them."""
        return tuple(Limit(one.place._replace(scope=subscription_id), one.amount, one.burst) for one in self.limits)

    def check(self) -> None:
        """Refuses what could never be meant.

        Raises:
            MeshError: REASON_INVALID_REQUEST, metadata `param`.
        """
        if len({one.place for one in self.limits}) < len(self.limits):
            raise _invalid("plan.limits", "a plan has one limit at most per kind and model")
        check_routes(self.routes, "plan.opens.routes")
        _check_models(self.models)


def _check_models(models: Iterable[str]) -> None:
    for model in models:
        if "*" in model[:-1]:
            raise _invalid("plan.opens.models", f"a model has no * but at its end: {model}")


def _invalid(param: str, message: str) -> MeshError:
    return MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": param})
