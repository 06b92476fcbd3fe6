"""Fills the sums of ten million calls, and times questions to them.

`python -m tests.rpc.metrics.ten_million`, on PostgreSQL with the URL of an empty database of a server on this machine
behind it.

The calls of 90 days: 117,000 a day, of 300 keys in 60 projects, each key with the same three of 20 models at two
deployments, and 40 workflows of five steps. Sums are put into their tables as storing the calls would have left them:
1,800 a day by key, model and deployment, 9,000 a day by workflow and step as well; hourly ones for the last eight days.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy import Connection

from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import Location, driver_sql, locate
from polyroute.metrics import schema
from polyroute.metrics.dictionary import Dictionary
from polyroute.metrics.partitions import DAY_US, Family
from polyroute.metrics.rows import row_of
from polyroute.metrics.store import Store
from polyroute.metrics.usage import By, Dimension, Filter
from tests.unit.metrics.records import DAY, NOON, call

CALLS: Final = 10_000_000
DAYS: Final = 90
HOURLY_DAYS: Final = 8
KEYS: Final = 300
MARKED: Final = 5  # facets with workflow and step, for each core facet
TODAY: Final = NOON // DAY

D = Dimension
QUESTIONS: Final[dict[str, tuple[float, Sequence[By]]]] = {
    "model, 90 days": (90, [By(D.MODEL)]),
    "day and model, 30 days": (30, [By(D.DAY), By(D.MODEL)]),
    "key, 30 days": (30, [By(D.KEY)]),
    "project and model, 30.3 days": (30.3, [By(D.PROJECT), By(D.MODEL)]),
    "hour, 2 days": (2, [By(D.HOUR)]),
    "workflow and node, 7 days": (7, [By(D.WORKFLOW), By(D.NODE)]),
    "workflow and tag:team, 7.3 days": (7.3, [By(D.WORKFLOW), By(D.TAG, "team")]),
    "project and tag:team, 30 days": (30, [By(D.PROJECT), By(D.TAG, "team")]),
    "day and tag:team, 30 days": (30, [By(D.DAY), By(D.TAG, "team")]),
    "hour and tag:team, 2 days": (2, [By(D.HOUR), By(D.TAG, "team")]),
    "tag:team, 90 days": (90, [By(D.TAG, "team")]),
    "model and tag:team, 7 days": (7, [By(D.MODEL), By(D.TAG, "team")]),
}


def fill(connection: Connection) -> int:
    """Puts the sums into an empty database; how many calls they are of."""
    records = [
        call(
            f"{key}-{model}-{deployment}-{mark}",
            model=f"m{(key + model) % 20}",
            deployment=f"d{(key + model) % 20}-{deployment}",
            user="",
            workflow_id=f"w{(key + mark * 7) % 40}",
            node_id=f"n{mark}",
            tags={"team": f"t{key % 9}"},
            caller={"account_id": f"a{key % 10}", "project_id": f"p{key % 60}", "key_id": f"k{key}"},
        )
        for key in range(KEYS)
        for model in range(3)
        for deployment in range(2)
        for mark in range(MARKED)
    ]
    numbers = Dictionary().numbers(connection, [row_of(record) for record in records], TODAY)
    full, core = [number.facet for number in numbers], sorted({number.core for number in numbers})
    label = sorted({number.label for number in numbers})
    wide = len(full) // len(label)  # facets of one label
    days = range(TODAY - DAYS, TODAY)
    hours = range((TODAY - HOURLY_DAYS) * 24, TODAY * 24)
    daily = -(-CALLS // (DAYS * len(full)))  # of each facet
    for bucket, family, numbers_of, calls in (
        (days, schema.DAILY, full, daily),
        (days, schema.DAILY_CORE, core, daily * MARKED),
        (days, schema.DAILY_LABEL, label, daily * wide),
        (hours, schema.HOURLY, full, 1),
        (hours, schema.HOURLY_CORE, core, MARKED),
        (hours, schema.HOURLY_LABEL, label, wide),
    ):
        _fill(connection, bucket, family, numbers_of, calls)
    return daily * DAYS * len(full)


def _fill(connection: Connection, buckets: range, family: Family, numbers: Sequence[int], calls: int) -> None:
    sums = dict(zip(schema.SUMS, (calls, 0, 0, 0, *(calls * 1000 for _ in schema.SUMS[4:])), strict=True))
    per_day = DAY_US // family.unit
    partitions = sorted({family.partition(bucket // per_day) for bucket in buckets})
    for partition in partitions:
        family.create(connection, partition)
        first, beyond = family.bounds(partition) or (0, 0)
        names = (family.column, "facet", *sums)
        insert = f"INSERT INTO {partition} ({', '.join(names)})"
        values = driver_sql(connection, f"{insert} VALUES ({', '.join('?' for _ in names)})")
        again = driver_sql(
            connection, f"{insert} SELECT ?, {', '.join(names[1:])} FROM {partition} WHERE {family.column} = ?"
        )
        model, *others = range(max(first, buckets[0]), min(beyond, buckets[-1] + 1))
        connection.exec_driver_sql(values, [(model, facet, *sums.values()) for facet in numbers])
        for bucket in others:  # all are alike
            connection.exec_driver_sql(again, (bucket, model))


async def measure(location: Location) -> dict[str, float]:
    """Seconds of CPU that each question takes, the best of five, once ten million calls are added up.

    Others on the machine change them little. On PostgreSQL they are those of the process that answers, too.
    """
    async with Store.open(location, clock=lambda: float(NOON)) as store:
        calls = await store._write(fill)
        if location.on_postgresql:  # as it does by itself after a minute
            await store._write(lambda connection: connection.exec_driver_sql("ANALYZE"))
    # closed, a file is as it is after days: there is nothing in its log
    async with Store.open(location, clock=lambda: float(NOON)) as store:
        (row,) = (await store.usage(Filter(), [])).rows
        assert calls == row.calls, "the answer is not the sum"
        backend = await store._asked(_backend) if location.on_postgresql else None
        clock = partial(_cpu, backend)
        print(f"{calls:,} calls")  # noqa: T201 - what it is for
        found = {}
        for name, (days, by) in QUESTIONS.items():
            wanted = Filter(start_us=round((TODAY - days) * DAY_US))
            seconds = []
            for _ in range(5):
                began = clock()
                answer = await store.usage(wanted, by)
                seconds.append(clock() - began)
            found[name] = min(seconds)
            print(f"{name:<32} {len(answer.rows):>6} rows {found[name] * 1000:7.1f} ms")  # noqa: T201
    return found


def _backend(connection: Connection) -> Path:
    """Where Linux counts the work of the server's process behind the one connection that questions in turn use."""
    number: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    return Path(f"/proc/{number}/schedstat")


def _cpu(backend: Path | None) -> float:
    """Seconds of CPU of this process so far, and of one that answers it."""
    return time.process_time() + (0 if backend is None else int(backend.read_text().split()[0]) / 1e9)


if __name__ == "__main__":
    shared = DatabaseConfig.model_validate(sys.argv[1]) if sys.argv[1:] else None
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(locate("metrics", Path(folder), shared=shared)))
