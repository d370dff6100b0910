"""TinyBERT's prediction loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pairstill.losses.base import Loss, Refusal, check_temperature, weights_of, wide
from pairstill.losses.cross_entropy import DistillationLoss
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class PredictionLoss(Loss):
    """Mean over tuples, and over classes, of -softmax(t / T) log softmax(s / T).

    Jiao et al. 2020 (TinyBERT), section 3.1, equation 10: unlike `DistillationLoss`, the student's logits are divided by T
    too, and the authors' code takes the mean over classes as well, so with two classes it is half a cross-entropy. One output
    z is the classes (0, z), with sigmoids: the same number. "Understanding BERT Rankers Under Distillation" trains rankers
    with it.

    Takes: student `(tuples, outputs)` raw logits, teacher logits of the same shape.

    Attributes:
        temperature: T of both.
        mean_over_classes: As the authors' code; False takes their sum, a cross-entropy.
    """

    temperature: float = 1.0
    mean_over_classes: bool = True

    name: ClassVar[str] = "prediction"
    several_outputs: ClassVar[bool] = True
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = DistillationLoss.refused

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over tuples."""
        student = logits / self.temperature
        teacher = wide(targets.teacher_logits).to(logits.dtype) / self.temperature  # type: ignore[arg-type]
        if logits.shape[1] == 1:
            losses = functional.binary_cross_entropy_with_logits(student, torch.sigmoid(teacher), reduction="none")[
                :, 0
            ]
        else:
            losses = -(torch.softmax(teacher, dim=1) * torch.log_softmax(student, dim=1)).sum(dim=1)
        if self.mean_over_classes:
            losses = losses / max(2, logits.shape[1])
        return (losses * weights_of(targets, logits)).sum()

    def count(self, targets: Targets) -> float:
        """Number of tuples, or the sum of their weights."""
        return float(weights_of(targets, targets.teacher_logits).sum())  # type: ignore[arg-type]
