"""Tables for readers: as wide as the terminal, and not folded in a pipe or a file, where tools look for names."""

import sys

from rich.console import Console
from rich.table import Table

UNFOLDED = 10_000  # columns, more than any table has


def show(table: Table) -> None:
    """Print a table.

    Args:
        table: Table for standard output.
    """
    Console(width=None if sys.stdout.isatty() else UNFOLDED).print(table)
