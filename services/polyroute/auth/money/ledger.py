"""The ledger: holds before calls, charges after them, each exactly once, whatever crashes in between.

Every method is one transaction on the database that is the authority: a hold moves every budget above the payer in one
statement, a charge moves them together with its entry. Repeating anything repeats its outcome.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import structlog
from sqlalchemy import Connection, delete, insert, select, text

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.database import Database
from polyroute.auth.money import budgets, holds, multipliers
from polyroute.auth.money.budgets import Budget
from polyroute.auth.money.charges import ALL, MOST_COST, Charge, Hold, Known, Work, charged
from polyroute.auth.money.charges import lost as lost_calls
from polyroute.auth.money.entries import Book, Entry, Kind, Payer, post, within_bounds
from polyroute.auth.money.group import Group
from polyroute.auth.money.holds import Wanted
from polyroute.auth.money.outbox import Outbox
from polyroute.mesh import life
from polyroute.mesh.database import among_named, on_postgresql
from polyroute.mesh.errors import MeshError

DEAD_SECONDS: Final = 30.0  # that a process has been gone for, before nobody is expected to take its place
SWEEP_SECONDS: Final = 5.0
RECALL_SECONDS: Final = 0.3  # to wait for edges that give back what they do not need

# not `now()`, which is when the transaction began: before it waited for those that were first
_DATABASE_TIME: Final = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
_C: Final = schema.checkpoints.c
_L: Final = schema.ledger.c

# Asked with every batch of charges, and so made once.
_CHARGED: Final = select(schema.ledger).where(
    among_named(_L.request_id, "ids"), _L.kind.in_((Kind.SETTLE, Kind.CORRECT))
)
_NOTED: Final = select(_C.request_id, _C.attempt).where(among_named(_C.request_id, "ids"))

T = TypeVar("T")

_log = structlog.get_logger("ledger")


class Ledger:
    """Money, on the database of auth.

    Args:
        database: Where it is written.
        recall: Asks every edge to give back what it holds for a purse and does not need.
        now: Wall clock, seconds since the Unix epoch; None takes the database's, which all that share it agree on.
        ended: Whether a process that holds money is gone for certain.
        clock: Seconds, monotonic.

    Attributes:
        outbox: What reports of usage have to follow.
    """

    def __init__(
        self,
        database: Database,
        recall: Callable[[str], None],
        *,
        now: Callable[[], float] | None = None,
        ended: Callable[[str], bool] = life.ended,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ended = ended
        self._clock = clock
        self._gone: dict[str, float] = {}  # processes that are gone, and since when that is known
        self._database = database
        self._recall = recall
        self._now = now
        self._latest = 0
        self._group = Group(database)
        self._freed = asyncio.Event()
        self.outbox = Outbox(database)
        self._adjusted = False  # something was put there and not told yet

    async def close(self) -> None:
        """Waits for transactions under way."""
        await self._group.close()

    async def hold(self, wanted: Wanted) -> int:
        """Reserves money for a call; how much.

        Raises:
            MeshError: REASON_BUDGET_EXHAUSTED.
        """
        return await self._group.run(lambda connection: self._reserve(connection, wanted))

    async def allot(self, wanted: Wanted, purse: str) -> int:
        """Reserves money for many calls of an edge; how much.

        When there is not enough, the other edges are asked for what they do not need, and given a moment.

        Raises:
            MeshError: REASON_BUDGET_EXHAUSTED.
        """
        if await self._lacks(wanted):
            for holding in {purse, *await self._purses(wanted)}:
                self._recall(holding)
            await self._await_money(wanted)
        return await self._group.run(lambda connection: self._reserve(connection, wanted, slices=True))

    async def settle(self, charges: Sequence[Charge]) -> int:
        """Charges attempts and keeps checkpoints; how many charges were new.

        Raises:
            MeshError: REASON_INVALID_REQUEST, nobody is known who pays for one of them, or a correction says more than
                any attempt can cost; none was posted.
        """
        return await self._freeing(lambda connection: self.settled(connection, charges))

    async def void(self, request_id: str) -> None:
        """Gives the whole hold of a call back."""
        await self._freeing(lambda connection: self._release(connection, [(request_id, 0, None)]))

    async def give_back(self, returned: Sequence[tuple[str, int, int]]) -> None:
        """Gives back of allowances: id, number of the return, and amount."""
        await self._freeing(lambda connection: self._release(connection, returned))

    async def credit(self, account_id: str, amount: int, request_id: str, note: str = "") -> None:
        """Pays into an account, or out of it; once per `request_id`.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the id names another payment, or the amount is more than sums can hold.
        """
        within_bounds(amount, "amount_nanos")
        await self._freeing(lambda connection: self.paid_in(connection, account_id, amount, request_id, note))

    async def end_holder(self, holder: str) -> tuple[int, int]:
        """Charges the attempts of a process that has ended by their last checkpoints, and takes its allowances back.

        Returns:
            How many of both.
        """
        return await self._freeing(lambda connection: self._end_holder(connection, holder))

    async def transact(self, work: Callable[[Connection, int], T]) -> T:
        """The outcome of `work`, which gets the moment of its entries, in microseconds since the Unix epoch."""
        return await self._freeing(lambda connection: work(connection, self._moment(connection)))

    async def tightest(self, payer: Payer) -> Budget | None:
        """The budget that bounds a payer's calls most; None when none does."""
        return await self._database.read(lambda connection: holds.tightest(connection, payer, self._micros(connection)))

    async def sweep(self) -> int:
        """Charges lost attempts by their last checkpoint and ends holds that have lapsed; how many of both."""
        return await self._freeing(lambda connection: self._sweep(connection))

    async def bury(self) -> int:
        """Takes back what processes hold that are gone and that nobody came after; of how many.

        A process that begins in the place of one that died says so itself, once it has handed over what that one had
        written down: it is given time to.
        """
        holders = await self._database.read(holds.holders)
        now = self._clock()
        self._gone = {holder: self._gone.get(holder, now) for holder in holders if self._ended(holder)}
        buried = [holder for holder, since in self._gone.items() if now - since >= DEAD_SECONDS]
        for holder in buried:
            lost, allowances = await self.end_holder(holder)
            _log.warning("a process that is gone was settled", holder=holder, lost=lost, allowances=allowances)
        return len(buried)

    async def run(self) -> None:
        """Sweeps for ever."""
        while True:
            await self.sweep()
            await self.bury()
            await asyncio.sleep(SWEEP_SECONDS)

    async def _freeing(self, work: Callable[[Connection], T]) -> T:
        """The outcome of work after which there may be money again for those who wait for some."""
        outcome = await self._group.run(work)
        self._freed.set()
        if self._adjusted:
            self._adjusted = False
            self.outbox.wake()
        return outcome

    async def _await_money(self, wanted: Wanted) -> None:
        """Returns when there is enough, or when what there is must do."""
        loop = asyncio.get_running_loop()
        until = loop.time() + RECALL_SECONDS
        try:
            while await self._lacks(wanted):
                async with asyncio.timeout_at(until):
                    await self._freed.wait()
        except TimeoutError:
            _log.info("money was not given back in time", needed=wanted.needed)

    async def _lacks(self, wanted: Wanted) -> bool:
        """Whether money is short only because it is held: what is spent nobody can give back."""
        self._freed.clear()
        return await self._database.read(lambda connection: holds.lacking(connection, wanted, self._micros(connection)))

    async def _purses(self, wanted: Wanted) -> set[str]:
        return await self._database.read(lambda connection: holds.purses(connection, wanted, self._micros(connection)))

    def _reserve(self, connection: Connection, wanted: Wanted, *, slices: bool = False) -> int:
        known = holds.granted(connection, wanted.id)
        if known is not None:
            return known
        return holds.reserve(connection, wanted, self._moment(connection), slices=slices)

    def settled(self, connection: Connection, charges: Sequence[Charge]) -> int:
        """Posts charges in a transaction under way; how many were new.

        Raises:
            MeshError: As `settle`.
        """
        for charge in charges:
            if charge.revision and not 0 <= (charge.cost or 0) <= MOST_COST:
                message = "no attempt costs as much"
                raise MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": "cost_nanos"})
        work = self._work(connection, charges)
        known = _known(connection, {charge.request_id for charge in charges})
        work.lost = lost_calls(known)
        posted = 0
        for charge in charges:
            if charge.lost_at is None and charged(charge, known, work):
                posted += 1
            if charge.final:
                work.release(charge.request_id, Kind.VOID, ALL)
        work.write(connection)
        self._adjusted |= bool(work.adjusted)
        _note(connection, charges, known, work.now)
        return posted

    def _release(self, connection: Connection, returned: Iterable[tuple[str, int, int | None]]) -> None:
        listed = list(returned)
        work = Work(self._moment(connection), holds.of(connection, {one[0] for one in listed}))
        known = holds.returned(connection, {one[0] for one in listed})
        for hold_id, part, amount in listed:
            if (hold_id, part) not in known:
                work.release(hold_id, Kind.VOID, ALL if amount is None else amount, part)
                known.add((hold_id, part))
        work.write(connection)

    def paid_in(self, connection: Connection, account_id: str, amount: int, request_id: str, note: str) -> bool:
        """Posts a payment in a transaction under way, unless it was posted before; whether it was now.

        Raises:
            MeshError: REASON_INVALID_REQUEST, the id names another payment.
        """
        same = (_L.request_id == request_id, _L.attempt == 0, _L.kind == Kind.CREDIT)
        books = (Book.PAID, Book.AVAILABLE) if amount >= 0 else (Book.AVAILABLE, Book.PAID)
        known = connection.execute(select(_L.account_id, _L.debit, _L.amount).where(*same)).one_or_none()
        if known is not None:
            if tuple(known) != (account_id, books[0], abs(amount)):
                message = "that id names another payment"
                raise MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": "request_id"})
            return False
        now = self._moment(connection)
        entry = Entry(Kind.CREDIT, request_id, 0, 0, *books, abs(amount), account_id, "", "", now, note=note)
        post(connection, [entry])
        budgets.fund(connection, account_id, amount)
        return True

    def _sweep(self, connection: Connection) -> int:
        now = self._moment(connection)
        lost = (connection.execute(select(_C.settlement).where(_C.expires <= now))).scalars().all()
        lapsed = holds.lapsed(connection, now)
        self._lose(connection, [Charge.from_json(data) for data in lost], lapsed)
        return len(lost) + len(lapsed)

    def _end_holder(self, connection: Connection, holder: str) -> tuple[int, int]:
        ended = holds.of_holder(connection, holder)
        kept = (connection.execute(select(_C.settlement))).scalars().all()
        lost = [charge for charge in map(Charge.from_json, kept) if charge.holder == holder]
        self._lose(connection, lost, ended)
        return len(lost), len(ended)

    def _lose(self, connection: Connection, charges: Sequence[Charge], lapsed: Mapping[str, Hold]) -> None:
        """Charges attempts of which no more will be heard by their checkpoints, then gives holds back."""
        work = self._work(connection, charges)
        known = _known(connection, {charge.request_id for charge in charges})
        work.lost = lost_calls(known)
        for charge in charges:
            charged(charge, known, work, interrupted=True)
            if not charge.hold_id:
                work.release(charge.request_id, Kind.VOID, ALL)
            _log.warning("lost attempt charged", request_id=charge.request_id, attempt=charge.attempt)
            same = (_C.request_id == charge.request_id, _C.attempt == charge.attempt)
            connection.execute(delete(schema.checkpoints).where(*same))
        for hold_id, hold in lapsed.items():
            work.holds.setdefault(hold_id, hold)
            work.release(hold_id, Kind.EXPIRE, ALL)
        work.write(connection)
        self._adjusted |= bool(work.adjusted)

    def _work(self, connection: Connection, charges: Sequence[Charge]) -> Work:
        found = holds.of(connection, {charge.hold_id or charge.request_id for charge in charges})
        accounts = {charge.payer.account_id for charge in charges if charge.payer is not None}
        accounts |= {hold.payer.account_id for hold in found.values()}
        return Work(self._moment(connection), found, multipliers=multipliers.of(connection, accounts))

    def _moment(self, connection: Connection) -> int:
        """Now, but never before the last entry: a clock that is put back must not move money to another period."""
        if not self._latest:
            self._latest = connection.scalar(select(_L.posted).order_by(_L.id.desc()).limit(1)) or 0
        self._latest = max(self._latest, self._micros(connection))
        return self._latest

    def _micros(self, connection: Connection) -> int:
        if self._now is None and on_postgresql(connection):
            return int(connection.scalar(_DATABASE_TIME) or 0)
        return round((self._now or time.time)() * 1e6)


