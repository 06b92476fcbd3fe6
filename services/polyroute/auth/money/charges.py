"""What attempts are charged, and the entries that come of it: worked out first, written at once.

Here is no statement but those of `Work.write`: which entries a batch of charges makes is a matter of what was asked and
what the ledger has already.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection, delete, update

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.money import budgets, outbox
from polyroute.auth.money.entries import Book, Entry, Kind, Payer, post
from polyroute.auth.money.outbox import Adjusted, Place
from polyroute.mesh.errors import MeshError

QUARANTINED_RULE: Final = "quarantined/2"  # of figures that cannot be true: kept without an amount, for a person
MOST_COST: Final = 10**15  # nano-USD: no attempt is charged a million USD
INTERRUPTED_RULE: Final = "interrupted/1"  # of attempts that were lost: charged by their last checkpoint
ALL: Final = 1 << 62  # more than any hold has
ONCE: Final = 1_000_000  # a multiplier that changes nothing, in millionths
AS_SET: Final = 0  # a multiplier that is looked up when the charge is posted

# A database's driver takes a plain number as it is, and looks up how to take a member of an enumeration.
_SETTLE, _HELD, _AVAILABLE, _SPENT = int(Kind.SETTLE), int(Book.HELD), int(Book.AVAILABLE), int(Book.SPENT)
_H: Final = schema.holds.c

Known = dict[Place, list[Any]]
"""What the ledger has of attempts: their entries, by call and attempt."""


class Charge(NamedTuple):
    """What one attempt is charged.

    Attributes:
        cost: What the vendor asks, nano-USD; None when the price is unknown.
        payer: Who pays; None means whoever the hold of the call belongs to.
        hold_id: The allowance that the call was held from; empty means a hold of the call's own, or none.
        final: The last attempt: what a hold of the call's own still has goes back.
        lost_at: Of a checkpoint: when the attempt counts as lost, microseconds since the Unix epoch. None for a charge.
        revision: 0 for the first figure; higher ones correct it.
        multiplier: What is charged is the cost times this, in millionths; AS_SET takes what is set for the payer.
        holder: Of a checkpoint: the process that makes the attempt.
        about: Of a checkpoint: what it says beside that; see `outbox.about`.
        opening: Of a checkpoint: it gives way to any other of its attempt.
    """

    request_id: str
    attempt: int
    cost: int | None
    payer: Payer | None = None
    hold_id: str = ""
    final: bool = False
    lost_at: int | None = None
    revision: int = 0
    rule: str = ""
    price_version: str = ""
    estimated: bool = False
    deployment: str = ""
    note: str = ""
    model: str = ""
    multiplier: int = ONCE
    holder: str = ""
    about: str = ""
    opening: bool = False

    def to_json(self) -> bytes:
        """The charge as a checkpoint keeps it."""
        return orjson.dumps(self._asdict(), default=tuple)

    @classmethod
    def from_json(cls, data: bytes) -> "Charge":
        """The charge that `to_json` gave."""
        tree: dict[str, Any] = orjson.loads(data)
        return cls(**tree | {"payer": Payer(*tree["payer"]) if tree["payer"] else None})


_NONE: Final[list[Any]] = []


@dataclass(slots=True)
class Hold:
    """A hold that is open."""

    payer: Payer
    left: int


@dataclass(slots=True)
class Work:
    """What one transaction does, gathered first and written at once."""

    now: int
    holds: dict[str, Hold]
    multipliers: Mapping[str, int] = field(default_factory=dict)  # account -> millionths, where they are not ONCE
    entries: list[Entry] = field(default_factory=list)
    spent: dict[Payer, int] = field(default_factory=lambda: defaultdict(int))
    held: dict[Payer, int] = field(default_factory=lambda: defaultdict(int))
    changed: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)  # calls at least one of whose attempts was charged as lost
    adjusted: dict[Place, Adjusted] = field(default_factory=dict)

    def draw(self, hold_id: str, amount: int) -> int:
        """Takes at most `amount` from a hold; how much that was."""
        hold = self.holds.get(hold_id)
        if hold is None or amount <= 0:
            return 0
        drawn = min(amount, hold.left)
        hold.left -= drawn
        self.changed.add(hold_id)
        self.held[hold.payer] -= drawn
        return drawn

    def release(self, hold_id: str, kind: Kind, amount: int, part: int = 0) -> None:
        """Gives at most `amount` of a hold back."""
        released = self.draw(hold_id, amount)
        if released:
            payer = self.holds[hold_id].payer
            moved = (Book.HELD, Book.AVAILABLE, released)
            self.entries.append(Entry(kind, hold_id, 0, part, *moved, *payer, self.now))

    def write(self, connection: Connection) -> None:
        """Writes entries, holds and budgets, and what reports of usage have to follow."""
        post(connection, self.entries)
        outbox.write(connection, self.adjusted)
        for hold_id in self.changed:
            left = self.holds[hold_id].left
            which = _H.id == hold_id
            statement = (
                update(schema.holds).where(which).values(left=left) if left else delete(schema.holds).where(which)
            )
            connection.execute(statement)
        budgets.move(connection, _by_scope(self.spent), _by_scope(self.held), self.now)


def multiplied(cost: int, millionths: int) -> int:
    """What is charged for a cost, nano-USD: to the nearest, a half upwards."""
    return (cost * millionths + ONCE // 2) // ONCE


def charged(charge: Charge, known: Known, work: Work, *, interrupted: bool = False) -> bool:
    """Posts a charge unless the ledger has it; whether it was posted."""
    place = (charge.request_id, charge.attempt)
    entries = known.get(place, _NONE)
    payer = charge.payer or _payer_of(charge, entries, work)
    charge = _believed(charge, charge.multiplier or work.multipliers.get(payer.account_id, ONCE))
    if not entries:
        new = _first(charge, payer, work, interrupted=interrupted)
    elif interrupted or not _corrects(charge, entries):
        return False
    else:
        new = [_correction(charge, payer, entries, work)]
    for entry in new:
        work.spent[payer] += entry.spends
    work.entries += new
    known[place] = [*entries, *new]
    if interrupted and charge.request_id not in work.lost:
        # it may leave no record, and then nothing says what its other attempts were charged
        work.lost.add(charge.request_id)
        work.adjusted |= {other: Adjusted(known[other]) for other in known if other[0] == charge.request_id}
    if entries or charge.request_id in work.lost:
        work.adjusted[place] = Adjusted(known[place], charge.about)
    return True


def lost(known: Known) -> set[str]:
    """The calls of which the ledger has an attempt that was charged as lost."""
    return {place[0] for place, entries in known.items() if any(entry.rule == INTERRUPTED_RULE for entry in entries)}


def _believed(charge: Charge, multiplier: int) -> Charge:
    """The charge; without its figures where these cannot be true, so that no vendor's mistake is anybody's money."""
    cost = charge.cost
    if cost is None or (0 <= cost <= MOST_COST and (multiplier == ONCE or multiplied(cost, multiplier) <= MOST_COST)):
        return charge
    return charge._replace(cost=None, rule=QUARANTINED_RULE)


def _payer_of(charge: Charge, entries: Sequence[Any], work: Work) -> Payer:
    hold = work.holds.get(charge.hold_id or charge.request_id)
    if hold is not None and hold.payer.key_id:
        return hold.payer
    if entries:
        return Payer(entries[0].account_id, entries[0].project_id, entries[0].key_id)
    raise MeshError(
        errors_pb2.REASON_INVALID_REQUEST,
        "nobody is known who pays for this call",
        metadata={"param": "caller", "request_id": charge.request_id},
    )


def _first(charge: Charge, payer: Payer, work: Work, *, interrupted: bool) -> list[Entry]:
    """The entries of a charge: what was held for it, and what goes beyond that."""
    cost, multiplier = charge.cost, 0
    amount = 0
    if cost is not None:
        multiplier = charge.multiplier or work.multipliers.get(payer.account_id, ONCE)
        amount = cost if multiplier == ONCE else multiplied(cost, multiplier)
    held = work.draw(charge.hold_id or charge.request_id, amount)
    beyond = None if cost is None else amount - held
    if held and beyond:
        moves: tuple[tuple[int, int | None], ...] = ((_HELD, held), (_AVAILABLE, beyond))
    else:
        moves = ((_HELD, held),) if held else ((_AVAILABLE, beyond),)
    return [
        Entry(
            _SETTLE,
            charge.request_id,
            charge.attempt,
            part,
            book,
            _SPENT,
            moved,
            payer.account_id,
            payer.project_id,
            payer.key_id,
            work.now,
            INTERRUPTED_RULE if interrupted else charge.rule,
            charge.price_version,
            1 if charge.estimated or interrupted else 0,
            charge.deployment,
            charge.note,
            charge.model,
            None if part else cost,
            multiplier,
        )
        for part, (book, moved) in enumerate(moves)
    ]


def _corrects(charge: Charge, entries: Sequence[Any]) -> bool:
    """Whether a figure is newer than those that were posted: a true one is newer than a guess made for a lost call."""
    if charge.revision == 0:
        corrected = any(entry.kind == Kind.CORRECT for entry in entries)
        return not corrected and any(entry.rule == INTERRUPTED_RULE for entry in entries)
    return all(entry.kind != Kind.CORRECT or entry.part < charge.revision for entry in entries)


def _correction(charge: Charge, payer: Payer, entries: Sequence[Any], work: Work) -> Entry:
    so_far = sum((entry.amount or 0) * (1 if entry.credit == Book.SPENT else -1) for entry in entries)
    multiplier = charge.multiplier or entries[0].multiplier or ONCE
    change = multiplied(charge.cost or 0, multiplier) - so_far
    books = (Book.AVAILABLE, Book.SPENT) if change >= 0 else (Book.SPENT, Book.AVAILABLE)
    return Entry(
        Kind.CORRECT,
        charge.request_id,
        charge.attempt,
        charge.revision,
        *books,
        abs(change),
        *payer,
        work.now,
        charge.rule,
        charge.price_version,
        int(charge.estimated),
        charge.deployment or entries[0].deployment,
        charge.note,
        charge.model or entries[0].model,
        _more_cost(charge, entries) if multiplier == entries[0].multiplier else None,
        multiplier,
    )


def _more_cost(charge: Charge, entries: Sequence[Any]) -> int:
    """By what a correction changes the vendor's figure; one with another multiplier is of the charge only."""
    return (charge.cost or 0) - sum(entry.cost or 0 for entry in entries)


def _by_scope(amounts: Mapping[Payer, int]) -> Mapping[str, int]:
    found: dict[str, int] = defaultdict(int)
    for payer, amount in amounts.items():
        for scope in payer.path:
            found[scope] += amount
    return found
