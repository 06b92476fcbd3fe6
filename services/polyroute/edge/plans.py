"""Plans that were made before, for the time when no router answers."""

from collections import OrderedDict
from typing import Final

from polyroute.api.router.v1.router_pb2 import DecideRequest, DecideResponse

MOST: Final = 1024
LASTS: Final = 24 * 3600.0  # s: what a router said yesterday is no plan for today

Kind = tuple[object, ...]


class Plans:
    """The latest plan of each kind of call.

    Calls are of a kind when they ask for the same by the same name under the same wishes: not all that a router looks
    at, but enough for a deployment that can serve them. What has changed since, a router that is back says at once.
    """

    __slots__ = ("_plans",)

    def __init__(self) -> None:
        self._plans: OrderedDict[Kind, tuple[float, DecideResponse]] = OrderedDict()

    def keep(self, kind: Kind, decision: DecideResponse, now: float) -> None:
        """A router has decided."""
        plans = self._plans
        plans[kind] = (now, decision)
        plans.move_to_end(kind)
        if len(plans) > MOST:
            plans.popitem(last=False)

    def has(self, kind: Kind) -> bool:
        """Whether there may be one."""
        return kind in self._plans

    def find(self, kind: Kind, request: DecideRequest, now: float) -> DecideResponse | None:
        """The plan for a call that no router decides; its record says so. None when there is none that is good."""
        found = self._plans.get(kind)
        if found is None or now - found[0] > LASTS:
            return None
        decision = DecideResponse()
        decision.CopyFrom(found[1])
        record = decision.record
        record.request_id = request.request_id
        record.policy_reason = f"the router is away: as it decided {now - found[0]:.0f} s ago"
        return decision


def kind_of(request: DecideRequest) -> Kind:
    """What calls have in common that one plan may serve."""
    facts = request.facts
    return (
        facts.model,
        facts.operation,
        request.dialect,
        tuple(facts.needs),
        tuple(request.permitted_models),
        tuple(request.plan_models),
        tuple(request.permitted_regions),
        request.policy,
        request.caller.project_id,
        request.preferences.SerializeToString(deterministic=True) if request.HasField("preferences") else b"",
    )
