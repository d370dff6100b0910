"""The feed-forward head of DE-FFNN and DiPair-FFNN: gather, sum and activation fused, then its small products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.scoring import kernels
from pairstill.scoring.fast_heads.linear import PackedLinear, activate, as_array
from pairstill.students.heads.feed_forward import FeedForwardHead

PAIRS = 2048
ITEMS = 1024


@dataclass(frozen=True)
class PreparedPart:
    """A field's part of the first layer, `(items, width)`."""

    part: np.ndarray


class FastFeedForwardHead:
    """The same logits as `FeedForwardHead`; products of a fixed number of rows.

    Args:
        head: The trained head.
        dtype: float32 or bfloat16.
    """

    prepared_type: type[PreparedPart] = PreparedPart

    def __init__(self, head: FeedForwardHead, dtype: torch.dtype) -> None:
        self.head, self.dtype, self.slots = head, dtype, head.slots
        name = head.config.activation
        self.activation, self.outputs = name, head.output.out_features
        self.first = [
            PackedLinear(one.weight, one.bias if one.bias is not None else torch.zeros(head.config.widths[0]), ITEMS, dtype)  # type: ignore[arg-type]
            for one in head.first
        ]  # fmt: skip
        layers = [one for one in head.hidden if isinstance(one, nn.Linear)]
        self.hidden = [PackedLinear(one.weight, one.bias, PAIRS, dtype, name) for one in layers]
        self.output = PackedLinear(head.output.weight, head.output.bias, PAIRS, dtype)

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> PreparedPart:
        """This field's part of the first layer, of `(items, tokens, dim)` vectors."""
        del lengths
        return PreparedPart(self._part(self.first[field], vectors.flatten(1)))

    def score(self, prepared: Sequence[PreparedPart], index: np.ndarray) -> np.ndarray:
        """Logits `(pairs, outputs)` of `index (pairs, fields)`, by one thread."""
        logits = np.empty((len(index), self.outputs), np.float32)
        rows = torch.zeros(PAIRS, self.head.config.widths[0], dtype=self.dtype)
        relu = self.activation == "relu"
        for start in range(0, len(index), PAIRS):
            part = index[start : start + PAIRS]
            self._first(prepared, part, relu, as_array(rows))
            values = rows if relu else activate(rows, self.activation)
            for layer in self.hidden:
                values = layer(values)
            logits[start : start + PAIRS] = self.output(values)[: len(part)].float().numpy()
        return logits

    def _part(self, layer: PackedLinear, flat: Tensor) -> np.ndarray:
        """A layer of `(items, inside)`, in blocks of one shape."""
        out = torch.empty(len(flat), self.head.config.widths[0], dtype=self.dtype)
        block = torch.zeros(ITEMS, flat.shape[1], dtype=self.dtype)
        for start in range(0, len(flat), ITEMS):
            part = flat[start : start + ITEMS]
            block[: len(part)] = part
            out[start : start + ITEMS] = layer(block)[: len(part)]
        return as_array(out)

    def _first(self, prepared: Sequence[PreparedPart], index: np.ndarray, relu: bool, out: np.ndarray) -> None:
        """The first layer of pairs, through ReLU where that is the activation."""
        kernels.add_rows(tuple(one.part for one in prepared), index, int(relu), out)
