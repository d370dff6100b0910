"""Margin-MSE: the student's margins should be the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pairstill.losses.base import AS_LOGITS, Loss, Refusal, Unit, scores_of, weights_of
from pairstill.losses.grouping import group_pairs
from pairstill.losses.targets import ScoreKind, Targets

PROBABILITY_MARGIN = Refusal(
    "a sigmoid presses sure scores together, so their margins say nothing (logits 4 and 9 become .982 and .9999)",
    AS_LOGITS,
)


@dataclass(frozen=True)
class MarginMSE(Loss):
    """Mean of ((s_i - s_j) - (t_i - t_j))^2 over every pair of tuples of a group.

    Hofstätter et al. 2020 (2010.02666), section 3, equation of Margin-MSE: there a group is one relevant and one other
    passage of a query, here it is any number of them, and with two it is the same. Labels have no part: margins of the wrong
    sign are kept. The loss does not see a group's offset, so the student's scores may live anywhere; they order tuples of a
    group, and are no probabilities before they are calibrated. Weights: a pair weighs the product of its tuples' weights.

    Takes: student `(tuples, 1)` raw, teacher `(tuples, 1)` logits or scores of any scale, groups `(tuples,)`. Unit of both:
    the teacher's score.
    """

    name: ClassVar[str] = "margin-mse"
    unit: ClassVar[Unit] = "groups"
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {"probability": PROBABILITY_MARGIN}

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over pairs."""
        left, right, weights = self._pairs(targets)
        offset = logits[:, 0] - scores_of(targets).to(logits.dtype)
        return ((offset[left] - offset[right]).square() * weights.to(offset.dtype)).sum()

    def count(self, targets: Targets) -> float:
        """Number of pairs, or the sum of their weights."""
        return float(self._pairs(targets)[2].sum())

    def _pairs(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        left, right = group_pairs(targets.groups)  # type: ignore[arg-type]
        weights = weights_of(targets, scores_of(targets))
        return left, right, weights[left] * weights[right]
