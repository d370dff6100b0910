"""Pointwise squared error between probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses.base import Loss, Refusal, check_temperature, weights_of, wide
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class ProbabilitySquaredError(Loss):
    """Mean of (p_s - p_t)^2 over tuples, and over classes; p = sigmoid(z), or softmax(z) for classes.

    What TwinBERT's group uses beside cross-entropy (TextGNN, public tutorial): mean squared error between the student's
    probability and the teacher's. The teacher's logits are divided by the temperature, the student's are not. The gradient
    vanishes where the student is sure and wrong; cross-entropy's does not.

    Takes: student `(tuples, outputs)` raw logits, teacher the same shape, logits or probabilities.

    Attributes:
        temperature: Of the teacher's logits; 1 where probabilities are given.
    """

    temperature: float = 1.0

    name: ClassVar[str] = "mse-probability"
    several_outputs: ClassVar[bool] = True
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {
        "other": Refusal(
            "a number on a scale of its own has no probability",
            "Use --loss mse-logit, or one that compares scores: margin-mse, ranknet, listwise-kl",
        )
    }

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum of the tuples' errors.

        Raises:
            InputError: A probability is outside 0 to 1, or has a temperature.
        """
        given = wide(targets.teacher_logits)  # type: ignore[arg-type]
        if targets.score_kind == "logit":
            wanted = _probabilities(given / self.temperature)
        elif self.temperature != 1:
            raise InputError(
                f"the temperature is {self.temperature} and the scores are probabilities",
                expected="1: it divides logits",
            )
        elif bool(((given < 0) | (given > 1)).any()):
            raise InputError("a teacher's probability is outside 0 to 1", fix="Declare the scores' kind as it is")
        else:
            wanted = given
        errors = (_probabilities(logits) - wanted).square().mean(dim=1)
        return (errors * weights_of(targets, logits)).sum()

    def count(self, targets: Targets) -> float:
        """Number of tuples, or the sum of their weights."""
        return float(weights_of(targets, targets.teacher_logits).sum())  # type: ignore[arg-type]


def _probabilities(logits: Tensor) -> Tensor:
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)
