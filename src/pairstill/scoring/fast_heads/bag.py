"""The head of BERT2DNN: as the feed-forward head, over combined bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairstill.scoring import kernels
from pairstill.scoring.fast_heads.feed_forward import ITEMS, FastFeedForwardHead, PreparedPart
from pairstill.scoring.fast_heads.linear import PackedLinear, as_array
from pairstill.students.heads.bag import BagHead, bag_scale


@dataclass(frozen=True)
class PreparedBag(PreparedPart):
    """A field's part of the first layer, and the counts of n-grams `(items, 1)`."""

    count: np.ndarray


class FastBagHead(FastFeedForwardHead):
    """The same logits as `BagHead`.

    Args:
        head: The trained head.
        dtype: float32 or bfloat16.
    """

    def __init__(self, head: BagHead, dtype: torch.dtype) -> None:
        super().__init__(head, dtype)
        self.combiner, self.union = head.combiner, head.union
        self.prepared_type: type[PreparedPart] = PreparedBag if head.union else PreparedPart
        if head.union:
            layer: torch.nn.Linear = head.first[0]  # type: ignore[assignment]
            self.bias = layer.bias.detach().float().numpy()
            self.first = [PackedLinear(layer.weight, torch.zeros_like(layer.bias), ITEMS, dtype)]

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> PreparedPart:
        """This field's part of the first layer, of `(items, 1, dim)` sums of `lengths` n-grams."""
        sums = vectors.flatten(1)
        if self.union:
            return PreparedBag(self._part(self.first[0], sums), as_array(lengths.to(self.dtype)[:, None]))
        return PreparedPart(self._part(self.first[field], sums * bag_scale(lengths, self.combiner)[:, None]))

    def _first(self, prepared: Sequence[Any], index: np.ndarray, relu: bool, out: np.ndarray) -> None:
        if not self.union:
            super()._first(prepared, index, relu, out)
            return
        counts = torch.zeros(len(index))
        for field, one in enumerate(prepared):
            counts += torch.from_numpy(one.count[index[:, field], 0]).view(self.dtype)
        scales = bag_scale(counts, self.combiner).numpy()
        parts = tuple(one.part for one in prepared)
        kernels.add_scaled_rows(parts, scales, index, self.bias, int(relu), out)
