"""`polyroute ledger` and `polyroute audit`: what was charged, and what was changed."""

from typing import Any, Final

from polyroute.api.auth.v1 import admin_pb2 as pb
from polyroute.api.auth.v1 import people_pb2
from polyroute.cli.admin import when
from polyroute.cli.desk import Desk
from polyroute.cli.money import nanos, usd
from polyroute.cli.printing import Column, show_line, show_list, show_one
from polyroute.mesh.scope import new_request_id


def _kind(entry: Any) -> str:
    name = pb.EntryKind.Name(entry.kind) if entry.kind in pb.EntryKind.values() else str(entry.kind)
    return name.removeprefix("ENTRY_KIND_").lower()


def _sum(entry: Any) -> str:
    return usd(entry.amount_nanos) if entry.HasField("amount_nanos") else "unknown"


def _payer(entry: Any) -> str:
    return str(entry.key_id or entry.project_id or entry.account_id)


ENTRY: Final[tuple[Column, ...]] = (
    ("id", lambda entry: str(entry.id)),
    ("time", lambda entry: when(entry.post_time)),
    ("kind", _kind),
    ("request", lambda entry: entry.request_id + (f"#{entry.attempt}" if entry.attempt else "")),
    ("from", lambda entry: entry.debit),
    ("to", lambda entry: entry.credit),
    ("amount", _sum),
    ("whose", _payer),
    ("rule", lambda entry: entry.rule),
    ("note", lambda entry: entry.note),
)
EVENT: Final[tuple[Column, ...]] = (
    ("id", lambda event: str(event.id)),
    ("time", lambda event: when(event.time)),
    ("who", lambda event: event.actor),
    ("what", lambda event: event.action),
    ("to", lambda event: event.resource),
    ("before", lambda event: event.before),
    ("after", lambda event: event.after),
)
SUMS: Final[tuple[Column, ...]] = (
    ("entries", lambda found: str(found.entries)),
    ("spent", lambda found: usd(found.spent_nanos)),
    ("held", lambda found: usd(found.held_nanos)),
)
CHAIN: Final[tuple[Column, ...]] = (
    ("events", lambda found: str(found.events)),
    ("last", lambda found: str(found.last_id)),
    ("digest", lambda found: found.last_digest),
)


def list_entries(desk: Desk, filtered: str, count: int) -> None:
    """Prints entries of the ledger, newest first."""
    found = desk.pages("ListEntries", pb.ListEntriesRequest(filter=filtered), count)
    show_list(found, ENTRY, "the ledger has no such entries", as_json=desk.as_json)


def audit(desk: Desk) -> int:
    """Prints what the ledger adds up to, and what does not; 0 when all of it does, 1 otherwise."""
    found = desk.ask("AuditLedger", pb.AuditLedgerRequest())
    show_one(found, SUMS, as_json=desk.as_json)
    if not desk.as_json:
        print("\n".join(found.findings) or "it adds up")
    return 1 if found.findings else 0


def credit(desk: Desk, account: str, amount: str, request_id: str, note: str) -> None:
    """Pays money into an account, once for each id; without one of its own each run is another payment."""
    request = pb.PostCreditRequest(
        account_id=account,
        amount_nanos=nanos(amount, "--amount"),
        request_id=request_id or new_request_id(),
        note=note,
    )
    show_one(desk.ask("PostCredit", request).entry, ENTRY, as_json=desk.as_json)


def correct(desk: Desk, request_id: str, attempt: int, amount: str, revision: int, note: str) -> None:
    """Changes what an attempt is charged in all."""
    request = pb.PostCorrectionRequest(
        request_id=request_id,
        attempt=attempt,
        cost_nanos=nanos(amount, "--amount"),
        revision=revision,
        note=note,
    )
    show_one(desk.ask("PostCorrection", request).entry, ENTRY, as_json=desk.as_json)


def list_events(desk: Desk, filtered: str, count: int) -> None:
    """Prints administrative changes, newest first."""
    found = desk.pages("ListAuditEvents", pb.ListAuditEventsRequest(filter=filtered), count)
    show_list(found, EVENT, "nothing of that kind was changed", as_json=desk.as_json)


def verify(desk: Desk, known: str) -> int:
    """Says whether the log of changes is as it was written; 0 when it is, 1 otherwise.

    Args:
        desk: Where to ask.
        known: `id:digest` of an event that was seen before; empty for none.
    """
    event, _, digest = known.partition(":")
    request = people_pb2.VerifyAuditLogRequest(known_id=int(event or 0), known_digest=digest)
    found = desk.ask("VerifyAuditLog", request)
    if found.intact:
        show_one(found, CHAIN, as_json=desk.as_json)
        return 0
    show_line(
        found, f"the log was tampered with: event {found.broken_id} is not what was written", as_json=desk.as_json
    )
    return 1
