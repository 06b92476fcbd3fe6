"""Decisions are kept off the path of a call, and come back whole: the same plan, whatever has changed since."""

from collections.abc import AsyncGenerator
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polyroute.api.errors.v1.errors_pb2 import REASON_NOT_FOUND
from polyroute.api.router.v1 import router_pb2 as pb
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from polyroute.mesh.errors import MeshError
from polyroute.router.config import CatalogConfig
from polyroute.router.decide import Decided, decide
from polyroute.router.explaining import apply, replay
from polyroute.router.journal import Journal, Limits, merged
from polyroute.router.snapshot import CatalogStore
from polyroute.router.store import DecisionRow, Kept, SlateRow, Store
from tests.databases import prepare
from tests.fakes.catalogs import NOW, ask, opened
from tests.unit.router.live import live, spread, window
from tests.unit.router.test_replay import DEPLOYMENTS, FIGURES, POLICIES, WISHES

PAIR = """
models:
  m:
    deployments:
      - {provider: p, model: a, price: {input: 1, output: 1}}
      - {provider: q, model: b, price: {input: 9, output: 9}}
aliases: {fast: {m: 1}}
"""
LIMITS = Limits(days=14, max_bytes=1 << 30)


class Memory:
    """An archive without a file."""

    def __init__(self) -> None:
        self.rows: list[DecisionRow] = []
        self.bodies: dict[bytes, bytes] = {}
        self.failing = False

    async def keep(self, decisions: Any, slates: Any) -> None:
        """Stores them, unless told to fail."""
        if self.failing:
            raise OSError("told to")
        self.rows += decisions
        self.bodies |= {slate.digest: slate.record for slate in slates}

    async def decision(self, request_id: str) -> Kept | None:
        """The newest of a call."""
        found = [row for row in self.rows if row.request_id == request_id]
        return Kept(found[-1].planned, found[-1].record, self.bodies[found[-1].slate]) if found else None

    async def decisions(self, start_us: int, end_us: int, after: int, limit: int) -> list[tuple[int, bytes, bytes]]:
        """Rows are numbered from 1."""
        rows = [(i, row.slate, row.record) for i, row in enumerate(self.rows, 1) if start_us <= row.time_us < end_us]
        return [row for row in rows if row[0] > after][:limit]

    async def slates(self, digests: Any) -> dict[bytes, bytes]:
        """By digest."""
        return {digest: self.bodies[digest] for digest in digests}

    async def forget(self, before_us: int, max_bytes: int) -> int:
        """Nothing."""
        return 0


@pytest.fixture
def memory() -> Memory:
    """An empty archive."""
    return Memory()


@pytest.fixture
def journal(memory: Memory) -> Journal:
    """Writes to it."""
    return Journal(memory, LIMITS, clock=lambda: NOW)


@pytest.fixture
async def store(tmp_path: Path, database: DatabaseConfig) -> AsyncGenerator[Store]:
    """The real one, on each kind of database."""
    async with Store.open(locate("router", prepare(tmp_path), shared=database)) as opened_store:
        yield opened_store


def full(request: pb.DecideRequest, store: CatalogStore) -> pb.DecideResponse:
    """The decision with its record as it is given to whoever asks at once."""
    asking = pb.DecideRequest()
    asking.CopyFrom(request)
    asking.explain = True
    response = decide(asking, store.view, NOW)
    response.record.request.explain = False
    return response


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DEPLOYMENTS, POLICIES, FIGURES, WISHES, st.integers(0, 99), st.integers(0, 4000))
async def test_whatever_was_decided_comes_back(
    memory: Memory,
    deployments: list[dict[str, Any]],
    policy: dict[str, Any],
    figures: dict[str, tuple[float, float, float]],
    wishes: pb.Preferences,
    number: int,
    tokens: int,
) -> None:
    """The kept record is the full one bit for bit, though catalog and figures are others by then."""
    tree = {"models": {"m": {"deployments": deployments}}, "policies": {"x": policy}, "routing": {"policy": "x"}}
    store = CatalogStore(CatalogConfig.model_validate(tree))
    windows = {name: window(rate, spread(late), spread(fast)) for name, (rate, late, fast) in figures.items()}
    store.measure(live(**windows))
    request = ask("m", f"r-{number}", input_tokens_estimate=tokens)
    request.preferences.CopyFrom(wishes)
    request.caller.key_id, request.sticky_key = "key_1", "someone"
    journal = Journal(memory, LIMITS, clock=lambda: NOW)
    try:
        issued = decide(request, store.view, NOW, journal.note)
    except MeshError:
        return
    whole = full(request, store)
    await journal.flush()
    store.measure(live(2))
    store.configure(CatalogConfig.model_validate({"models": {"other": {"deployments": ["p/z"]}}}))

    again = await Journal(memory, LIMITS, clock=lambda: NOW).explain(request.request_id)

    assert issued.plan.SerializeToString(deterministic=True) == again.plan.SerializeToString(deterministic=True)
    assert whole.record == again.record
    assert issued.plan == replay(again.record).plan


