"""Parts of settlements that many have in common, as bytes: a settlement on the path of a call is two or three of them.

Messages are merged when their bytes are joined
(https://protobuf.dev/programming-guides/encoding/#last-one-wins).
"""

from collections.abc import Hashable
from typing import Final, TypeVar

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.auth.v1.ledger_pb2 import Attribution, Settlement
from polyroute.api.chat.v1.chat_pb2 import Operation
from polyroute.api.router.v1.router_pb2 import Attempt
from polyroute.edge.charging import ONCE, ChargeRow

MODEL_CHARACTERS: Final = 64  # four bytes each at most, as the contract bounds it
KEPT: Final = 100_000  # of each kind

Origin = tuple[str, str, str]
"""Where an attempt went: deployment, public model, and the version of the price."""

K = TypeVar("K", bound=Hashable)


def origin_of(attempt: Attempt) -> Origin:
    """Where an attempt goes."""
    return attempt.deployment, attempt.model, attempt.price.version


class Heads:
    """Parts of settlements that many have in common, as bytes, made once each."""

    def __init__(self) -> None:
        self._callers: dict[tuple[str, int], bytes] = {}
        self._kinds: dict[tuple[int, str], bytes] = {}
        self._origins: dict[tuple[Origin, str, bool], bytes] = {}

    def caller(self, caller: Caller, multiplier: int = ONCE) -> bytes:
        """Who pays, by the ids that the ledger keeps, and by what cost is multiplied for it, in millionths.

        The multiplier is said also where it changes nothing: else the ledger would take the one that is set when the
        charge is posted, and the record of the call would say another charge.
        """
        place = (caller.key_id, multiplier)
        head = self._callers.get(place)
        if head is None:
            ids = Caller(account_id=caller.account_id, project_id=caller.project_id, key_id=caller.key_id)
            head = _kept(self._callers, place, Settlement(caller=ids, multiplier_millionths=multiplier))
        return head

    def kind(self, operation: Operation.ValueType, provider: str) -> bytes:
        """What kind of work an attempt is, and at whose."""
        place = (operation, provider)
        head = self._kinds.get(place)
        if head is None:
            said = Settlement(attribution=Attribution(operation=operation, provider=provider))
            head = _kept(self._kinds, place, said)
        return head

    def origin(self, origin: Origin, rule: str = "", *, estimated: bool = False) -> bytes:
        """Where an attempt went, and by which rule it is charged."""
        place = (origin, rule, estimated)
        head = self._origins.get(place)
        if head is None:
            deployment, model, version = origin
            said = Settlement(rule=rule, price_version=version, deployment=deployment, model=model[:MODEL_CHARACTERS])
            if estimated:  # all that the ledger asks of what was used
                said.usage.estimated = True
            head = _kept(self._origins, place, said)
        return head

    def charge(self, request_id: str, origin: Origin, row: ChargeRow) -> bytes:
        """What an attempt is charged, without who pays."""
        attempt, usage, cost, rule = row
        said = Settlement(request_id=request_id, attempt=attempt, cost_nanos=cost)
        return self.origin(origin, rule, estimated=usage.estimated) + said.SerializeToString()


def _kept(kept: dict[K, bytes], name: K, said: Settlement) -> bytes:
    if len(kept) >= KEPT:
        kept.clear()
    head = kept[name] = said.SerializeToString()
    return head
