"""How far somebody's lists go, as conditions of queries."""

from typing import Any, Final

from sqlalchemy import ColumnElement, FromClause, Select, and_, false, or_, select

from polyroute.auth import schema
from polyroute.auth.people.actors import Reach

_P: Final = schema.projects.c
_K: Final = schema.keys.c


def within(table: FromClause, reach: Reach | None) -> list[ColumnElement[bool]]:
    """The conditions under which rows of a table may be shown; none where everything may.

    Args:
        table: One that says whose its rows are: by `account_id`, by `project_id`, by both, or by `scope`.
        reach: How far; None means everything.
    """
    if reach is None:
        return []
    columns = table.c
    if table is schema.accounts:
        return [columns.id.in_(reach.accounts)]
    if table is schema.projects:
        return [_theirs(columns.account_id, columns.id, reach)]
    if "scope" in columns and table is not schema.keys:
        return [_scopes(columns.scope, reach)]
    if "account_id" in columns and "project_id" in columns:
        return [_theirs(columns.account_id, columns.project_id, reach)]
    if "account_id" in columns:
        return [columns.account_id.in_(reach.accounts)]
    if "project_id" in columns:
        return [columns.project_id.in_(_projects(reach))]
    return [false()]  # nobody said whose its rows are


def _theirs(account: ColumnElement[str], project: ColumnElement[str], reach: Reach) -> ColumnElement[bool]:
    return or_(and_(account.in_(reach.accounts), project.not_in(reach.hidden)), project.in_(reach.projects))


def _projects(reach: Reach) -> Select[Any]:
    return select(_P.id).where(_theirs(_P.account_id, _P.id, reach))


def _scopes(scope: ColumnElement[str], reach: Reach) -> ColumnElement[bool]:
    keys = select(_K.id).where(_K.project_id.in_(_projects(reach)))
    return or_(scope.in_(reach.accounts), scope.in_(_projects(reach)), scope.in_(keys))
