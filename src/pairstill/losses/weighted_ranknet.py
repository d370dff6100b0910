"""Weighted RankNet: pairs count by the teacher's margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from pairstill.losses.base import Loss, Refusal, Unit, check_source, labels_of, scores_of, weights_of
from pairstill.losses.grouping import ordered_pairs
from pairstill.losses.margin_mse import PROBABILITY_MARGIN
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class WeightedRankNet(Loss):
    """Mean of (t_i - t_j) log(1 + exp(-(s_i - s_j))) over the pairs of a group in which i is better than j.

    An ablation of Margin-MSE (Hofstätter et al. 2020, section 3, "Weighted RankNet"). Where labels give the order, the
    teacher may disagree; its margin is then negative and is left so, as published: the pair pushes the other way.

    Takes: student `(tuples, 1)` raw, teacher `(tuples, 1)` logits or scores of any scale, groups `(tuples,)`; labels
    `(tuples,)` where they give the order.

    Attributes:
        order: Who says which is better: the `teacher`, or the `labels`.
    """

    order: Literal["teacher", "labels"] = "teacher"

    name: ClassVar[str] = "weighted-ranknet"
    unit: ClassVar[Unit] = "groups"
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {"probability": PROBABILITY_MARGIN}

    def __post_init__(self) -> None:
        check_source(self.order)

    @property
    def learns_labels(self) -> bool:
        """Where they give the order."""
        return self.order == "labels"

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over the ordered pairs."""
        better, worse, weights = self._pairs(targets)
        scores, teacher = logits[:, 0], scores_of(targets).to(logits.dtype)
        losses = (teacher[better] - teacher[worse]) * functional.softplus(scores[worse] - scores[better])
        return (losses * weights.to(scores.dtype)).sum()

    def count(self, targets: Targets) -> float:
        """Number of ordered pairs, or the sum of their tuples' weights (without margins)."""
        return float(self._pairs(targets)[2].sum())

    def _pairs(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
        values = scores_of(targets) if self.order == "teacher" else labels_of(targets)
        better, worse = ordered_pairs(targets.groups, values)  # type: ignore[arg-type]
        weights = weights_of(targets, values)
        return better, worse, weights[better] * weights[worse]
