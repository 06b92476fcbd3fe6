"""What was posted otherwise than by a call's own charge, kept for reports of usage to follow.

Usage is added up from calls' records, each of which says what its call was charged. What a record cannot say stands
here: corrections, and charges of calls that were lost with their edge. A row says what an attempt is charged in all,
written in the transaction of the entry that made it so; only the last row of an attempt is kept, so that who was away
for long reads each attempt once. Transactions that write wait for each other, so that numbers grow in the order in
which they are committed: none appears below one that was read.
"""

import asyncio
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from polyroute.api.auth.v1.auth_pb2 import Caller
from polyroute.api.auth.v1.ledger_pb2 import Adjustment, Settlement, WatchAdjustmentsResponse
from polyroute.auth import schema
from polyroute.auth.database import Database
from polyroute.auth.money.entries import Book, Kind
from polyroute.mesh.database import among

PAGE: Final = 500  # adjustments of one message
LOOK_SECONDS: Final = 1.0  # between two looks where nothing is heard: another auth role may have posted something

_A: Final = schema.adjustments.c

Place = tuple[str, int]
"""A call, and one of its attempts."""


class Adjusted(NamedTuple):
    """An attempt whose charge is not what its record says.

    Attributes:
        entries: All that the ledger has of it.
        about: What `about` made of its last checkpoint; empty for none.
    """

    entries: Sequence[Any]
    about: str = ""


class Outbox:
    """Adjustments as they are posted, for those who follow them.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._grown = asyncio.Event()

    def wake(self) -> None:
        """Has everybody look who follows."""
        self._grown.set()
        self._grown = asyncio.Event()

    async def watch(self, after: int) -> AsyncGenerator[WatchAdjustmentsResponse]:
        """What came after a place, at once, and then everything as it comes; the first message says where it begins."""
        reset = after > await self._database.read(_last)
        after = 0 if reset else after
        yield WatchAdjustmentsResponse(sequence=after, reset=reset)
        while True:
            grown = self._grown
            adjustments = await self._after(after)
            if adjustments:
                after = adjustments[-1].sequence
                yield WatchAdjustmentsResponse(adjustments=adjustments, sequence=after)
            if len(adjustments) < PAGE:
                await _heard(grown)

    async def _after(self, sequence: int) -> list[Adjustment]:
        query = select(schema.adjustments).where(_A.sequence > sequence).order_by(_A.sequence).limit(PAGE)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        found = [Adjustment.FromString(bytes(row.said)) for row in rows]
        for adjustment, row in zip(found, rows, strict=True):
            adjustment.sequence = row.sequence
        return found


def about(settlement: Settlement) -> str:
    """What a checkpoint says of an attempt beside its charge, as text; empty where it says nothing."""
    said = Adjustment()
    for name in ("usage", "start_time", "attribution"):
        if settlement.HasField(name):
            getattr(said, name).CopyFrom(getattr(settlement, name))
    return b64encode(said.SerializeToString()).decode()


def adjustment(place: Place, adjusted: Adjusted, before: bytes = b"") -> Adjustment:
    """What an attempt is charged in all.

    Args:
        place: Which.
        adjusted: What the ledger has of it.
        before: An earlier adjustment of it: what checkpoints said is known of it only there.
    """
    earlier, said = Adjustment.FromString(before), Adjustment.FromString(b64decode(adjusted.about))
    entries = sorted(adjusted.entries, key=lambda entry: (entry.kind, entry.part))
    first, latest = entries[0], entries[-1]
    found = Adjustment(
        request_id=place[0],
        attempt=place[1],
        caller=Caller(account_id=first.account_id, project_id=first.project_id, key_id=first.key_id),
        model=latest.model or first.model,
        deployment=latest.deployment or first.deployment,
        price_version=latest.price_version or first.price_version,
        rule=latest.rule,
        revision=latest.part if latest.kind == Kind.CORRECT else 0,
    )
    if any(entry.amount is not None for entry in entries):
        found.charged_nanos = sum(_spends(entry) for entry in entries)
    if any(entry.cost is not None for entry in entries):
        found.cost_nanos = sum(entry.cost or 0 for entry in entries)
    found.post_time.FromMicroseconds(latest.posted)
    for name in ("usage", "start_time", "attribution"):
        source = said if said.HasField(name) else earlier
        if source.HasField(name):
            getattr(found, name).CopyFrom(getattr(source, name))
    return found


def write(connection: Connection, adjusted: Mapping[Place, Adjusted]) -> None:
    """Writes adjustments, each in place of the one before it of the same attempt."""
    if not adjusted:
        return
    mine = among(_A.request_id, {request_id for request_id, _ in adjusted})
    known = {(row.request_id, row.attempt): row for row in connection.execute(select(schema.adjustments).where(mine))}
    for place, one in adjusted.items():
        before = known.get(place)
        if before is not None:
            connection.execute(delete(schema.adjustments).where(_A.sequence == before.sequence))
        said = adjustment(place, one, b"" if before is None else bytes(before.said)).SerializeToString()
        row = {"request_id": place[0], "attempt": place[1], "said": said}
        connection.execute(insert(schema.adjustments).values(row))


def by_place(rows: Iterable[Any]) -> dict[Place, list[Any]]:
    """Entries of the ledger by what they are about."""
    found: dict[Place, list[Any]] = {}
    for row in rows:
        found.setdefault((row.request_id, row.attempt), []).append(row)
    return found


def _spends(entry: Any) -> int:
    amount: int = entry.amount or 0
    sign = int(entry.credit == Book.SPENT) - int(entry.debit == Book.SPENT)
    return amount * sign


def _last(connection: Connection) -> int:
    return int(connection.scalar(select(func.max(_A.sequence))) or 0)


async def _heard(grown: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            await grown.wait()
    except TimeoutError:
        return
