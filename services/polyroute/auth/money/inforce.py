"""Which plan is in force for a key: its project's own, or else its account's.

One plan rules, and not what several permit together: a team that gets a plan of its own gets what that says, be it more
or less than what its account has.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, not_, select

from polyroute.auth import schema
from polyroute.auth.money.terms import Terms
from polyroute.auth.rates.limits import Limit, Place
from polyroute.mesh.database import among

PREFIX: Final = "sub_"  # of ids of subscriptions, which are scopes of limits as well

_S: Final = schema.subscriptions.c


@dataclass(frozen=True, slots=True)
class InForce:
    """A subscription, as far as it binds calls."""

    id: str
    scope: str
    """The project or account that has subscribed."""
    plan: str
    terms: Terms

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that come with it."""
        return self.terms.limits_of(self.id)


def in_force(connection: Connection, project_id: str, account_id: str) -> InForce | None:
    """The plan that binds the calls of a project; None where none does."""
    columns = (_S.id, _S.scope, _S.plan, _S.terms)
    running = select(*columns).where(among(_S.scope, (project_id, account_id)), not_(_S.ended))
    found = {row.scope: row for row in connection.execute(running)}
    row = found.get(project_id) or found.get(account_id)
    if row is None or not row.terms:
        return None
    return InForce(row.id, row.scope, row.plan, Terms.from_json(row.terms))


def limit_at(connection: Connection, place: Place) -> Limit | None:
    """The limit of a subscription at a place; None where there is none, or it is over."""
    terms = connection.scalar(select(_S.terms).where(_S.id == place.scope, not_(_S.ended)))
    limits = Terms.from_json(terms).limits_of(place.scope)
    return next((limit for limit in limits if limit.place == place), None)