async def test_calls_of_a_kind_share_what_is_the_same(journal: Journal, memory: Memory) -> None:
    """A thousand calls add a thousand small rows and one large one."""
    store = opened(PAIR, "p", "q")
    for i in range(1000):
        decide(ask("m", f"r-{i}"), store.view, NOW, journal.note)
    await journal.flush()

    assert (1000, 1) == (len(memory.rows), len(memory.bodies))
    assert 250 > sum(len(row.record) for row in memory.rows) / 1000


async def test_refusals_are_kept_too(journal: Journal) -> None:
    """Nobody could serve the call: the record says what stood in each deployment's way, and there is no plan."""
    store = opened(PAIR, "p", "q")
    request = ask("m")
    request.preferences.max_price.input = 1
    with pytest.raises(MeshError, match="no deployment of 'm' can serve this call"):
        decide(request, store.view, NOW, journal.note)

    response = await journal.explain("r-1")

    assert not response.HasField("plan")
    assert [("p/a", 0, False), ("q/b", 0, False)] == [
        (one.deployment, one.position, all(verdict.passed for verdict in one.verdicts))
        for one in response.record.candidates
    ]


async def test_what_only_the_moment_knew_is_kept(journal: Journal) -> None:
    """Alias, reason and time are no part of a replay, and still told."""
    decide(ask("fast"), opened(PAIR, "p", "q").view, NOW, journal.note)

    record = (await journal.explain("r-1")).record

    assert ("fast -> m", "no rule", int(NOW)) == (record.alias, record.policy_reason, record.decide_time.seconds)


async def test_unknown_call(journal: Journal) -> None:
    """No record, and a reason that says so."""
    with pytest.raises(MeshError, match="no decision of call 'r-9' is kept") as caught:
        await journal.explain("r-9")

    assert REASON_NOT_FOUND == caught.value.reason


async def test_memory_is_bounded(memory: Memory) -> None:
    """Beyond the room decisions are dropped, and no call notices."""
    journal = Journal(memory, LIMITS, clock=lambda: NOW, room=3)
    store = opened(PAIR, "p", "q")
    for i in range(5):
        decide(ask("m", f"r-{i}"), store.view, NOW, journal.note)
    await journal.flush()

    assert ["r-0", "r-1", "r-2"] == [row.request_id for row in memory.rows]


async def test_what_could_not_be_written_waits(journal: Journal, memory: Memory) -> None:
    """A disk that fails loses nothing that fits into memory, and nothing is written twice."""
    store = opened(PAIR, "p", "q")
    memory.failing = True
    decide(ask("m", "r-1"), store.view, NOW, journal.note)
    with pytest.raises(OSError, match="told to"):
        await journal.flush()
    decide(ask("m", "r-2"), store.view, NOW, journal.note)
    memory.failing = False
    await journal.flush()

    assert ["r-1", "r-2"] == [row.request_id for row in memory.rows]


async def test_pages_replay(journal: Journal) -> None:
    """A list of decisions holds what calls share once, and every one of it replays."""
    store = opened(PAIR, "p", "q")
    issued = {}
    for i in range(7):
        model = "m" if i % 2 else "m:latency"
        issued[f"r-{i}"] = decide(ask(model, f"r-{i}"), store.view, NOW + i, journal.note).plan
    found, token, shared = {}, "", 0
    while True:
        page = await journal.page(NOW, NOW + 6, 3, token, 0)
        shared = max(shared, len(page.shared))
        for record, place in zip(page.records, page.shared_indices, strict=True):
            found[record.request_id] = replay(merged(record, page.shared[place])).plan
        token = page.next_page_token
        if not token:
            break

    assert {name: plan for name, plan in issued.items() if name != "r-6"} == found
    assert 2 == shared


