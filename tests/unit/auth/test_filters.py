"""Filters as conditions of queries: what a database answers is what anybody would who reads the rows."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Boolean, Column, MetaData, SmallInteger, String, Table, create_engine, insert, select

from polyroute.api.auth.v1.admin_pb2 import EntryKind
from polyroute.auth.admin.filters import Choice, Fields, Flag, Moment, Number, Resource, Text, condition
from polyroute.mesh.errors import MeshError
from polyroute.mesh.filtering import Comparison, parse

ROWS = Table(
    "rows",
    MetaData(),
    Column("id", BigInteger, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("note", String(64)),
    Column("amount", BigInteger),
    Column("kind", SmallInteger, nullable=False),
    Column("hard", Boolean, nullable=False),
    Column("posted", BigInteger),
    Column("after", String, nullable=False),
)
C = ROWS.c
FIELDS: Fields = {
    "name": Text(C.name),
    "note": Text(C.note),
    "amount": Number(C.amount),
    "kind": Choice.of(C.kind, EntryKind),
    "hard": Flag(C.hard),
    "post_time": Moment(C.posted),
    "resource": Resource(C.name, (C.after,)),
}
SIGNS: dict[str, Callable[[Any, Any], bool]] = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
NOVEMBER = 1793491200_000000  # 2026-11-01T00:00:00Z

words = st.text(alphabet="aA%_*\\'\" ", max_size=4)
rows = st.builds(
    lambda **row: row,
    name=words,
    note=st.none() | words,
    amount=st.none() | st.integers(-2, 2),
    kind=st.sampled_from([1, 2, 3]),
    hard=st.booleans(),
    posted=st.none() | st.integers(-1, 1).map(lambda days: NOVEMBER + days * 86_400_000000),
    after=st.just(""),
)


@dataclass(frozen=True)
class Asked:
    """A comparison as it is written, and what it means of a row."""

    text: str
    holds: Callable[[dict[str, Any]], bool]


def quoted(value: str) -> str:
    """A value between quotes."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("*", "\\*") + '"'


def compared(name: str, column: str, sign: str, value: Any, text: str) -> Asked:
    """What a sign means: of what is not set, only that it differs."""

    def holds(row: dict[str, Any]) -> bool:
        return sign == "!=" if row[column] is None else SIGNS[sign](row[column], value)

    return Asked(f"{name} {sign} {text}", holds)


def begins(name: str, value: str) -> Asked:
    """Text that begins so; any, where nothing is said."""
    return Asked(f'{name}:{quoted(value)[:-1]}*"', lambda row: bool(row[name]) and str(row[name]).startswith(value))


def contains(name: str, value: str) -> Asked:
    """Text that has this in it."""
    return Asked(f"{name}:{quoted(value)}", lambda row: bool(row[name]) and value in str(row[name]))


signs = st.sampled_from(list(SIGNS))
texts = st.sampled_from(["name", "note"])
moments = {NOVEMBER: "2026-11-01T00:00:00Z", NOVEMBER + 86_400_000000: '"2026-11-02T01:00:00+01:00"'}
kinds = {1: "hold", 2: "ENTRY_KIND_SETTLE", 3: '"Void"'}
comparison = st.one_of(
    st.builds(lambda name, sign, value: compared(name, name, sign, value, quoted(value)), texts, signs, words),
    st.builds(begins, texts, words),
    st.builds(contains, texts, words),
    st.builds(lambda sign, value: compared("amount", "amount", sign, value, str(value)), signs, st.integers(-2, 2)),
    st.builds(
        lambda sign, value: compared("post_time", "posted", sign, value, moments[value]),
        signs,
        st.sampled_from(list(moments)),
    ),
    st.builds(
        lambda sign, value: compared("kind", "kind", sign, value, kinds[value]),
        st.sampled_from(["=", "!="]),
        st.sampled_from(list(kinds)),
    ),
    st.builds(
        lambda sign, value: compared("hard", "hard", sign, value, str(value).lower()),
        st.sampled_from(["=", "!="]),
        st.booleans(),
    ),
    st.just(Asked("amount:*", lambda row: row["amount"] is not None)),
    st.just(Asked("post_time:*", lambda row: row["posted"] is not None)),
)
asked = st.recursive(
    comparison,
    lambda inner: st.one_of(
        st.builds(lambda one: Asked(f"NOT ({one.text})", lambda row: not one.holds(row)), inner),
        st.builds(lambda one: Asked(f"-({one.text})", lambda row: not one.holds(row)), inner),
        st.builds(
            lambda a, b: Asked(f"({a.text}) AND ({b.text})", lambda row: a.holds(row) and b.holds(row)), inner, inner
        ),
        st.builds(
            lambda a, b: Asked(f"({a.text}) OR ({b.text})", lambda row: a.holds(row) or b.holds(row)), inner, inner
        ),
    ),
    max_leaves=6,
)
ENGINE = create_engine("sqlite://", creator=lambda: sqlite3.connect(":memory:"))


