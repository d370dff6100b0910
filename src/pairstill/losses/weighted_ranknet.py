"""Weighted RankNet: pairs count by the teacher's margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from pairstill.losses.base import Refusal, scores_of
from pairstill.losses.margin_mse import PROBABILITY_MARGIN
from pairstill.losses.ranknet import RankNet
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class WeightedRankNet(RankNet):
    """Mean of (t_i - t_j) log(1 + exp(-(s_i - s_j))) over the pairs of a group in which i is better than j.

    An ablation of Margin-MSE (Hofstätter et al. 2020, section 3, "Weighted RankNet"). Where labels give the order, the
    teacher may disagree; its margin is then negative and is left so, as published: the pair pushes the other way.

    Takes: student `(tuples, 1)` raw, teacher `(tuples, 1)` logits or scores of any scale, groups `(tuples,)`; labels
    `(tuples,)` where they give the order.

    Attributes:
        order: Who says which is better: the `teacher`, or the `labels`.
    """

    name: ClassVar[str] = "weighted-ranknet"
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {"probability": PROBABILITY_MARGIN}

    @property
    def learns_teacher(self) -> bool:
        """Its margins, whoever gives the order."""
        return True

    @property
    def needs_labels(self) -> bool:
        """Where they give the order."""
        return self.learns_labels

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over the ordered pairs."""
        better, worse, weights = self.pairs(targets)
        scores, teacher = logits[:, 0], scores_of(targets).to(logits.dtype)
        losses = (teacher[better] - teacher[worse]) * functional.softplus(scores[worse] - scores[better])
        return (losses * weights.to(scores.dtype)).sum()
