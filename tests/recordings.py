"""Recorded exchanges with vendors, read where they lie.

The recordings are other projects' and no part of this one: POLYROUTE_FIXTURES names their folder, by default one beside
the project. No recorded text may reach a message: failures name the exchange and what differed.
"""

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

_DEFAULT = Path(__file__).parents[2] / "shared" / "fixtures"
FOLDER = Path(os.environ.get("POLYROUTE_FIXTURES", str(_DEFAULT)))

Row = dict[str, Any]


@cache
def _rows() -> tuple[Row, ...]:
    index = FOLDER / "index.jsonl"
    return tuple(json.loads(line) for line in index.read_text().splitlines()) if index.exists() else ()


def exchanges(*wires: str) -> list[Row]:
    """The index rows of these wire formats that have an answer; none when the folder is absent."""
    return [row for row in _rows() if row["wire"] in wires and row["response_file"]]


def body_of(row: Row, which: str = "response_file") -> bytes:
    """The recorded bytes."""
    name: str = row[which]
    return (FOLDER / name).read_bytes()


def cases(rows: list[Row]) -> pytest.MarkDecorator:
    """A parameter over exchanges, whose names are those of the exchanges."""
    return pytest.mark.parametrize("row", rows, ids=[f"{row['api']}-{row['id']}" for row in rows])


def check(what: str, *, holds: bool) -> None:
    """An assertion that says what failed and shows none of the recorded values."""
    if not holds:
        pytest.fail(what, pytrace=False)
