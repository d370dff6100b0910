"""Everything that `pairstill evaluate` leaves in its folder."""

from __future__ import annotations

import re
from pathlib import Path

from pairstill.evaluation.analyses.request import NAMES
from pairstill.evaluation.analyses.results import FILE, Analyses
from pairstill.evaluation.evaluate import Evaluation
from pairstill.evaluation.trec import document_names, group_names, write_all_qrels, write_run
from pairstill.files import write_text
from pairstill.report.analyses.table_files import analyses_to_csv
from pairstill.report.html import to_html
from pairstill.report.markdown import to_markdown
from pairstill.report.table_files import to_csv, to_latex
from pairstill.tuples.tuple_set import TupleSet


def file_name(name: str) -> str:
    """A system's name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.") or "system"


def write_outputs(
    folder: str | Path, evaluation: Evaluation, tuple_set: TupleSet, analyses: Analyses | None = None
) -> list[Path]:
    """Write results.json, table.csv, table.tex, table.md, report.html and, for one score a tuple, runs/ in TREC form.

    Analyses become analyses.json, and a CSV file each in analyses/; those of an earlier evaluation are removed.

    Returns:
        The paths, the report last.
    """
    folder = Path(folder)
    comparison = evaluation.comparison
    for old in (folder / FILE, *(folder / "analyses" / f"{name}.csv" for name in NAMES)):
        old.unlink(missing_ok=True)
    comparison.save(folder / "results.json")
    write_text(folder / "table.csv", to_csv(comparison))
    write_text(folder / "table.tex", to_latex(comparison))
    write_text(folder / "table.md", to_markdown(comparison))
    paths = [folder / name for name in ("results.json", "table.csv", "table.tex", "table.md")]
    if tuple_set.labels.outputs == 1:
        paths += write_runs(folder / "runs", evaluation, tuple_set)
    if analyses is not None:
        analyses.save(folder / FILE)
        paths.append(folder / FILE)
        for name, table in analyses_to_csv(analyses, tuple_set.field_names).items():
            paths.append(folder / "analyses" / f"{name}.csv")
            write_text(paths[-1], table)
    write_text(folder / "report.html", to_html([comparison], [analyses]))
    return [*paths, folder / "report.html"]


def write_runs(folder: Path, evaluation: Evaluation, tuple_set: TupleSet) -> list[Path]:
    """One run per system, seed and split, and two qrels per split."""
    paths: list[Path] = []
    for split, rows in evaluation.tuples.items():
        paths += write_all_qrels(folder, tuple_set, rows, evaluation.relevance, split)
        topics, documents = group_names(tuple_set, rows), document_names(tuple_set, rows)
        for one in evaluation.systems:
            for number, logits in enumerate(one.logits[split]):
                seed = f"-seed{number}" if one.seeds > 1 else ""
                paths.append(folder / f"{split}-{file_name(one.name)}{seed}.trec")
                write_run(paths[-1], topics, documents, logits[:, 0], one.name)
    return paths
