"""ListNet: cross-entropy between the top-one probabilities of a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pairstill.losses.base import Refusal, check_temperature
from pairstill.losses.grouping import group_lists
from pairstill.losses.listwise_kl import PROBABILITY_LIST, list_log_softmax, list_weights
from pairstill.losses.ordered_loss import OrderedLoss
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class ListNet(OrderedLoss):
    """Mean over groups of -sum_i softmax(y / T)_i log softmax(s)_i.

    Cao et al. 2007, section 4, equation 6 with top-one probabilities and phi = exp. y are the teacher's scores, or labels as
    in the paper. Computed by log-softmax: no number is added inside the logarithm. Weights: a list weighs the mean of its
    tuples' weights.

    Takes: student `(tuples, 1)` raw, teacher `(tuples, 1)` logits or scores of any scale, or labels `(tuples,)` (unlabelled
    tuples leave the list), groups `(tuples,)`.

    Attributes:
        temperature: T of y.
        order: Whether y is the `teacher`'s score or the `labels`.
    """

    temperature: float = 1.0
    order: Literal["teacher", "labels"] = "teacher"

    name: ClassVar[str] = "listnet"
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {"probability": PROBABILITY_LIST}

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        super().__post_init__()

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over lists."""
        values, targets, known = self._known(targets)
        if not len(values):
            return logits[known].sum()
        places, mask = group_lists(targets.groups)  # type: ignore[arg-type]
        wanted = list_log_softmax(values.to(logits.dtype) / self.temperature, places, mask).exp()
        losses = (-wanted * list_log_softmax(logits[known, 0], places, mask)).masked_fill(~mask, 0)
        return (losses.sum(dim=1) * list_weights(targets, logits[known], places, mask)).sum()

    def count(self, targets: Targets) -> float:
        """Number of lists of two tuples or more, or the sum of their weights."""
        values, targets, _ = self._known(targets)
        if not len(values):
            return 0.0
        return float(list_weights(targets, values, *group_lists(targets.groups)).sum())  # type: ignore[arg-type]

    def _known(self, targets: Targets) -> tuple[Tensor, Targets, Tensor]:
        values = self.ordering(targets)
        known = torch.nonzero(~torch.isnan(values))[:, 0]
        weights = None if targets.weights is None else targets.weights[known]
        return values[known], replace(targets, weights=weights, groups=targets.groups[known]), known  # type: ignore[index]
