"""Which deployments there are: a new catalog, a deployment that moves, names that callers think of."""

from polyroute.router.health.fleet import STRANGERS
from polyroute.router.health.unit import Member
from tests.unit.router.health.helpers import BAD, House


class TestCatalog:
    def test_those_that_stay_are_remembered(self) -> None:
        """A new catalog does not make a bad deployment a good one; one that goes is forgotten."""
        house = House("a", "b", "c")
        house.attempt("a", BAD, 5)
        house.attempt("c", BAD, 5)
        house.health.arrange([Member("a", "model", "a-vendor"), Member("b", "model", "b-vendor")])
        house.health.arrange(Member(name, "model", f"{name}-vendor") for name in ("a", "b", "c"))

        assert {"b", "c"} == set(house.order())

    def test_another_model(self) -> None:
        """A deployment that is moved belongs to its new model from then on."""
        house = House("a", "b")
        house.health.arrange([Member("a", "model", "a-vendor"), Member("b", "other", "new-vendor", keys=2)])
        house.attempt("a", BAD, 5)
        panic = [house.order(f"call-{number}") for number in range(5)]

        assert [["b"]] * 5 == panic

    def test_strangers(self) -> None:
        """Names without number that callers think of take a bounded place."""
        house = House("a")
        for number in range(STRANGERS + 500):
            house.attempt(f"open/{number}")

        assert STRANGERS + 1 == len(house.health._units)
        assert "a" in house.health._units
