"""Runs measured against judgements, for the verbs `search` and `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pairstill.errors import InputError

if TYPE_CHECKING:
    from pairstill.evaluation.runs import Judgements, RunQuality
    from pairstill.metrics.ranking import RankingMetric
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
        from pairstill.cli.evaluation_inputs import relevance_of

        labels = tuple_set.split(*splits or ()).labels
        if labels is not None and (labels == labels).any():
            return Judgements.of_tuples(tuple_set, splits or (), field, relevance_of(tuple_set, relevant_from, None))
    if relevant_from is not None:
        raise InputError(
            "--relevant-from is given and there are no judgements", fix="Give --qrels, or a labelled split"
        )
    return None


def evaluate_runs(
    named: Sequence[tuple[str, str]], qrels: Path | None, tuples: Path | None, splits: list[str] | None,
    metrics: list[str] | None, relevant_from: float | None, out: Path,
) -> None:  # fmt: skip
    """Measure runs, print a table, and write `retrieval.json` and each query's values.

    Raises:
        InputError: There are no judgements, a run is named twice or cannot be read, or a metric is unknown.
    """
    from pairstill.evaluation.runs import RETRIEVAL_METRICS, write_run_qualities
    from pairstill.metrics.ranking import parse_ranking_metric
    from pairstill.retrieval.run import read_run, run_fields

    if (qrels is None) == (tuples is None):
        raise InputError("give one of --qrels and --tuples with --run", expected="what is relevant")
    if out.exists() and not out.is_dir():
        raise InputError("the output is a file", file=out, expected="a folder to write into")
    if len({name for name, _ in named}) < len(named):
        raise InputError("two runs have one name", fix="Give NAME=RUN")
    chosen = []
    for text in metrics or []:
        one = parse_ranking_metric(text)
        if one is None:
            raise InputError(f"there is no metric '{text}' of runs", expected="nDCG@k, MRR@k, MAP, MAP@k or Recall@k")
        chosen.append(one)
    chosen += [one for one in RETRIEVAL_METRICS if one not in chosen]
    tuple_set, field = None, 0
    if tuples is not None:
        from pairstill.tuples import TupleSet

        tuple_set = TupleSet.load(tuples)
        asking = {found[0] for _, path in named if (found := run_fields(Path(path))) is not None}
        if len(asking) > 1 or not asking <= set(tuple_set.field_names):
            raise InputError(
                f"the runs' queries are of the field {', '.join(sorted(asking))}", file=tuples,
                expected=f"one of {', '.join(tuple_set.field_names)}, the same in all runs",
            )  # fmt: skip
        field = tuple_set.field_names.index(asking.pop()) if asking else 0
        splits = splits or ["test"]
    judgements = judgements_of(qrels, relevant_from, tuple_set, splits, field)
    if judgements is None:
        raise InputError("the tuple set's labels say nothing about relevance", file=tuples, fix="Give --qrels")
    qualities = print_quality({name: read_run(Path(path)) for name, path in named}, judgements, chosen)
    write_run_qualities(out, qualities, dict(named))
    print(f"numbers: {out / 'retrieval.json'}   by query: {out / 'by-query.parquet'}")


def print_quality(
    runs: Mapping[str, Ranking], judgements: Judgements, metrics: Sequence[RankingMetric] | None = None
) -> dict[str, RunQuality]:
    """Measure runs and print a table, one row a run."""
    import sys

    from rich.console import Console
    from rich.table import Table

    from pairstill.evaluation.runs import JUDGED_DEPTH, RETRIEVAL_METRICS, measure_run

    chosen = metrics or RETRIEVAL_METRICS
    found = {name: measure_run(run, judgements, chosen) for name, run in runs.items()}
    table = Table("run", *(metric.name for metric in chosen), "queries", f"judged@{JUDGED_DEPTH}")
    for name, quality in found.items():
        count = max(quality.queries.values())
        table.add_row(
            name, *(f"{quality.values[metric.name]:.4f}" for metric in chosen),
            f"{count:,}" + (f" ({quality.missing:,} not in the run)" if quality.missing else ""), f"{quality.judged:.0%}",
        )  # fmt: skip
    # A file or pipe has no width; a name that is cut says nothing.
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for name, run in runs.items():
        longest = max((len(items) for items in run.values()), default=0)
        deeper = [metric.name for metric in chosen if metric.depth is not None and metric.depth > longest]
        if deeper:
            print(f"note: '{name}' has at most {longest:,} items a query, and {', '.join(deeper)} see no more of it")
    return found
