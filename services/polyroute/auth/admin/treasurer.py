"""What administrators do with money: payments, corrections, statements and the audit."""

from typing import Any

from sqlalchemy import Connection

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import messages
from polyroute.auth.admin.directory import Directory
from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.paging import Page
from polyroute.auth.database import Database
from polyroute.auth.money import audit, statement
from polyroute.auth.money.audit import Audit
from polyroute.auth.money.charges import Charge
from polyroute.auth.money.entries import Kind, within_bounds
from polyroute.auth.money.ledger import Ledger
from polyroute.mesh.errors import MeshError


class Treasurer:
    """Money, for administrators.

    Args:
        database: Where the ledger is.
        ledger: Posts.
        directory: Knows the accounts.
        journal: Where changes are written down.
    """

    def __init__(self, database: Database, ledger: Ledger, directory: Directory, journal: Journal) -> None:
        self._database = database
        self._ledger = ledger
        self._directory = directory
        self._journal = journal

    async def credit(self, actor: str, account_id: str, amount: int, request_id: str, note: str) -> Any:
        """The entry of a payment, posted once per `request_id`; nano-USD, negative takes it back.

        Raises:
            MeshError: REASON_NOT_FOUND, there is no such account.
        """
        await self._directory.account(account_id)
        within_bounds(amount, "amount_nanos")

        def work(connection: Connection, _now: int) -> Any:
            new = self._ledger.paid_in(connection, account_id, amount, request_id, note)
            posted = statement.last(connection, request_id)
            if new:
                change = Change(actor, "PostCredit", account_id, None, messages.entry(posted))
                self._journal.record(connection, change)
            return posted

        return await self._ledger.transact(work)

    async def correct(self, actor: str, request_id: str, attempt: int, cost: int, *, revision: int, note: str) -> Any:
        """The entry that makes an attempt cost `cost` nano-USD in all.

        Raises:
            MeshError: REASON_NOT_FOUND, the ledger does not know the call; REASON_INVALID_REQUEST, not the attempt.
        """
        last = await statement.latest(self._database, request_id)
        if last.kind not in (Kind.SETTLE, Kind.CORRECT, Kind.VOID, Kind.EXPIRE):
            raise MeshError(
                errors_pb2.REASON_INVALID_REQUEST, "the call was not charged yet", metadata={"param": "request_id"}
            )
        charge = Charge(request_id, attempt, cost, revision=revision, rule="correction", note=note)

        def work(connection: Connection, _now: int) -> Any:
            before = statement.last(connection, request_id)
            self._ledger.settled(connection, [charge])
            posted = statement.last(connection, request_id)
            states = messages.entry(before), messages.entry(posted)
            self._journal.record(connection, Change(actor, "PostCorrection", request_id, *states))
            return posted

        return await self._ledger.transact(work)

    async def entries(self, page: Page) -> tuple[list[Any], str]:
        """A page of entries, newest first."""
        return await statement.entries(self._database, page)

    async def audit(self) -> Audit:
        """What does not add up, the journal of changes included."""
        found = await audit.audit(self._database)
        if await self._journal.intact():
            return found
        return Audit((*found.findings, "the log of changes was tampered with"), found.entries, found.held, found.spent)
