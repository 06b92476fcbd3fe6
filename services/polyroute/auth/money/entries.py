"""Entries of the ledger: each moves an amount from one book of an account to another, so that the books always add up.

Five books per account: `paid` is where payments come from, `available` what may be spent (below nothing where an
account pays later), `held` what is reserved, `spent` what was charged for calls, and `plan` is where the prices of
subscriptions go and where the quotas come from that they include. An entry is never changed; what was wrong is put
right by another one. Every transaction that posts is sealed with a digest that covers the seal before.
"""

from collections.abc import Iterable
from enum import IntEnum
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection, insert, select

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.mesh.database import driver_sql
from polyroute.mesh.errors import MeshError
from polyroute.mesh.rows import insertions

MOST: Final = 10**16  # nano-USD that one thing may be about, ten million USD: hundreds of them are within 64 bits
DIGEST_BYTES: Final = 32
FIRST_SEAL: Final = bytes(DIGEST_BYTES)


class Book(IntEnum):
    """Where money is."""

    PAID = 1
    AVAILABLE = 2
    HELD = 3
    SPENT = 4
    PLAN = 5


OUTSIDE: Final = (Book.PAID, Book.PLAN)
"""From where money becomes available, and where it goes that nobody spends on calls."""


class Kind(IntEnum):
    """What an entry does; the values are the contract's."""

    HOLD = 1
    SETTLE = 2
    VOID = 3
    EXPIRE = 4
    CORRECT = 5
    CREDIT = 6
    FEE = 7
    GRANT = 8
    LAPSE = 9


_SPENT: Final = int(Book.SPENT)


class Payer(NamedTuple):
    """Whose money: an account, and the project and the key it is for; empty where it is for all of them."""

    account_id: str
    project_id: str = ""
    key_id: str = ""

    @property
    def path(self) -> tuple[str, ...]:
        """What bounds it, from the bottom up; the order in which budgets are asked."""
        return tuple(scope for scope in (self.key_id, self.project_id, self.account_id) if scope)


class Entry(NamedTuple):
    """A row of the ledger, in the order of its columns; `posted` in microseconds since the Unix epoch.

    The amount of an attempt is its `cost`, which is the vendor's figure, times `multiplier`, in millionths. Where
    several entries make one charge, the cost stands on the first.
    """

    kind: int
    request_id: str
    attempt: int
    part: int
    debit: int
    credit: int
    amount: int | None
    account_id: str
    project_id: str
    key_id: str
    posted: int
    rule: str = ""
    price_version: str = ""
    estimated: int = 0
    deployment: str = ""
    note: str = ""
    model: str = ""
    cost: int | None = None
    multiplier: int = 0

    @property
    def spends(self) -> int:
        """What it adds to the book of what was spent."""
        return (self.amount or 0) * ((self.credit == _SPENT) - (self.debit == _SPENT))


def within_bounds(amount: int, param: str) -> int:
    """The amount, nano-USD.

    Raises:
        MeshError: REASON_INVALID_REQUEST, it is more than sums have room for.
    """
    if abs(amount) > MOST:
        message = "an amount is at most ten million dollars"
        raise MeshError(errors_pb2.REASON_INVALID_REQUEST, message, metadata={"param": param})
    return amount


# Written here and not by SQLAlchemy, whose way of binding a row by name costs more than a database's of storing it.
_INTO: Final = f"INSERT INTO ledger ({', '.join(Entry._fields)})"
_ROW: Final = f"({', '.join('? <> 0' if name == 'estimated' else '?' for name in Entry._fields)})"


_LAST_SEAL: Final = select(schema.seals.c.digest).order_by(schema.seals.c.id.desc()).limit(1)
_LAST_ENTRY: Final = select(schema.ledger.c.id).order_by(schema.ledger.c.id.desc()).limit(1)
_SEAL: Final = insert(schema.seals)
_FIRST_COLUMNS: Final = Entry._fields.index("model")  # those that the first version of the ledger had
_NO_MORE: Final = ("", None, 0)


def sealed(before: bytes, entries: Iterable[Entry]) -> bytes:
    """The seal of entries that were posted together.

    Columns that came later count only where they say something, so that the seals of older entries stay what they are.
    """
    digest = blake2b(before, digest_size=DIGEST_BYTES)
    digest.update(b"".join([orjson.dumps(_said(entry)) for entry in entries]))
    return digest.digest()


def _said(entry: Entry) -> tuple[Any, ...]:
    return entry[:_FIRST_COLUMNS] if entry[_FIRST_COLUMNS:] == _NO_MORE else tuple(entry)


def post(connection: Connection, entries: list[Entry]) -> None:
    """Writes entries in their order, and their seal."""
    if not entries:
        return
    for statement, values in insertions(_INTO, _ROW, entries):
        connection.exec_driver_sql(driver_sql(connection, statement), values)
    before, last = connection.scalar(_LAST_SEAL), connection.scalar(_LAST_ENTRY)
    seal = {"last_entry": last, "digest": sealed(before or FIRST_SEAL, entries)}
    connection.execute(_SEAL, seal)
