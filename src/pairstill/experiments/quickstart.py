"""The budgets of the quickstart: the whole way on real text in a few minutes on two cores."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class QuickstartStudent:
    """One rung of the ladder.

    Attributes:
        name: Folder and name in the table.
        architecture: Student.
        settings: As `distill --set` takes them.
        stages: As `distill --stages` takes it.
        stage1_pairs: Tuples presented in stage 1.
        stage2_pairs: Tuples presented in stage 2.
        from_teacher: Begin with the teacher's layers: those of a sentence encoder have to learn to read two texts at once, and
            in so few pairs may not.
    """

    name: str
    architecture: str
    settings: tuple[str, ...] = ()
    stages: str = "two"
    stage1_pairs: int = 40_000
    stage2_pairs: int = 4_500
    from_teacher: bool = False


@dataclass(frozen=True)
class QuickstartPlan:
    """How much of everything.

    Attributes:
        queries: Of the built-in corpus.
        max_length: Tokens that are read of a text, and of a pair by cross-encoders.
        transfer_pairs: Unlabelled pairs for the teacher to score.
        teacher_pairs: Labelled pairs presented to the teacher.
        students: The ladder.
        cost_seconds: For measuring speed.
    """

    queries: int = 5_500
    max_length: int = 64
    transfer_pairs: int = 5_000
    teacher_pairs: int = 7_000
    students: tuple[QuickstartStudent, ...] = (
        QuickstartStudent("DE-Cos", "de-cos", stages="one", stage2_pairs=2_500),
        QuickstartStudent("DE-FFNN", "de-ffnn", stage2_pairs=3_000),
        QuickstartStudent("DiPair-TSF", "dipair-tsf"),
        QuickstartStudent(
            "small cross-encoder",
            "cross-encoder",
            settings=("encoder.layers=4",),
            stages="one",
            stage2_pairs=3_000,
            from_teacher=True,
        ),
    )
    cost_seconds: float = 5.0
