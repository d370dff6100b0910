"""Quality of retrieval: runs over a whole corpus against relevance judgements, by ir-measures (trec_eval's definitions)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pairstill.errors import InputError
from pairstill.files import write_json, write_parquet
from pairstill.metrics.base import Relevance
from pairstill.metrics.ranking import RankingMetric
from pairstill.retrieval.run import Ranking
from pairstill.tuples.tuple_set import TupleSet

RETRIEVAL_METRICS = (
    RankingMetric("nDCG", 10), RankingMetric("MRR", 10), RankingMetric("MAP", 1000), RankingMetric("Recall", 1000),
)  # fmt: skip
JUDGED_DEPTH = 10


@dataclass(frozen=True)
class Judgements:
    """What people said about items of a corpus; an item that nobody judged counts as not relevant.

    Attributes:
        gains: Query -> item -> the whole number that nDCG reads.
        relevant: Query -> item -> 0 or 1, which MRR, MAP and Recall read.
    """

    gains: Mapping[str, Mapping[str, int]]
    relevant: Mapping[str, Mapping[str, int]]

    @classmethod
    def of_tuples(
        cls, tuple_set: TupleSet, splits: Sequence[str], query_field: int, relevance: Relevance | None = None
    ) -> Judgements:
        """The labels of a tuple set of two fields; of several rows of one pair the highest label counts.

        Args:
            tuple_set: With binary or graded labels.
            splits: Whose rows count; empty means all that are labelled.
            query_field: Position of the field that asks.
            relevance: How labels are read; None means the default of the label kind.

        Raises:
            InputError: The set has other fields or labels, or no row of the splits has a label.
        """
        if len(tuple_set.fields) != 2 or tuple_set.labels.kind not in ("binary", "graded"):
            raise InputError(
                f"the tuple set has {len(tuple_set.fields)} fields and labels of kind '{tuple_set.labels.kind}'",
                expected="two fields and binary or graded labels, which say what is relevant",
            )
        rows = tuple_set.split(*splits)
        known = np.empty(0, np.int64) if rows.labels is None else np.flatnonzero(~np.isnan(rows.labels))
        if not len(known) or rows.labels is None:
            raise InputError(
                "no row has a label", expected="labels, which say what is relevant", fix="Choose another --split"
            )
        labels = rows.labels[known].astype(np.float64)
        how = relevance or Relevance.of(tuple_set.labels)
        ids = [tuple_set.tuples.column(name).take(rows.rows[known]).to_pylist() for name in tuple_set.field_names]
        gains: dict[str, dict[str, int]] = {}
        relevant: dict[str, dict[str, int]] = {}
        for query, item, gain, one in zip(
            ids[query_field],
            ids[1 - query_field],
            how.gains(labels).tolist(),
            how.relevant(labels).tolist(),
            strict=True,
        ):
            of_query, relevant_of = gains.setdefault(query, {}), relevant.setdefault(query, {})
            of_query[item] = max(gain, of_query.get(item, 0))
            relevant_of[item] = max(one, relevant_of.get(item, 0))
        return cls(gains, relevant)

    @classmethod
    def read(cls, path: Path, relevant_from: int = 1) -> Judgements:
        """A TREC qrels file: `topic iteration document grade`.

        Args:
            path: Of the file.
            relevant_from: Least grade that is relevant; the official value of TREC DL's passages is 2.

        Raises:
            InputError: It is missing, a line has not four parts, a grade is no whole number, or a document comes twice.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the judgements cannot be read: {error}", file=path) from None
        gains: dict[str, dict[str, int]] = {}
        for number, line in enumerate(lines, start=1):
            parts = line.split()
            if not parts:
                continue
            if len(parts) != 4:
                raise InputError(
                    f"the line has {len(parts)} parts",
                    file=path,
                    row=number,
                    expected="4: topic iteration document grade",
                )
            try:
                grade = int(parts[3])
            except ValueError:
                raise InputError(
                    f"the grade is {parts[3]!r}", file=path, row=number, expected="a whole number"
                ) from None
            of_query = gains.setdefault(parts[0], {})
            if parts[2] in of_query:
                raise InputError(f"the document {parts[2]!r} of topic {parts[0]!r} comes twice", file=path, row=number)
            of_query[parts[2]] = grade
        if not gains:
            raise InputError("the file holds no judgements", file=path)
        relevant = {
            query: {item: int(grade >= relevant_from) for item, grade in items.items()}
            for query, items in gains.items()
        }
        return cls(gains, relevant)


