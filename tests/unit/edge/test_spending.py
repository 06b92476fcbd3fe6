"""What keys of each spend class may use."""

from typing import Any

import pytest

from polyroute.api.auth.v1.auth_pb2 import (
    SPEND_CLASS_ANY,
    SPEND_CLASS_FREE,
    SPEND_CLASS_INCLUDED,
    KeyScope,
    SpendClass,
    Verdict,
)
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt, Price, PriceTier
from polyroute.edge.capacity import Rooms
from polyroute.edge.spending import is_free, payable, purse_of
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import CALLER
from tests.unit.edge.test_allowance import CHEAP, UNPRICED, Counter

FREE = Attempt(deployment="f/x", model="m", price=Price(version="v1"))
LATER = Price(tiers=[PriceTier(above=1000, price=Price(output=1))])
FACTS = RequestFacts(operation=OPERATION_CHAT, model="m", input_tokens_estimate=10, max_output_tokens=10)


def of_class(spend_class: SpendClass.ValueType, purse: str = "") -> Verdict:
    """A key of a class."""
    return Verdict(caller=CALLER, purse=purse, scope=KeyScope(spend_class=spend_class))


@pytest.mark.parametrize(
    ("price", "free"),
    [
        (Price(version="v"), True),
        (Price(other={"images": 0}), True),
        (Price(input=1), False),
        (Price(cache_write=1), False),
        (Price(request=1), False),
        (Price(other={"images": 1}), False),
        (LATER, False),
    ],
)
def test_free_is_what_costs_nothing_however_long(price: Price, free: bool) -> None:
    """Every rate of every tier."""
    assert free == is_free(price)


@pytest.mark.parametrize(
    ("verdict", "purse", "able"),
    [
        (of_class(SPEND_CLASS_ANY), "", ["", "a/x", "f/x"]),
        (of_class(SPEND_CLASS_ANY, "acc_1"), "acc_1", ["a/x", "f/x"]),
        (of_class(SPEND_CLASS_INCLUDED), CALLER.key_id, ["a/x", "f/x"]),
        (of_class(SPEND_CLASS_INCLUDED, "acc_1"), CALLER.key_id, ["a/x", "f/x"]),
        (of_class(SPEND_CLASS_FREE, "acc_1"), "", ["f/x"]),
    ],
)
def test_a_class_says_who_pays_and_where_a_key_may_go(verdict: Verdict, purse: str, able: list[str]) -> None:
    """A narrow key pays from a purse of its own, or not at all."""
    found = payable(verdict, [Attempt(model="m"), CHEAP, FREE])

    assert (purse, able) == (purse_of(verdict), [attempt.deployment for attempt in found])


async def test_a_free_key_holds_nothing_and_is_refused_what_costs() -> None:
    """Though its account has a budget; the refusal says why."""
    counter = Counter()
    verdict = of_class(SPEND_CLASS_FREE, "acc_1")
    admission = await counter.allowances.admit(verdict, FACTS)
    clamp = await admission.hold("r", [CHEAP, FREE], FACTS)
    with pytest.raises(MeshError, match="only what is free") as caught:
        await admission.hold("s", [CHEAP, UNPRICED], FACTS)

    assert (None, []) == (clamp, counter.ledger.asked)
    assert (pb.REASON_NOT_PERMITTED, "spend_class") == (caught.value.reason, caught.value.metadata["cause"])


async def test_an_included_key_is_a_purse_of_its_own() -> None:
    """Auth is asked for it even where no budget is hard."""
    counter = Counter()
    counter.ledger.money = 1000
    admission = await counter.allowances.admit(of_class(SPEND_CLASS_INCLUDED), FACTS)
    await admission.hold("r", [CHEAP], FACTS)

    assert [CALLER.key_id] == [asked.purse for asked in counter.ledger.asked]


async def test_deployments_that_a_key_may_not_pay_for_are_passed_over() -> None:
    """As those that are full; when nothing else is left, the caller is told what it is."""
    rooms = Rooms(Counter().allowances.capacity, of_class(SPEND_CLASS_FREE))
    plan: list[Any] = [CHEAP, FREE]
    taken = [await rooms.take(index, attempt, FACTS) for index, attempt in enumerate(plan)]

    assert [False, True] == taken
    assert {0} == rooms.full.keys()
    assert pb.REASON_NOT_PERMITTED == rooms.refusal().reason
