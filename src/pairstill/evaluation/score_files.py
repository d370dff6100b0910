"""Scores that were made elsewhere, and teacher scores, as arrays for the splits of a comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pairstill.errors import InputError
from pairstill.evaluation.system import Role, System
from pairstill.teachers.import_scores import import_scores
from pairstill.tuples.read_source import source_columns
from pairstill.tuples.source_spec import TableSource
from pairstill.tuples.tuple_set import Tuples, TupleSet

if TYPE_CHECKING:
    from pairstill.teachers.scores import ScoreKind, TeacherScores


def system_of_scores(
    name: str, role: Role, scores: TeacherScores, tuple_set: TupleSet, tuples: Mapping[str, Tuples], origin: str | Path
) -> System:
    """A system from scores of rows of a tuple set.

    Two logits for binary or graded labels become their difference. Scores of kind `other` count as similarities: no log
    loss, no calibration error.

    Raises:
        InputError: A row of a split has no score, or the number of outputs does not fit the labels.
    """
    outputs = tuple_set.labels.outputs
    if scores.outputs == 2 and outputs == 1:
        scores = scores.as_single()
    elif scores.outputs != outputs:
        raise InputError(
            f"the scores of '{name}' have {scores.outputs} outputs", file=origin,
            expected=f"{outputs}, as the labels of the tuple set need",
        )  # fmt: skip
    found = {}
    for split, rows in tuples.items():
        values = scores.for_rows(rows.rows)[:, :outputs]
        missing = np.flatnonzero(np.isnan(values).any(axis=1))
        if len(missing):
            first = int(rows.rows[missing[0]])
            ids = ", ".join(f"{one} {tuple_set.tuples.column(one)[first].as_py()!r}" for one in tuple_set.field_names)
            raise InputError(
                f"the scores of '{name}' lack {len(missing):,} of the {len(rows):,} rows of split '{split}', the first is "
                f"row {first} ({ids})", file=origin, expected="a score for every row of the split",
            )  # fmt: skip
        found[split] = values[None]
    kind = scores.kind
    teachers = ", ".join(one.name for one in scores.manifest.teachers)
    return System(name, role, found, kind != "other", f"scores of kind {kind} by {teachers}")


def read_scores(name: str, role: Role, path: Path, tuple_set: TupleSet, tuples: Mapping[str, Tuples]) -> System:
    """A system from a folder of teacher scores, or from a Parquet, CSV, TSV or JSON Lines file.

    Rows of a file are named by `row` or by ids or texts of the fields (see `import_scores`). The score column says what
    the numbers are: `logit` (or `logit_0`, `logit_1`, ...), `probability`, or `score` for any other number that ranks.

    Raises:
        InputError: The file cannot be read, or lacks a row of a split.
    """
    from pairstill.teachers.scores import TeacherScores

    if not path.exists():
        raise InputError(f"the scores of '{name}' do not exist", file=path, expected="a file or teacher-scores folder")
    if path.is_dir():
        loaded = TeacherScores.load(path)
        loaded.check_belongs_to(tuple_set)
        return system_of_scores(name, role, loaded, tuple_set, tuples, path)
    columns, kind = _score_columns(path)
    with tempfile.TemporaryDirectory() as folder:
        loaded = import_scores(
            path, tuple_set, folder, kind=kind, score_columns=columns, splits=tuple(tuples), teacher=path.name,
            skip_unknown=True,
        )  # fmt: skip
    return system_of_scores(name, role, loaded, tuple_set, tuples, path)


def _score_columns(path: Path) -> tuple[list[str], ScoreKind]:
    present = source_columns(TableSource(files=[path]))
    numbered = [f"logit_{k}" for k in range(len(present)) if f"logit_{k}" in present]
    if numbered:
        return numbered, "logit"
    if "logit" in present:
        return ["logit"], "logit"
    if "probability" in present:
        return ["probability"], "probability"
    if "score" in present:
        return ["score"], "other"
    raise InputError(
        "there is no column of scores", file=path, expected="'logit', 'logit_0'..., 'probability' or 'score'",
        fix=f"The columns are {', '.join(present)}; rename the one that holds scores",
    )  # fmt: skip