@dataclass(frozen=True)
class RunQuality:
    """Quality of one run.

    Attributes:
        values: Metric -> mean over the queries that have a relevant item.
        by_query: Metric -> query -> value; a query that the run lacks has 0.
        queries: How many have a relevant item and so count, by metric.
        missing: Of the queries that count, those that the run lacks.
        judged: Share of the first 10 items, of all queries with judgements, that somebody judged: where it is low, the values
            are lower bounds.
    """

    values: Mapping[str, float]
    by_query: Mapping[str, Mapping[str, float]]
    queries: Mapping[str, int]
    missing: int
    judged: float


def measure_run(
    run: Ranking, judgements: Judgements, metrics: Sequence[RankingMetric] = RETRIEVAL_METRICS
) -> RunQuality:
    """Measure a run; equal scores are ordered by item name, greater first, as trec_eval does.

    Raises:
        InputError: The run has results and no judged query, or no query has a relevant item.
    """
    import ir_measures

    if run and not set(run) & set(judgements.gains):
        raise InputError(
            "no query of the run has judgements", expected=f"ids such as {next(iter(judgements.gains))!r}",
            fix=f"The run's ids are such as {next(iter(run))!r}",
        )  # fmt: skip
    by_query: dict[str, dict[str, float]] = {}
    for metric in metrics:
        truth = judgements.gains if metric.family == "nDCG" else judgements.relevant
        counted = {query: dict(items) for query, items in truth.items() if any(grade > 0 for grade in items.values())}
        if not counted:
            raise InputError("no query has a relevant item", fix="Lower --relevant-from")
        asked = {query: _strict(run[query]) for query in counted if query in run}
        values = {
            one.query_id: float(one.value) for one in ir_measures.iter_calc([metric.of_library()], counted, asked)
        }
        by_query[metric.name] = {query: values.get(query, 0.0) for query in counted}
    shares = [
        np.mean([item in judgements.gains[query] for item in sorted(items, key=lambda one: -items[one])[:JUDGED_DEPTH]])
        for query, items in run.items()
        if query in judgements.gains and items
    ]
    counted_queries = set().union(*by_query.values())
    return RunQuality(
        {name: float(np.mean(list(values.values()))) for name, values in by_query.items()}, by_query,
        {name: len(values) for name, values in by_query.items()}, len(counted_queries - set(run)),
        float(np.mean(shares)) if shares else 0.0,
    )  # fmt: skip


def _strict(items: Mapping[str, float]) -> dict[str, float]:
    """Ranks as scores: the tools behind ir-measures order equal scores in different ways."""
    order = sorted(items, key=lambda item: (items[item], item))
    return {item: float(rank) for rank, item in enumerate(order)}


def write_run_qualities(folder: Path, found: Mapping[str, RunQuality], origins: Mapping[str, str]) -> None:
    """Write `retrieval.json`, and `by-query.parquet`: run, query, and a column a metric, null where a query does not count.

    Args:
        folder: Made if it is not there.
        found: Run -> quality, all by the same metrics.
        origins: Run -> where it was read.
    """
    columns: dict[str, list[object]] = {"run": [], "query": []}
    for name, quality in found.items():
        for query in sorted(set().union(*quality.by_query.values())):
            columns["run"].append(name)
            columns["query"].append(query)
            for metric, values in quality.by_query.items():
                columns.setdefault(metric, []).append(values.get(query))
    write_parquet(folder / "by-query.parquet", pa.table(columns))
    runs = [
        {
            "name": name, "run": origins[name], "metrics": dict(quality.values), "queries": dict(quality.queries),
            "missing": quality.missing, "judged": quality.judged,
        }
        for name, quality in found.items()
    ]  # fmt: skip
    write_json(folder / "retrieval.json", {"format": "pairstill/retrieval", "version": 1, "runs": runs})
