"""What begins to rest, and what other routers say of it: a vendor's refusal is true for all that use the same key.

What is known of a rest stands in the `Cooldown` of its deployment or provider; here is the news of it.
"""

from typing import Final, NamedTuple

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED, Operation
from polyroute.api.errors.v1.errors_pb2 import Fault
from polyroute.router.health.chronicle import Chronicle, Turn, What
from polyroute.router.health.cooldown import of_operation, of_provider
from polyroute.router.health.fleet import Fleet
from polyroute.router.health.outcomes import RESTS, Outcome, word_of
from polyroute.router.health.unit import Unit

MOST: Final = 2000  # pieces of news that are kept: where nothing is shared, nobody takes them


class Resting(NamedTuple):
    """Something that is left alone, as routers tell each other.

    Args:
        name: Of a deployment, or of a provider, whose keys all its deployments are asked with.
        provider: It is a provider's.
        fault: Why.
        seconds: How long from now.
        operation: The only one that rests; OPERATION_UNSPECIFIED stands for all.
    """

    name: str
    provider: bool
    fault: Fault.ValueType
    seconds: float
    operation: Operation.ValueType = OPERATION_UNSPECIFIED


class Rests:
    """The rests of a fleet, as one router and the others learn of them.

    Args:
        fleet: The deployments.
        chronicle: Is told what begins to rest.
    """

    def __init__(self, fleet: Fleet, chronicle: Chronicle) -> None:
        self._fleet = fleet
        self._chronicle = chronicle
        self._news: list[Resting] = []  # that began here, and were not yet taken

    def take(self) -> list[Resting]:
        """What began to rest here since the last time, for other routers."""
        taken, self._news = self._news, []
        return taken

    def refused(self, unit: Unit, outcome: Outcome, now: float) -> bool:
        """An attempt met a refusal that waiting may mend; whether its deployment rests only since now."""
        operation = of_operation(outcome.fault, outcome.operation)
        rested = unit.resting(now, operation) is not None
        whole = of_provider(outcome)
        place = unit.house if whole else unit.place(outcome.fault, operation)
        place.rest(outcome, now)
        current = place.current(now)
        if current is not None:
            name = unit.member.provider if whole else unit.name
            resting = Resting(name, whole, outcome.fault, current.until - now, operation)
            if len(self._news) < MOST:
                self._news.append(resting)
            if not rested:
                self._chronicle.add(_turn(resting))
        if rested:
            return False
        self._fleet.touch(one for one in self._fleet.units.values() if one.house is unit.house)
        return True

    def told(self, told: Resting, now: float) -> bool:
        """Another router says what rests; whether that was news. Nothing shorter than what is known here is."""
        if told.fault not in RESTS:
            return False
        fleet = self._fleet
        unit = fleet.units.get(told.name)
        own = unit.place(told.fault, told.operation) if unit else None
        place = fleet.houses.get(told.name) if told.provider else own
        if place is None:
            return False
        known = place.current(now)
        if known is not None and known.until >= now + told.seconds - 1:
            return False
        place.rest(Outcome(fault=told.fault, retry_after=told.seconds), now)
        if known is None:
            self._chronicle.add(_turn(told)._replace(told=True))
        fleet.touch(one for one in fleet.units.values() if one is unit or one.house is place)
        return True


def _turn(resting: Resting) -> Turn:
    what = What.PROVIDER_RESTS if resting.provider else What.RESTS
    reason = word_of(resting.fault)
    return Turn(what, resting.name, reason, seconds=resting.seconds, operation=resting.operation)
