"""Pairs of answers of MedQuAD: relevant to each other where the questions that they answer have the same focus, a disease or topic.

The label is derived, nobody judged these pairs: two answers on one disease may have little in common but its name, and two on
kindred diseases much. All pairs of a focus are listed, so that none is mined as a negative.
"""

from __future__ import annotations

import itertools
import sys
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MOST_ANSWERS = 12
"""Of a focus; a few have dozens, and their pairs would be most of the set."""


def main(data: Path, out: Path) -> None:
    """Write the pairs; `data` is MedQuAD's folder."""
    out.mkdir(parents=True, exist_ok=True)
    questions = {row["query_id"]: row for row in pq.read_table(data / "queries.parquet").to_pylist()}
    texts = {row["passage_id"]: row["text"] for row in pq.read_table(data / "passages.parquet").to_pylist()}
    answers: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in pq.read_table(data / "labels.parquet").to_pylist():
        question = questions[row["query_id"]]
        # Of equal texts one stands for all.
        if float(row["relevance"]) > 0:
            answers[row["split"], question["focus"].strip().lower()].setdefault(
                texts[row["passage_id"]], row["passage_id"]
            )
    rows = [
        (first, second, 1, split)
        for (split, _), found in answers.items()
        for first, second in itertools.permutations(list(found.values())[:MOST_ANSWERS], 2)
    ]
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(columns, names=["first", "second", "relevance", "split"]), out / "pairs.parquet")
    used = {name for first, second, *_ in rows for name in (first, second)}
    kept = {name: text for name, text in texts.items() if name in used}
    pq.write_table(pa.table({"id": list(kept), "text": list(kept.values())}), out / "answers.parquet")


if __name__ == "__main__":
    main(*(Path(one) for one in sys.argv[1:]))
