"""Many rows in few statements.

A driver's way of executing a statement for many rows executes it once for each, and Python's driver of SQLite gives the
interpreter's lock away and takes it back every time. Beside an event loop that wants the lock as well, that costs each
row several times what storing it does.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

SIZES: Final = (256, 64, 16, 4, 1)  # rows of a statement: few sizes, so that each is prepared once


def insertions(
    into: str, row: str, rows: Sequence[tuple[Any, ...]], after: str = ""
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements that together insert rows in their order, and the values of each.

    Args:
        into: What stands before the rows: `INSERT INTO t (a, b)`.
        row: One row: `(?, ?)`.
        rows: What is inserted.
        after: What stands behind the rows. Where that changes rows that are there already, no two of `rows` may be
            about the same one: PostgreSQL refuses that within one statement.
    """
    start = 0
    for size in SIZES:
        while len(rows) - start >= size:
            yield _statement(into, row, after, size), tuple(chain.from_iterable(rows[start : start + size]))
            start += size


@lru_cache(maxsize=256)
def _statement(into: str, row: str, after: str, size: int) -> str:
    return f"{into} VALUES {', '.join([row] * size)} {after}".rstrip()
