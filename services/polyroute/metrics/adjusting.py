"""Follows the ledger: what was adjusted goes into calls and sums, and the place that was reached with it.

A call whose record is not there gets a stand-in, to which the sums are added as to any call. The record, should it come
after all, takes its place.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, delete, select

from polyroute.api.auth.v1.ledger_pb2 import Adjustment
from polyroute.api.metrics.v1.metrics_pb2 import CallRecord
from polyroute.mesh.database import driver_sql, insert_for
from polyroute.metrics import schema
from polyroute.metrics.adjusted import adjusted, began, is_stand_in, stand_in
from polyroute.metrics.ingest import Change, Ingest
from polyroute.metrics.listing import records_of
from polyroute.metrics.partitions import existing
from polyroute.metrics.rows import Row, row_of, stored_id

CURSOR: Final = "adjustments"
_CHUNK: Final = 500  # parameters of one statement
_A: Final = schema.adjustments.c

Said = dict[int, Adjustment]
"""What the ledger says of a call, by attempt."""


class Shift(NamedTuple):
    """By what the cost of a call differs from what was counted when its record came.

    Attributes:
        record: The call, as it is now.
        cost: By how much it has changed, nano-USD.
    """

    record: CallRecord
    cost: int


class Adjusting:
    """Keeps calls as the ledger charges them. For the thread that writes.

    Args:
        ingest: Stores them.
    """

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest

    def store(self, connection: Connection, rows: Sequence[Row], today: int) -> tuple[list[Row], list[Shift]]:
        """Stores calls as their records say, but as the ledger charges them; the ones that were new, and what differs.

        Args:
            connection: In a transaction that writes.
            rows: One and the same call may stand among them twice.
            today: Days since 1970.
        """
        known = _known(connection, {row.stored_id for row in rows})
        if not known:
            return self._ingest.store(connection, rows, today), []
        fresh = self._ingest.store(connection, [row for row in rows if row.stored_id not in known], today)
        arrived = {row.stored_id: row for row in reversed(rows) if row.stored_id in known}
        standing = _records(connection, arrived)
        changes, shifts = [], []
        for stored, row in arrived.items():
            old = standing.get(stored)
            if old is None or is_stand_in(old):
                new = adjusted(row.record, known[stored].values())
                changes.append(Change(None if old is None else row_of(old), row_of(new)))
                shifts.append(Shift(new, _cost(new) - _cost(row.record)))
                if old is not None:
                    shifts.append(Shift(old, -_cost(old)))
        self._ingest.replace(connection, changes, today)
        for change in changes:
            _keep(connection, change.new, known[change.new.stored_id])
        return fresh + [arrived[change.new.stored_id] for change in changes], shifts

    def apply(
        self, connection: Connection, news: Sequence[Adjustment], sequence: int, today: int, *, reset: bool = False
    ) -> list[Shift]:
        """Has calls and sums say what the ledger says; what has changed, which is nothing of what was applied before.

        Args:
            connection: In a transaction that writes.
            news: In the order in which they were posted.
            sequence: The place after them.
            today: Days since 1970.
            reset: They begin anew: places that were reached before are of another ledger.
        """
        reached = place(connection)
        news = [one for one in news if reset or one.sequence > reached]
        shifts = self._follow(connection, news, today) if news else []
        if reset or sequence > reached:
            insert = insert_for(connection)(schema.cursors).values(name=CURSOR, sequence=sequence)
            connection.execute(
                insert.on_conflict_do_update(index_elements=["name"], set_={"sequence": insert.excluded.sequence})
            )

        return shifts

    def _follow(self, connection: Connection, news: Sequence[Adjustment], today: int) -> list[Shift]:
        ids = {stored_id(one.request_id): one.request_id for one in news}
        said: dict[bytes, Said] = {stored: {} for stored in ids} | _known(connection, ids)
        for one in news:
            said[stored_id(one.request_id)][one.attempt] = one
        records = _records(connection, ids)
        horizon = _horizon(connection)
        changes, shifts = [], []
        for stored, request_id in ids.items():
            attempts = list(said[stored].values())
            old = records.get(stored)
            if old is None and (start := began(request_id, attempts)) < horizon:
                continue  # its record is gone, and with it what sums it is in
            if old is None:
                new = stand_in(request_id, attempts, start)
            elif is_stand_in(old):
                new = stand_in(request_id, attempts, old.start_time.ToMicroseconds())
            else:
                new = adjusted(old, attempts)
            changes.append(Change(None if old is None else row_of(old), row_of(new)))
            shifts.append(Shift(new, _cost(new) - (0 if old is None else _cost(old))))
        self._ingest.replace(connection, changes, today)
        for change in changes:
            _keep(connection, change.new, said[change.new.stored_id])
        return shifts


def place(connection: Connection) -> int:
    """The last place of the ledger's adjustments that was reached."""
    query = select(schema.cursors.c.sequence).where(schema.cursors.c.name == CURSOR)
    return int(connection.scalar(query) or 0)


def forget(connection: Connection, horizon: int) -> None:
    """Forgets adjustments of calls that are kept no more: of those that began before a moment, in microseconds."""
    connection.execute(delete(schema.adjustments).where(_A.start_us < horizon))


def _known(connection: Connection, ids: Collection[bytes]) -> dict[bytes, Said]:
    """What was said before of calls, of those of which there was something."""
    found: dict[bytes, Said] = {}
    for some in _chunks(ids):
        places = ", ".join("?" for _ in some)
        query = f"SELECT request_id, said FROM adjustments WHERE request_id IN ({places})"  # noqa: S608 - our names
        for stored, said in connection.exec_driver_sql(driver_sql(connection, query), tuple(some)):
            one = Adjustment.FromString(bytes(said))
            found.setdefault(bytes(stored), {})[one.attempt] = one
    return found


def _records(connection: Connection, ids: Collection[bytes]) -> dict[bytes, CallRecord]:
    """The calls that there are, wherever: an id says when its call came in, but not to the microsecond."""
    found: dict[bytes, CallRecord] = {}
    for name in sorted(existing(connection), reverse=True):
        if schema.CALLS.bounds(name) is None:
            continue
        table = schema.CALLS.table(name).c
        for some in _chunks(stored for stored in ids if stored not in found):
            rows: Sequence[Any] = connection.execute(select(*table).where(table.request_id.in_(some))).all()
            for row, record in zip(rows, records_of(connection, rows), strict=True):
                found[bytes(row.request_id)] = record
    return found


def _chunks(ids: Iterable[bytes]) -> Iterable[list[bytes]]:
    listed = sorted(ids)
    return (listed[start : start + _CHUNK] for start in range(0, len(listed), _CHUNK))


def _horizon(connection: Connection) -> int:
    query = select(schema.horizons.c.since).where(schema.horizons.c.family == schema.CALLS.name)
    return int(connection.scalar(query) or 0)


def _keep(connection: Connection, row: Row, said: Mapping[int, Adjustment]) -> None:
    """Writes down what was said of a call, and when it began."""
    connection.execute(delete(schema.adjustments).where(_A.request_id == row.stored_id))
    values = [
        {"request_id": row.stored_id, "attempt": attempt, "start_us": row.start_us, "said": one.SerializeToString()}
        for attempt, one in said.items()
    ]
    connection.execute(schema.adjustments.insert(), values)


def _cost(record: CallRecord) -> int:
    return record.cost_nanos if record.HasField("cost_nanos") else 0
