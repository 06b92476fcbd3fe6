"""kill -9 of whoever handles money, wherever it is: nothing that was acknowledged is lost, nothing is charged twice."""

import asyncio
import contextlib
import multiprocessing
import os
import random
import signal
import sqlite3
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import aiohttp

from bench.script import marker
from bench.vendor import Vendor
from polyroute.api.auth.v1 import admin_pb2, auth_pb2, limits_pb2
from polyroute.api.auth.v1.admin_pb2_grpc import AdminServiceStub
from polyroute.api.auth.v1.auth_pb2_grpc import AuthServiceStub
from polyroute.api.metrics.v1 import metrics_pb2
from polyroute.api.metrics.v1.metrics_pb2_grpc import MetricsServiceStub
from polyroute.auth.admin.secret import METADATA_KEY
from polyroute.auth.database import Database
from polyroute.auth.migrations.history import HISTORY
from polyroute.auth.money import audit
from polyroute.auth.money.charges import Charge
from polyroute.auth.money.entries import Payer
from polyroute.auth.money.holds import Wanted
from polyroute.auth.money.ledger import Ledger
from polyroute.cli.client import connected
from polyroute.cli.config import load
from polyroute.edge.settler import CHECKPOINT_SECONDS
from polyroute.mesh.database import locate
from tests.process.sites import SECONDS, TICK, Site, ask, ready, site, started

KILLS: Final = 20
PAYER: Final = Payer("acc_1", "prj_1", "key_1")
DOLLAR: Final = 10**9


async def _bounded_key(where: Site) -> str:
    """The secret of a key that has a hard budget."""
    async with connected(load(where.config, {})) as node:
        channel = node.channel("auth")
        made = await AuthServiceStub(channel).CreateKey(auth_pb2.CreateKeyRequest(name="bounded"), timeout=SECONDS)
        budget = limits_pb2.Budget(scope=made.key.id, period=limits_pb2.PERIOD_TOTAL, amount_nanos=DOLLAR, hard=True)
        secret = (where.data / "auth.db.admin").read_text().strip()
        await AdminServiceStub(channel).SetBudget(
            admin_pb2.SetBudgetRequest(budget=budget), timeout=SECONDS, metadata=((METADATA_KEY, secret),)
        )
    return str(made.secret)


def _rows(where: Site, query: str) -> list[Any]:
    """Of auth's database, while it is in use."""
    with sqlite3.connect(f"file:{where.data / 'auth.db'}?mode=ro", uri=True) as connection:
        return connection.execute(query).fetchall()


async def _seen(where: Site, query: str, count: int) -> list[Any]:
    """The rows, once there are so many."""
    async with asyncio.timeout(SECONDS):
        while len(found := _rows(where, query)) < count:
            await asyncio.sleep(TICK)
    return found


async def test_an_edge_that_is_killed_in_mid_stream_charges_what_it_had_relayed(tmp_path: Path) -> None:
    """With a budget and without one: by the last checkpoint, as soon as it is back; its money is free again."""
    async with Vendor() as vendor:
        where = site(tmp_path, vendor.origin)
        behind = ("serve", "auth", "metrics", "providers", "router")
        async with started(where, behind, ("serve", "edge")) as (_, edge):
            await ready(where)
            bounded = Site(where.directory, where.config, where.port, where.door, await _bounded_key(where))
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
                text = marker(chunks=200, gap=50)
                streams = [asyncio.create_task(ask(session, one, text)) for one in (where, bounded)]
                await _seen(where, "SELECT 1 FROM checkpoints", 2)
                await asyncio.sleep(CHECKPOINT_SECONDS * 1.5)
                os.kill(edge.pid, signal.SIGKILL)
                broken = await asyncio.gather(*streams)
            async with started(where, ("serve", "edge")):
                await ready(where)
                charged = await _seen(where, "SELECT amount, rule, estimated, key_id FROM ledger WHERE kind = 2", 2)
                await asyncio.sleep(0.2)
                open_holds = _rows(where, "SELECT id FROM holds")
                left = _rows(where, "SELECT request_id FROM checkpoints")

    assert [False, False] == [one.whole for one in broken]
    assert [("interrupted/1", 1)] * 2 == [(rule, estimated) for _, rule, estimated, _ in charged]
    assert 2 == len({key for *_, key in charged})
    assert all(amount > 0 for amount, *_ in charged)
    assert ([], []) == (open_holds, left)


async def test_a_call_that_is_killed_in_its_first_moment_is_charged(tmp_path: Path) -> None:
    """Nothing bounds it, and nobody but the edge's own disk had heard of it."""
    async with Vendor() as vendor:
        where = site(tmp_path, vendor.origin)
        behind = ("serve", "auth", "metrics", "providers", "router")
        async with started(where, behind, ("serve", "edge")) as (_, edge):
            await ready(where)
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
                whole = await ask(session, where)
                stream = asyncio.create_task(ask(session, where, marker(chunks=200, gap=50)))
                async with asyncio.timeout(SECONDS):
                    while not vendor.active:
                        await asyncio.sleep(TICK / 4)
                os.kill(edge.pid, signal.SIGKILL)
                await stream
            noted = _rows(where, "SELECT 1 FROM checkpoints")
            async with started(where, ("serve", "edge")):
                await ready(where)
                charged = await _seen(
                    where, "SELECT request_id, rule, amount FROM ledger WHERE kind = 2 ORDER BY id", 2
                )

    assert [] == noted
    assert ["completed/2", "interrupted/1"] == sorted(rule for _, rule, _ in charged)
    assert whole.request_id in {request_id for request_id, rule, _ in charged if rule == "completed/2"}
    assert all(amount > 0 for *_, amount in charged)


