"""Tables on standard output."""

from typing import Final

from rich.console import Console
from rich.table import Table

WIDE: Final = 1000  # columns: no name is ever cut, neither in a pipe nor on a narrow terminal, which wraps by itself


def show(table: Table) -> None:
    """Prints a table as wide as its content; what stands in its cells is text, whatever it looks like."""
    Console(width=WIDE, markup=False).print(table)
