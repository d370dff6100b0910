"""TREC run files and qrels, so that any other tool can check the ranking metrics."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from pairstill.files import write_text
from pairstill.metrics.base import Relevance
from pairstill.tuples.tuple_set import Tuples, TupleSet


def _token(text: str) -> str:
    return re.sub(r"\s+", "_", text.strip()) or "_"


def document_names(tuple_set: TupleSet, tuples: Tuples) -> np.ndarray:
    """`(rows,)` TREC document names, distinct within a group and free of white space.

    A row is named by the ids of its fields, but for a first field whose id is the group; several ids are joined by `|`.
    Where that is not distinct within a group, `#` and the row number follow.
    """
    rows = tuples.rows
    columns = [tuple_set.tuples.column(name).take(rows).to_pylist() for name in tuple_set.field_names]
    groups = tuple_set.tuples.column("group").take(rows).to_pylist()
    if len(columns) > 1 and columns[0] == groups:
        columns = columns[1:]
    names = ["|".join(_token(str(part)) for part in parts) for parts in zip(*columns, strict=True)]
    seen: dict[tuple[str, str], int] = {}
    for key in zip(groups, names, strict=True):
        seen[key] = seen.get(key, 0) + 1
    return np.array(
        [
            name if seen[(group, name)] == 1 else f"{name}#{row}"
            for group, name, row in zip(groups, names, rows, strict=True)
        ]
    )


def group_names(tuple_set: TupleSet, tuples: Tuples) -> list[str]:
    """`(rows,)` TREC topic names: the group without white space."""
    filled = pc.fill_null(tuple_set.tuples.column("group").take(tuples.rows), "_")
    return [_token(str(one)) for one in filled.to_pylist()]


def write_run(path: Path, topics: list[str], documents: np.ndarray, scores: np.ndarray, name: str) -> None:
    """Write a run: `topic Q0 document rank score system`, best first within a topic, topics in stored order.

    Equal scores are ordered by document name, greater first, as trec_eval reads them.
    """
    by_topic: dict[str, list[int]] = {}
    for row, topic in enumerate(topics):
        by_topic.setdefault(topic, []).append(row)
    lines = []
    for topic, rows in by_topic.items():
        rows.sort(key=lambda row: (scores[row], documents[row]), reverse=True)
        for rank, row in enumerate(rows, start=1):
            lines.append(f"{topic} Q0 {documents[row]} {rank} {float(scores[row]):.9g} {_token(name)}\n")
    write_text(path, "".join(lines))


def write_qrels(path: Path, topics: list[str], documents: np.ndarray, values: np.ndarray) -> None:
    """Write judgements: `topic 0 document value`, in stored order."""
    rows = zip(topics, documents, values, strict=True)
    write_text(path, "".join(f"{topic} 0 {document} {int(value)}\n" for topic, document, value in rows))


def write_all_qrels(folder: Path, tuple_set: TupleSet, tuples: Tuples, relevance: Relevance, split: str) -> list[Path]:
    """Write `qrels-SPLIT-gains.trec` (for nDCG) and `qrels-SPLIT-relevant.trec` (for MAP, MRR and Recall)."""
    if tuples.labels is None:
        return []
    labelled = tuples.take(np.flatnonzero(~np.isnan(tuples.labels)))
    labels = np.asarray(labelled.labels, dtype=np.float64)
    topics, documents = group_names(tuple_set, labelled), document_names(tuple_set, labelled)
    paths = []
    for name, values in (("gains", relevance.gains(labels)), ("relevant", relevance.relevant(labels))):
        paths.append(folder / f"qrels-{split}-{name}.trec")
        write_qrels(paths[-1], topics, documents, values)
    return paths
