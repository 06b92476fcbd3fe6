"""When every deployment of a model is down: who is tried all the same, and who is told to come back."""

from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.router.health.order import Refusal
from tests.unit.router.health.helpers import BAD, GOOD, House


class TestPanic:
    def down(self) -> House:
        house = House("a", "b")
        house.attempt("b", GOOD, 10)
        house.attempt("b", BAD, 5)
        house.attempt("a", BAD, 5)
        return house

    def test_the_least_bad_first(self) -> None:
        """When all are bad, the one that failed least is tried."""
        assert ["b", "a"] == self.down().order()

    def test_as_far_as_the_budget_reaches(self) -> None:
        """A few calls try, the others are told at once to come back."""
        house = self.down()
        found = [house.health.steer(house.names, f"call-{number}") for number in range(100)]

        assert {Refusal(pb.FAULT_UNSPECIFIED, 1.0)} == {one.refusal for one in found if not one.order}
        assert 20 == sum(bool(one.order) for one in found)

    def test_comes_back_by_itself(self) -> None:
        """Three calls that are answered end it, without waiting for any ejection to end."""
        house = self.down()
        for number in range(3):
            name = house.order(f"call-{number}")[0]
            house.health.begin(name, f"call-{number}")
            house.health.end(name, f"call-{number}", GOOD)

        assert ["b"] == house.order()
        assert [["b"]] * 50 == [house.order(f"later-{number}") for number in range(50)]

    def test_a_single_deployment(self) -> None:
        """It is never ejected for good: a share of the calls still tries."""
        house = House("a")
        house.attempt("a", BAD, 5)
        orders = [house.order(f"call-{number}") for number in range(50)]

        assert [["a"]] * 3 + [[]] == orders[:4]
        assert 10 == orders.count(["a"])
