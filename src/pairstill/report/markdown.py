"""The tables as Markdown, for a README or an issue."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pairstill.evaluation.results import Comparison
from pairstill.report.tables import Table, conditions, cost_table, quality_table


def to_markdown(comparison: Comparison) -> str:
    """Title, machine, one table per split, the cost table, warnings and the conditions of every timing."""
    machine = comparison.machine
    parts = [f"## {_escaped(comparison.title)}", f"{machine.get('processor')}, {machine.get('threads')} threads."]
    parts += [_escaped(one) for one in comparison.warnings]
    for split in comparison.splits:
        parts += [_table(quality_table(comparison, split)), *(_escaped(one) for one in split.verdict)]
    cost = cost_table(comparison)
    if cost is not None:
        parts.append(_table(cost))
        rows = tuple(conditions(comparison))
        parts.append(_table(Table("Every timing", ("what", "rate", "conditions"), rows, ("other",) * len(rows))))
    return "\n\n".join(parts) + "\n"


def _table(table: Table) -> str:
    lines = [f"### {_escaped(table.title)}", "", _line(table.columns)]
    lines.append(_line(["---", *(["---:"] * (len(table.columns) - 1))]))
    lines += [_line(row) for row in table.rows]
    return "\n".join(lines + [line for note in table.notes for line in ("", _escaped(note))])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(one) for one in cells) + " |"


def _escaped(text: str) -> str:
    return re.sub(r"([\\|*_<`])", r"\\\1", " ".join(text.split()))
