"""Scores from elsewhere: a table of tuples with numbers of a declared kind becomes teacher scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import InputError
from pairstill.files import fingerprint_file, write_parquet
from pairstill.jobs import Job, Shard, split_rows
from pairstill.teachers.scores import (
    ScoreKind,
    ScoresManifest,
    TeacherInfo,
    TeacherScores,
    finish_scores,
    scores_table,
)
from pairstill.teachers.triple_scores import SCORE_COLUMN, read_triple_scores
from pairstill.tuples import Tuples, TupleSet
from pairstill.tuples.read_source import read_source, source_columns
from pairstill.tuples.source_spec import TableSource
from pairstill.tuples.source_table import SourceTable, check_columns

CLIP = 1e-7
"""Probabilities nearer to 0 or 1 than this are moved to it before they become logits (at most 16.1)."""

ENOUGH_TO_TELL = 100
"""So many logits that all lie between 0 and 1 are none."""

ROW_COLUMN = "row"
MOST_ROWS = 2**53
Repeated = Literal["refuse", "mean", "last"]


def import_scores(
    file: str | Path,
    tuple_set: TupleSet,
    folder: str | Path,
    *,
    kind: ScoreKind,
    score_columns: Sequence[str] = ("score",),
    columns: Mapping[str, str] | None = None,
    splits: Sequence[str] = (),
    teacher: str | None = None,
    skip_unknown: bool = False,
    triples: bool = False,
    repeated: Repeated = "refuse",
    shard_rows: int = 1_000_000,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherScores:
    """Turn a CSV, TSV, JSON Lines or Parquet file of scores into teacher scores.

    A tuple is named by its ids, by its texts, or by a column `row` with row numbers of the tuple set. For a field `query`
    the column is the first of `query_id`, `query` and `query_text` that holds an id or a text of the field; values of
    `query` are ids if all of them are, otherwise texts. A
    pair that stands in several rows of the tuple set gets its score in all of them. Rows of the tuple set without a
    score are left out, and counted in the manifest's provenance.

    Args:
        file: The file.
        tuple_set: What the scores are about.
        folder: Where the scores go.
        kind: What the numbers are. `probability`: turned into logits, log(p / (1 - p)) for one column and log p for one
            column a class, after clipping at `CLIP`; how many were clipped is recorded. `other`: kept as they are. A hundred `logit`s or
            more that all lie between 0 and 1 are refused.
        score_columns: One column, or one a class in the order of the classes.
        columns: Field name -> column, where names differ.
        splits: Only rows of these splits are looked for; none means all.
        teacher: Name of who gave the scores; None means the file's name.
        skip_unknown: Leave out rows of the file that are not among the tuples, and count them, rather than refuse them.
        triples: The file has a line a triple and no header (see `read_triple_scores`); column names have no part then.
        repeated: What becomes of a tuple with several scores that differ, such as a passage of many triples that was scored in
            batches of other precision or padding: `refuse`, their `mean`, or the `last`. How many there were is recorded.
        shard_rows: Rows per shard.
        progress: Called with (rows done, rows in all).

    Raises:
        InputError: A column is missing, a score is no finite number or no probability, what are called logits look like
            probabilities, a tuple is unknown, or has two different scores.
    """
    path = Path(file)
    if kind not in get_args(ScoreKind):
        raise InputError(f"the score kind '{kind}' is unknown", expected=", ".join(get_args(ScoreKind)))
    if path.is_dir():
        raise InputError("this is a folder", file=path, expected="one CSV, TSV, JSON Lines or Parquet file of scores")
    if repeated not in get_args(Repeated):
        raise InputError(
            f"scores that differ are to be treated as '{repeated}'", expected=", ".join(get_args(Repeated))
        )
    _check_outputs(tuple_set, len(score_columns))
    if triples:
        table, score_columns = read_triple_scores(path, tuple_set), (SCORE_COLUMN,)
        names = {name: name for name in tuple_set.field_names}
    else:
        source = TableSource(files=[path])
        candidates = _candidate_columns(source, path, tuple_set, columns or {}, score_columns)
        table = read_source(source, [*(one for several in candidates.values() for one in several), *score_columns])
        names = {name: _first_that_fits(table, name, several, tuple_set) for name, several in candidates.items()}
    scores = np.stack([_numbers(table, name) for name in score_columns], axis=1)
    clipped = 0
    if kind == "logit" and len(scores) >= ENOUGH_TO_TELL and bool(((scores >= 0) & (scores <= 1)).all()):
        raise InputError(
            f"the scores are declared logits, and all {len(scores):,} lie between 0 and 1", file=path,
            expected="raw logits, before a sigmoid or softmax",
            fix="Give --kind probability for sigmoids, or --kind other for similarities",
        )  # fmt: skip
    if kind == "probability":
        scores, clipped = _to_logits(table, scores, score_columns)
    wanted = tuple_set.split(*splits)
    matched = _match(table, names, tuple_set, wanted, scores, score_columns[0], skip_unknown, repeated)
    if not len(matched.rows):
        raise InputError(
            "no row of the file is a tuple of the tuple set", file=path, fix="Check the splits and the columns"
        )

    kept: ScoreKind = "logit" if kind == "probability" else kind
    information = TeacherInfo(teacher or path.name, fingerprint_file(path))
    settings = {
        "teacher": information.name, "file": information.fingerprint, "kind": kind, "score_columns": list(score_columns),
        "columns": names, "splits": list(splits), "tuple_set": tuple_set.fingerprint, "skip_unknown": skip_unknown,
        "shard_rows": shard_rows, **({"triples": True} if triples else {}), **({} if repeated == "refuse" else {"repeated": repeated}),
    }  # fmt: skip
    job = Job(folder, "import-scores", settings, ".parquet")

    def write(shard: Shard, target: Path) -> Mapping[str, Any]:
        part = slice(shard.start, shard.stop)
        write_parquet(target, scores_table(tuple_set, matched.rows[part], matched.scores[part], kept))
        return {}

    receipts = job.run(split_rows(len(matched.rows), shard_rows), write, progress)
    provenance = {
        "imported_from": path.name,
        "declared_kind": kind,
        "rows_without_score": len(wanted) - len(matched.rows),
        "rows_of_the_file_skipped": matched.skipped,
        **({"repeated": repeated, "tuples_with_several_scores": matched.several} if repeated != "refuse" else {}),
        **({"clip": CLIP, "clipped_probabilities": clipped} if kind == "probability" else {}),
    }
    manifest = ScoresManifest(
        teachers=(information,), score_kind=kept, outputs=len(score_columns), fields=tuple_set.field_names,
        splits=tuple(splits), tuple_set=tuple_set.fingerprint,
        classes=tuple_set.labels.classes if len(score_columns) > 1 else (), provenance=provenance,
    )  # fmt: skip
    return finish_scores(Path(folder), manifest, receipts)


@dataclass(frozen=True)
class _Matched:
    rows: np.ndarray
    scores: np.ndarray
    skipped: int
    several: int


def _check_outputs(tuple_set: TupleSet, given: int) -> None:
    labels = tuple_set.labels
    if not given:
        raise InputError("no score column is named", expected="one, or one a class")
    if labels.kind == "classes" and given != len(labels.classes):
        raise InputError(
            f"{given} score columns are named and the tuple set has {len(labels.classes)} classes",
            expected=f"one --score-column for each of {', '.join(labels.classes)}, in this order",
        )
    if labels.kind in ("binary", "graded") and given > 2:
        raise InputError(f"{given} score columns are named for {labels.kind} labels", expected="one, or two logits")


def _candidate_columns(
    source: TableSource, path: Path, tuple_set: TupleSet, given: Mapping[str, str], score_columns: Sequence[str]
) -> dict[str, list[str]]:
    """Field name -> columns that may name its items, or `row` -> that column."""
    present = source_columns(source)
    if not present:
        raise InputError("the file is empty", file=path, expected="a table of scores")
    for name in score_columns:
        if name not in present:
            raise InputError(
                f"there is no column '{name}'", file=path, expected=f"one of {', '.join(present)}",
                fix="Name the column of scores: --score-column COLUMN",
            )  # fmt: skip
    for name in given:
        if name not in tuple_set.field_names:
            raise InputError(
                f"the tuple set has no field '{name}'", expected=f"one of {', '.join(tuple_set.field_names)}"
            )
    check_columns([one for one in given.values() if one not in present], present, str(path))
    names = {}
    for name in tuple_set.field_names:
        candidates = [given[name]] if name in given else [f"{name}_id", name, f"{name}_text"]
        found = [one for one in candidates if one in present]
        if found:
            names[name] = found
    if len(names) == len(tuple_set.fields):
        return names
    if ROW_COLUMN in present and not given:
        return {ROW_COLUMN: [ROW_COLUMN]}
    missing = [name for name in tuple_set.field_names if name not in names]
    raise InputError(
        f"there is no column for the field '{missing[0]}'", file=path,
        expected=f"'{missing[0]}_id', '{missing[0]}', '{missing[0]}_text' or '{ROW_COLUMN}'",
        fix=f"The columns are {', '.join(one for one in present if one not in score_columns)}; name one with --column {missing[0]}=COLUMN",
    )  # fmt: skip


def _first_that_fits(table: SourceTable, name: str, columns: Sequence[str], tuple_set: TupleSet) -> str:
    """The first column with a value that the field knows; the first of all where none has."""
    if name == ROW_COLUMN or len(columns) == 1:
        return columns[0]
    collection = tuple_set.collection_of(tuple_set.field_names.index(name))
    for column in columns:
        values = table.column(column).cast(pa.large_string())
        known = [collection.ids] if column != f"{name}_text" else []
        known += [collection.texts] if column != f"{name}_id" and collection.kind == "text" else []
        if any(pc.any(pc.is_in(values, value_set=one.cast(pa.large_string()))).as_py() for one in known):
            return column
    return columns[0]


def _numbers(table: SourceTable, name: str) -> np.ndarray:
    column = table.column(name)
    if pa.types.is_boolean(column.type) or not (
        pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_large_string(column.type)
    ):
        raise table.error(0, name, f"the column holds {column.type}", expected="numbers")
    if pa.types.is_large_string(column.type):
        texts = column.to_pylist()
        values = np.empty(len(texts))
        for row, text in enumerate(texts):
            try:
                values[row] = float(text) if text is not None else np.nan
            except ValueError:
                raise table.error(row, name, f"the score is {text!r}", expected="a finite number") from None
    else:
        values = column.cast(pa.float64()).to_numpy().astype(np.float64)
    # Logits are kept as float32, whose range is smaller.
    bad = np.flatnonzero(~(np.abs(values) <= np.finfo(np.float32).max))
    if len(bad):
        raise table.error(int(bad[0]), name, f"the score is {values[bad[0]]}", expected="a finite number")
    return values


def _row_numbers(table: SourceTable) -> np.ndarray:
    values = _numbers(table, ROW_COLUMN)
    broken = np.flatnonzero((values != np.floor(values)) | (np.abs(values) > MOST_ROWS))
    if len(broken):
        raise table.error(
            int(broken[0]), ROW_COLUMN, f"the row number is {values[broken[0]]:g}",
            expected="a whole number, from 0 to the tuple set's last",
        )  # fmt: skip
    return values.astype(np.int64)


def _to_logits(table: SourceTable, values: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, int]:
    """Probabilities as logits, and how many were clipped."""
    outside = np.argwhere((values < 0) | (values > 1))
    if len(outside):
        row, column = (int(one) for one in outside[0])
        raise table.error(
            row, names[column], f"the score is {values[row, column]:g}", expected="a probability from 0 to 1",
            fix="Declare --kind logit if these are raw logits",
        )  # fmt: skip
    clipped = np.clip(values, CLIP, 1 - CLIP)
    count = int((clipped != values).any(axis=1).sum())
    if values.shape[1] == 1:
        return np.log(clipped) - np.log1p(-clipped), count
    off = np.flatnonzero(np.abs(values.sum(axis=1) - 1) > 1e-2)
    if len(off):
        raise table.error(
            int(off[0]), names[0], f"the probabilities sum to {values[off[0]].sum():g}", expected="a sum of 1"
        )
    return np.log(clipped), count


def _match(
    table: SourceTable,
    names: Mapping[str, str],
    tuple_set: TupleSet,
    wanted: Tuples,
    scores: np.ndarray,
    score_column: str,
    skip_unknown: bool,
    repeated: Repeated,
) -> _Matched:
    """For every tuple that the file scores, its row and its scores, in the tuple set's order."""
    index, rows = wanted.index, wanted.rows
    if ROW_COLUMN in names:
        theirs, ours = _row_numbers(table), rows
    else:
        theirs, ours = np.zeros(len(table), np.int64), np.zeros(len(rows), np.int64)
        known = np.ones(len(table), bool)
        for position, name in enumerate(tuple_set.field_names):
            codes, canonical = _codes(table, names[name], tuple_set, position, skip_unknown)
            known &= codes >= 0
            both = np.concatenate([theirs, ours]) * (len(canonical) + 1)
            both += np.concatenate([codes, canonical[index[:, position]]])
            # Numbered anew after every field, so that the products stay small whatever the number of fields.
            both = np.unique(both, return_inverse=True)[1]
            theirs, ours = both[: len(theirs)], both[len(theirs) :]
        theirs = np.where(known, theirs, -1)
    unknown = np.flatnonzero(~np.isin(theirs, ours))
    if len(unknown) and not skip_unknown:
        first = next(iter(names.values()))
        raise table.error(
            int(unknown[0]), first, "the tuple of this row is not in the tuple set, or not in the splits that were named",
            fix="Leave such rows out, or allow it with --skip-unknown",
        )  # fmt: skip
    order = np.argsort(theirs, kind="stable")
    differs = _differing(theirs[order], order, scores)
    if len(differs) and repeated == "refuse":
        raise table.error(
            int(order[differs[0] + 1]), score_column, "the tuple of this row has another score above",
            expected=f"one score a tuple; the other is in {table.describe_place(int(order[differs[0]]))}",
            fix="Take their mean, or the last one, with --repeated mean or --repeated last",
        )  # fmt: skip
    found = theirs[order]
    starts = np.flatnonzero(np.concatenate([[True], found[1:] != found[:-1]]))
    ends = np.append(starts[1:], len(order))
    values = scores[order[ends - 1]]
    if repeated == "mean":
        values = np.add.reduceat(scores[order], starts) / (ends - starts)[:, None]
    places = np.searchsorted(found[starts], ours).clip(max=len(starts) - 1)
    hit = found[starts][places] == ours
    several = len(np.unique(found[differs]))
    return _Matched(rows[hit], values[places[hit]].astype(np.float32), len(unknown), several)


