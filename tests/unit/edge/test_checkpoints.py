"""What running attempts are charged if this process dies."""

from pathlib import Path
from typing import Any

import pytest

from polyroute.api.auth.v1.auth_pb2 import Verdict
from polyroute.api.auth.v1.ledger_pb2 import Settlement
from polyroute.api.chat.v1.chat_pb2 import OPERATION_CHAT, RequestFacts, Usage
from polyroute.api.errors.v1 import errors_pb2 as pb
from polyroute.api.metrics.v1.metrics_pb2 import OUTCOME_COMPLETED, AppendRequest, AttemptRecord, CallRecord
from polyroute.api.providers.v1.providers_pb2 import Finished
from polyroute.api.router.v1.router_pb2 import BILLED_PART_NOTHING, Attempt, Billing, Price
from polyroute.edge.allowance import Allowances
from polyroute.edge.record import record_of
from polyroute.edge.recorder import Recorder
from polyroute.edge.settler import LOST_SECONDS, UNCHARGED_RULE, Settler, succeed
from polyroute.edge.trail import Trail
from polyroute.mesh.errors import MeshError
from tests.unit.edge.peers import CALLER, Clock, MemorySpool, charges_of

PRICE = Price(input=1_000_000, output=2_000_000, version="v1")
HERE = Attempt(deployment="a/x", model="x", price=PRICE)


class Edge:
    """An edge without a ledger at its other end."""

    def __init__(self) -> None:
        self.spool = MemorySpool()
        self.clock = Clock()
        self.settler = Settler(self.spool, None)  # type: ignore[arg-type] # what of a spool is used
        self.allowances = Allowances(None, None, self.settler, self.clock, self.clock, longest=600, holder="life-1")

    async def call(self, attempt: Attempt = HERE) -> Trail:
        """A call that nothing bounds, whose attempt is under way."""
        facts = RequestFacts(operation=OPERATION_CHAT, model="x", input_tokens_estimate=10)
        trail = Trail("r", facts=facts, caller=CALLER)
        trail.admission = await self.allowances.admit(Verdict(caller=CALLER), facts)
        trail.trying(attempt)
        return trail

    @property
    def written(self) -> list[Settlement]:
        """What is on disk."""
        return [Settlement.FromString(payload) for payload in self.spool.payloads]


async def test_a_running_attempt_costs_its_prompt_and_what_was_relayed_so_far() -> None:
    """Each note replaces the one before; once it is over there are no more."""
    edge = Edge()
    trail = await edge.call()
    edge.allowances.checkpoints.note()
    trail.content_events = 7
    edge.allowances.checkpoints.note()
    trail.left()
    edge.allowances.checkpoints.note()

    said = [(one.request_id, one.attempt, one.cost_nanos, one.checkpoint, one.holder) for one in edge.written]
    assert [("r", 1, 10, True, "life-1"), ("r", 1, 24, True, "life-1")] == said
    lost = edge.written[0].expire_time.seconds - edge.clock()
    assert 600 + LOST_SECONDS <= lost <= 600 + LOST_SECONDS + 1
    assert (CALLER.key_id, "a/x", "x") == (
        edge.written[0].caller.key_id,
        edge.written[0].deployment,
        edge.written[0].model,
    )


async def test_what_the_vendor_reported_stands_before_any_estimate() -> None:
    """In mid-stream as well."""
    edge = Edge()
    trail = await edge.call()
    trail.usage = Usage(input_tokens=100, output_tokens=1)
    edge.allowances.checkpoints.note()

    assert [102] == [one.cost_nanos for one in edge.written]


async def test_unknown_prices_and_full_disks_are_no_errors() -> None:
    """Nothing is noted; the last note stands."""
    edge = Edge()
    unpriced = await edge.call(Attempt(deployment="a/x"))
    none = edge.allowances.checkpoints.note()
    unpriced.left()
    await edge.call()
    edge.spool.failure = MeshError(pb.REASON_USAGE_UNAVAILABLE, "full")

    assert (0, 0) == (none, edge.allowances.checkpoints.note())


async def test_what_a_vendor_reported_of_one_attempt_is_not_charged_for_the_next() -> None:
    """Each is a row of its own, by its own vendor's rules."""
    edge = Edge()
    trail = await edge.call(Attempt(deployment="a/x", price=PRICE, billing=Billing(failure=BILLED_PART_NOTHING)))
    trail.usage = Usage(input_tokens=4, output_tokens=1)
    trail.failed(MeshError.upstream(pb.FAULT_SERVER, "down"))
    trail.trying(HERE)
    trail.completed(Usage(input_tokens=5), Finished())
    record = record_of(trail)

    assert [(1, 6, "failed/2"), (2, 5, "completed/2")] == [
        (row.attempt, row.cost_nanos, row.rule) for row in record.charges
    ]
    assert (11, 9) == (record.cost_nanos, record.usage.input_tokens)


async def test_a_plain_call_has_no_rows_in_its_record() -> None:
    """It says all of it already, and costs its path no more than a flag."""
    edge = Edge()
    trail = await edge.call()
    trail.completed(Usage(input_tokens=5), Finished())
    record = record_of(trail)

    assert ([], False, 5) == (list(record.charges), record.held, record.cost_nanos)


async def test_records_are_charged_once_however_often_metrics_is_away() -> None:
    """They go out again and again; their charges are on the disk."""
    edge = Edge()
    sent: list[AppendRequest] = []

    class Metrics:
        away = True

        async def Append(self, request: AppendRequest, **_: float) -> None:
            if self.away:
                raise MeshError(pb.REASON_SERVICE_UNAVAILABLE, "away")
            sent.append(request)

    metrics: Any = Metrics()
    recorder = Recorder(MemorySpool(), metrics, edge.settler.charge)  # type: ignore[arg-type] # the same
    record = CallRecord(
        request_id="r", caller=CALLER, outcome=OUTCOME_COMPLETED, cost_nanos=7, attempts=[AttemptRecord()]
    )
    for _ in range(2):
        with pytest.raises(MeshError):
            await recorder.send([record.SerializeToString()])
    metrics.away = False
    await recorder.send([record.SerializeToString()])

    assert [("r", 7)] == [(one.request_id, one.cost_nanos) for one in edge.written]
    assert 1 == len(sent)


def test_a_life_knows_the_one_before(tmp_path: Path) -> None:
    """By its name in the folder that both have."""
    file = tmp_path / "holder"

    assert ["", "first", "second"] == [succeed(file, name) for name in ("first", "second", "third")]


async def test_a_call_that_costs_nothing_takes_its_checkpoint_back() -> None:
    """However short it was: a note may fall into any moment of it, and would stand for a call that was interrupted."""
    edge = Edge()
    free = await edge.call(Attempt(deployment="a/x", model="x", price=Price(version="free")))
    quick = await edge.call(Attempt(deployment="a/x", model="x", price=Price(version="free")))
    quick.completed(Usage(input_tokens=3), Finished())
    edge.allowances.checkpoints.note()
    free.completed(Usage(input_tokens=3, output_tokens=2), Finished())

    assert [(1, 0, UNCHARGED_RULE)] == [
        (one.attempt, one.cost_nanos, one.rule) for one in charges_of([record_of(free)])
    ]
    assert [] == list(charges_of([record_of(quick)]))
