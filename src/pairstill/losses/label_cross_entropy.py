"""Cross-entropy against labels alone, where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pairstill.losses.base import Loss, check_labels, labels_of, weights_of
from pairstill.losses.targets import Targets


@dataclass(frozen=True)
class LabelCrossEntropy(Loss):
    """Mean over the labelled tuples of -(y log p + (1 - y) log(1 - p)), p = sigmoid(z); softmax for classes.

    The hard term of a mixture: tuples without a label (NaN) have no part in it, and a batch of them alone costs nothing.

    Takes: student `(tuples, outputs)` raw logits, labels `(tuples,)` in [0, 1] or class numbers.
    """

    name: ClassVar[str] = "label-cross-entropy"
    several_outputs: ClassVar[bool] = True

    @property
    def learns_teacher(self) -> bool:
        """No."""
        return False

    @property
    def learns_labels(self) -> bool:
        """Nothing else."""
        return True

    def check(self, logits: Tensor, targets: Targets) -> None:
        """As for every loss, and what labels may be."""
        super().check(logits, targets)
        check_labels(labels_of(targets), logits.shape[1])

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over the labelled tuples."""
        labels = labels_of(targets).to(logits.dtype)
        known = ~torch.isnan(labels)
        logits, labels, weights = logits[known], labels[known], weights_of(targets, logits)[known]
        if logits.shape[1] == 1:
            losses = functional.binary_cross_entropy_with_logits(logits[:, 0], labels, reduction="none")
        else:
            losses = functional.cross_entropy(logits, labels.long(), reduction="none")
        return (losses * weights).sum()

    def count(self, targets: Targets) -> float:
        """Number of labelled tuples, or the sum of their weights."""
        labels = labels_of(targets)
        return float(weights_of(targets, labels)[~torch.isnan(labels)].sum())
