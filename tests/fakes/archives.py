"""What the router keeps, in memory: versions of the catalog, rollouts, and whose turn it is to evaluate one."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from polyroute.router.store import ChangeRow, Changing, RolloutRow, VersionRow


class FakeArchive:
    """Behaves as the store does, without a file."""

    def __init__(self) -> None:
        self.versions: list[VersionRow] = []
        self.changes: list[ChangeRow] = []
        self.rows: dict[str, RolloutRow] = {}

    @asynccontextmanager
    async def recording(self, row: VersionRow, changing: Changing) -> AsyncGenerator[int]:
        """Stores a version unless the newest says the same, when the body succeeds."""
        if self.versions and self.versions[-1].source == row.source:
            yield self.versions[-1].number
            return
        number = len(self.versions) + 1
        yield number
        if self.versions:
            self.changes.append(changing(self.versions[-1], row._replace(number=number)))
        self.versions.append(row._replace(number=number))

    async def rollouts(self) -> list[RolloutRow]:
        """How far each rollout is."""
        return list(self.rows.values())

    async def begin_rollout(self, row: RolloutRow) -> None:
        """Stores a rollout that begins, unless it has begun already."""
        if row.alias not in self.rows or self.rows[row.alias].plan != row.plan:
            self.rows[row.alias] = row

    async def claim_rollout(self, alias: str, now: float, interval: float) -> bool:
        """One in each interval."""
        row = self.rows[alias]
        if row.judged > now - interval:
            return False
        self.rows[alias] = row._replace(judged=now)
        return True

    async def move_rollout(self, before: RolloutRow, after: RolloutRow) -> bool:
        """Stores how far it is, unless somebody else has moved it."""
        if self.rows[before.alias][:4] != before[:4]:
            return False
        self.rows[before.alias] = after._replace(judged=self.rows[before.alias].judged)
        return True
