"""What administrators' commands print: tables and lines for people, JSON for programs."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
from google.protobuf.message import Message
from rich.table import Table

from polyroute.cli.output import show
from polyroute.edge.admin.transcoding import tree_of

Column = tuple[str, Callable[[Any], str]]


def show_list(things: Iterable[Message], columns: Sequence[Column], nothing: str, *, as_json: bool) -> None:
    """Prints a list.

    Args:
        things: Its members.
        columns: Their headings, and what stands below.
        nothing: Said, beside the output, when there are none.
        as_json: An array of objects instead of a table.
    """
    found = list(things)
    if as_json:
        print(_json([tree_of(thing) for thing in found]))
    elif not found:
        print(nothing, file=sys.stderr)
    else:
        table = Table(*(heading for heading, _ in columns), box=None)
        for thing in found:
            table.add_row(*(text(thing) for _, text in columns))
        show(table)


def show_one(thing: Message, columns: Sequence[Column], *, as_json: bool) -> None:
    """Prints one thing: a line for each of its columns, or an object."""
    if as_json:
        print(_json(tree_of(thing)))
        return
    width = max(len(heading) for heading, _ in columns) + 2
    for heading, text in columns:
        print(f"{heading:<{width}}{text(thing)}".rstrip())


def show_line(thing: Message, line: str, *, as_json: bool) -> None:
    """Prints what was done: one line, or the thing as an object."""
    print(_json(tree_of(thing)) if as_json else line)


def _json(tree: object) -> str:
    return orjson.dumps(tree, option=orjson.OPT_INDENT_2).decode()
