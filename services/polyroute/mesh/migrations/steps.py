"""Steps of revisions that meet databases from before there were revisions, whose tables may be there already."""

from collections.abc import Iterable
from typing import Any

from alembic import op
from sqlalchemy import Column, inspect


def missing_columns(table: str, columns: Iterable[Column[Any]]) -> list[Column[Any]]:
    """Those of some columns that a table does not have yet."""
    there = {column["name"] for column in inspect(op.get_bind()).get_columns(table)}
    return [column for column in columns if column.name not in there]
