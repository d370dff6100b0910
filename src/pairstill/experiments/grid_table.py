"""A grid's result: one row a cell, with its axes, its budget, its quality and its price."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pairstill.evaluation.results import Comparison, MetricValue
from pairstill.experiments.grid import Run, trained_on
from pairstill.experiments.recipe import Recipe
from pairstill.files import write_json, write_text

FORMAT = "pairstill/grid"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class GridRow:
    """One cell, the mean of its seeds.

    Attributes:
        axes: Axis -> label.
        seeds: How many.
        pairs: Presented in all stages of one training.
        seconds: Of one training.
        value: The headline metric on the main split; None where it is not defined.
        deviation: Over seeds; None for one.
        retention: Of the teacher; None without one.
        teacher_kendall: With the teacher's scores; None without one.
        multiply_adds_per_pair: Of the head; None where cost was not measured.
        bytes_per_item: By field; None where cost was not measured.
        pairs_per_s: Of the head; None where cost was not measured.
    """

    axes: dict[str, str]
    seeds: int
    pairs: int
    seconds: float
    value: float | None
    deviation: float | None
    retention: float | None
    teacher_kendall: float | None
    multiply_adds_per_pair: float | None = None
    bytes_per_item: tuple[float, ...] | None = None
    pairs_per_s: float | None = None


def grid_rows(runs: Sequence[Run], comparison: Comparison) -> list[GridRow]:
    """Rows in the recipe's order; `runs` are those that the comparison holds."""
    rows = []
    for name, cell in {run.cell.name: run.cell for run in runs}.items():
        trained = [trained_on(run.folder) for run in runs if run.cell.name == name]
        result, cost = comparison.main.system(name), comparison.facts(name).cost
        metric = result.metrics.get(comparison.headline, MetricValue(None))
        kendall = result.agreement.kendall if result.agreement is not None else None
        rows.append(
            GridRow(
                dict(cell.axes), len(trained), trained[0][0], fmean(seconds for _, seconds in trained), metric.value,
                metric.deviation, result.retention, None if kendall is None else kendall.value,
                None if cost is None else cost.multiply_adds_per_pair,
                None if cost is None else cost.bytes_per_item,
                None if cost is None else cost.head.per_second,
            )
        )  # fmt: skip
    return rows


def write_grid(out: Path, recipe: Recipe, rows: Sequence[GridRow], comparison: Comparison) -> list[Path]:
    """Write grid.json, grid.csv and grid.md; returns their paths."""
    split, metric = comparison.main.split, comparison.headline
    write_json(
        out / "grid.json",
        {
            "format": FORMAT, "version": FORMAT_VERSION, "title": recipe.title, "split": split, "metric": metric,
            "seeds": list(recipe.seeds), "machine": comparison.machine, "rows": [asdict(row) for row in rows],
        },
    )  # fmt: skip
    table = [_cells(row) for row in rows]
    columns = list(table[0])
    held = [name for name in columns if any(row[name] is not None for row in table)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(held)
    writer.writerows([["" if row[name] is None else row[name] for name in held] for row in table])
    write_text(out / "grid.csv", text.getvalue())
    titles = {"value": comparison.metrics.get(metric, metric)}
    lines = [
        "| " + " | ".join(titles.get(name, name) for name in held) + " |",
        "| " + " | ".join("---" if name in recipe.grid else "---:" for name in held) + " |",
        *("| " + " | ".join(_shown(name, row[name]) for name in held) + " |" for row in table),
    ]
    head = f"## {recipe.title}\n\n{split}: {comparison.main.labelled:,} labelled rows in {comparison.main.groups:,} groups.\n\n"
    write_text(out / "grid.md", head + "\n".join(lines) + "\n")
    return [out / name for name in ("grid.json", "grid.csv", "grid.md")]


def _cells(row: GridRow) -> dict[str, Any]:
    values = asdict(row)
    axes, per_field = values.pop("axes"), values.pop("bytes_per_item")
    return {
        **axes,
        **values,
        "bytes_per_item": None if per_field is None else " / ".join(f"{one:g}" for one in per_field),
    }


def _shown(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name in ("value", "teacher_kendall"):
        return f"{value:.4f}"
    if name == "deviation":
        return f"±{value:.4f}"
    if name == "retention":
        return f"{value:.1%}"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value).replace("|", "\\|")
