"""A model that is missing for one operation: it rests for that one, and for nothing else."""

from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, OPERATION_COMPLETION, OPERATION_EMBEDDING
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.router.health.order import Refusal
from polyroute.router.health.unit import Verdict
from tests.unit.router.health.helpers import BAD, GONE, GOOD, NO_VECTORS, House


class TestGone:
    def test_for_what_was_asked_only(self) -> None:
        """A vendor that has no such model for embeddings goes on with conversations."""
        house = House("a", "b")
        house.attempt("a", NO_VECTORS, 50)

        assert ["b"] == house.order(operation=OPERATION_EMBEDDING)
        assert ["a", "b"] == house.order(operation=OPERATION_CHAT)
        assert Verdict.ALLOWED == house.verdict("a")

    def test_until_it_is_asked_again(self) -> None:
        """After a minute, and then after two; a good answer to something else says nothing of it."""
        house = House("a", "b")
        house.attempt("a", NO_VECTORS)
        house.clock.now += 61.0
        house.attempt("a", GOOD._replace(operation=OPERATION_CHAT))
        again = house.order(operation=OPERATION_EMBEDDING)
        house.attempt("a", NO_VECTORS)
        house.clock.now += 61.0
        longer = house.order(operation=OPERATION_EMBEDDING)
        house.clock.now += 60.0
        house.attempt("a", GOOD._replace(operation=OPERATION_EMBEDDING))
        house.attempt("a", NO_VECTORS)
        house.clock.now += 61.0

        assert (["a", "b"], ["b"], ["a", "b"]) == (again, longer, house.order(operation=OPERATION_EMBEDDING))

    def test_nobody_has_it(self) -> None:
        """Who asks for that is told so at once, and when to ask again; nobody else notices."""
        house = House("a", "b")
        house.attempt("a", NO_VECTORS)
        house.clock.now += 10.0
        house.attempt("b", NO_VECTORS)
        steering = house.health.steer(house.names, "call", OPERATION_EMBEDDING)

        assert Refusal(pb.FAULT_MODEL_GONE, 50.0) == steering.refusal
        assert [("a", "model_gone", 50.0), ("b", "model_gone", 60.0)] == [
            (name, one.reason, one.number) for name, one in steering.passed
        ]
        assert ["a", "b"] == house.order(operation=OPERATION_COMPLETION)

    def test_one_that_is_ejected_is_no_way_out(self) -> None:
        """Of the two that are left the one that has the model is tried, although it fails."""
        house = House("a", "b")
        house.attempt("a", NO_VECTORS)
        house.attempt("b", BAD, 5)

        assert ["b"] == house.order(operation=OPERATION_EMBEDDING)
        assert ["a"] == house.order(operation=OPERATION_CHAT)

    def test_for_everything_when_nobody_says_what_was_asked(self) -> None:
        """As an edge of an older version reports it."""
        house = House("a", "b")
        house.attempt("a", GONE)

        assert [["b"], ["b"]] == [house.order(operation=one) for one in (OPERATION_CHAT, OPERATION_EMBEDDING)]

    def test_changed_keys(self) -> None:
        """Another key may be granted what the last one was not."""
        house = House("a", "b")
        house.attempt("a", NO_VECTORS)
        house.health.forgive("a-vendor")

        assert ["a", "b"] == house.order(operation=OPERATION_EMBEDDING)
