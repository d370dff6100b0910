"""List-wise KL divergence between softmaxes over a group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pairstill.losses.base import AS_LOGITS, Loss, Refusal, Unit, check_temperature, scores_of, weights_of
from pairstill.losses.grouping import group_lists
from pairstill.losses.targets import ScoreKind, Targets

PROBABILITY_LIST = Refusal(
    "a softmax over numbers between 0 and 1 is nearly flat: the best of them has at most 2.7 times the worst one's share",
    AS_LOGITS,
)


@dataclass(frozen=True)
class ListwiseKL(Loss):
    """Mean over groups of sum_i q_i (log q_i - log p_i), q = softmax(t / T) and p = softmax(s) over the group.

    The proper Kullback-Leibler divergence from the teacher's list distribution to the student's (what the "KL list" loss of
    the Margin-MSE authors' code means to be). Its gradient is p - q, as ListNet's; unlike ListNet's its least value is 0. A
    group of one tuple costs nothing. Weights: a list weighs the mean of its tuples' weights.

    Takes: student `(tuples, 1)` raw, teacher `(tuples, 1)` logits or scores of any scale, groups `(tuples,)`.

    Attributes:
        temperature: T of the teacher's scores; the student's are not divided.
    """

    temperature: float = 1.0

    name: ClassVar[str] = "listwise-kl"
    unit: ClassVar[Unit] = "groups"
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {"probability": PROBABILITY_LIST}

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Weighted sum over lists."""
        places, mask = group_lists(targets.groups)  # type: ignore[arg-type]
        wanted = list_log_softmax(scores_of(targets).to(logits.dtype) / self.temperature, places, mask)
        losses = (wanted.exp() * (wanted - list_log_softmax(logits[:, 0], places, mask))).masked_fill(~mask, 0)
        return (losses.sum(dim=1) * list_weights(targets, logits, places, mask)).sum()

    def count(self, targets: Targets) -> float:
        """Number of lists of two tuples or more, or the sum of their weights."""
        places, mask = group_lists(targets.groups)  # type: ignore[arg-type]
        return float(list_weights(targets, scores_of(targets), places, mask).sum())


def list_log_softmax(values: Tensor, places: Tensor, mask: Tensor) -> Tensor:
    """`(lists, longest)` log-softmax over each list; 0 beyond its end."""
    spread = values[places].masked_fill(~mask, float("-inf"))
    return torch.log_softmax(spread, dim=1).masked_fill(~mask, 0)


def list_weights(targets: Targets, like: Tensor, places: Tensor, mask: Tensor) -> Tensor:
    """`(lists,)` mean weight of each list's tuples; 0 for lists of one tuple, from which nothing is learnt."""
    counts = mask.sum(dim=1)  # 0 where no relevance of the list is known
    weights = weights_of(targets, like)[places].masked_fill(~mask, 0).sum(dim=1) / counts.clamp(min=1)
    return weights * (counts > 1)
