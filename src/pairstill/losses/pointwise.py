"""Losses on one tuple at a time: soft and hard cross-entropy, and a mixture of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pairstill.errors import InputError


@dataclass(frozen=True)
class Targets:
    """What a batch should be like.

    Attributes:
        teacher_logits: `(tuples, outputs)` raw logits; None where no teacher is asked.
        labels: `(tuples,)` in [0, 1], or class numbers, NaN where a tuple has none; None where the set has none.
        weights: `(tuples,)`; None where every tuple weighs the same.
    """

    teacher_logits: Tensor | None = None
    labels: Tensor | None = None
    weights: Tensor | None = None


@dataclass(frozen=True)
class DistillationLoss:
    """Cross-entropy against the teacher, against labels, or a stated mixture.

    For one output, p = sigmoid(z) and the soft label is y = sigmoid(z_teacher / T); the loss is
    -(y log p + (1 - y) log(1 - p)) (DiPair, equation 1 and section 4.3). For classes both are softmaxes. Only the
    teacher's logits are divided by T. The same cross-entropy with y = label is the teacher's own loss, for binary and
    graded labels alike.

    | output | logits | teacher_logits | labels |
    | --- | --- | --- | --- |
    | binary, graded | (tuples, 1) raw | (tuples, 1) raw | (tuples,) in [0, 1] |
    | classes | (tuples, classes) raw | (tuples, classes) raw | (tuples,) class numbers |

    Attributes:
        temperature: T of the teacher's logits.
        hard_weight: Share of the labels' term: 0 is the teacher alone, 1 the labels alone. A tuple without a label keeps
            the teacher's term in full.
    """

    temperature: float = 1.0
    hard_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"the temperature is {self.temperature}", expected="a number above 0")
        if not 0 <= self.hard_weight <= 1:
            raise InputError(f"the weight of hard labels is {self.hard_weight}", expected="0 to 1")

    def __call__(self, logits: Tensor, targets: Targets) -> Tensor:
        """Mean over the tuples, weighted where weights are given."""
        logits = logits.float()
        labelled = None if targets.labels is None else ~torch.isnan(targets.labels)
        if self.hard_weight == 1 or targets.teacher_logits is None:
            if labelled is None or not bool(labelled.all()):
                raise InputError("a tuple of the batch has neither a label nor a teacher's logit")
            losses = self.hard(logits, targets.labels)  # type: ignore[arg-type]
        else:
            losses = self.soft(logits, targets.teacher_logits)
            if self.hard_weight and labelled is not None and bool(labelled.any()):
                hard = self.hard(logits, torch.nan_to_num(targets.labels))  # type: ignore[arg-type]
                mixed = (1 - self.hard_weight) * losses + self.hard_weight * hard
                losses = torch.where(labelled, mixed, losses)
        if targets.weights is None:
            return losses.mean()
        return (losses * targets.weights).sum() / targets.weights.sum().clamp(min=1e-12)

    def soft(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """`(tuples,)` cross-entropy against the teacher's soft labels."""
        scaled = teacher_logits.float() / self.temperature
        if logits.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(scaled), reduction="none")[:, 0]
        return -(torch.softmax(scaled, dim=-1) * torch.log_softmax(logits, dim=-1)).sum(dim=-1)

    def hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """`(tuples,)` cross-entropy against labels."""
        if logits.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), reduction="none")
        return functional.cross_entropy(logits, labels.long(), reduction="none")
