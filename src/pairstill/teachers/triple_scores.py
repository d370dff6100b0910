"""Margin-MSE's published files: a line a triple, with the teacher's score of what is relevant and of what is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pairstill.errors import InputError
from pairstill.files import write_atomic
from pairstill.teachers.scores import TeacherScores
from pairstill.tuples import TupleSet
from pairstill.tuples.read_delimited import header
from pairstill.tuples.read_source import read_source
from pairstill.tuples.source_spec import TableSource
from pairstill.tuples.source_table import SourceTable
from pairstill.tuples.triples import two_rows_each

SCORE_COLUMN = "score"
FIVE = ("positive_score", "negative_score", "query", "positive", "negative")
SEVEN = ("positive_score", "positive_chunks", "negative_score", "negative_chunks", "query", "positive", "negative")
"""With the scores of a passage's chunks, which are left out."""
LINES_AT_ONCE = 65_536


def read_triple_scores(path: Path, tuple_set: TupleSet) -> SourceTable:
    """Read a tab-separated file without a header as two rows a line, with a column for each field and `score`.

    Five columns, as published by Hofstätter et al. (2020): score of the positive, score of the negative, query, positive, negative;
    ids or texts. With seven, the scores of each passage's chunks follow its score.

    Raises:
        InputError: The tuple set has not two fields, or the file has other columns.
    """
    if len(tuple_set.fields) != 2:
        raise InputError(
            f"triples are about two fields, and the tuple set has {len(tuple_set.fields)}",
            expected="a query and what may answer it",
        )
    if not path.exists():
        raise InputError("the file does not exist", file=path)
    found = len(header(path, "\t", quotes=False))
    names = {len(one): one for one in (FIVE, SEVEN)}.get(found)
    if names is None:
        raise InputError(
            f"the line has {found} cells between tabs", file=path, row=1,
            expected=f"5 ({', '.join(FIVE)}) or 7, with the scores of chunks after each score",
        )  # fmt: skip
    source = TableSource(files=[path], format="tsv", quotes=False, columns=list(names))
    query, passage = tuple_set.field_names
    table = two_rows_each(
        read_source(source, FIVE),
        {SCORE_COLUMN: ("positive_score", "negative_score"), passage: ("positive", "negative")}, ["query"],
    )  # fmt: skip
    return table.renamed({"query": query})


def write_triple_scores(
    path: Path,
    tuple_set: TupleSet,
    scores: TeacherScores,
    *,
    splits: Sequence[str] = (),
    texts: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write the five columns, a line for every two tuples of a list of which the first has the higher label.

    Lists are triples where the tuple set was made of them, else the tuples of a query. Lines stand in the order of the lists, and
    in a list in the order of its tuples.

    Args:
        path: The file.
        tuple_set: Two fields, labelled.
        scores: One score a tuple.
        splits: Rows of these splits; none means all.
        texts: Write texts rather than ids.
        progress: Called with (tuples done, tuples in all).

    Returns:
        How many lines were written.

    Raises:
        InputError: The tuple set has not two fields or no labels, a labelled tuple has no score, no two tuples can be compared, or
            a text holds a tab or a line break.
    """
    if len(tuple_set.fields) != 2:
        raise InputError(
            f"triples are about two fields, and the tuple set has {len(tuple_set.fields)}", expected="two fields"
        )
    if tuple_set.labels.kind not in ("binary", "graded"):
        raise InputError(
            f"triples say which tuple is better, and the labels are of kind '{tuple_set.labels.kind}'",
            expected="binary or graded labels",
        )
    scores.check_belongs_to(tuple_set)
    tuples = tuple_set.split(*splits)
    tuples = tuples.take(np.flatnonzero(~np.isnan(tuples.labels)))  # type: ignore[arg-type]
    given = scores.for_rows(tuples.rows)
    missing = np.flatnonzero(np.isnan(given).any(axis=1))
    if len(missing):
        raise InputError(
            f"row {int(tuples.rows[missing[0]])} of the tuple set has no score ({len(missing):,} labelled rows have none)",
            fix="Name the scored splits with --split, or annotate the others",
        )
    values = TeacherScores(scores.manifest, tuples.rows, given).single()
    labels = tuples.labels
    order = np.argsort(tuples.compared, kind="stable")
    # Lists in order of first appearance.
    starts = np.flatnonzero(np.diff(tuples.compared[order], prepend=-1))
    ends = np.append(starts[1:], len(order))
    columns = [_cells(tuple_set, field, texts) for field in range(2)]
    written, lines = 0, []
    with write_atomic(path) as file:
        for number in np.argsort(order[starts], kind="stable"):
            rows = order[starts[number] : ends[number]]
            for better in rows:
                for worse in rows[labels[rows] < labels[better]]:  # type: ignore[index]
                    query, positive = tuples.index[better]
                    cells = (columns[0](query), columns[1](positive), columns[1](tuples.index[worse, 1]))
                    lines.append("\t".join((f"{values[better]:.9g}", f"{values[worse]:.9g}", *cells)) + "\n")
            if len(lines) >= LINES_AT_ONCE:
                file.write("".join(lines).encode())
                written += len(lines)
                lines = []
                if progress is not None:
                    progress(int(ends[number]), len(order))
        file.write("".join(lines).encode())
        written += len(lines)
        if not written:
            raise InputError("no two tuples of a query have different labels", expected="triples to write")
    if progress is not None:
        progress(len(order), len(order))
    return written


def _cells(tuple_set: TupleSet, field: int, texts: bool) -> Callable[[int], str]:
    name, collection = tuple_set.field_names[field], tuple_set.collection_of(field)
    column = collection.texts if texts else collection.ids

    def cell(item: int) -> str:
        value = str(column[int(item)].as_py())
        if any(one in value for one in "\t\n\r"):
            what = "text" if texts else "id"
            raise InputError(
                f"the {what} of {name} '{collection.ids[int(item)].as_py()}' holds a tab or a line break, which separate cells and lines",
                fix="Leave out --texts" if texts else None,
            )
        return value

    return cell
