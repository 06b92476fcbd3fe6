"""The revisions of every service's tables: seen, brought up, taken back."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from polyroute.cli.claim import claimed
from polyroute.cli.config import Config
from polyroute.cli.output import show
from polyroute.mesh.database import Location, locate
from polyroute.mesh.migrations.history import OWNERS, SERVICES, history_of
from polyroute.mesh.roles import ConfigError


def named_files(config: Config) -> Mapping[str, Path | None]:
    """The SQLite files that services have by their own settings, wherever the others are."""
    metrics = config.metrics
    return {"auth": config.auth.database, "metrics": metrics.database, "idempotency": metrics.idempotency_database}


def files(config: Config) -> Mapping[str, Path]:
    """Where the SQLite file of each service is, or would be."""
    own = named_files(config)
    return {name: own.get(name) or config.data_dir / f"{name}.db" for name in SERVICES}


def locations(config: Config) -> list[Location]:
    """Where each service's tables are."""
    own = named_files(config)
    return [locate(name, config.data_dir, own=own.get(name), shared=config.database) for name in SERVICES]


def status(config: Config) -> None:
    """Prints where the tables are, their revision, and the newest one."""
    shown = Table("service", "revision", "newest", "database", box=None)
    for location in locations(config):
        history = history_of(location.service)
        there = location.on_postgresql or location.path.exists()
        found = asyncio.run(history.revision(location)) if there else None
        shown.add_row(location.service, found or "none", history.head, location.name)
    show(shown)


def upgrade(config: Config) -> None:
    """Brings all tables up to date."""

    async def work() -> None:
        for location in locations(config):
            await history_of(location.service).upgrade(location)

    asyncio.run(work())
    status(config)


def downgrade(config: Config, service: str, revision: str) -> None:
    """Takes one service's tables back. The role must not run: it would write into tables that it does not know.

    Raises:
        ConfigError: There is no such service or revision, or the role runs.
    """
    found = [location for location in locations(config) if location.service == service]
    if not found:
        raise ConfigError(f"no service is called {service!r} (known: {', '.join(SERVICES)})")
    with claimed(config.data_dir / "run", [OWNERS[service]]):
        asyncio.run(history_of(service).move(found[0], revision))
    status(config)
