"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pairstill.evaluation.results import Comparison
from pairstill.report.tables import Table, cost_table, quality_table, slice_tables

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {"teacher": "bold", "student": "", "floor": "dim", "other": "italic"}


def _rich(table: Table) -> RenderableType:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    out = RichTable(title=Text(table.title), box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for number, name in enumerate(table.columns):
        out.add_column(Text(name), justify="left" if number == 0 else "right", overflow="fold")
    for cells, role in zip(table.rows, table.roles, strict=True):
        out.add_row(*(Text(cell) for cell in cells), style=STYLES[role])
    return out


def _transposed(table: Table) -> Table:
    """Systems as columns: fits a terminal where figures are many and systems few."""
    rows = tuple((name, *(row[number] for row in table.rows)) for number, name in enumerate(table.columns) if number)
    return Table(table.title, (table.columns[0], *(row[0] for row in table.rows)), rows, ("other",) * len(rows))


def renderables(comparison: Comparison, width: int = 120) -> Iterator[RenderableType]:
    """What a console prints: per split the quality table, its notes and verdict, slices; then cost and warnings.

    Args:
        comparison: The outcome.
        width: Of the terminal; a table that is wider is turned so that systems are columns, if that is narrower.
    """
    from rich.text import Text

    for split in comparison.splits:
        for table in (quality_table(comparison, split), *slice_tables(comparison, split)):
            yield from _fitting(table, width)
        for sentence in split.verdict:
            yield Text(f"! {sentence}", style="yellow")
        yield Text("")
    cost = cost_table(comparison)
    if cost is not None:
        yield from _fitting(cost, width)
        notes = () if comparison.references is None else comparison.references.notes
        for note in notes:
            yield Text(f"  {note}", style="dim")
    for sentence in comparison.warnings:
        yield Text(f"! {sentence}", style="yellow")


def _needed(table: Table) -> int:
    cells = [table.columns, *table.rows]
    return sum(max(len(row[number]) for row in cells) + 2 for number in range(len(table.columns)))


def _fitting(table: Table, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    turned = _transposed(table)
    yield _rich(turned if _needed(table) > width and _needed(turned) < _needed(table) else table)
    for note in table.notes:
        yield Text(f"  {note}", style="dim")