def answered(text: str, table: list[dict[str, Any]]) -> list[int]:
    """The rows that the database finds."""
    node = parse(text)
    assert node is not None
    with ENGINE.connect() as connection, connection.begin() as transaction:
        ROWS.metadata.create_all(connection)
        if table:
            connection.execute(insert(ROWS), [{"id": place, **row} for place, row in enumerate(table)])
        query = select(C.id).where(condition(node, FIELDS)).order_by(C.id)
        found = list(connection.execute(query).scalars())
        transaction.rollback()
        return found


@given(asked, st.lists(rows, max_size=6))
def test_filter_says_what_it_says(wanted: Asked, table: list[dict[str, Any]]) -> None:
    """The database finds the rows that anybody would, whatever a filter is made of."""
    expected = [place for place, row in enumerate(table) if wanted.holds(row)]

    assert expected == answered(wanted.text, table)


@pytest.mark.parametrize(
    "text",
    ['name = "x\' OR 1=1 --"', 'name:"%"', 'name:"_*"', r'name = "\"; DROP TABLE rows; --"'],
)
def test_values_are_never_part_of_the_statement(text: str) -> None:
    """Whatever they look like, and neither are they patterns."""
    node = parse(text)
    assert isinstance(node, Comparison)
    row = {"name": "aB", "note": "", "amount": 1, "kind": 1, "hard": True, "posted": 1, "after": ""}

    assert [] == answered(text, [row])
    assert node.value not in str(condition(node, FIELDS))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour = x", "cannot filter by colour: known are amount, hard, kind, name, note, post_time, resource"),
        ("nam = x", "cannot filter by nam, did you mean 'name'? Known are amount"),
        ("kind = sold", "kind: 'sold' is none of hold, settle, void"),
        ("kind < settle", "kind <: it can be compared by = != :"),
        ("hard = perhaps", "neither true nor false"),
        ("hard > false", "hard >"),
        ("amount = many", "no whole number"),
        ("amount = 9223372036854775808", "no whole number of 64 bits"),
        ("amount = 1_0", "no whole number"),
        ("post_time > yesterday", "no moment such as 2026-11-01T00:00:00Z"),
        ('post_time > "2026-11-01"', "no moment"),
        ("post_time > 9999-99-99T00:00:00Z", "no moment"),
    ],
)
def test_what_cannot_be_asked_says_what_can(text: str, said: str) -> None:
    """Names the fields, the values or the signs that there are."""
    node = parse(text)
    assert node is not None

    with pytest.raises(MeshError) as refused:
        condition(node, FIELDS)

    assert said in refused.value.message


def test_things_are_found_by_their_own_id() -> None:
    """As by that of whose they are, and nothing else is."""
    row = {"note": "", "amount": 1, "kind": 1, "hard": True, "posted": 1}
    table = [
        row | {"name": "prj_1", "after": '{"amount_nanos":"5","id":"bud_1","scope":"prj_1"}'},
        row | {"name": "prj_1", "after": '{"amount_nanos":"5","id":"bud_10","scope":"prj_1"}'},
        row | {"name": "bud_1", "after": ""},
    ]

    assert [0, 2] == answered('resource = "bud_1"', table)
    assert [1] == answered('resource != "bud_1"', table)
    assert [0, 1] == answered("resource = prj_1", table)
    assert [0, 1] == answered('resource:"prj*"', table)
