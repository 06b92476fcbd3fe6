"""Many rows in few statements."""

import sqlite3
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from polyroute.mesh.rows import SIZES, insertions


@given(st.lists(st.tuples(st.integers(-9, 9), st.text("ab?", max_size=2)), max_size=2 * SIZES[0]))
def test_all_rows_in_their_order(rows: list[tuple[int, str]]) -> None:
    """As if each had been inserted by itself, and with far fewer statements."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER, b TEXT)")
    statements = list(insertions("INSERT INTO t (a, b)", "(?, ?)", rows))
    for statement, values in statements:
        database.execute(statement, values)
    found = database.execute("SELECT a, b FROM t ORDER BY id").fetchall()
    database.close()

    assert rows == found
    assert len(statements) <= 2 + sum(above // below for above, below in pairwise(SIZES))


def test_what_follows_the_rows() -> None:
    """Such as what to do with those that are there."""
    [(statement, values)] = insertions("INSERT INTO t (a)", "(? <> 0)", [(1,)], "ON CONFLICT DO NOTHING")

    assert ("INSERT INTO t (a) VALUES (? <> 0) ON CONFLICT DO NOTHING", (1,)) == (statement, values)
