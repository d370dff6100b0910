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

    out = RichTable(
        title=Text(table.title) if table.title else None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False
    )
    for number, name in enumerate(table.columns):
        out.add_column(Text(name), justify="left" if number == 0 else "right", overflow="fold", no_wrap=False)
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
        width: Of the terminal; a table that is wider is turned so that systems are columns, or cut between columns.
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


def _widths(table: Table) -> list[int]:
    cells = [table.columns, *table.rows]
    return [max(len(row[number]) for row in cells) + 2 for number in range(len(table.columns))]


def _parts(table: Table, width: int) -> list[Table]:
    """The table cut between columns into tables that fit, each with the first column."""
    widths = _widths(table)
    parts: list[list[int]] = [[]]
    used = widths[0]
    for number in range(1, len(widths)):
        if parts[-1] and used + widths[number] > width - 2:
            parts.append([])
            used = widths[0]
        parts[-1].append(number)
        used += widths[number]
    return [
        Table(
            table.title if place == 0 else "",
            tuple(table.columns[number] for number in (0, *part)),
            tuple(tuple(row[number] for number in (0, *part)) for row in table.rows),
            table.roles,
        )
        for place, part in enumerate(parts)
    ]


def _fitting(table: Table, width: int) -> Iterator[RenderableType]:
    from rich.text import Text

    upright, turned = _parts(table, width), _parts(_transposed(table), width)
    for part in turned if len(turned) < len(upright) else upright:
        yield _rich(part)
    for note in table.notes:
        yield Text(f"  {note}", style="dim")
