"""PostgreSQL is stopped under load, or stands still: known callers do not notice, and no charge is lost."""

import asyncio
import os
import secrets
import statistics
from collections.abc import AsyncGenerator
from pathlib import Path

import psycopg
import pytest
from structlog.testing import capture_logs

from bench.vendor import Vendor
from polyroute.mesh.config import DatabaseConfig
from tests.mesh.gateway import Gateway, deployment, running
from tests.postgres import Server

BEFORE, AWAY, AFTER = 1.0, 10.0 if os.environ.get("POLYROUTE_SCORECARD") else 3.0, 1.5  # seconds
RATE = 40  # calls a second of each kind
READERS = DatabaseConfig().connections
MOST = {"auth": READERS + 4, "metrics": READERS + 1, "router": READERS + 1, "idempotency": 2}  # connections
SETTLED = "SELECT count(DISTINCT request_id), count(*) FROM polyroute_auth.ledger WHERE kind = 2"


@pytest.fixture
async def gateway(tmp_path: Path, postgres: Server) -> AsyncGenerator[tuple[Gateway, str]]:
    """A gateway on a PostgreSQL database of its own, and the database."""
    url = postgres.database()
    with capture_logs():  # of every attempt to reach the database, with all that led to it
        async with (
            Vendor() as vendor,
            running(tmp_path, {"v": vendor.url}, {"m": {"deployments": [deployment("v")]}}, database=url) as started,
        ):
            yield started, url


async def test_stopped_database_is_not_on_the_path_of_a_call(gateway: tuple[Gateway, str], postgres: Server) -> None:
    """Cached keys go on, keys that were never seen are told to come again, and every call is charged once."""
    calls, url = gateway
    known: list[asyncio.Task[int]] = []
    unknown: list[asyncio.Task[tuple[int, float]]] = []
    loop = asyncio.get_running_loop()

    async def call(key: str | None = None) -> int:
        headers = None if key is None else calls.headers(authorization=f"Bearer {key}")
        return (await calls.chat(headers=headers)).status

    async def stranger() -> tuple[int, float]:
        return await call(f"pr-{secrets.token_urlsafe(32)}"), loop.time()

    async def load(seconds: float, *, strangers: bool) -> None:
        until = loop.time() + seconds
        while loop.time() < until:
            known.append(asyncio.create_task(call()))
            if strangers and len(known) % 4 == 0:
                unknown.append(asyncio.create_task(stranger()))
            await asyncio.sleep(1 / RATE)

    await load(BEFORE, strangers=False)
    await asyncio.to_thread(postgres.stop)
    await load(AWAY, strangers=True)
    back = loop.time()
    postgres.start()  # not in a thread: the server ends with the thread that started it
    await load(AFTER, strangers=False)
    statuses = [await task for task in known]
    strangers = [await task for task in unknown]
    later, _ = await stranger()
    succeeded = statuses.count(200)

    assert succeeded >= 0.999 * len(statuses)
    assert {503} == {status for status, ended in strangers if ended < back}
    assert {401, 503} >= {status for status, _ in strangers}
    assert 401 == later
    assert (succeeded, succeeded) == await settled(url, succeeded)


async def test_no_call_of_a_known_key_waits_for_the_database(gateway: tuple[Gateway, str], postgres: Server) -> None:
    """While the server stands still every call is answered: there is no statement in its way, nor behind it.

    Nor does the gateway take more connections than its settings say.
    """
    calls, url = gateway
    loop = asyncio.get_running_loop()

    async def timed() -> tuple[int, float]:
        began = loop.time()
        return (await calls.chat()).status, loop.time() - began

    async def many() -> list[tuple[int, float]]:
        return [outcome for _ in range(20) for outcome in await asyncio.gather(*(timed() for _ in range(10)))]

    before = await many()
    with postgres.frozen():
        during = await many()
    taken = await asyncio.to_thread(connections, url)
    for name, outcomes in (("before", before), ("frozen", during)):
        print(f"{name}: p99 {statistics.quantiles((took for _, took in outcomes), n=100)[98] * 1e3:.1f} ms")  # noqa: T201

    assert [200] * 400 == [status for status, _ in before + during]
    assert (400, 400) == await settled(url, 400)
    assert {} == {service: count for service, count in taken.items() if count > MOST[service]}


def connections(url: str) -> dict[str, int]:
    """How many connections each service has to the database."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT application_name, count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() GROUP BY 1"
        ).fetchall()
        return {name.removeprefix("polyroute-"): count for name, count in rows}


async def settled(url: str, wanted: int) -> tuple[int, int]:
    """Calls that were charged and charges, once all have arrived that were handed over again."""

    def look() -> tuple[int, int]:
        with psycopg.connect(url) as connection:
            found: tuple[int, int] = connection.execute(SETTLED).fetchone() or (0, 0)
            return found

    for _ in range(100):
        found = await asyncio.to_thread(look)
        if found[0] >= wanted:
            break
        await asyncio.sleep(0.1)
    return found
