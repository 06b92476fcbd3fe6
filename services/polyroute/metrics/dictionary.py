"""The numbers of what stands in many calls: texts, facets and shapes.

Known numbers are remembered, so that storing a call of a known kind asks the database for none. What is remembered is
forgotten every day; looking it up anew notes the day, by which what nobody names any more is found and deleted.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson
from sqlalchemy import Connection, Table, delete, select

from polyroute.mesh.database import driver_sql
from polyroute.metrics import schema
from polyroute.metrics.rows import Facet, Row, Shape, core_of, label_of, shape_of

REMEMBERED: Final = 100_000  # numbers of each kind; beyond that all are forgotten and looked up anew
_CHUNK: Final = 500  # parameters of one statement
EMPTY: Final = 0  # the number of the empty text

_TAG: Final = "INSERT INTO tags (tagset, name, value) VALUES (?, ?, ?) ON CONFLICT (tagset, name) DO NOTHING"


class Numbers(NamedTuple):
    """What a row's texts became."""

    facet: int
    core: int
    label: int
    shape: int


class Dictionary:
    """Finds numbers, and gives new ones. For one thread.

    Args:
        remembered: Most numbers of each kind that are remembered.
    """

    def __init__(self, *, remembered: int = REMEMBERED) -> None:
        self._most = remembered
        self._day = -1
        self._strings: dict[str, int] = {}
        self._facets: dict[Facet, tuple[int, int, int]] = {}
        self._shapes: dict[Shape, int] = {}

    def forget(self) -> None:
        """Forgets every number: the transaction that gave the last ones failed, or what nobody used was deleted."""
        self._strings.clear()
        self._facets.clear()
        self._shapes.clear()

    def numbers(self, connection: Connection, rows: Sequence[Row], today: int) -> list[Numbers]:
        """The numbers of each row's facet, core facet, label facet and shape.

        Args:
            connection: In a transaction that writes.
            rows: Of new calls.
            today: Days since 1970.
        """
        if today != self._day or max(len(self._strings), len(self._facets), len(self._shapes)) > self._most:
            self.forget()
            self._day = today
        facets = {row.facet for row in rows if row.facet not in self._facets}
        day = max((row.day for row in rows), default=today)
        if facets:
            self._learn_facets(connection, facets, max(day, today))
        shapes = {row.shape: row for row in rows if row.shape not in self._shapes}
        if shapes:
            self._learn_shapes(connection, shapes, max(day, today))
        return [Numbers(*self._facets[row.facet], self._shapes[row.shape]) for row in rows]

    def _learn_facets(self, connection: Connection, wanted: set[Facet], day: int) -> None:
        lesser = {made(facet) for facet in wanted for made in (core_of, label_of)}
        texts = {text for facet in wanted for text in facet[:-1]}
        tagged = {facet[-2]: orjson.loads(facet[-2]) for facet in wanted if facet[-2]}
        for tags in tagged.values():
            texts.update(tags, tags.values())
        self._learn_strings(connection, texts, day)
        self._learn_tags(connection, tagged)
        found = self._store_facets(connection, dict.fromkeys(lesser, EMPTY), day)
        found |= self._store_facets(
            connection, {facet: found[core_of(facet)] for facet in wanted if facet not in found}, day
        )
        for facet in wanted:
            self._facets[facet] = found[facet], found[core_of(facet)], found[label_of(facet)]

    def _store_facets(self, connection: Connection, cores: Mapping[Facet, int], day: int) -> dict[Facet, int]:
        """The numbers of facets, stored with the number of the core of each."""
        rows = {
            facet: (
                facet_digest(facet),
                *(self._string(text) for text in facet[:-1]),
                facet[-1],
                core,
            )
            for facet, core in cores.items()
        }
        columns = (*schema.TEXTS, *schema.MARKS, "operation", "core")
        numbers = _stored(connection, schema.facets, columns, rows.values(), day)
        return {facet: numbers[row[0]] for facet, row in rows.items()}

    def _learn_shapes(self, connection: Connection, wanted: Mapping[Shape, Row], day: int) -> None:
        records = {shape: shape_of(row.record) for shape, row in wanted.items()}
        rows = [(_digest(record), record) for record in records.values()]
        numbers = _stored(connection, schema.shapes, ("record",), rows, day)
        for shape, record in records.items():
            self._shapes[shape] = numbers[_digest(record)]

    def _learn_strings(self, connection: Connection, texts: Iterable[str], day: int) -> None:
        wanted = {text: string_digest(text) for text in texts if text and text not in self._strings}
        # PostgreSQL takes no NUL in a text
        rows = [(digest, text.replace("\0", "\ufffd")) for text, digest in wanted.items()]
        numbers = _stored(connection, schema.strings, ("text",), rows, day)
        for text, digest in wanted.items():
            self._strings[text] = numbers[digest]

    def _learn_tags(self, connection: Connection, tagged: Mapping[str, Mapping[str, str]]) -> None:
        rows = [
            (self._strings[tagset], self._string(name), self._string(value))
            for tagset, tags in tagged.items()
            for name, value in tags.items()
        ]
        if rows:
            connection.exec_driver_sql(driver_sql(connection, _TAG), rows)

    def _string(self, text: str) -> int:
        return self._strings[text] if text else EMPTY


def facet_digest(facet: Facet) -> bytes:
    """What a facet is found by in `schema.facets`."""
    return _digest(orjson.dumps(list(facet)))


def string_digest(text: str) -> bytes:
    """What a text is found by in `schema.strings`."""
    return _digest(text.encode())


def delete_unused(connection: Connection, before: int) -> int:
    """Deletes what no call that began on the day `before` or later names; the number of facets.

    Whoever names a facet or a shape looked up all that belongs to it on the same day, so its parts are not older.
    """
    deleted = connection.execute(delete(schema.facets).where(schema.facets.c.used_day < before)).rowcount
    connection.execute(delete(schema.shapes).where(schema.shapes.c.used_day < before))
    connection.execute(delete(schema.strings).where(schema.strings.c.used_day < before))
    connection.execute(delete(schema.tags).where(schema.tags.c.tagset.not_in(select(schema.strings.c.id))))
    return deleted


def _stored(
    connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[tuple[Any, ...]], day: int
) -> dict[bytes, int]:
    """The numbers of rows that begin with their digest, which are stored where they are new."""
    names = ("digest", *columns, "used_day")
    insert = (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' for _ in names)}) "  # noqa: S608 - our names
        f"ON CONFLICT (digest) DO UPDATE SET used_day = CASE WHEN excluded.used_day > {table.name}.used_day "
        f"THEN excluded.used_day ELSE {table.name}.used_day END"
    )
    found: dict[bytes, int] = {}
    ordered = sorted(rows)
    for start in range(0, len(ordered), _CHUNK):
        some = ordered[start : start + _CHUNK]
        connection.exec_driver_sql(driver_sql(connection, insert), [(*row, day) for row in some])
        wanted = select(table.c.digest, table.c.id).where(table.c.digest.in_([row[0] for row in some]))
        found.update((bytes(digest), number) for digest, number in connection.execute(wanted))
    return found


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()
