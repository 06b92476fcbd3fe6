"""What attempts under way are charged if their process dies."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.auth.v1.ledger_pb2 import Settlement
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.providers.v1.providers_pb2 import Finished
from polyroute.api.router.v1.router_pb2 import Attempt, Price
from polyroute.edge.allowance import Allowances
from polyroute.edge.intents import FEWEST, LONGEST, Intents
from polyroute.edge.record import record_of
from polyroute.edge.settler import UNCHARGED_RULE, Settler
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError
from tests.thorough import examples
from tests.unit.edge.peers import CALLER, Clock, MemorySpool

PRICE = Price(input=1_000_000, output=2_000_000, version="v1")
HERE = Attempt(deployment="a/x", model="x", price=PRICE)
FREE = Attempt(deployment="l/x", model="x", price=Price(version="free"))
FACTS = RequestFacts(operation=OPERATION_CHAT, model="x", input_tokens_estimate=10)


class Edge:
    """One life of an edge after another, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spool = MemorySpool()
        self.lives = 0
        self.begin()

    def begin(self) -> None:
        """A new life; what the one before had under way is not told it."""
        self.lives += 1
        self.settler = Settler(self.spool, None)  # type: ignore[arg-type] # what of a spool is used
        self.intents = Intents(self.folder / "intents")
        clock, name = Clock(), f"life-{self.lives}"
        self.house = Allowances(None, None, self.settler, clock, clock, holder=name, intents=self.intents)

    async def take_over(self) -> list[Settlement]:
        """What a new life says of the one before."""
        self.intents.close()
        self.begin()
        self.settler.end = _nothing  # type: ignore[method-assign, assignment] # there is no ledger
        before = len(self.spool.payloads)
        await self.house.checkpoints.take_over(f"life-{self.lives - 1}")
        return [Settlement.FromString(payload) for payload in self.spool.payloads[before:]]

    async def call(self, name: str, attempt: Attempt = HERE) -> Trail:
        """A call that nothing bounds, whose attempt is under way."""
        trail = Trail(name, facts=FACTS, caller=CALLER)
        trail.admission = await self.house.admit(Verdict(caller=CALLER), FACTS)
        trail.trying(attempt)
        return trail

    def over(self, trail: Trail) -> None:
        """Its record is written down, and it is closed, as the path of a call does it."""
        trail.recorded = True
        assert trail.admission is not None
        trail.admission.close((), trail.usage)


async def _nothing(_holder: str) -> None:
    """There is no ledger."""


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    """An edge."""
    made = Edge(tmp_path)
    yield made
    made.intents.close()


async def test_a_call_that_was_killed_at_once_costs_its_prompt(edge: Edge) -> None:
    """However short it was, and nothing bounds it; those that were over are not named, nor what costs nothing."""
    for number in range(3):
        done = await edge.call(f"done-{number}")
        done.completed(Usage(input_tokens=3), Finished())
        edge.over(done)
    await edge.call("killed")
    await edge.call("free", FREE)
    [lost] = await edge.take_over()

    assert ("killed", 1, 10, True, "life-1", "a/x") == (
        lost.request_id,
        lost.attempt,
        lost.cost_nanos,
        lost.checkpoint,
        lost.holder,
        lost.deployment,
    )
    assert CALLER == lost.caller
    assert [] == await edge.take_over()


async def test_an_unknown_price_is_lost_without_an_amount(edge: Edge) -> None:
    """As a call of such a price is charged that ends well."""
    await edge.call("killed", Attempt(deployment="a/x", model="x"))
    [lost] = await edge.take_over()

    assert not lost.HasField("cost_nanos")


async def test_the_other_one_of_two_attempts_has_the_place_of_the_first(edge: Edge) -> None:
    """What goes on is what is lost."""
    trail = await edge.call("r")
    first, second = trail.apart(1), trail.apart(2)
    first.trying(HERE)
    second.trying(HERE)
    trail.joined(second, first)
    lost = await edge.take_over()

    assert {("r", 1), ("r", 2)} == {(one.request_id, one.attempt) for one in lost}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("answers", [1, 2])
async def test_two_attempts_at_once_leave_their_places(edge: Edge, *, whole: bool, answers: int) -> None:
    """Whichever of them answers, at once or bit by bit."""
    trail = await edge.call("r")
    both = [trail.apart(1), trail.apart(2)]
    for one in both:
        one.trying(HERE)
    begun = edge.intents.taken
    winner, loser = both[answers - 1], both[2 - answers]
    if whole:
        winner.completed(Usage(input_tokens=3), Finished())
    trail.joined(winner, loser)
    if not whole:
        trail.completed(Usage(input_tokens=3), Finished())
    before = edge.intents.taken
    edge.over(trail)

    assert (2, True, 0) == (begun, before > 0, edge.intents.taken)
    assert 0 == edge.house.checkpoints.running


