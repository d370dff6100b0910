"""RankNet: the better tuple of a pair should score higher."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from pairstill.losses.base import weights_of
from pairstill.losses.grouping import ordered_pairs
from pairstill.losses.ordered_loss import OrderedLoss
from pairstill.losses.targets import Targets


@dataclass(frozen=True)
class RankNet(OrderedLoss):
    """Mean of log(1 + exp(-(s_i - s_j))) over the pairs of a group in which i is better than j.

    Burges et al. 2005 with target probability 1; what Margin-MSE trains its teacher with (section 3: binary cross-entropy of
    the margin against 1). Pairs that are equally good are no pairs. Only the order of the targets counts, so scores of any
    kind will do. Weights: a pair weighs the product of its tuples' weights.

    Takes: student `(tuples, 1)` raw, teacher `(tuples, 1)` of any kind or labels `(tuples,)`, groups `(tuples,)`.

    Attributes:
        order: Who says which is better: the `teacher`, or the `labels` (pairs of which one is unlabelled are left out).
    """

    order: Literal["teacher", "labels"] = "teacher"

    name: ClassVar[str] = "ranknet"

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over the ordered pairs."""
        better, worse, weights = self.pairs(targets)
        scores = logits[:, 0]
        return (functional.softplus(scores[worse] - scores[better]) * weights.to(scores.dtype)).sum()

    def count(self, targets: Targets) -> float:
        """Number of ordered pairs, or the sum of their weights."""
        return float(self.pairs(targets)[2].sum())

    def pairs(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        """Positions of the better and of the worse tuple, and the weight, `(pairs,)` each."""
        values = self.ordering(targets)
        better, worse = ordered_pairs(targets.groups, values)  # type: ignore[arg-type]
        weights = weights_of(targets, values)
        return better, worse, weights[better] * weights[worse]
