"""What administrators do with money: payments, corrections, statements and the audit."""

from typing import Any

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import messages
from polyroute.auth.admin.directory import Directory
from polyroute.auth.admin.journal import Change, Journal
from polyroute.auth.admin.paging import Page
from polyroute.auth.database import Database
from polyroute.auth.money import audit, statement
from polyroute.auth.money.audit import Audit
from polyroute.auth.money.charges import Charge
from polyroute.auth.money.entries import Kind
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
        await self._ledger.credit(account_id, amount, request_id, note)
        posted = await statement.latest(self._database, request_id)
        await self._journal.record(Change(actor, "PostCredit", account_id, None, messages.entry(posted)))
        return posted

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
        await self._ledger.settle([charge])
        posted = await statement.latest(self._database, request_id)
        states = messages.entry(last), messages.entry(posted)
        await self._journal.record(Change(actor, "PostCorrection", request_id, *states))
        return posted

    async def entries(self, page: Page) -> tuple[list[Any], str]:
        """A page of entries, newest first."""
        return await statement.entries(self._database, page)

    async def audit(self) -> Audit:
        """What does not add up, the journal of changes included."""
        found = await audit.audit(self._database)
        if await self._journal.intact():
            return found
        return Audit((*found.findings, "the log of changes was tampered with"), found.entries, found.held, found.spent)
