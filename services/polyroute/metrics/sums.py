"""Usage, added up: one answer from all the tables that hold a part of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from polyroute.api.chat.v1.chat_pb2 import Usage
from polyroute.api.errors.v1 import errors_pb2
from polyroute.mesh.errors import MeshError
from polyroute.metrics import schema
from polyroute.metrics.listing import texts_of
from polyroute.metrics.partitions import existing
from polyroute.metrics.rows import usage_of
from polyroute.metrics.usage import MAX_SUMS, By, Filter, cut, grouped, question


@dataclass(frozen=True, slots=True)
class Sums:
    """Calls added up."""

    values: tuple[str | int, ...]
    """Of the dimensions asked for, in that order; hours and days count from 1970, an operation is its number."""
    calls: int
    failed_calls: int
    unpriced_calls: int
    cost_nanos: int
    charged_nanos: int
    usage: Usage
    """`estimated` when that of at least one call was."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Sums, and the span that they are of: microseconds, None where it has no bound."""

    rows: list[Sums]
    start_us: int | None = None
    end_us: int | None = None


def added_up(connection: Connection, wanted: Filter, by: Sequence[By]) -> Answer:
    """Calls added up, one row per combination of the dimensions, ordered by them; one row in all without any.

    Raises:
        MeshError: REASON_TOO_LARGE when there are more than `MAX_SUMS` combinations.
    """
    level, hours = grouped(by, wanted)
    span = cut(wanted, _horizons(connection), level=level, hours=hours)
    asked = question(wanted, by, span.pieces, existing(connection))
    rows: Sequence[Any] = [] if asked is None else connection.execute(asked).all()
    _check_size(len(rows))
    if not by and not rows:
        rows = [(0,) * len(schema.SUMS)]
    texts = texts_of(connection, _numbers(rows, by))
    sums = sorted((_sums(row, by, texts) for row in rows), key=lambda row: row.values)
    return Answer(sums, span.start_us, span.end_us)


def _horizons(connection: Connection) -> dict[str, int]:
    rows = connection.execute(select(schema.horizons.c.family, schema.horizons.c.since))
    return {row.family: row.since for row in rows}


def _check_size(rows: int) -> None:
    if rows > MAX_SUMS:
        raise MeshError(
            errors_pb2.REASON_TOO_LARGE,
            "too many rows: ask for a shorter time or fewer dimensions",
            metadata={"limit": str(MAX_SUMS)},
        )


def _numbers(rows: Iterable[Any], by: Sequence[By]) -> set[int]:
    """The numbers of the texts in rows of sums."""
    textual = [index for index, one in enumerate(by) if one.textual]
    return {row[index] for row in rows for index in textual}


def _sums(row: Sequence[Any], by: Sequence[By], texts: Mapping[int, str]) -> Sums:
    values = [texts[value] if one.textual else value for value, one in zip(row, by, strict=False)]
    sums = tuple(map(int, row[len(by) :]))  # PostgreSQL's sums of integers are decimals
    return Sums(tuple(values), sums[0], sums[1], sums[2], sums[4], sums[5], usage_of(sums))
