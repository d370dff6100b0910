"""The model card: data, teacher, metrics and limits of a trained student."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pairstill import __version__
from pairstill.scratch import pieces
from pairstill.students import Student
from pairstill.teachers.scores import TeacherScores
from pairstill.training.loop import FitResult
from pairstill.training.settings import TrainingSettings
from pairstill.tuples import TupleSet

EXAMPLES = {"text": "'text of {}'", "numeric": "numbers_of_{}", "image": "'{}.png'"}
"""How an item of each kind is written in the example."""


def model_card(
    student: Student,
    tuple_set: TupleSet,
    *,
    settings: Mapping[str, TrainingSettings],
    results: Mapping[str, FitResult | None],
    metric: str,
    teacher: TeacherScores | None = None,
    rows: np.ndarray | None = None,
    loss: Mapping[str, Any] | None = None,
) -> str:
    """Markdown that says what the model was made of, how good it was on validation, and what it is not for.

    Args:
        student: The trained model.
        tuple_set: What it was trained on.
        settings: By stage.
        results: By stage, None for a stage that was left out.
        metric: Name of the validation metric.
        teacher: The teacher's scores; None where labels alone were learnt.
        rows: Row numbers that were learnt from; None for all labelled rows of `train`.
        loss: Name and settings of the objective; None leaves it out.
    """
    plain = set(student.kinds) == {"text"}
    named = [one.name if plain else f"{one.name}: {one.kind}" for one in tuple_set.fields]
    lengths = [str(one) for one, kind in zip(student.max_lengths, student.kinds, strict=True) if kind == "text"]
    lines = [
        "---", "library_name: pairstill", "tags: [pair-scoring, distillation]", "---", "",
        f"# {student.name}", "",
        f"Scores tuples of {student.field_count} {'texts' if plain else 'fields'} ({', '.join(named)}) with {student.outputs} raw logit(s). "
        f"Made with Pairstill {__version__}.", "",
        "## Data", "",
        f"- Tuple set {tuple_set.fingerprint[:16]}, {len(tuple_set):,} tuples; labels: {tuple_set.labels.kind}.",
        f"- Learnt from {_learnt(tuple_set, rows)}.",
    ]  # fmt: skip
    if lengths:
        lines.append(f"- {'Fields' if plain else 'Texts'} are cut at {', '.join(lengths)} tokens.")
    lines += ["", "## Teacher", ""]
    if teacher is None:
        lines.append("None: trained on labels.")
    else:
        names = ", ".join(one.name for one in teacher.manifest.teachers)
        lines.append(
            f"Scores of {names or 'an imported file'}, kind {teacher.manifest.score_kind}, {len(teacher):,} rows."
        )
    lines += [
        "",
        "## Training and validation",
        "",
        f"| stage | pairs | best {metric} (valid) | seconds |",
        "| --- | --- | --- | --- |",
    ]
    for stage, result in results.items():
        if result is not None:
            best = "-" if result.best is None else f"{result.best:.4f}"
            lines.append(f"| {stage} | {result.pairs:,} | {best} | {result.seconds:,.0f} |")
    if loss is not None:
        lines += ["", "Loss: " + ", ".join(f"{key} {value}" for key, value in loss.items())]
    for stage, one in settings.items():
        lines += ["", f"`{stage}`: " + ", ".join(f"{key} {value}" for key, value in asdict(one).items())]
    lines += [
        "", "## Limits", "",
        "- The validation figure chose the weights; measure on a test split with `pairstill evaluate` before relying on it.",
        "- Scores on texts unlike the data above, in other languages or far longer, have not been measured.",
        "- A student copies its teacher's mistakes and biases.",
        "", "## Use", "", "```python", "from pairstill.students import load_student", "",
        "student = load_student('THIS FOLDER')",
        f"student.predict([({', '.join(EXAMPLES[one.kind].format(one.name) for one in tuple_set.fields)})])", "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _learnt(tuple_set: TupleSet, rows: np.ndarray | None) -> str:
    """Rows by split, such as `1,200 tuples of train and 9,000 of transfer`."""
    splits = tuple_set.tuples.column("split")
    if rows is None:
        labelled = pc.and_(pc.equal(splits, "train"), pc.is_valid(tuple_set.tuples.column("label")))
        return f"{pc.sum(labelled).as_py() or 0:,} labelled tuples of train"
    counts: Counter[str] = Counter()
    for piece in pieces(len(rows)):
        # Rows rise, so those of a piece are near each other.
        low, high = int(rows[piece][0]), int(rows[piece][-1]) + 1
        for one in pc.value_counts(splits.slice(low, high - low).take(rows[piece] - low)).to_pylist():
            counts[one["values"]] += one["counts"]
    return " and ".join(f"{count:,} tuples of {split}" for split, count in counts.items())
