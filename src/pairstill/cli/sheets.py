"""Small tables: drawn by rich on a terminal, as aligned plain text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Sheet:
    """A table of ready text. The first `left` columns are words and align left, the others are numbers.

    Attributes:
        title: One line above it.
        header: Names of the columns.
        rows: Cells, as many a row as the header has.
        left: How many columns align left.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


def print_sheet(sheet: Sheet) -> None:
    """Print a table on stdout, with an empty line before it."""
    print()
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(sheet.title), title_justify="left", title_style="bold")
        for at, name in enumerate(sheet.header):
            table.add_column(Text(name), justify="left" if at < sheet.left else "right", overflow="fold")
        for row in sheet.rows:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    print(plain_text(sheet))


def plain_text(sheet: Sheet) -> str:
    """The table in lines of aligned columns."""
    table = [list(sheet.header), *(list(row) for row in sheet.rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(sheet.header))]
    lines = [
        "  ".join(
            cell.ljust(widths[at]) if at < sheet.left else cell.rjust(widths[at]) for at, cell in enumerate(row)
        ).rstrip()
        for row in table
    ]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([sheet.title, lines[0], rule, *lines[1:]])
