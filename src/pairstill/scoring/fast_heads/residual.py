"""The residual head of TwinBERT: gather and join fused, normalisation folded into the products, the sum into the last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairstill.scoring import kernels
from pairstill.scoring.fast_heads.linear import PackedLinear, as_array
from pairstill.students.heads.residual import ResidualHead

PAIRS = 512
ITEMS = 1024


@dataclass(frozen=True)
class PreparedItem:
    """Vectors whose maximum is taken, `(items, dim)`."""

    vector: np.ndarray


@dataclass(frozen=True)
class PreparedItemAndPart:
    """Vectors that are concatenated, `(items, dim)`, and the field's part of the first layer, `(items, width)`."""

    vector: np.ndarray
    part: np.ndarray


class FastResidualHead:
    """The same logits as `ResidualHead` in evaluation mode; products of a fixed number of rows.

    Args:
        head: The trained head.
        dtype: float32 or bfloat16.
    """

    def __init__(self, head: ResidualHead, dtype: torch.dtype) -> None:
        self.head, self.dtype, self.slots, self.outputs = head, dtype, head.slots, head.output.out_features
        self.joins_by_max = head.config.combine == "max"
        self.prepared_type: type[Any] = PreparedItem if self.joins_by_max else PreparedItemAndPart
        last = head.config.depth - 1
        inner = "relu" if last else "none"
        scale, shift = _normalisation(head, 0)
        firsts = [(weight * scale[:, None], bias * scale) for weight, bias in map(_weights, head.first)]
        # The shift is added once, by the first field's part.
        firsts[0] = (firsts[0][0], firsts[0][1] + shift)
        rows = PAIRS if self.joins_by_max else ITEMS
        self.first = [
            PackedLinear(weight, bias, rows, dtype, inner if self.joins_by_max else "none") for weight, bias in firsts
        ]
        self.hidden: list[PackedLinear] = []
        for number, layer in enumerate(head.hidden, start=1):
            scale, shift = _normalisation(head, number)
            weight, bias = _weights(layer)
            activation = inner if number < last else "none"
            self.hidden.append(PackedLinear(weight * scale[:, None], bias * scale + shift, PAIRS, dtype, activation))
        self.output = PackedLinear(head.output.weight, head.output.bias, PAIRS, dtype)

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> PreparedItem | PreparedItemAndPart:
        """Vectors of `(items, 1, dim)`, and of a concatenation the field's part of the first layer."""
        del lengths
        vector = vectors[:, 0].to(self.dtype).contiguous()
        if self.joins_by_max:
            return PreparedItem(as_array(vector))
        out = torch.empty(len(vector), self.head.sizes[1], dtype=self.dtype)
        block = torch.zeros(ITEMS, vector.shape[1], dtype=self.dtype)
        for start in range(0, len(vector), ITEMS):
            part = vector[start : start + ITEMS]
            block[: len(part)] = part
            out[start : start + ITEMS] = self.first[field](block)[: len(part)]
        return PreparedItemAndPart(as_array(vector), as_array(out))

    def score(self, prepared: Sequence[Any], index: np.ndarray) -> np.ndarray:
        """Logits `(pairs, outputs)` of `index (pairs, fields)`, by one thread."""
        vectors = tuple(one.vector for one in prepared)
        logits = np.empty((len(index), self.outputs), np.float32)
        joined = torch.zeros(PAIRS, self.head.sizes[0], dtype=self.dtype)
        rows = torch.zeros(PAIRS, self.head.sizes[1], dtype=self.dtype)
        for start in range(0, len(index), PAIRS):
            pairs = index[start : start + PAIRS]
            values = self._first_layer(prepared, vectors, pairs, joined, rows)
            for layer in self.hidden[:-1]:
                values = layer(values)
            values = self.hidden[-1](values, joined) if self.hidden else values + joined
            if self.head.config.relu:
                values = values.relu_()
            logits[start : start + PAIRS] = self.output(values)[: len(pairs)].float().numpy()
        return logits

    def _first_layer(
        self, prepared: Sequence[Any], vectors: tuple[np.ndarray, ...], pairs: np.ndarray, joined: Tensor, rows: Tensor
    ) -> Tensor:
        """Fill `joined` and give the first layer's values, through ReLU where another layer follows."""
        if self.joins_by_max:
            kernels.max_rows(vectors, pairs, as_array(joined))
            return self.first[0](joined)
        out, dim = as_array(joined), self.head.dim
        for field, vector in enumerate(vectors):
            out[: len(pairs), field * dim : (field + 1) * dim] = vector[pairs[:, field]]
        kernels.add_rows(tuple(one.part for one in prepared), pairs, int(self.head.config.depth > 1), as_array(rows))
        return rows


def _weights(layer: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a linear layer; zeros where it has no bias."""
    return layer.weight, torch.zeros(layer.out_features) if layer.bias is None else layer.bias


def _normalisation(head: ResidualHead, number: int) -> tuple[Tensor, Tensor]:
    """Factor and shift of a batch normalisation by its running statistics; 1 and 0 where there is none."""
    size = head.sizes[number + 1]
    if not head.config.batch_norm:
        return torch.ones(size), torch.zeros(size)
    norm: Any = head.norms[number]
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale
