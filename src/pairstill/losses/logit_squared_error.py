"""Pointwise squared error between raw scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pairstill.losses.base import Loss, Refusal, weights_of, wide
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class LogitSquaredError(Loss):
    """Mean of (s - t)^2 over tuples, and over outputs.

    The "Pointwise MSE" that Margin-MSE is compared with (Hofstätter et al. 2020, section 3): over triples it is half the sum
    of the errors of the relevant and the other passage, which is the mean over tuples. It asks the student for the teacher's
    scale, offset included; students whose scores live elsewhere (dot products, MaxSim) learn a margin more easily.

    Takes: student `(tuples, outputs)` raw, teacher the same shape, logits or scores of any scale.
    """

    name: ClassVar[str] = "mse-logit"
    several_outputs: ClassVar[bool] = True
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {
        "probability": Refusal(
            "the student's raw score would be pulled into 0 to 1, where a sigmoid cannot tell tuples apart",
            "Use --loss mse-probability, which puts both on that scale",
        )
    }

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum of the tuples' errors."""
        errors = (logits - wide(targets.teacher_logits)).square().mean(dim=1)  # type: ignore[arg-type]
        return (errors * weights_of(targets, logits)).sum()

    def count(self, targets: Targets) -> float:
        """Number of tuples, or the sum of their weights."""
        return float(weights_of(targets, targets.teacher_logits).sum())  # type: ignore[arg-type]