def _known(connection: Connection, request_ids: Iterable[str]) -> Known:
    found: dict[tuple[str, int], list[Any]] = defaultdict(list)
    for row in connection.execute(_CHARGED, {"ids": list(request_ids)}):
        found[row.request_id, row.attempt].append(row)
    return dict(found)


def _note(connection: Connection, charges: Sequence[Charge], known: Known, now: int) -> None:
    """Keeps the last checkpoint of each attempt that is not settled, and forgets those of attempts that are."""
    kept = connection.execute(_NOTED, {"ids": list({charge.request_id for charge in charges})})
    old = {(row.request_id, row.attempt) for row in kept}
    new: dict[tuple[str, int], Charge] = {}
    for charge in charges:
        place = (charge.request_id, charge.attempt)
        if charge.lost_at is None or place in known or (charge.opening and (place in old or place in new)):
            continue
        new[place] = charge
    for request_id, attempt in old:
        if (request_id, attempt) in known or (request_id, attempt) in new:
            same = (_C.request_id == request_id, _C.attempt == attempt)
            connection.execute(delete(schema.checkpoints).where(*same))
    for charge in new.values():
        expires = holds.believed(charge.lost_at, now)
        row = {"request_id": charge.request_id, "attempt": charge.attempt, "expires": expires}
        connection.execute(insert(schema.checkpoints).values(**row, settlement=charge.to_json()))
