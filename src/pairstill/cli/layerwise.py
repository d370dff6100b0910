"""`distill --layerwise`: a student cross-encoder learns a teacher's layers before its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairstill.cli.training import LAYERS
from pairstill.errors import InputError

if TYPE_CHECKING:
    from pairstill.students import Student
    from pairstill.training.data import TrainingData
    from pairstill.training.settings import TrainingSettings
    from pairstill.tuples import Tuples, TupleSet

LEARNING_RATE = 5e-4
"""Of this step, where none is given."""


def check_layerwise(teacher: Path | None, student: str) -> None:
    """Refuse students without such layers.

    Raises:
        InputError: It is one.
    """
    if teacher is not None and student != "cross-encoder":
        raise InputError(
            f"--layerwise is given for {student}",
            expected="--student cross-encoder, which reads what the teacher reads",
        )


def learn_teacher_layers(
    student: Student,
    teacher: Path,
    tuple_set: TupleSet,
    data: TrainingData,
    wanted: tuple[str, Sequence[str]],
    settings: TrainingSettings,
    work: Path,
    held_out: Tuples,
    progress_of: Callable[[str], Callable[[int, int], None]],
) -> dict[str, Any]:
    """Run the step, say what it came to, and describe it for the model card.

    Args:
        student: A cross-encoder.
        teacher: Folder of the teacher.
        tuple_set: Where the texts are.
        data: Rows to learn from.
        wanted: Layer map and terms, as words.
        settings: Of this step.
        work: The training's work folder.
        held_out: Rows to measure with.
        progress_of: Gives the progress callable of a named step.
    """
    from pairstill.students import CrossEncoder
    from pairstill.teachers.load import load_teacher
    from pairstill.training.layerwise import LayerwisePlan, learn_layers

    large = load_teacher(str(teacher), field_count=len(tuple_set.fields))
    if not isinstance(student, CrossEncoder) or not isinstance(large, CrossEncoder):
        raise InputError(
            f"the teacher is a {large.name}", file=teacher, expected="a cross-encoder, whose layers can be learnt"
        )
    depths = [model.model.config.num_hidden_layers for model in (student, large)]
    plan = LayerwisePlan.parse(wanted[0], wanted[1], depths[0], depths[1])
    result = learn_layers(
        student, large, tuple_set, data, plan, settings, work / LAYERS, held_out=held_out,
        progress=progress_of("Learning the teacher's layers"),
    )  # fmt: skip
    terms = ", ".join(f"{name} {result.before[name]:.4g} -> {value:.4g}" for name, value in result.best.items())
    print(f"layers {plan.layer_map.teacher_layers} of {teacher}: held-out {terms}, {result.seconds:,.0f} s")
    return {
        "layers": f"{', '.join(plan.terms)} of layers {plan.layer_map.teacher_layers} first, {result.sequences:,} pairs"
    }
