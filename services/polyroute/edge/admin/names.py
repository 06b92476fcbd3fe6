"""Names of the catalog in what administrators set: auth keeps them and knows no catalog, so they are looked up here.

A policy or a region that there is not would shut a key out of everything, which is never meant: that is refused.
Models may come with a later catalog, and so may the first region: of these whoever asks is told.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message

from polyroute.api.auth.v1 import admin_pb2
from polyroute.edge.admin.transcoding import invalid
from polyroute.mesh.config import suggestion

UNASKED: Final = "the router does not answer: names of models, policies and regions were not looked up"


@dataclass(frozen=True, slots=True)
class Named:
    """What a request names, and where it stands in it."""

    place: str
    models: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is anything to look up."""
        return bool(self.models or self.policies or self.regions)


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalog has."""

    models: frozenset[str]
    policies: tuple[str, ...]
    regions: tuple[str, ...]


def named(request: Message) -> Named:
    """What a request names of the catalog."""
    match request:
        case admin_pb2.IssueKeyRequest() | admin_pb2.UpdateKeyRequest():
            key: Any = request.key
            scope = key.scope
            return Named("key.scope", tuple(key.models), tuple(scope.policies), tuple(scope.regions))
        case admin_pb2.SetLimitRequest() if request.limit.scope != "deployment" and request.limit.model:
            return Named("limit", (request.limit.model,))
        case _:
            return Named("")


def judged(wanted: Named, known: Known) -> Iterator[str]:
    """What is probably a mistake.

    Raises:
        MeshError: REASON_INVALID_REQUEST, there is no such policy, or no such region.
    """
    for policy in wanted.policies:
        if policy not in known.policies:
            raise invalid(
                f"{wanted.place}.policies", f"there is no policy {policy!r}{suggestion(policy, known.policies)}"
            )
    for region in wanted.regions:
        if not any(_within(one, region) for one in known.regions):
            what = f"no deployment is in {region!r}"
            if known.regions:
                raise invalid(f"{wanted.place}.regions", what + suggestion(region, known.regions))
            yield f"{what}, nor does any say where it is"
    yield from _unknown_models(wanted.models, known.models)


def _unknown_models(models: Iterable[str], known: frozenset[str]) -> Iterator[str]:
    for model in models:
        if model.casefold() not in known and "/" not in model:  # which addresses a provider, whatever it serves
            yield f"the catalog has no model {model!r}"


def _within(region: str, wanted: str) -> bool:
    """As the router has it: `cn` holds `cn-beijing`."""
    folded, name = region.casefold(), wanted.casefold()
    return folded == name or folded.startswith(f"{name}-")
