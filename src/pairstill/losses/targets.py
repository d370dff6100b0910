"""What a batch should be like: scores of a teacher, labels, weights, and which tuples belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

ScoreKind = Literal["logit", "probability", "other"]
"""As `pairstill.teachers.scores.ScoreKind`: before a sigmoid or softmax, after it, or numbers of a scale of their own."""


@dataclass(frozen=True)
class Targets:
    """What a batch should be like.

    Attributes:
        teacher_logits: `(tuples, outputs)` the teacher's scores as they are stored, see `score_kind`; NaN where the
            teacher was not asked, which only in-batch losses accept; None where no teacher is asked.
        labels: `(tuples,)` in [0, 1], or class numbers, NaN where a tuple has none; None where the set has none.
        weights: `(tuples,)`; None where every tuple weighs the same.
        groups: `(tuples,)` integers, equal for tuples that are compared with one another; None where none are.
        own: `(tuples,)` bool, for in-batch losses: which cells of the product of queries and passages are tuples of the
            batch. The others only met in it. None: all are tuples.
        score_kind: What `teacher_logits` are.
    """

    teacher_logits: Tensor | None = None
    labels: Tensor | None = None
    weights: Tensor | None = None
    groups: Tensor | None = None
    own: Tensor | None = None
    score_kind: ScoreKind = "logit"
