"""Files that cannot grow: what was taken on is charged when they can again, and nothing is taken on meanwhile."""

import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.auth.v1.ledger_pb2 import Settlement
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.router.v1.router_pb2 import Attempt, Price
from polyroute.edge.admission import Admission
from polyroute.edge.allowance import Allowances
from polyroute.edge.charging import ChargeRow
from polyroute.edge.intents import Intents
from polyroute.edge.purse import Allowance, Hold
from polyroute.edge.settler import Settler
from polyroute.mesh.errors import MeshError
from polyroute.mesh.spool import Spool
from tests.unit.edge.peers import CALLER, Clock

HERE = Attempt(deployment="a/x", model="x", price=Price(input=1_000_000, output=2_000_000))
FACTS = RequestFacts(operation=OPERATION_CHAT, model="x", input_tokens_estimate=10, max_output_tokens=5)


@contextmanager
def files_of_at_most(size: int) -> Generator[None]:
    """No file of this process grows beyond that: a write fails with an error, as it does on a full disk."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        with capture_logs():  # what catches the output of tests is a file too
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))


class Edge:
    """An edge with real files, and money."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder / "charges")
        self.intents = Intents(folder / "charges" / "intents")
        self.settler = Settler(self.spool, None)
        self.house = Allowances(None, None, self.settler, Clock(), Clock(), intents=self.intents)
        purse = self.house.purses.of("key_1", CALLER)
        purse.allowances.append(Allowance("alw", 10**9, 10**9, 0.0, Settlement(allowance_id="alw").SerializeToString()))

    async def call(self, name: str) -> Admission:
        """A call whose attempt is under way."""
        admission = await self.house.admit(Verdict(caller=CALLER, purse="key_1"), FACTS)
        await admission.hold(name, [HERE], FACTS)
        admission.sent(1, HERE)
        assert isinstance(admission.paid, Hold)
        return admission

    def written(self) -> list[tuple[str, int]]:
        """What the ledger will be told."""
        said = [Settlement.FromString(payload) for payload in self.spool.read()]
        return [(one.request_id, one.cost_nanos) for one in said]

    def close(self) -> None:
        """The end."""
        self.intents.close()
        self.spool.close()


async def test_what_is_under_way_is_charged_when_there_is_room_again(tmp_path: Path) -> None:
    """New work is refused until then; no restart, no charge lost, none twice; slots are left once charges are there."""
    edge = Edge(tmp_path)
    (await edge.call("before")).close([ChargeRow(1, Usage(), 20, "completed/2")], None)
    running = [await edge.call(f"r-{number}") for number in range(3)]
    with files_of_at_most(64):
        for admission in running:
            admission.close([ChargeRow(1, Usage(), 20, "completed/2")], None)
        with pytest.raises(MeshError) as refused:
            await edge.call("late")
        edge.house.checkpoints.note()
        kept = edge.intents.taken
    (await edge.call("after")).close([ChargeRow(1, Usage(), 20, "completed/2")], None)
    edge.house.checkpoints.note()
    said, taken = edge.written(), edge.intents.taken
    edge.close()

    assert pb.REASON_USAGE_UNAVAILABLE == refused.value.reason
    assert [(name, 20) for name in ("before", "r-0", "r-1", "r-2", "after")] == said
    assert (3, 0) == (kept, taken)


async def test_an_edge_that_starts_on_a_full_disk_takes_on_work_when_there_is_room(tmp_path: Path) -> None:
    """It starts all the same: what it has is to be shipped."""
    with files_of_at_most(64):
        edge = Edge(tmp_path)
        with pytest.raises(MeshError) as refused:
            await edge.call("early")
    (await edge.call("late")).close([ChargeRow(1, Usage(), 20, "completed/2")], None)
    said = edge.written()
    edge.close()

    assert (pb.REASON_USAGE_UNAVAILABLE, [("late", 20)]) == (refused.value.reason, said)
