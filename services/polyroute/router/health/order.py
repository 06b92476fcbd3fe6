"""The order in which a call may try deployments while some of them are in trouble, or why nobody may be tried.

A deployment that waits for a probe comes first for one call at a time; one that gets a share of its calls only comes
last for the rest of them; ejected and resting ones are left out. When nobody is left, the least bad one is tried as far
as the model's retry budget reaches, and else the call is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.router.health.chance import chance
from polyroute.router.health.state import State
from polyroute.router.health.unit import Standing, Unit, Verdict, least_bad

COME_BACK: Final = 1.0  # s: what a caller is told when a model is down as a whole


class Refusal(NamedTuple):
    """Why a call cannot be served now.

    Args:
        fault: What the deployments suffer from, of the one that is back first; FAULT_UNSPECIFIED when they are down.
        retry_after: Seconds until another try makes sense.
    """

    fault: Fault.ValueType
    retry_after: float


class Steering(NamedTuple):
    """The order in which a call tries deployments, after health was heard.

    Args:
        order: Names, the first to be tried first; empty when refused.
        probe: The one that this call is the probe of; empty when it is none's.
        passed: Those that were put back or left out, and how they stand.
        refusal: Why nobody is tried; None when somebody is.
    """

    order: Sequence[str]
    probe: str = ""
    passed: tuple[tuple[str, Standing], ...] = ()
    refusal: Refusal | None = None


class Orders:
    """Gives calls their orders.

    Args:
        units: Name -> deployment.
    """

    def __init__(self, units: Mapping[str, Unit]) -> None:
        self._units = units

    def around(
        self, order: Sequence[str], request_id: str, operation: Operation.ValueType, state: State, now: float
    ) -> Steering:
        """An order for a call around the troubled ones of its deployments.

        Args:
            order: Names, the first to be tried first; at least one.
            request_id: The call.
            operation: What it asks for.
            state: How the deployments stand.
            now: The time.
        """
        fine: list[str] = []
        later: list[str] = []
        passed: list[tuple[str, Standing]] = []
        for name in order:
            standing = state.of(name, operation)
            if standing.verdict is Verdict.PROBE:
                passed.append((name, standing._replace(until=self._units[name].breaker.probed(now))))
            elif standing.verdict is not Verdict.ALLOWED:
                passed.append((name, standing))
            elif standing.share >= 1 or chance(request_id, name) < standing.share:
                fine.append(name)
            else:
                later.append(name)
                passed.append((name, standing))
        able = fine + later
        probe = self._claimed(passed, request_id, now)
        if probe:  # nobody knows whether it works: another one follows, if only the least bad
            behind = able or [name for name in self._least_bad(passed) if name != probe]
            return Steering([probe, *behind], probe, tuple(one for one in passed if one[0] != probe))
        if able:
            return Steering(able, "", tuple(passed))
        return self._panic(tuple(passed), operation, now)

    def _least_bad(self, passed: Iterable[tuple[str, Standing]]) -> list[str]:
        """Those that do not rest, the least bad one first."""
        down = [self._units[name] for name, standing in passed if standing.verdict is not Verdict.COOLING]
        return [unit.name for unit in least_bad(down)]

    def _claimed(self, passed: Iterable[tuple[str, Standing]], request_id: str, now: float) -> str:
        """The first that waits for a probe, which this call now is."""
        for name, standing in passed:
            if standing.verdict is Verdict.PROBE and self._units[name].breaker.claim(request_id, now):
                return name
        return ""

    def _panic(self, passed: tuple[tuple[str, Standing], ...], operation: Operation.ValueType, now: float) -> Steering:
        """Nobody is left: the least bad ones, or nobody."""
        down = self._least_bad(passed)
        if down and (budget := self._units[down[0]].group.budget).balance(now) >= 1:
            budget.spend(now)
            return Steering(down, "", passed)
        if down:
            return Steering((), "", passed, Refusal(pb.FAULT_UNSPECIFIED, COME_BACK))
        rests = [rest for name, _ in passed if (rest := self._units[name].resting(now, operation)) is not None]
        if not rests:  # the last rest ended since the state was made
            return Steering([name for name, _ in passed], "", passed)
        soonest = min(rests, key=lambda rest: rest.until)
        return Steering((), "", passed, Refusal(soonest.fault, soonest.until - now))
