"""Sums by label: whom calls were for, without what served them."""

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    func,
    insert,
    select,
    text,
    update,
)

from polyroute.metrics import schema
from polyroute.metrics.dictionary import facet_digest
from polyroute.metrics.migrations.versions.v0002_sums import LATER, before
from polyroute.metrics.partitions import Family, create_parents, existing
from polyroute.metrics.rows import label_of
from polyroute.metrics.schema import DAILY, HOURLY, LABELS

revision = "0003"
down_revision = "0002"

HOURLY_LABEL, DAILY_LABEL = before(schema.HOURLY_LABEL), before(schema.DAILY_LABEL)
FAMILIES = (HOURLY_LABEL, DAILY_LABEL)
SUMS = tuple(name for name in schema.SUMS if name not in LATER)
STEP = 500  # facets at a time: numbers in one statement
NAMED = ("account", "project", "key", "model", "deployment", "provider", "end_user", "workflow", "node", "tagset")

_tables = MetaData()
_strings = Table("strings", _tables, Column("id", BigInteger, primary_key=True), Column("text", String))
_facets = Table(
    "facets",
    _tables,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
    Column("digest", LargeBinary),
    Column("used_day", Integer),
    *(Column(name, BigInteger) for name in NAMED),
    Column("operation", Integer),
    Column("core", BigInteger),
)
_labels = Table(
    "facet_labels",
    _tables,
    Column("facet", BigInteger, primary_key=True, autoincrement=False),
    Column("label", BigInteger),
    prefixes=["TEMPORARY"],
)


def upgrade() -> None:
    """Makes the tables, and adds up in them what the finer sums say."""
    connection = op.get_bind()
    create_parents(connection, FAMILIES)
    partitions = existing(connection)
    if not any(DAILY.bounds(name) for name in partitions):
        return
    _labels.create(connection)
    _label(connection)
    for finer, coarser in ((HOURLY, HOURLY_LABEL), (DAILY, DAILY_LABEL)):
        for name in sorted(partitions):
            if (bounds := finer.bounds(name)) is not None:
                _add_up(connection, name, coarser, bounds[0])
        connection.execute(
            text("INSERT INTO horizons (family, since) SELECT :coarser, since FROM horizons WHERE family = :finer"),
            {"coarser": coarser.name, "finer": finer.name},
        )
    _labels.drop(connection)


def downgrade() -> None:
    """Drops them; their facets go when nobody has used them for as long as sums are kept."""
    connection = op.get_bind()
    tables = existing(connection)
    for family in FAMILIES:
        for name in filter(family.bounds, tables):
            op.drop_table(name)
        if family.name in tables:
            op.drop_table(family.name)
        connection.execute(text("DELETE FROM horizons WHERE family = :family"), {"family": family.name})


def _add_up(connection: Connection, name: str, coarser: Family, first: int) -> None:
    """Fills a partition from the finer sums of the same month."""
    target = coarser.partition(first * coarser.unit // DAILY.unit)
    coarser.create(connection, target)
    sums = ", ".join(f"CAST(SUM({one}) AS BIGINT)" for one in SUMS)
    columns = ", ".join((coarser.column, "facet", *SUMS))
    connection.execute(
        text(
            f"INSERT INTO {target} ({columns}) SELECT {coarser.column}, label, {sums} "  # noqa: S608 - our names
            f"FROM {name} JOIN facet_labels ON facet_labels.facet = {name}.facet GROUP BY {coarser.column}, label"
        )
    )


def _label(connection: Connection) -> None:
    """Gives every facet a label facet."""
    made: dict[tuple[int, ...], int] = {}
    after = 0
    query = select(_facets).order_by(_facets.c.id).limit(STEP)
    last, day = connection.execute(select(func.max(_facets.c.id), func.max(_facets.c.used_day))).one()
    while rows := connection.execute(query.where(_facets.c.id > after, _facets.c.id <= last)).all():
        after = rows[-1].id
        places = [tuple(getattr(row, name) for name in LABELS) for row in rows]
        for place, row in zip(places, rows, strict=True):
            if place not in made:
                made[place] = _label_facet(connection, row, day)
        connection.execute(
            insert(_labels),
            [{"facet": row.id, "label": made[place]} for row, place in zip(rows, places, strict=True)],
        )


def _label_facet(connection: Connection, row: Any, day: int) -> int:
    """The number of the label facet of a facet, which may be there, used on a day."""
    texts = _texts(connection, [getattr(row, name) for name in NAMED])
    digest = facet_digest(label_of((*texts, row.operation)))
    query = select(_facets.c.id).where(_facets.c.digest == digest)
    found: int | None = connection.scalar(query)
    if found is None:
        numbers = {name: getattr(row, name) if name in LABELS else 0 for name in NAMED}
        values = {"digest": digest, "used_day": day, "operation": 0, "core": 0, **numbers}
        connection.execute(insert(_facets).values(values))
        found = connection.scalar(query)
    else:
        connection.execute(update(_facets).where(_facets.c.id == found).values(used_day=day))
    assert found is not None  # noqa: S101 - it was stored a moment ago
    return found


def _texts(connection: Connection, numbers: Sequence[int]) -> list[str]:
    rows = connection.execute(select(_strings.c.id, _strings.c.text).where(_strings.c.id.in_(numbers)))
    found = {0: "", **{row.id: row.text for row in rows}}
    return [found[number] for number in numbers]
