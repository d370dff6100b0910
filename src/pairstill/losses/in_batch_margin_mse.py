"""Margin-MSE, extended to the other passages of a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses.base import Loss, Refusal, Unit, scores_of, weights_of
from pairstill.losses.grouping import group_pairs
from pairstill.losses.in_batch import own_cells, positives
from pairstill.losses.margin_mse import PROBABILITY_MARGIN
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class InBatchMarginMSE(Loss):
    """Margin-MSE among a query's tuples, plus `weight` times the same between its relevant tuples and the batch's passages.

    TAS-Balanced (Hofstätter et al. 2021, 2104.06967), section 3: L = L_pair + 0.75 L_InB. L_InB is the mean of
    ((s+ - s_j) - (t+ - t_j))^2 over a query's relevant tuples (see `pairstill.losses.in_batch.positives`) and the passages j
    of other queries. The paper asks a live teacher for t_j; from stored scores, those cells count whose score is stored, and
    the others are left out. Weights: a pair weighs the product of its tuples' weights.

    Takes: student `(cells, 1)` raw, the cells being queries times passages; teacher `(cells, 1)` logits or scores of any
    scale, NaN where unknown; labels `(cells,)` where there are any; groups `(cells,)` the query, own `(cells,)`.

    Attributes:
        weight: Of the in-batch term.
    """

    weight: float = 0.75

    name: ClassVar[str] = "in-batch-margin-mse"
    unit: ClassVar[Unit] = "in-batch"
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {"probability": PROBABILITY_MARGIN}

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise InputError(f"the weight of the in-batch term is {self.weight}", expected="0 or more, and finite")

    def __call__(self, logits: Tensor, targets: Targets, whole: Targets | None = None) -> Tensor:
        """Two means, each divided by its own count; see `Loss.__call__`."""
        self.check(logits, targets)
        scores = logits[:, 0] if logits.dtype == torch.float64 else logits[:, 0].float()
        value = scores.new_zeros(())
        for crossing, share in ((False, 1.0), (True, self.weight)):
            left, right, weights = self._pairs(targets, crossing)
            count = float(self._pairs(whole, crossing)[2].sum()) if whole is not None else float(weights.sum())
            teacher = scores_of(targets).to(scores.dtype)
            errors = (scores[left] - scores[right] - (teacher[left] - teacher[right])).square()
            value = value + share * (errors * weights.to(scores.dtype)).sum() / max(count, 1e-12)
        return value

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """The pair term alone."""
        left, right, weights = self._pairs(targets, False)
        offset = logits[:, 0] - scores_of(targets).to(logits.dtype)
        return ((offset[left] - offset[right]).square() * weights.to(offset.dtype)).sum()

    def count(self, targets: Targets) -> float:
        """Of the pair term."""
        return float(self._pairs(targets, False)[2].sum())

    def _pairs(self, targets: Targets, crossing: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of known cells: both tuples of the query, or one of its relevant tuples and a passage of another query."""
        scores, own = scores_of(targets), own_cells(targets)
        left, right = group_pairs(targets.groups)  # type: ignore[arg-type]
        known = ~torch.isnan(scores)
        kept = known[left] & known[right]
        if crossing:
            positive = positives(targets)
            kept &= (positive[left] & ~own[right]) | (positive[right] & ~own[left])
        else:
            kept &= own[left] & own[right]
        weights = weights_of(targets, scores)
        return left[kept], right[kept], (weights[left] * weights[right])[kept]
