"""Filters as trees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyroute.mesh.errors import MeshError
from polyroute.mesh.filtering import (
    MAX_CHARS,
    MAX_COMPARISONS,
    MAX_DEPTH,
    Comparison,
    Either,
    Every,
    Node,
    Not,
    comparisons,
    parse,
    plain,
)

A, B, C = (Comparison(name, "=", "1") for name in "abc")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("  \n ", None),
        ("a=1", A),
        ("a = 1 AND b = 1", Every((A, B))),
        ("a = 1 OR b = 1", Either((A, B))),
        ("a = 1 AND b = 1 OR c = 1", Every((A, Either((B, C))))),
        ("(a = 1 AND b = 1) OR c = 1", Either((Every((A, B)), C))),
        ("NOT a = 1", Not(A)),
        ("-a = 1", Not(A)),
        ("NOT (a = 1 OR b = 1)", Not(Either((A, B)))),
        ("NOT(a=1)AND(b=1)", Every((Not(A), B))),
        ('a = "x y"', Comparison("a", "=", "x y")),
        ("a = 'x y'", Comparison("a", "=", "x y")),
        (r'a = "say \"hi\" AND go"', Comparison("a", "=", 'say "hi" AND go')),
        ("t >= 2026-11-01T00:00:00Z", Comparison("t", ">=", "2026-11-01T00:00:00Z")),
        ("amount < -5", Comparison("amount", "<", "-5")),
        ("deployment=v/up", Comparison("deployment", "=", "v/up")),
        ("a != b", Comparison("a", "!=", "b")),
        ('a:"abc*"', Comparison("a", ":", "abc*", open=True)),
        (r'a:"abc\*"', Comparison("a", ":", "abc*")),
        (r'a:"abc\\*"', Comparison("a", ":", "abc\\*", open=True)),
        ("a:*", Comparison("a", ":", "*", open=True)),
        ('tags."a b" = 1', Comparison("tags.a b", "=", "1")),
        ("tags.team.x = 1", Comparison("tags.team.x", "=", "1")),
        ("ORDER = 1", Comparison("ORDER", "=", "1")),
        ('a = ""', Comparison("a", "=", "")),
    ],
)
def test_filter(text: str, expected: Node | None) -> None:
    """As the standard has it: OR binds closer than AND."""
    assert expected == parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", "one of = != < <= > >= : after a"),
        ("a =", "a value after a ="),
        ("a = )", "a value after a ="),
        ('a = "x', "a value after a ="),
        ("a = 1 b = 2", "AND or OR"),
        ("a = 1 and b = 2", "AND or OR at character 7, not 'and b = 2'"),
        ("a = 1 AND", "the name of a field at character 10 before its end"),
        ("AND a = 1", "the name of a field"),
        ("(a = 1", "a closing parenthesis"),
        ("a = 1)", "AND or OR"),
        ("f(a) = 1", "after f"),
        ("%", "the name of a field"),
        ("NOT", "the name of a field"),
        ("a = \0", "a character that no value has"),
    ],
)
def test_what_is_no_filter_says_where(text: str, said: str) -> None:
    """The place, and what would have stood there."""
    with pytest.raises(MeshError) as refused:
        parse(text)

    assert said in refused.value.message
    assert "filter" == refused.value.metadata["param"]


def test_large_filters_are_refused() -> None:
    """However they are large: long, deep, or of many parts."""
    for text in (
        "a = " + "x" * MAX_CHARS,
        "(" * (MAX_DEPTH + 1) + "a = 1" + ")" * (MAX_DEPTH + 1),
        "-" * (MAX_DEPTH + 1) + "a = 1",
        " AND ".join(["a = 1"] * (MAX_COMPARISONS + 1)),
    ):
        with pytest.raises(MeshError):
            parse(text)
    assert A == parse("(" * MAX_DEPTH + "a = 1" + ")" * MAX_DEPTH)


@given(st.text(alphabet=st.sampled_from("ab=<>!:()\"'\\-* ANDORT.1\n"), max_size=60))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    """And nothing else happens."""
    try:
        node = parse(text)
    except MeshError:
        return
    assert (node is None) == (not text.strip())


def test_plain_filters() -> None:
    """Of lists that can only tell what is equal."""
    assert [A, B] == plain(parse("a = 1 AND b = 1"))
    assert [] == plain(None)
    assert [A, B, C] == list(comparisons(parse("a = 1 AND (NOT b = 1 OR c = 1)")))
    for text in ("a = 1 OR b = 1", "NOT a = 1", "a != 1", "a = 1 AND (b = 1 OR c = 1)"):
        with pytest.raises(MeshError):
            plain(parse(text))
