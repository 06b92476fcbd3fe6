"""Narrow calls in partitions, and sums of them."""

from dataclasses import replace

import sqlalchemy as sa
from alembic import op

from polyroute.mesh.database import on_postgresql
from polyroute.metrics import legacy, schema
from polyroute.metrics.migrations.versions import v0001_calls
from polyroute.metrics.partitions import Family, create_parents, existing

revision = "0002"
down_revision = "0001"

LATER = frozenset({"charged_nanos"})  # columns that later revisions add


def before(family: Family) -> Family:
    """A family of partitions as it was when there were no columns but the first."""
    return replace(family, columns=lambda: [one for one in family.columns() if one.name not in LATER])


FAMILIES = tuple(map(before, schema.FAMILIES))


def upgrade() -> None:
    """Makes the tables that calls name things in; old calls stand aside until the store has taken them over."""
    connection = op.get_bind()
    if connection.scalar(sa.text("SELECT 1 FROM calls LIMIT 1")):
        for columns in ("key_id_start_us", "model_start_us", "project_id_start_us", "start_us"):
            op.drop_index(f"ix_calls_{columns}", table_name="calls")
        op.rename_table("calls", legacy.TABLE)
        if on_postgresql(
            connection
        ):  # where a constraint's name is that of an index, of which there is one in a schema
            for name in ("pk_calls", "uq_calls_request_id"):
                op.execute(f"ALTER TABLE {legacy.TABLE} RENAME CONSTRAINT {name} TO {name}_v1")
    else:
        op.drop_table("calls")
    for name, column in (
        ("strings", sa.Column("text", sa.String(), nullable=False)),
        ("shapes", sa.Column("record", sa.LargeBinary(), nullable=False)),
    ):
        op.create_table(name, *_numbered(name), column)
    numbers = ("account", "project", "key", "model", "deployment", "provider", "end_user", "workflow", "node", "tagset")
    op.create_table(
        "facets",
        *_numbered("facets"),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in numbers),
        sa.Column("operation", sa.Integer(), nullable=False),
        sa.Column("core", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "tags",
        sa.Column("tagset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tagset", "name", name=op.f("pk_tags")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "horizons",
        sa.Column("family", sa.String(length=16), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("family", name=op.f("pk_horizons")),
    )
    create_parents(connection, FAMILIES)


def downgrade() -> None:
    """Puts the calls that are kept into one wide table again; sums of calls that are kept no more are lost."""
    connection = op.get_bind()
    tables = existing(connection)
    if legacy.TABLE in tables:
        op.rename_table(legacy.TABLE, "calls_before")
    for family in FAMILIES:
        if family.name in tables:
            # its partitions stay, as tables of their own, and are dropped one by one below
            for name in filter(family.bounds, tables):
                op.execute(f"ALTER TABLE {family.name} DETACH PARTITION {name}")
            op.drop_table(family.name)
    v0001_calls.upgrade()
    legacy.restore(connection)
    if legacy.TABLE in tables:
        names = ", ".join(f'"{name}"' for name in legacy.COLUMNS)
        op.execute(f"INSERT INTO calls ({names}) SELECT {names} FROM calls_before")  # noqa: S608 - our names
        op.drop_table("calls_before")
    for name in tables:
        if any(family.bounds(name) for family in FAMILIES):
            op.drop_table(name)
    for name in ("horizons", "tags", "facets", "shapes", "strings"):
        op.drop_table(name)


def _numbered(name: str) -> list[sa.Column[object] | sa.Constraint]:
    return [
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=16), nullable=False),
        sa.Column("used_day", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")),
        sa.UniqueConstraint("digest", name=op.f(f"uq_{name}_digest")),
    ]