async def test_usage_has_calls_that_left_no_record(tmp_path: Path) -> None:
    """Under what they were for, with what the ledger charges: those of the first moment, and those that ran longer."""
    marks = {"x-polyroute-workflow": "w", "x-polyroute-tags": "team=a"}
    async with Vendor() as vendor:
        where = site(tmp_path, vendor.origin)
        behind = ("serve", "auth", "metrics", "providers", "router")
        async with started(where, behind, ("serve", "edge")) as (_, edge):
            await ready(where)
            bounded = Site(where.directory, where.config, where.port, where.door, await _bounded_key(where))
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
                streams = []
                for late, one in enumerate((where, bounded, where, bounded), -1):
                    streams.append(asyncio.create_task(_broken_off(session, one, marks)))
                    if late == 0:
                        await _seen(where, "SELECT 1 FROM checkpoints", 2)
                        await asyncio.sleep(CHECKPOINT_SECONDS * 1.5)
                async with asyncio.timeout(SECONDS):
                    while vendor.active < len(streams):
                        await asyncio.sleep(TICK / 4)
                os.kill(edge.pid, signal.SIGKILL)
                await asyncio.gather(*streams)
            async with started(where, ("serve", "edge")):
                await ready(where)
                await _seen(where, "SELECT 1 FROM ledger WHERE rule = 'interrupted/1'", 4)
                charged = sum(amount for (amount,) in _rows(where, "SELECT amount FROM ledger WHERE kind = 2"))
                rows = await _usage(where, 4)

    expected = [["w", "a", "chat", "bench-model"]]
    assert expected == [list(row.values) for row in rows]
    assert [(4, 4, charged, charged)] == [
        (row.calls, row.failed_calls, row.charged_nanos, row.cost_nanos) for row in rows
    ]
    assert rows[0].usage.estimated
    assert 0 < rows[0].usage.input_tokens < rows[0].usage.output_tokens  # without the last checkpoints there were none


async def _broken_off(session: aiohttp.ClientSession, where: Site, marks: dict[str, str]) -> None:
    """A stream whose gateway is killed."""
    body: dict[str, Any] = {"model": "bench-model", "stream": True}
    body["messages"] = [{"role": "user", "content": marker(chunks=200, gap=50)}]
    with contextlib.suppress(aiohttp.ClientError):
        async with session.post(
            f"{where.url}/v1/chat/completions", json=body, headers=where.headers | marks
        ) as response:
            await response.read()


async def _usage(where: Site, calls: int) -> list[metrics_pb2.UsageRow]:
    """Usage by what calls were for, once there are so many."""
    by = ("WORKFLOW", "TAG", "OPERATION", "MODEL")
    request = metrics_pb2.QueryUsageRequest(tag_names=["team"])
    request.group_by.extend(metrics_pb2.UsageDimension.Value(f"USAGE_DIMENSION_{name}") for name in by)
    async with connected(load(where.config, {})) as node, asyncio.timeout(SECONDS):
        stub = MetricsServiceStub(node.channel("metrics"))
        while True:
            rows = list((await stub.QueryUsage(request, timeout=SECONDS)).rows)
            if sum(row.calls for row in rows) >= calls:
                return rows
            await asyncio.sleep(TICK)


async def _writes(folder: str, name: str, acked: Connection) -> None:
    """Holds and charges as fast as it can; says which were acknowledged."""
    database = Database(locate("auth", Path(folder)))
    ledger = Ledger(database, lambda _: None)
    number = 0
    while True:
        calls = [f"{name}-{number + place}" for place in range(4)]
        number += len(calls)
        for call in calls[:2]:
            await ledger.hold(Wanted(call, PAYER, 5, 5))
        charges = [Charge(call, 1, 3, PAYER, final=True) for call in calls]
        await asyncio.gather(ledger.settle(charges[:2]), ledger.settle(charges[2:]))
        acked.send(calls)


def _child(folder: str, name: str, acked: Connection) -> None:
    asyncio.run(_writes(folder, name, acked))


async def test_a_ledger_that_is_killed_twenty_times_in_commit_loses_nothing(tmp_path: Path) -> None:
    """At random moments: every charge that was acknowledged is there, none is there twice, and all adds up."""
    location = locate("auth", tmp_path)
    await HISTORY.upgrade(location)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.process.test_money_crashes"])
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    acked: list[str] = []
    for number in range(KILLS):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(str(tmp_path), f"c{number}", theirs))
        child.start()
        theirs.close()
        acked += await asyncio.to_thread(ours.recv)  # it is under way
        await asyncio.sleep(chance.uniform(0, 0.08))
        child.kill()
        try:
            while True:
                acked += ours.recv()
        except (EOFError, OSError):
            ours.close()
        child.join()

    database = Database(location)
    found = await audit.audit(database)
    await database.close()
    with sqlite3.connect(tmp_path / "auth.db") as connection:
        charges = [row[0] for row in connection.execute("SELECT request_id FROM ledger WHERE kind = 2")]
        parts = connection.execute(
            "SELECT request_id, sum(amount) FROM ledger WHERE kind = 2 GROUP BY request_id HAVING sum(amount) <> 3"
        ).fetchall()

    assert () == found.findings, seed
    assert set(acked) <= set(charges), seed
    assert (len(set(charges)), []) == (len(charges), parts), seed
    assert 3 * len(charges) == found.spent
