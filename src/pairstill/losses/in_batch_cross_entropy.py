"""Softmax cross-entropy with the other passages of a batch as negatives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pairstill.errors import InputError
from pairstill.losses.base import Loss, Refusal, Unit, weights_of
from pairstill.losses.grouping import group_lists
from pairstill.losses.in_batch import known_positive, positives
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class InBatchCrossEntropy(Loss):
    """Mean over relevant tuples of -log(exp(s+) / (exp(s+) + sum of exp(s-))), s- over the batch's other passages.

    Poly-encoders (Humeau et al. 2020, section 4.1, the training of bi-encoders) and DiPair's appendix C. Passages that a
    label calls relevant to the same query are no negatives of it. A query without a relevant tuple (see
    `pairstill.losses.in_batch.positives`) only lends its passages. Weights: a relevant tuple's own.

    Takes: student `(cells, 1)` raw, the cells being queries times passages; labels `(cells,)`, or the teacher's scores of any
    kind `(cells, 1)` where there are none, NaN where unknown; groups `(cells,)` the query, own `(cells,)`.

    Attributes:
        scale: Multiplies the student's scores: 1 for heads with a learned scale or raw dot products, more for plain cosines.
    """

    scale: float = 1.0

    name: ClassVar[str] = "in-batch-cross-entropy"
    unit: ClassVar[Unit] = "in-batch"
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {}
    learns_lonely_rows: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise InputError(f"the scale is {self.scale}", expected="a finite number above 0")

    @property
    def learns_labels(self) -> bool:
        """They say what is relevant, where there are any."""
        return True

    @property
    def needs_teacher(self) -> bool:
        """No: scores only stand in for labels that lack."""
        return False

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over the relevant tuples."""
        scores = self.scale * logits[:, 0]
        cells, lists, places, negative = self._questions(targets)
        others = scores[places].masked_fill(~negative, float("-inf"))
        losses = functional.softplus(torch.logsumexp(others[lists], dim=1) - scores[cells])
        return (losses * weights_of(targets, scores)[cells]).sum()

    def count(self, targets: Targets) -> float:
        """Number of relevant tuples that have a negative, or the sum of their weights."""
        cells = self._questions(targets)[0]
        return float(weights_of(targets, cells.double())[cells].sum()) if targets.weights is not None else len(cells)

    def _questions(self, targets: Targets) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cells of relevant tuples, the row of each in `places`, positions of every query's cells, which are negatives."""
        positive = positives(targets)
        places, mask = group_lists(targets.groups)  # type: ignore[arg-type]
        negative = mask & ~(positive | known_positive(targets))[places]
        asked = mask & positive[places] & negative.any(dim=1, keepdim=True)
        lists, columns = torch.nonzero(asked, as_tuple=True)
        return places[lists, columns], lists, places, negative
