"""Codes that pay money in, each exactly once: made by the operator in batches, redeemed by accounts.

A code is `prc-` and 26 characters of Crockford's base 32 (https://www.crockford.com/base32.html), 130 random bits, in
groups for people. What is kept is a digest, so that the database redeems nothing.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import Connection, insert, or_, select, update

from polyroute.api.errors.v1 import errors_pb2
from polyroute.auth import schema
from polyroute.auth.admin.paging import Page, token
from polyroute.auth.admin.states import is_there
from polyroute.auth.database import Also, Database, nothing
from polyroute.auth.money import budgets
from polyroute.auth.money.entries import Book, Entry, Kind, post, within_bounds
from polyroute.auth.money.ids import new_id
from polyroute.auth.money.ledger import Ledger
from polyroute.mesh.errors import MeshError

MARK: Final = "prc-"
ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
CHARACTERS: Final = 26
GROUP: Final = 5

_C: Final = schema.codes.c
_AS_READ: Final = str.maketrans("oil", "011")  # letters that are not in the alphabet, for the digits they look like


@dataclass(frozen=True, slots=True)
class Code:
    """A code as people may see it; times in microseconds since the Unix epoch, `amount` in nano-USD."""

    id: str
    batch: str
    amount: int
    created: int
    expires: int | None
    redeemed: int | None
    account_id: str


class Codes:
    """Makes and redeems codes.

    Args:
        database: Where they are.
        ledger: Posts what they pay in.
    """

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger

    async def create(
        self, batch: str, count: int, amount: int, expires: int | None, also: Also[list[Code]] = nothing
    ) -> tuple[list[str], list[Code]]:
        """New codes: what redeems them, and how they are listed; `also` is done in the same transaction.

        Raises:
            MeshError: REASON_INVALID_REQUEST, they would have ended already, or are worth too much.
        """
        within_bounds(amount, "amount_nanos")
        secret = [new_code() for _ in range(count)]

        def work(connection: Connection, now: int) -> list[Code]:
            if expires is not None and expires <= now:
                raise MeshError(
                    errors_pb2.REASON_INVALID_REQUEST, "the codes would have ended", metadata={"param": "expire_time"}
                )
            made = [Code(new_id("cod"), batch, amount, now, expires, None, "") for _ in secret]
            rows = [_row(code) | {"digest": digest(text)} for code, text in zip(made, secret, strict=True)]
            connection.execute(insert(schema.codes), rows)
            also(connection, made)
            return made

        return secret, await self._ledger.transact(work)

    async def redeem(self, account_id: str, text: str, also: Also[Code] = nothing) -> str:
        """Pays a code's amount into an account, once; the id of the payment in the ledger.

        Where it is paid in now, `also` is done in the same transaction.

        Raises:
            MeshError: REASON_NOT_FOUND, the code is unknown, used by somebody else, or over: in the same words, so that
                nobody learns which codes exist; or there is no such account.
        """
        kept = digest(text)
        return await self._ledger.transact(lambda connection, now: _redeemed(connection, account_id, kept, now, also))

    async def page(self, batch: str, page: Page) -> tuple[list[Code], str]:
        """A page of codes, newest first, and the token that asks for the next."""
        query = select(schema.codes).where(*page.wanted).order_by(_C.id.desc()).limit(page.size + 1)
        if batch:
            query = query.where(_C.batch == batch)
        if page.after:
            query = query.where(_C.id < str(page.after[0]))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        found = [_code(row) for row in rows[: page.size]]
        return found, token(found[-1].id) if len(rows) > page.size else ""


def new_code() -> str:
    """A fresh code, such as `prc-7k2mq-...`."""
    text = "".join(secrets.choice(ALPHABET) for _ in range(CHARACTERS))
    return MARK + "-".join(text[place : place + GROUP] for place in range(0, CHARACTERS, GROUP))


def digest(text: str) -> bytes:
    """What is kept of a code, however a person has typed it."""
    plain = text.strip().lower().removeprefix(MARK).replace("-", "").replace(" ", "").translate(_AS_READ)
    return blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=32, person=b"polyroute-code").digest()


def _redeemed(connection: Connection, account_id: str, kept: bytes, now: int, also: Also[Code]) -> str:
    if not is_there(connection, account_id):
        raise MeshError(errors_pb2.REASON_NOT_FOUND, "there is no such account", metadata={"resource": account_id})
    good = (_C.digest == kept, _C.redeemed.is_(None), or_(_C.expires.is_(None), _C.expires > now))
    taken = connection.execute(update(schema.codes).where(*good).values(redeemed=now, account_id=account_id))
    row = connection.execute(select(schema.codes).where(_C.digest == kept)).one_or_none()
    if row is None or row.account_id != account_id or row.redeemed is None:
        raise MeshError(errors_pb2.REASON_NOT_FOUND, "this code cannot be redeemed")
    if taken.rowcount:
        moved = (Book.PAID, Book.AVAILABLE, row.amount)
        entry = Entry(Kind.CREDIT, row.id, 0, 0, *moved, account_id, "", "", now, note=f"code of batch {row.batch}")
        post(connection, [entry])
        budgets.fund(connection, account_id, row.amount)
        also(connection, _code(row))
    return str(row.id)


def _row(code: Code) -> dict[str, Any]:
    return {name: getattr(code, name) for name in Code.__slots__}


def _code(row: Any) -> Code:
    values: Sequence[Any] = [getattr(row, name) for name in Code.__slots__]
    return Code(*values)
