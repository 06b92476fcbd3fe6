"""Two machines that share a PostgreSQL database and a Redis: every role twice, over TCP, and callers in front of them.

The machines are two data directories and two configurations on this one. What keeps them together is what keeps real
ones together: the database, Redis, the same pepper, and every role's addresses.
"""

import asyncio
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import psycopg
import yaml

from bench.gateways import free_port
from polyroute.auth.admin import secret as admin_secret
from polyroute.auth.pepper import load_or_create
from polyroute.metrics.rows import request_id_of
from tests.process.sites import SECONDS, TICK, Kept, Outcome, Site, ask, ready, site

MACHINES: Final = ("a", "b")
INNER: Final = ("auth", "metrics", "providers", "router")
ROLES: Final = (*INNER, "edge")
SMALL_FILES: Final = ("auth.db.pepper", "auth.db.admin")


def machines(
    directory: Path, origin: str, database: str, redis: str = "", names: Sequence[str] = MACHINES, **sections: Any
) -> dict[str, Site]:
    """Writes the configurations: the model `bench-model` on the vendor at `origin`, every role on both machines.

    Args:
        directory: Empty.
        origin: Of the vendor.
        database: URL of PostgreSQL.
        redis: URL of Redis; empty means none.
        names: Of the machines.
        sections: What else is configured, on both; a mapping is added to the section that is there.
    """
    ports = {role: {name: free_port() for name in names} for role in INNER}
    peers = {role: "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in at.values()) for role, at in ports.items()}
    made: dict[str, Site] = {}
    for name in names:
        folder = directory / name
        folder.mkdir()
        where = site(folder, origin)
        tree = yaml.safe_load(where.config.read_text())
        if made:
            where = Site(folder, where.config, where.port, where.door, made[names[0]].key)
        tree["database"] = database
        tree["mesh"] |= {"listen": {role: f"127.0.0.1:{at[name]}" for role, at in ports.items()}, "peers": peers}
        tree["auth"] |= {"bootstrap_key": where.key} | ({"redis": redis} if redis else {})
        for section, value in sections.items():
            tree[section] = {**tree[section], **value} if section in tree else value
        where.config.write_text(yaml.safe_dump(tree, sort_keys=False))
        where.data.mkdir()
        _share(where, made.get(names[0]))
        made[name] = where
    return made


def _share(where: Site, first: Site | None) -> None:
    """Makes the small files that every auth needs to have in common, or takes the first machine's."""
    if first is None:
        load_or_create(where.data / SMALL_FILES[0])
        admin_secret.load_or_create(where.data / SMALL_FILES[1])
    else:
        for name in SMALL_FILES:
            shutil.copy2(first.data / name, where.data / name)


@dataclass
class Pair:
    """Two machines that run."""

    sites: Mapping[str, Site]
    kept: Mapping[tuple[str, str], Kept]
    database: str

    async def killed(self, role: str, at: str) -> float:
        """Kills a role of a machine and waits until another process is in its place; the moment of its death."""
        one = self.kept[role, at]
        before = one.starts
        moment = asyncio.get_running_loop().time()
        one.kill()
        async with asyncio.timeout(SECONDS):
            while one.starts == before:
                await asyncio.sleep(TICK)
        return moment

    def rows(self, query: str) -> list[Any]:
        """Of the database."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(query.encode()).fetchall()

    def calls(self) -> list[str]:
        """The id of every call on record, as often as it is there."""
        return [request_id_of(row[0]) for row in self.rows("SELECT request_id FROM polyroute_metrics.calls")]

    def charges(self) -> Counter[str]:
        """How often each call was charged for the same attempt, at most."""
        each = "SELECT request_id, count(*) FROM polyroute_auth.ledger WHERE kind = 2 AND part = 0 GROUP BY 1, attempt"
        found: Counter[str] = Counter()
        for request_id, count in self.rows(each):
            found[request_id] = max(found[request_id], count)
        return found


@asynccontextmanager
async def running(
    sites: Mapping[str, Site], database: str, environment: Callable[[str], Mapping[str, str]] = lambda _: {}
) -> AsyncGenerator[Pair]:
    """Every role on each machine, started again whenever it ends; returns when all doors are ready.

    Args:
        sites: The machines.
        database: URL of the database that they share.
        environment: Of each role, beside what all have.
    """
    async with AsyncExitStack() as stack:
        kept = {}
        for role in ROLES:
            for at, where in sites.items():
                kept[role, at] = await stack.enter_async_context(Kept(where, "serve", role, **environment(role)))
        for where in sites.values():
            await ready(where, 3 * SECONDS)  # ten processes start at once
        yield Pair(sites, kept, database)


@dataclass
class Sent:
    """A request: at which door, and how it went."""

    at: str
    outcome: Outcome


async def call(session: aiohttp.ClientSession, pair: Mapping[str, Site], number: int, text: str) -> Sent:
    """One request to the doors in turn, seven of ten streamed; a door that is shut is passed by, as a balancer does.

    Nothing is sent twice: only a connection that could not be made is made elsewhere.
    """
    names = MACHINES if number % 2 else MACHINES[::-1]
    for name in names:
        outcome = await ask(session, pair[name], text, stream=number % 10 < 7)
        if not outcome.error.startswith(("ClientConnectorError", "ConnectionTimeoutError")):
            break
    return Sent(name, outcome)


async def load(
    pair: Mapping[str, Site], text: str, stopped: asyncio.Event, *, rate: float, most: int = 10_000
) -> list[Sent]:
    """So many requests a second over both doors until `stopped`; a slow answer delays no other."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=SECONDS)) as session:
        asked: list[asyncio.Task[Sent]] = []
        while not stopped.is_set() and len(asked) < most:
            asked.append(asyncio.create_task(call(session, pair, len(asked), text)))
            await asyncio.sleep(max(0.0, began + len(asked) / rate - loop.time()))
        return await asyncio.gather(*asked)
