"""What clients say in a header and a vendor wants in the body."""

import json
from typing import Any

import pytest

from polyroute.providers.spoken import Told

TOLD = Told("x-trial", "more.trial", ("a-*", "b"), ("*good*",))


@pytest.mark.parametrize(
    ("body", "value", "expected", "dropped"),
    [
        ({"n": 1}, "a-1, b", {"n": 1, "more": {"trial": ["a-1", "b"]}}, []),
        ({"more": {"k": 1}}, "a-1", {"more": {"k": 1, "trial": ["a-1"]}}, []),
        ({"more": {"trial": ["b", "c"]}}, "a-1,b", {"more": {"trial": ["b", "c", "a-1"]}}, []),
        ({"more": None}, "b,unknown", {"more": {"trial": ["b"]}}, ["x-trial"]),
        ({"more": {"trial": "text"}}, "b", {"more": {"trial": "text"}}, []),
        ({"n": 1}, "unknown", {"n": 1}, ["x-trial"]),
        ({"n": 1}, " , ", {"n": 1}, []),
    ],
)
def test_words_join_what_is_there(body: Any, value: str, expected: Any, dropped: list[str]) -> None:
    """Those that the vendor takes, once each, behind the body's own; that others were left out is told."""
    moved, left_out = TOLD.moved(json.dumps(body).encode(), value, "a-Good-model")

    assert (expected, dropped) == (json.loads(moved), left_out)


def test_other_models_hear_nothing() -> None:
    """To which the words mean nothing."""
    assert (b"{}", []) == TOLD.moved(b"{}", "b,unknown", "bad")
