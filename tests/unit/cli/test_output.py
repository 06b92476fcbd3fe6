"""Tables, in a pipe and on a terminal."""

import sys

import pytest
from rich.table import Table

from polyroute.cli.output import show


def table(*rows: tuple[str, str, str]) -> Table:
    """One with three columns."""
    made = Table("id", "name", "note", box=None)
    for row in rows:
        made.add_row(*row)
    return made


ROWS = (("key_1", "[red]ci", ""), ("key_2", "x" * 60, "for nobody"))


def test_a_pipe_gets_whole_rows(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the terminal is that nobody looks at."""
    monkeypatch.setenv("COLUMNS", "40")

    show(table(*ROWS))

    assert 3 == len(capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("90", " id     name                                                          note       "),
        ("70", f"id    key_1\nname  [red]ci\n\nid    key_2\nname  {'x' * 60}\nnote  for nobody\n"),
    ],
)
def test_a_narrow_terminal_gets_records(
    columns: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row whose cells would be broken over lines is shown cell by cell, without the empty ones."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    show(table(*ROWS))

    assert capsys.readouterr().out.startswith(said)
