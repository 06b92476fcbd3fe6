"""Keys that may spend only what a plan includes: whose quota pays for a call of theirs."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, not_, select

from polyroute.api.auth.v1.auth_pb2 import SPEND_CLASS_INCLUDED
from polyroute.auth import schema
from polyroute.auth.money.budgets import Budget
from polyroute.auth.money.entries import Payer
from polyroute.auth.money.periods import Period
from polyroute.auth.scopes import Scope
from polyroute.mesh.database import among

_K: Final = schema.keys.c
_S: Final = schema.subscriptions.c


def plan_of(connection: Connection, payer: Payer, found: Sequence[Budget]) -> Budget | None:
    """The budget of the plan that alone may pay for what a key spends; None where the key may spend any money.

    Of several plans it is the one with most left. Where there is none, it is one of nothing.

    Args:
        connection: To the database.
        payer: Whose key it is.
        found: The budgets above it, in their current periods.
    """
    if not payer.key_id:
        return None
    kept = connection.scalar(select(_K.scope).where(_K.id == payer.key_id))
    if kept is None or Scope.from_json(kept).spend_class < SPEND_CLASS_INCLUDED:
        return None
    running = select(_S.budget_id).where(among(_S.scope, payer.path), not_(_S.ended))
    plans = set(connection.execute(running).scalars())
    included = [budget for budget in found if budget.id in plans]
    nothing = Budget("", payer.key_id, Period.TOTAL, "", 0, True, False, 0, None, 0, 0)
    return max(included, key=lambda budget: budget.left, default=nothing)
