"""What callers are charged, beside what vendors ask."""

from collections.abc import Iterator

from alembic import op
from sqlalchemy import Connection

from polyroute.mesh.database import on_postgresql
from polyroute.metrics import schema
from polyroute.metrics.partitions import Family, existing

revision = "0004"
down_revision = "0003"

COLUMN = "charged_nanos"


def upgrade() -> None:
    """Adds the charge, which is the cost of all that there is. Calls leave it empty, so that none is written anew."""
    connection = op.get_bind()
    for family in schema.FAMILIES:
        calls = family is schema.CALLS
        for table in _tables(connection, family):
            op.execute(f"ALTER TABLE {table} ADD COLUMN {COLUMN} BIGINT{'' if calls else ' NOT NULL DEFAULT 0'}")
            if not calls:
                op.execute(f"UPDATE {table} SET {COLUMN} = cost_nanos")  # noqa: S608 - our names
            if not calls and on_postgresql(connection):  # SQLite cannot, and keeps a default that nothing needs
                op.execute(f"ALTER TABLE {table} ALTER COLUMN {COLUMN} DROP DEFAULT")


def downgrade() -> None:
    """Drops it; what was charged is known to the ledger then, and to the records of calls that are kept."""
    connection = op.get_bind()
    for family in schema.FAMILIES:
        for table in _tables(connection, family):
            op.execute(f"ALTER TABLE {table} DROP COLUMN {COLUMN}")


def _tables(connection: Connection, family: Family) -> Iterator[str]:
    """Where the columns of a family are changed: PostgreSQL's partitions follow their parent."""
    if on_postgresql(connection):
        return iter((family.name,))
    return filter(family.bounds, sorted(existing(connection)))
