"""How all deployments stand at one moment: what decisions read, unchanged while they read it."""

from collections.abc import Iterable
from typing import Final

from polyroute.api.chat.v1.chat_pb2 import OPERATION_UNSPECIFIED, Operation
from polyroute.router.health.scores import UNKNOWN
from polyroute.router.health.unit import Standing, Unit, Verdict

_NEW: Final = Standing(Verdict.ALLOWED, "", 0.0, 1.0, UNKNOWN)


class State:
    """How all deployments stand at a version; each is worked out when it is first asked for, and then stays.

    Args:
        version: Grows with every change.
        at: The time.
        units: The deployments.
        troubled: Names of those that anything keeps calls from.
    """

    __slots__ = ("_standings", "_units", "at", "troubled", "version")

    def __init__(self, version: int, at: float, units: dict[str, Unit], troubled: frozenset[str]) -> None:
        self.version = version
        self.at = at
        self.troubled = troubled
        self._units = units
        self._standings: dict[tuple[str, int], Standing] = {}

    def of(self, deployment: str, operation: Operation.ValueType = OPERATION_UNSPECIFIED) -> Standing:
        """How a deployment stands, for an operation or as a whole."""
        key = (deployment, operation)
        found = self._standings.get(key)
        if found is None:
            unit = self._units.get(deployment)
            if unit is None:
                return _NEW
            if operation and operation not in unit.gone:
                return self.of(deployment)
            found = self._standings[key] = unit.standing(self.at, operation)
        return found

    def stale(self, deployments: Iterable[str]) -> list[str]:
        """Those of some deployments that may be tried and whose figures are old or missing."""
        standings = ((name, self.of(name)) for name in deployments)
        return [name for name, one in standings if one.verdict is Verdict.ALLOWED and one.figures.stale]
