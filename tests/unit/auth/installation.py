"""The domain of auth on a real database, with clocks that only move when told to."""

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert, select

from polyroute.auth import keys, schema
from polyroute.auth.admin.directory import Directory
from polyroute.auth.bootstrap import bootstrap
from polyroute.auth.config import AuthConfig
from polyroute.auth.keyring import Keyring
from polyroute.auth.keys import Digester
from polyroute.auth.rates.leases import Leases
from polyroute.auth.rates.limits import LocalCounters
from polyroute.auth.revocations import RevocationFeed
from polyroute.auth.store import Store
from polyroute.auth.verdicts import Verdicts
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from tests.databases import prepare

PEPPER = bytes(range(32))


class Clock:
    """A clock that stands still."""

    def __init__(self, at: float = 1_800_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += seconds


@dataclass
class Installation:
    """Everything behind one process's AuthService."""

    store: Store
    feed: RevocationFeed
    verdicts: Verdicts
    keyring: Keyring
    directory: Directory
    leases: Leases
    clock: Clock
    first_secret: str | None


@asynccontextmanager
async def installation(
    folder: Path,
    config: AuthConfig | None = None,
    *,
    pepper: bytes = PEPPER,
    database: DatabaseConfig | None = None,
) -> AsyncGenerator[Installation]:
    """A process's view of the installation in `folder`; several views of one folder are several processes."""
    digester, clock, feed = Digester(pepper), Clock(), RevocationFeed()
    async with Store.open(locate("auth", prepare(folder), shared=database), fingerprint=digester.fingerprint) as store:
        first_secret = await bootstrap(store, digester, config or AuthConfig(), now=clock)
        verdicts = Verdicts(digester, store.find, feed, now=clock, clock=clock)
        keyring = Keyring(store, digester, feed, verdicts, now=clock)
        directory = Directory(store.database, keyring.scope_changed, now=clock)
        leases = Leases(LocalCounters(), directory.limit, directory.common_limits)
        yield Installation(store, feed, verdicts, keyring, directory, leases, clock, first_secret)
        await keyring.close()
        await verdicts.close()


async def fill(store: Store, count: int) -> None:
    """Adds keys that nobody has the secrets of."""
    async with store._database.writing() as connection:
        project_id = await connection.scalar(select(schema.projects.c.id))
        rows: list[dict[str, object]] = [
            {
                "id": keys.new_id("key"),
                "project_id": project_id,
                "digest": random.randbytes(32),
                "prefix": f"pr-{number:06}",
                "name": "",
                "models": [],
                "created": 0,
            }
            for number in range(count)
        ]
        await connection.execute(insert(schema.keys), rows)