async def test_a_sample_is_the_same_sample(journal: Journal) -> None:
    """One of so many is chosen by the calls' ids."""
    store = opened(PAIR, "p", "q")
    for i in range(400):
        decide(ask("m", f"r-{i}"), store.view, NOW, journal.note)
    first = await journal.page(0, 0, 1000, "", 4)
    again = await journal.page(0, 0, 1000, "", 4)

    assert first == again
    assert 60 < len(first.records) < 140


def decided(store: CatalogStore, request_id: str, now: float = NOW) -> Decided:
    """A decision as the journal takes it."""
    found: list[Decided] = []
    decide(ask("m", request_id), store.view, now, found.append)
    return found[0]


async def test_restart(tmp_path: Path) -> None:
    """What one process wrote another reads."""
    catalogs = opened(PAIR, "p", "q")
    async with Store.open(locate("router", prepare(tmp_path))) as store:
        journal = Journal(store, LIMITS, clock=lambda: NOW)
        issued = decide(ask("m"), catalogs.view, NOW, journal.note)
        await journal.flush()
    async with Store.open(locate("router", prepare(tmp_path))) as store:
        again = await Journal(store, LIMITS, clock=lambda: NOW).explain("r-1")

    assert issued.plan == again.plan
    assert 0o600 == (tmp_path / "router.db").stat().st_mode & 0o777


async def test_age(store: Store) -> None:
    """What is too old goes, and what it shared with nobody else."""
    catalogs = opened(PAIR, "p", "q")
    journal = Journal(store, LIMITS, clock=lambda: NOW)
    journal.note(decided(catalogs, "old", NOW - 10))
    catalogs.measure(live(2, p__a=window()))
    journal.note(decided(catalogs, "new", NOW))
    await journal.flush()
    digests = [row[1] for row in await store.decisions(0, 2**62, 0, 9)]

    deleted = await store.forget(int((NOW - 5) * 1e6), 1 << 30)

    assert 1 == deleted
    assert [digests[1]] == list(await store.slates(digests))
    with pytest.raises(MeshError):
        await journal.explain("old")
    assert (await journal.explain("new")).HasField("plan")


async def test_size(store: Store) -> None:
    """The oldest make room when the file holds too much."""
    rows = [DecisionRow(f"r-{i}", i, b"digest", "p/a", bytes(4096)) for i in range(6000)]
    await store.keep(rows, [SlateRow(b"digest", 6000, b"body")])

    deleted = await store.forget(0, 10_000_000)

    left = await store.decisions(0, 2**62, 0, 10_000)
    assert deleted == 6000 - len(left) > 0
    assert 6000 == left[-1][0]
    assert {b"digest": b"body"} == await store.slates([b"digest"])


async def test_same_call_again_replaces(store: Store) -> None:
    """A call that is decided twice has one record, the last."""
    journal = Journal(store, LIMITS, clock=lambda: NOW)
    catalogs = opened(PAIR, "p", "q")
    journal.note(decided(catalogs, "r-1", NOW))
    await journal.flush()
    journal.note(decided(catalogs, "r-1", NOW + 5))
    await journal.flush()

    assert int(NOW) + 5 == (await journal.explain("r-1")).record.decide_time.seconds
    assert 1 == len(await store.decisions(0, 2**62, 0, 9))


def test_the_path_pays_for_an_append(memory: Memory) -> None:
    """Taking a decision costs no more than a few microseconds, on any machine that runs this."""
    journal = Journal(memory, LIMITS, clock=lambda: NOW, room=100_000)
    one = decided(opened(PAIR, "p", "q"), "r-1")
    best = min(_seconds(journal, one) for _ in range(5))

    assert 3e-6 > best


def _seconds(journal: Journal, one: Decided) -> float:
    began = perf_counter()
    for _ in range(2000):
        journal.note(one)
    return (perf_counter() - began) / 2000


async def test_what_health_changed_comes_back(journal: Journal) -> None:
    """A plan that was steered away from the ranking is kept as it was tried."""
    store = opened(PAIR, "p", "q")

    def steer(response: pb.DecideResponse, request: pb.DecideRequest) -> None:
        response.record.steered.extend(["q/b", "p/a"])
        response.record.retries_spent = True
        apply(response.record, response.plan)

    request = ask("m:price")
    request.reports.add(request_id="r-0", deployment="p/a")
    request.answering.add(request_id="r-9")
    issued = decide(request, store.view, NOW, journal.note, steer)

    again = await journal.explain("r-1")

    assert ["q/b", "p/a"] == [attempt.deployment for attempt in issued.plan.attempts]
    assert issued.plan == again.plan
    assert 0 == len(again.record.request.reports) + len(again.record.request.answering)
