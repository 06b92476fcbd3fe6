"""What rests is left alone, with all that use the same key; the routing of calls knows at once."""

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.router.health.order import Refusal
from polyroute.router.health.outcomes import Outcome
from polyroute.router.health.unit import Member, Verdict
from tests.unit.router.health.helpers import RATE, House


class TestResting:
    def test_until_it_may_come_back(self) -> None:
        """A limited deployment is left alone for as long as it asked, and no breaker opens."""
        house = House("a", "b")
        house.attempt("a", RATE, 10)
        found = house.health.state().of("a")
        before = house.order()
        house.clock.now += 20.5

        assert (Verdict.COOLING, "rate", 20.0) == found[:3]
        assert (["b"], {"a", "b"}) == (before, set(house.order()))

    def test_nobody_is_left(self) -> None:
        """The soonest to be back says when."""
        house = House("a", "b")
        house.attempt("a", RATE)
        house.attempt("b", RATE._replace(retry_after=7.0))

        assert Refusal(pb.FAULT_RATE, 7.0) == house.health.steer(house.names, "call").refusal

    def test_a_refused_key_is_the_providers(self) -> None:
        """Its other deployments use the same key."""
        house = House()
        house.health.arrange([Member("v/x", "x", "v"), Member("v/y", "y", "v"), Member("w/y", "y", "w")])
        house.attempt("v/x", Outcome(pb.FAULT_CREDENTIAL, status=401))
        before = house.health.steer(["v/y", "w/y"], "call").order
        house.health.forgive("v")

        assert (["w/y"], ["v/y", "w/y"]) == (before, house.health.steer(["v/y", "w/y"], "call").order)
