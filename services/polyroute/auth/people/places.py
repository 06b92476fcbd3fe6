"""Whose something is."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, or_, select

from polyroute.auth import schema
from polyroute.auth.people.actors import Actor
from polyroute.auth.people.rules import Kind

_MAX_NAMED: Final = 64  # keys of one prefix that are looked through for the caller's own


@dataclass(frozen=True, slots=True)
class Place:
    """Whose something is; `project_id` is empty for an account as a whole, `id` is its own."""

    account_id: str
    project_id: str = ""
    id: str = ""


def default_project(connection: Connection, actor: Actor) -> str:
    """The project that is meant where none is named: the only account's oldest, or a key's own; else empty."""
    if len(actor.standings) != 1:
        return ""
    [(account_id, standing)] = actor.standings.items()
    table = schema.projects.c
    query = select(table.id).where(table.account_id == account_id).order_by(table.id).limit(1)
    return standing.only or connection.scalar(query) or ""


def places(connection: Connection, kind: Kind, named: str) -> list[Place]:
    """Whose the things of a name are: several keys may have a prefix, all else is one at most."""
    match kind:
        case Kind.ACCOUNT:
            return _account(connection, named)
        case Kind.PROJECT:
            return _project(connection, named)
        case Kind.KEY:
            return _keys(connection, or_(schema.keys.c.id == named, schema.keys.c.prefix == named))
        case Kind.SCOPE:
            return scope_places(connection, named)
        case Kind.BUDGET:
            scope = connection.scalar(select(schema.budgets.c.scope).where(schema.budgets.c.id == named))
            return [] if scope is None else scope_places(connection, scope)
        case Kind.INVITATION:
            table = schema.invitations.c
            return [Place(found) for found in connection.scalars(select(table.account_id).where(table.id == named))]


def scope_places(connection: Connection, scope: str) -> list[Place]:
    """Whose the key, project or account of an id is."""
    return _account(connection, scope) or _project(connection, scope) or _keys(connection, schema.keys.c.id == scope)


def _account(connection: Connection, named: str) -> list[Place]:
    table = schema.accounts.c
    return [Place(found, id=found) for found in connection.scalars(select(table.id).where(table.id == named))]


def _project(connection: Connection, named: str) -> list[Place]:
    table = schema.projects.c
    found = connection.execute(select(table.account_id, table.id).where(table.id == named))
    return [Place(account_id, project_id, project_id) for account_id, project_id in found]


def _keys(connection: Connection, which: Any) -> list[Place]:
    projects, keys = schema.projects.c, schema.keys.c
    query = select(projects.account_id, projects.id, keys.id).join_from(schema.keys, schema.projects).where(which)
    return [Place(*row) for row in connection.execute(query.order_by(keys.id).limit(_MAX_NAMED))]
