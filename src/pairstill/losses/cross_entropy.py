"""Soft and hard cross-entropy of one tuple at a time, and a mixture of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pairstill.errors import InputError
from pairstill.losses.base import AS_LOGITS, Loss, Refusal, check_labels, check_temperature
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class DistillationLoss(Loss):
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

    name: ClassVar[str] = "cross-entropy"
    several_outputs: ClassVar[bool] = True
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {
        "probability": Refusal("its soft label is the sigmoid of a logit, and would be squashed twice", AS_LOGITS),
        "other": Refusal(
            "a number on a scale of its own is no logit and has no soft label",
            "Use a loss that compares scores: --loss margin-mse, ranknet, listwise-kl",
        ),
    }

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 <= self.hard_weight <= 1:
            raise InputError(f"the weight of hard labels is {self.hard_weight}", expected="0 to 1")

    @property
    def learns_teacher(self) -> bool:
        """Unless labels are all that counts."""
        return self.hard_weight < 1

    @property
    def learns_labels(self) -> bool:
        """Where they have a share."""
        return self.hard_weight > 0

    def description(self) -> dict[str, Any]:
        """Settings alone: trainings begun before there were other losses go on."""
        return asdict(self)

    def check(self, logits: Tensor, targets: Targets) -> None:
        """As for every loss; without teacher scores, labels are learnt."""
        learnt = self if targets.teacher_logits is not None else replace(self, hard_weight=1.0)
        Loss.check(learnt, logits, targets)
        if learnt.learns_labels and targets.labels is not None:
            check_labels(targets.labels, logits.shape[1])

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Sum over the tuples, weighted where weights are given."""
        losses = self.losses(logits, targets)
        return losses.sum() if targets.weights is None else (losses * targets.weights).sum()

    def count(self, targets: Targets) -> float:
        """Number of tuples, or the sum of their weights."""
        if targets.weights is not None:
            return float(targets.weights.sum())
        one = targets.labels if targets.teacher_logits is None else targets.teacher_logits
        return 0.0 if one is None else len(one)

    def losses(self, logits: Tensor, targets: Targets) -> Tensor:
        """`(tuples,)` the mixture of every tuple.

        Raises:
            InputError: A tuple has neither a label nor a teacher's logit.
        """
        labelled = None if targets.labels is None else ~torch.isnan(targets.labels)
        if self.hard_weight == 1 or targets.teacher_logits is None:
            if labelled is None or not bool(labelled.all()):
                raise InputError("a tuple of the batch has neither a label nor a teacher's logit")
            return self.hard(logits, targets.labels)  # type: ignore[arg-type]
        losses = self.soft(logits, targets.teacher_logits)
        if self.hard_weight and labelled is not None and bool(labelled.any()):
            hard = self.hard(logits, torch.nan_to_num(targets.labels))  # type: ignore[arg-type]
            mixed = (1 - self.hard_weight) * losses + self.hard_weight * hard
            losses = torch.where(labelled, mixed, losses)
        return losses

    def soft(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """`(tuples,)` cross-entropy against the teacher's soft labels."""
        scaled = teacher_logits.to(logits.dtype) / self.temperature
        if logits.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(scaled), reduction="none")[:, 0]
        return -(torch.softmax(scaled, dim=-1) * torch.log_softmax(logits, dim=-1)).sum(dim=-1)

    def hard(self, logits: Tensor, labels: Tensor) -> Tensor:
        """`(tuples,)` cross-entropy against labels."""
        if logits.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype), reduction="none")
        return functional.cross_entropy(logits, labels.long(), reduction="none")
