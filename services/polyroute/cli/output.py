"""Tables on standard output."""

import shutil
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table

WIDE: Final = 1000  # columns: no name is ever cut


def show(table: Table) -> None:
    """Prints a table as wide as its content; what stands in its cells is text, whatever it looks like.

    On a terminal that is too narrow each row becomes a few lines, one for each cell that is not empty.
    """
    # without a height as well, a terminal that calls itself dumb would have 80 columns
    console = Console(width=WIDE, height=1, markup=False)
    if console.is_terminal and console.measure(table).maximum > shutil.get_terminal_size().columns:
        print("\n\n".join(_records(table)))
    else:
        console.print(table)


def _records(table: Table) -> Iterator[str]:
    names = [str(column.header) for column in table.columns]
    width = max(map(len, names)) + 2
    for row in zip(*(column.cells for column in table.columns), strict=True):
        cells = [(name, str(cell)) for name, cell in zip(names, row, strict=True)]
        yield "\n".join(f"{name:<{width}}{cell}" for name, cell in cells if cell)
