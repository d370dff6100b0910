"""A feed-forward network over bags of n-grams: a bag a field side by side, or one bag of all fields (BERT2DNN)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pairstill.students.heads.base import gather
from pairstill.students.heads.feed_forward import FeedForwardHead, FeedForwardHeadConfig

Combiner = Literal["sum", "mean", "sqrtn"]


class BagHead(FeedForwardHead):
    """Combined bags through a feed-forward network.

    With the sum s and the count c of a bag, `sum` reads s, `mean` s / c, `sqrtn` s / sqrt(c); an empty bag is zero. A bag of
    each field is combined in `prepare`, and so is its part of the first layer. One bag of all fields has the sum and the count
    of their union, which a tuple alone knows: `prepare` multiplies each field's sum with the first layer, and `score` scales
    the total, W (s1 + s2) / c = (W s1 + W s2) / c.

    In training, where a batch has about as many items as tuples, tuples gather the narrow bags and not the wide first layer.

    Args:
        config: Widths and activation.
        combiner: What is read of a bag.
        union: One bag of all fields, or one each.
        dim: Of an embedding.
        field_count: Texts of a tuple.
        outputs: Number of logits.
    """

    def __init__(
        self, config: FeedForwardHeadConfig, combiner: Combiner, union: bool, dim: int, field_count: int, outputs: int
    ) -> None:
        super().__init__(config, [(1, dim)] * (1 if union else field_count), outputs)
        self.combiner, self.union = combiner, union
        self.slots = (1,) * field_count

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """This field's part of the first layer, `(items, width)`; of one bag of all fields without bias, and the counts.

        In training the bags themselves, `(items, dim)`.

        Args:
            field: Position of the field.
            vectors: `(items, 1, dim)` sums.
            lengths: `(items,)` counts of n-grams.
        """
        sums = vectors.flatten(1)
        if self.training:
            return {"bag": sums, "count": lengths} if self.union else {"bag": self._combined(sums, lengths)}
        if not self.union:
            return {"first": self.first[field](self._combined(sums, lengths))}
        return {"first": nn.functional.linear(sums, self.first[0].weight), "count": lengths}  # type: ignore[arg-type]

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Sum the parts (scaled by the union's count), then the rest of the network."""
        if "bag" not in prepared[0] and not self.union:
            return super().score(prepared, index)
        count = sum(gather(prepared, "count", index)) if self.union else None
        if "bag" in prepared[0]:
            bags = gather(prepared, "bag", index)
            bag = torch.cat(bags, 1) if count is None else self._combined(sum(bags), count)  # type: ignore[arg-type]
            weight = torch.cat([one.weight for one in self.first], 1)  # type: ignore[misc]
            first = nn.functional.linear(bag, weight, self.first[0].bias)  # type: ignore[arg-type]
        else:
            first = self._combined(sum(gather(prepared, "first", index)), count) + self.first[0].bias  # type: ignore[arg-type, operator]
        logits: Tensor = self.output(self.hidden(self.activation(first)))
        return logits.float()

    def _combined(self, sums: Tensor, count: Tensor) -> Tensor:
        return sums * bag_scale(count, self.combiner)[:, None]

    def multiply_adds_prepared(self, field: int) -> float:
        """The field's part of the first layer."""
        return super().multiply_adds_prepared(0 if self.union else field)


def bag_scale(count: Tensor, combiner: Combiner) -> Tensor:
    """The factor on sums of `count` embeddings, of any shape; 1 for an empty bag, whose sum is zero."""
    count = count.float().clamp(min=1)
    if combiner == "mean":
        return count.reciprocal()
    return count.rsqrt() if combiner == "sqrtn" else count.new_ones(count.shape)
