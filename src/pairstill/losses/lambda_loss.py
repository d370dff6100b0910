"""LambdaLoss: pairs count by what their exchange would do to nDCG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from pairstill.errors import InputError
from pairstill.losses.base import Refusal, check_temperature
from pairstill.losses.grouping import group_lists
from pairstill.losses.listwise_kl import list_weights
from pairstill.losses.ordered_loss import OrderedLoss
from pairstill.losses.targets import ScoreKind, Targets

Scheme = Literal["ndcg-loss2", "lambdarank", "ndcg-loss2++"]


@dataclass(frozen=True)
class LambdaLoss(OrderedLoss):
    """Mean over groups of sum_{y_i > y_j} w_ij log2(1 + exp(-sigma (s_i - s_j))).

    Wang et al. 2018 ("The LambdaLoss framework"), sections 4.2 and 5: with ranks r by the student's own scores (ties by
    position), gains G_i = (2^y_i - 1) / maxDCG and discounts D(r) = log2(1 + r),

    - `ndcg-loss2`: w_ij = |1 / D(|r_i - r_j|) - 1 / D(|r_i - r_j| + 1)| |G_i - G_j|
    - `lambdarank`: w_ij = |1 / D(r_i) - 1 / D(r_j)| |G_i - G_j|
    - `ndcg-loss2++`: the second plus mu times the first.

    No gradient flows through w. A group of one tuple, or in which all are equally good, costs nothing. Weights: a list weighs
    the mean of its tuples' weights.

    Takes: student `(tuples, 1)` raw, teacher `(tuples, 1)` logits (y is their sigmoid) or probabilities, or labels
    `(tuples,)` in [0, 1], groups `(tuples,)`.

    Attributes:
        scheme: Of the weights.
        sigma: Steepness of the sigmoid.
        mu: Share of `ndcg-loss2` in `ndcg-loss2++`.
        temperature: Of the teacher's logits.
        order: Whether y is the `teacher`'s or the `labels`.
    """

    scheme: Scheme = "ndcg-loss2"
    sigma: float = 1.0
    mu: float = 10.0
    temperature: float = 1.0
    order: Literal["teacher", "labels"] = "teacher"

    name: ClassVar[str] = "lambdaloss"
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {
        "other": Refusal(
            "its gain is 2^y - 1 of a relevance y between 0 and 1, and these scores have a scale of their own",
            "Use --loss margin-mse, ranknet or listwise-kl, which take any scale",
        )
    }

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.temperature != 1 and self.order == "labels":
            raise InputError(
                f"the temperature is {self.temperature:g} and the order that of labels",
                expected="1: it divides a teacher's logits",
            )
        super().__post_init__()
        if self.scheme not in ("ndcg-loss2", "lambdarank", "ndcg-loss2++"):
            raise InputError(f"the scheme is '{self.scheme}'", expected="ndcg-loss2, lambdarank or ndcg-loss2++")
        if not 0 < self.sigma < math.inf or not 0 <= self.mu < math.inf:
            raise InputError(
                f"sigma is {self.sigma} and mu {self.mu}", expected="sigma above 0, mu 0 or more, both finite"
            )

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over lists."""
        places, mask, relevance = self._lists(targets, logits.dtype)
        scores = logits[:, 0][places]
        better, weights = self._pair_weights(scores.detach(), relevance, mask)
        margins = scores[:, :, None] - scores[:, None, :]
        losses = functional.softplus(-self.sigma * margins) / math.log(2) * weights
        # Chosen, not multiplied by 0: the margin of a place beyond a list's end may be infinite.
        per_list = torch.where(better, losses, losses.new_zeros(())).sum(dim=(1, 2))
        return (per_list * list_weights(targets, logits, places, mask)).sum()

    def count(self, targets: Targets) -> float:
        """Number of lists in which one tuple is better than another, or the sum of their weights."""
        places, mask, relevance = self._lists(targets, torch.float64)
        highest = relevance.masked_fill(~mask, float("-inf")).amax(dim=1)
        lowest = relevance.masked_fill(~mask, float("inf")).amin(dim=1)
        weights = list_weights(targets, relevance[:, 0].new_ones(len(targets.groups)), places, mask)  # type: ignore[arg-type]
        return float((weights * (highest > lowest)).sum())

    def _lists(self, targets: Targets, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, which of them have a known relevance, and the relevance, `(lists, longest)` all."""
        relevance = self.ordering(targets)
        if self.order == "teacher" and targets.score_kind == "logit":
            relevance = torch.sigmoid(relevance / self.temperature)
        elif self.temperature != 1:
            raise InputError(
                f"the temperature is {self.temperature:g} and the scores are probabilities",
                expected="1: it divides logits",
            )
        known = ~torch.isnan(relevance)
        if bool(((relevance < 0) | (relevance > 1)).any()):
            raise InputError("a relevance is outside 0 to 1", expected="labels or probabilities between 0 and 1")
        places, mask = group_lists(targets.groups)  # type: ignore[arg-type]
        return places, mask & known[places], torch.nan_to_num(relevance)[places].to(dtype)

    def _pair_weights(self, scores: Tensor, relevance: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Which i is better than which j, and w_ij, both `(lists, longest, longest)`."""
        order = torch.argsort(scores.masked_fill(~mask, float("-inf")), dim=1, descending=True, stable=True)
        ranks = torch.argsort(order, dim=1, stable=True) + 1
        gains = torch.expm1(relevance * math.log(2)).masked_fill(~mask, 0)
        discounts = torch.log2(1 + torch.arange(1, scores.shape[1] + 2, device=scores.device, dtype=scores.dtype))
        ideal = (gains.sort(dim=1, descending=True).values / discounts[: scores.shape[1]]).sum(dim=1)
        gains = gains / ideal.clamp(min=torch.finfo(ideal.dtype).tiny)[:, None]
        better = (relevance[:, :, None] > relevance[:, None, :]) & mask[:, :, None] & mask[:, None, :]
        distance = (ranks[:, :, None] - ranks[:, None, :]).abs().clamp(min=1)
        second = (1 / discounts[distance - 1] - 1 / discounts[distance]).abs()
        exchange = (1 / discounts[ranks[:, :, None] - 1] - 1 / discounts[ranks[:, None, :] - 1]).abs()
        chosen = {
            "ndcg-loss2": second, "lambdarank": exchange, "ndcg-loss2++": exchange + self.mu * second,
        }[self.scheme]  # fmt: skip
        return better, chosen * (gains[:, :, None] - gains[:, None, :]).abs()