async def test_an_attempt_that_failed_beside_another_leaves_its_place(edge: Edge) -> None:
    """When the call is on record, and not before."""
    trail = await edge.call("r")
    first, second = trail.apart(1), trail.apart(2)
    first.trying(HERE)
    second.trying(HERE)
    second.failed(MeshError.upstream(pb.FAULT_SERVER, "down"))
    trail.joined(first, second)
    trail.completed(Usage(input_tokens=3), Finished())
    lost = edge.intents.taken
    edge.over(trail)

    assert (True, 0, 0) == (lost > 0, edge.intents.taken, edge.house.checkpoints.running)


async def test_a_record_that_comes_late_says_what_a_lost_attempt_did_cost(edge: Edge) -> None:
    """It was written down before the process died, and nothing else of it was."""
    trail = await edge.call("r")
    trail.failed(MeshError.upstream(pb.FAULT_SERVER, "down"))
    trail.ended(MeshError.upstream(pb.FAULT_SERVER, "down"))
    record = record_of(trail)
    lost = await edge.take_over()
    edge.settler.charge([record])
    said = Settlement.FromString(edge.spool.payloads[-1])

    assert ["r"] == [one.request_id for one in lost]
    assert ("r", 1, 0, UNCHARGED_RULE) == (said.request_id, said.attempt, said.cost_nanos, said.rule)


async def test_what_cannot_be_taken_over_now_is_taken_over_later(edge: Edge) -> None:
    """A full disk at the start is no reason to forget."""
    await edge.call("killed")
    edge.intents.close()
    edge.begin()
    edge.settler.end = _nothing  # type: ignore[method-assign, assignment] # there is no ledger
    edge.spool.failure = MeshError(pb.REASON_USAGE_UNAVAILABLE, "full")
    with pytest.raises(MeshError):
        await edge.house.checkpoints.take_over("life-1")
    await edge.call("other")
    edge.spool.failure = None
    await edge.house.checkpoints.take_over("life-1")

    assert ["killed"] == [Settlement.FromString(payload).request_id for payload in edge.spool.payloads]
    assert ["other"] == [one.request_id for one in await edge.take_over()]


async def test_no_room_for_another_attempt_refuses_it(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there is room again; those that are under way keep their places."""

    def full(_fd: int, _offset: int, _length: int) -> None:
        raise OSError(28, "no space left on device")

    held = [await edge.call(f"r-{number}") for number in range(FEWEST)]
    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(MeshError) as refused:
        await edge.call("late")
    held[0].completed(Usage(input_tokens=3), Finished())
    edge.over(held[0])
    await edge.call("later")
    monkeypatch.undo()
    await edge.call("latest")

    assert pb.REASON_USAGE_UNAVAILABLE == refused.value.reason
    assert FEWEST + 1 == len(await edge.take_over())


async def test_what_is_too_long_for_a_slot_goes_to_the_ledger(edge: Edge) -> None:
    """As a checkpoint, which the record of the call takes back."""
    trail = await edge.call("r", Attempt(deployment="d" * LONGEST, model="x", price=PRICE))

    assert (["r"], True) == (
        [Settlement.FromString(payload).request_id for payload in edge.spool.payloads],
        trail.noted,
    )


class Slots(RuleBasedStateMachine):
    """Whatever is put and left, and whenever the process dies: what is found is what was not left."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.path = self.folder / f"{id(self)}"
        self.path.unlink(missing_ok=True)
        self.intents = Intents(self.path)
        self.said: dict[int, bytes] = {}

    def teardown(self) -> None:
        """The end."""
        self.intents.close()

    @rule(said=st.binary(min_size=1, max_size=LONGEST))
    def put(self, said: bytes) -> None:
        """An attempt begins."""
        slot = self.intents.put(said)
        assert slot not in self.said
        self.said[slot] = said

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """An attempt is settled."""
        if self.said:
            slot = data.draw(st.sampled_from(sorted(self.said)))
            self.intents.free(slot)
            del self.said[slot]

    @rule()
    def die(self) -> None:
        """A new life finds what was left open."""
        self.intents.close()
        self.intents = Intents(self.path)
        assert self.said == self.intents.inherited

    @invariant()
    def counted(self) -> None:
        """Every slot is free or taken."""
        assert len(self.said) == self.intents.taken


def test_slots_say_what_was_not_left(tmp_path: Path) -> None:
    """Held by a machine that does anything in any order."""
    Slots.folder = tmp_path
    Slots.TestCase.settings = settings(max_examples=examples(15, 500), stateful_step_count=20, deadline=None)
    Slots.TestCase().runTest()
