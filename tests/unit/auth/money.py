"""A ledger on a real database, with budgets as a test wants them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from polyroute.auth import schema
from polyroute.auth.database import Database
from polyroute.auth.migrations.history import HISTORY
from polyroute.auth.money import audit as auditing
from polyroute.auth.money.audit import Audit
from polyroute.auth.money.charges import Charge
from polyroute.auth.money.entries import Payer
from polyroute.auth.money.holds import Wanted
from polyroute.auth.money.ledger import Ledger
from polyroute.auth.money.periods import Period, window, zone
from polyroute.mesh.config import DatabaseConfig
from polyroute.mesh.database import locate
from tests.databases import prepare
from tests.unit.auth.installation import Clock

ACCOUNT, PROJECT, KEY = "acc_1", "prj_1", "key_1"
PAYER = Payer(ACCOUNT, PROJECT, KEY)


@dataclass
class Treasury:
    """A ledger and what surrounds it."""

    database: Database
    ledger: Ledger
    clock: Clock
    recalled: list[str] = field(default_factory=list)

    async def budget(
        self,
        scope: str,
        amount: int,
        *,
        period: Period = Period.TOTAL,
        hard: bool = True,
        prepaid: bool = False,
        time_zone: str = "",
    ) -> str:
        """A budget that nothing was spent of."""
        started, ends = window(period, zone(time_zone), round(self.clock() * 1e6))
        row = {
            "id": f"bud_{scope}_{period}",
            "scope": scope,
            "period": period,
            "time_zone": time_zone,
            "amount": amount,
            "hard": hard,
            "prepaid": prepaid,
            "started": started,
            "ends": ends,
            "spent": 0,
            "held": 0,
            "created": 0,
        }
        async with self.database.writing() as connection:
            await connection.execute(insert(schema.budgets).values(row))
        return str(row["id"])

    async def counters(self) -> dict[str, tuple[int, int]]:
        """What each scope's budget has spent and held."""
        return {row.scope: (row.spent, row.held) for row in await self.rows(schema.budgets)}

    async def rows(self, table: Any) -> list[Any]:
        """A table."""
        async with self.database.reading() as connection:
            return list((await connection.execute(select(table))).all())

    async def entries(self) -> list[tuple[str, int, int, int | None]]:
        """Kind, debit, credit and amount of each entry."""
        names = {1: "hold", 2: "settle", 3: "void", 4: "expire", 5: "correct", 6: "credit"}
        return [(names[row.kind], row.debit, row.credit, row.amount) for row in await self.rows(schema.ledger)]

    async def audit(self) -> Audit:
        """What the audit finds."""
        return await auditing.audit(self.database)

    async def hold(self, call: str, needed: int, least: int | None = None, payer: Payer = PAYER) -> int:
        """A call's own hold."""
        return await self.ledger.hold(Wanted(call, payer, needed, needed if least is None else least))

    async def charge(self, call: str, cost: int | None, attempt: int = 1, **more: Any) -> int:
        """One charge."""
        values: dict[str, Any] = {"payer": PAYER, "final": True} | more
        return await self.ledger.settle([Charge(call, attempt, cost, **values)])


@asynccontextmanager
async def treasury(folder: Path, database: DatabaseConfig | None = None) -> AsyncGenerator[Treasury]:
    """A fresh ledger in `folder` or in a database, or the one that is there."""
    location = locate("auth", prepare(folder), shared=database)
    await HISTORY.upgrade(location)
    connections, clock, recalled = Database(location), Clock(), list[str]()
    ledger = Ledger(connections, recalled.append, now=clock)
    yield Treasury(connections, ledger, clock, recalled)
    await ledger.close()
    await connections.close()