def _differing(keys: np.ndarray, order: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Places after which the same tuple comes again with another score."""
    same = (keys[1:] == keys[:-1]) & (keys[1:] >= 0)
    return np.flatnonzero(same & (scores[order[1:]] != scores[order[:-1]]).any(axis=1))


def _codes(
    table: SourceTable, column: str, tuple_set: TupleSet, position: int, skip_unknown: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of the file's values (-1: unknown), and the code of every item of the collection."""
    collection = tuple_set.collection_of(position)
    name = tuple_set.field_names[position]
    values = table.column(column).cast(pa.large_string())

    def look_up(items: pa.Array) -> np.ndarray:
        found = pc.index_in(values, value_set=items.cast(pa.large_string()))
        return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)

    by_id = look_up(collection.ids) if column != f"{name}_text" else np.full(len(table), -1)
    if column == f"{name}_id" or collection.kind != "text" or (by_id >= 0).all():
        codes, canonical, what = by_id, np.arange(len(collection)), "id"
    else:
        by_text = look_up(collection.texts)
        if (by_id >= 0).sum() > (by_text >= 0).sum():
            codes, canonical, what = by_id, np.arange(len(collection)), "id"
        else:
            # Equal texts under several ids are one text: all get the code of the first.
            first = pc.index_in(collection.texts, value_set=collection.texts)
            codes, canonical, what = by_text, np.asarray(first, dtype=np.int64), "text"
    missing = np.flatnonzero(codes < 0)
    if len(missing) and not skip_unknown:
        value = str(values[int(missing[0])].as_py())
        fix = "Leave such rows out, or allow it with --skip-unknown"
        if len(missing) == len(table):
            fix = f"No row has one: name another column with --column {name}=COLUMN, or number the tuples in a column 'row'"
        raise table.error(
            int(missing[0]),
            column,
            f"the {what} {value[:60]!r} is not in the collection of the field '{name}'",
            fix=fix,
        )
    return codes, canonical
