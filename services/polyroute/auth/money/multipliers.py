"""What calls cost their callers, where that is not what vendors ask: the operator's margin, and that of groups.

A charge is the vendor's cost times everybody's multiplier times that of the account's group, in millionths, each
product rounded to the nearest and a half upwards. It stands on the entry beside the cost.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from sqlalchemy import Connection, delete, insert, select

from polyroute.auth import schema
from polyroute.auth.money.charges import ONCE, multiplied
from polyroute.mesh.database import among

EVERYBODY: Final = "*"

_M: Final = schema.multipliers.c
_G: Final = schema.account_groups.c


def of(connection: Connection, accounts: Iterable[str]) -> Mapping[str, int]:
    """The multipliers of some accounts; empty where none is set for anybody."""
    known: dict[str, int] = {row.name: row.millionths for row in connection.execute(select(schema.multipliers))}
    if not known:
        return {}
    listed = list(accounts)
    rows = connection.execute(select(schema.account_groups).where(among(_G.account_id, listed)))
    groups = {row.account_id: row.name for row in rows}
    return {account: _product(known, groups.get(account, "")) for account in listed}


def _product(known: Mapping[str, int], group: str) -> int:
    return multiplied(known.get(EVERYBODY, ONCE), known.get(group, ONCE))


def set_for(connection: Connection, name: str) -> int | None:
    """What is set for a group, or for everybody; None where nothing is."""
    return connection.scalar(select(_M.millionths).where(_M.name == name))


def group_of(connection: Connection, account_id: str) -> str:
    """The group of an account; empty for none."""
    return connection.scalar(select(_G.name).where(_G.account_id == account_id)) or ""


def put(connection: Connection, name: str, millionths: int) -> list[str]:
    """Sets a multiplier; the accounts that are in the group, all that are in any for everybody's."""
    connection.execute(delete(schema.multipliers).where(_M.name == name))
    connection.execute(insert(schema.multipliers).values(name=name, millionths=millionths))
    accounts = select(schema.accounts.c.id) if name == EVERYBODY else select(_G.account_id).where(_G.name == name)
    return list(connection.execute(accounts).scalars())


def join(connection: Connection, account_id: str, group: str) -> int:
    """Puts an account into a group, or out of any; by what its cost is multiplied from now on."""
    connection.execute(delete(schema.account_groups).where(_G.account_id == account_id))
    if group:
        connection.execute(insert(schema.account_groups).values(account_id=account_id, name=group))
    return of(connection, [account_id]).get(account_id, ONCE)
