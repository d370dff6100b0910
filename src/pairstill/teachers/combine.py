"""One artefact of teacher scores from those of several teachers; no teacher runs again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pairstill.errors import InputError
from pairstill.files import write_parquet
from pairstill.jobs import Job, Shard, split_rows
from pairstill.scratch import positions
from pairstill.teachers.ensemble import mean_of_logits, mean_of_probabilities
from pairstill.teachers.scores import ScoreKind, ScoresManifest, TeacherScores, finish_scores, scores_table
from pairstill.teachers.stack import Stack
from pairstill.tuples import TupleSet

Combination = Literal["mean", "mean-probability", "stack"]


def combine_scores(
    parts: Sequence[TeacherScores],
    tuple_set: TupleSet,
    folder: str | Path,
    *,
    how: Combination,
    fit_splits: Sequence[str] = ("valid",),
    fit_slices: Mapping[str, Sequence[str]] | None = None,
    shard_rows: int = 1_000_000,
    progress: Callable[[int, int], None] | None = None,
) -> TeacherScores:
    """Make one teacher of several, from the scores that they left.

    Scores of the same teacher, such as one folder a split, are joined first. Where labels are no classes, the two logits of a
    binary classifier become one, so that it goes with teachers that give one.

    Args:
        parts: Scores of two or more teachers; all score the same tuples.
        tuple_set: What they are about.
        folder: Where the new scores go; rows stay in the order of the first part.
        how: `mean` of what is stored, `mean-probability` (see `mean_of_probabilities`), or `stack` (see `Stack`), whose
            coefficients and rows go into the manifest's provenance.
        fit_splits: A stack is fitted on the labelled rows of these splits that are scored. Teachers know the labels they were
            trained on too well, so these are others.
        fit_slices: Of these rows only those with one of the named values in each named slice column; None takes all. What a
            stack is worth depends on whose texts it was fitted on: name those that are like what the student will meet.
        shard_rows: Rows per shard.
        progress: Called with (rows done, rows in all).

    Raises:
        InputError: There are fewer than two teachers; they differ in kind, outputs or rows; a mean of probabilities is asked of
            what are no logits; no row can be fitted on; or a slice, or a value of it, is unknown.
        ArtefactError: Scores belong to another tuple set, or the folder was started with others.
    """
    if how not in get_args(Combination):
        raise InputError(f"teachers are to be combined by '{how}'", expected=", ".join(get_args(Combination)))
    for part in parts:
        part.check_belongs_to(tuple_set)
    teachers = _by_teacher(parts)
    kind = _common_kind(teachers)
    if how == "mean-probability":
        for one in teachers:
            one.require_logits("means of probabilities")
    several = _outputs(teachers, tuple_set)
    _check_rows(teachers)
    rows = teachers[0].rows

    def scores_of(wanted: np.ndarray) -> list[np.ndarray]:
        found = [one.for_rows(wanted) for one in teachers]
        return found if several else [_single(one) for one in found]

    provenance: dict[str, Any] = {
        "combined": how,
        "sources": [
            {"teachers": [info.name for info in one.manifest.teachers], "rows": len(one), "sha256": _digest(one)}
            for one in teachers
        ],
    }
    combine = {"mean": mean_of_logits, "mean-probability": mean_of_probabilities}.get(how)
    if combine is None:
        stack, provenance["stack"] = _fit(scores_of, rows, tuple_set, fit_splits, fit_slices or {}, kind)
        combine = stack.logits
    kept: ScoreKind = "logit" if how == "stack" else kind
    settings = {
        "how": how, "sources": provenance["sources"], "fit_splits": list(fit_splits) if how == "stack" else [],
        **({"fit_slices": {name: list(values) for name, values in fit_slices.items()}} if fit_slices and how == "stack" else {}),
        "tuple_set": tuple_set.fingerprint, "shard_rows": shard_rows,
    }  # fmt: skip
    job = Job(folder, "combine-scores", settings, ".parquet")

    def write(shard: Shard, target: Path) -> Mapping[str, Any]:
        wanted = rows[shard.start : shard.stop]
        write_parquet(target, scores_table(tuple_set, wanted, combine(scores_of(wanted)).astype(np.float32), kept))
        return {}

    receipts = job.run(split_rows(len(rows), shard_rows), write, progress)
    manifests = [one.manifest for one in teachers]
    first = manifests[0]
    manifest = ScoresManifest(
        teachers=tuple(info for one in manifests for info in one.teachers), score_kind=kept,
        outputs=first.outputs if several else 1, fields=tuple_set.field_names, splits=first.splits,
        tuple_set=tuple_set.fingerprint, classes=first.classes if several else (),
        max_lengths=tuple(length for one in manifests for length in one.max_lengths),
        truncated=max(one.truncated for one in manifests),
        precision=first.precision if len({one.precision for one in manifests}) == 1 else None, provenance=provenance,
    )  # fmt: skip
    return finish_scores(Path(folder), manifest, receipts)


def _name(scores: TeacherScores) -> str:
    return " and ".join(one.name for one in scores.manifest.teachers)


def _by_teacher(parts: Sequence[TeacherScores]) -> list[TeacherScores]:
    """Scores of each teacher, in order of first appearance."""
    found: dict[Any, list[TeacherScores]] = {}
    for part in parts:
        found.setdefault(part.manifest.teachers, []).append(part)
    if len(found) < 2:
        raise InputError(
            f"the scores are of {len(found)} teacher" + (f" ('{_name(parts[0])}')" if parts else "s"),
            expected="scores of two or more teachers",
        )
    return [several[0] if len(several) == 1 else TeacherScores.concatenate(several) for several in found.values()]


def _common_kind(teachers: Sequence[TeacherScores]) -> ScoreKind:
    first = teachers[0]
    for other in teachers[1:]:
        if other.kind != first.kind:
            raise InputError(
                f"the scores of '{_name(first)}' are of kind '{first.kind}' and those of '{_name(other)}' of kind '{other.kind}'",
                expected="one kind", fix="Import probabilities with --kind probability, which turns them into logits",
            )  # fmt: skip
    return first.kind


def _outputs(teachers: Sequence[TeacherScores], tuple_set: TupleSet) -> bool:
    """Whether several scores a tuple are kept."""
    classes, first = tuple_set.labels.kind == "classes", teachers[0]
    if not classes and all(one.outputs == 1 or (one.outputs == 2 and one.kind == "logit") for one in teachers):
        return False
    for other in teachers[1:]:
        for name, what in (("outputs", "scores a tuple"), ("classes", "classes")):
            mine, theirs = getattr(first.manifest, name), getattr(other.manifest, name)
            if mine != theirs:
                raise InputError(f"'{_name(first)}' gives the {what} {mine!r} and '{_name(other)}' {theirs!r}")
    return True


def _single(logits: np.ndarray) -> np.ndarray:
    """`(tuples, 1)`: of two logits of a binary classifier their difference."""
    return logits if logits.shape[1] == 1 else logits[:, 1:] - logits[:, :1]


def _check_rows(teachers: Sequence[TeacherScores]) -> None:
    for one in teachers:
        for other in teachers:
            missing = positions(len(one), lambda piece: np.isnan(other.for_rows(one.rows[piece])[:, 0]))  # noqa: B023
            if len(missing):
                raise InputError(
                    f"row {int(one.rows[missing[0]])} of the tuple set is scored by '{_name(one)}' and not by '{_name(other)}' "
                    f"({len(missing):,} such rows)",
                    expected="the same rows from every teacher", fix="Annotate the same splits with all of them",
                )  # fmt: skip


def _fit(
    scores_of: Callable[[np.ndarray], list[np.ndarray]],
    rows: np.ndarray,
    tuple_set: TupleSet,
    splits: Sequence[str],
    slices: Mapping[str, Sequence[str]],
    kind: ScoreKind,
) -> tuple[Stack, dict[str, Any]]:
    """The stack, and what the manifest says about it."""
    tuples, named = tuple_set.split(*splits), ", ".join(splits)
    if tuples.labels is None or np.isnan(tuples.labels).all():
        raise InputError(
            f"a stack is fitted on labels, and '{named}' has none", fix="Name a labelled split with --fit-split"
        )
    tuples = tuples.take(np.flatnonzero(~np.isnan(tuples.labels) & np.isin(tuples.rows, rows)))
    if not len(tuples):
        raise InputError(
            f"no labelled row of '{named}' is scored", expected="scored rows to fit the stack on",
            fix=f"Annotate it with all teachers: `pairstill annotate --split {splits[0]}`",
        )  # fmt: skip
    tuples = tuple_set.in_slices(tuples, slices, f"scored row of '{named}' with a label")
    labels = tuples.labels
    stack = Stack.fit(scores_of(tuples.rows), labels, tuple_set.labels, tuples.weights)  # type: ignore[arg-type]
    return stack, {
        "coefficients": stack.coefficients.tolist(),
        "intercepts": stack.intercepts.tolist(),
        "fitted_on": {
            "splits": list(splits), **({"slices": {name: list(values) for name, values in slices.items()}} if slices else {}),
            "rows": len(tuples), "sha256": hashlib.sha256(tuples.rows.tobytes()).hexdigest(),
            "score_kind": kind,
        },
    }  # fmt: skip


def _digest(scores: TeacherScores) -> str:
    digest = hashlib.sha256()
    for array in (scores.rows, scores.logits):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
