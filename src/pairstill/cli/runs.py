"""Runs measured against judgements, for the verbs `search` and `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pairstill.errors import InputError

if TYPE_CHECKING:
    from pairstill.evaluation.runs import Judgements, RunQuality
    from pairstill.retrieval.run import Ranking
    from pairstill.tuples import TupleSet


def judgements_of(
    qrels: Path | None, relevant_from: float | None, tuple_set: TupleSet | None, splits: list[str] | None, field: int
) -> Judgements | None:
    """What is relevant: of a TREC file, or of a tuple set's labels; None where there is neither.

    Raises:
        InputError: Judgements are asked for that are not there.
    """
    from pairstill.evaluation.runs import Judgements

    if qrels is not None:
        if relevant_from is not None and not relevant_from.is_integer():
            raise InputError(f"--relevant-from is {relevant_from:g}", expected="a whole number, as grades are")
        return Judgements.read(qrels, int(relevant_from or 1))
    if tuple_set is not None and len(tuple_set.fields) == 2 and tuple_set.labels.kind in ("binary", "graded"):
        from pairstill.cli.evaluate import relevance_of

        labels = tuple_set.split(*splits or ()).labels
        if labels is not None and (labels == labels).any():
            return Judgements.of_tuples(tuple_set, splits or (), field, relevance_of(tuple_set, relevant_from, None))
    if relevant_from is not None:
        raise InputError(
            "--relevant-from is given and there are no judgements", fix="Give --qrels, or a labelled split"
        )
    return None


def print_quality(runs: Mapping[str, Ranking], judgements: Judgements) -> dict[str, RunQuality]:
    """Measure runs and print a table, one row a run."""
    from rich.console import Console
    from rich.table import Table

    from pairstill.evaluation.runs import JUDGED_DEPTH, RETRIEVAL_METRICS, measure_run

    found = {name: measure_run(run, judgements) for name, run in runs.items()}
    table = Table("run", *(metric.name for metric in RETRIEVAL_METRICS), "queries", f"judged@{JUDGED_DEPTH}")
    for name, quality in found.items():
        count = max(quality.queries.values())
        table.add_row(
            name, *(f"{quality.values[metric.name]:.4f}" for metric in RETRIEVAL_METRICS),
            f"{count:,}" + (f" ({quality.missing:,} not in the run)" if quality.missing else ""), f"{quality.judged:.0%}",
        )  # fmt: skip
    Console().print(table)
    return found
