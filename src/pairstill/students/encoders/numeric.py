"""Numbers as vectors: standardised, then through a small network."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.students.heads.feed_forward import activation_module


@dataclass(frozen=True)
class NumericConfig:
    """How fields of numbers are read.

    Attributes:
        features: How many numbers an item has, one entry a numeric field; `pairstill distill` takes them from the tuple set.
        widths: Of the hidden layers.
        activation: Behind each hidden layer.
        dim: Of the vectors where neither an encoder of another field nor a projection says it.
    """

    features: tuple[int, ...] = field(default=(), metadata={"checked": True})
    widths: tuple[int, ...] = (128, 128)
    activation: Literal["relu", "gelu", "gelu_tanh", "tanh", "silu"] = "gelu"
    dim: int = 128


class Standardiser(nn.Module):
    """(x - mean) / deviation, feature by feature; both are learned once from the training items, and saved as weights.

    A feature that is the same in all items has no deviation and is divided by one.

    Args:
        features: How many.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))

    def learn(self, items: np.ndarray) -> None:
        """Take means and deviations of items `(items, features)`, each counted once."""
        values = items.astype(np.float64)
        deviation = values.std(axis=0)
        self.mean.copy_(torch.from_numpy(values.mean(axis=0)))
        self.deviation.copy_(torch.from_numpy(np.where(deviation > 0, deviation, 1.0)))

    def forward(self, values: Tensor) -> Tensor:
        """`(items, features)`."""
        return (values - self.mean) / self.deviation


class NumericNetwork(nn.Module):
    """A feed-forward network from standardised numbers to one or several vectors.

    Args:
        features: Numbers of an item.
        config: Widths and activation.
        vectors: How many vectors an item becomes.
        dim: Their dimension.
    """

    def __init__(self, features: int, config: NumericConfig, vectors: int, dim: int) -> None:
        super().__init__()
        self.vectors, self.dim = vectors, dim
        self.sizes = (features, *config.widths, vectors * dim)
        layers: list[nn.Module] = []
        for inside, outside in pairwise(self.sizes):
            layers += [nn.Linear(inside, outside), activation_module(config.activation)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, values: Tensor) -> Tensor:
        """`(items, 1, features)` to `(items, vectors, dim)`."""
        vectors: Tensor = self.layers(values[:, 0])
        return vectors.view(-1, self.vectors, self.dim)

    def multiply_adds(self) -> float:
        """Of one item."""
        return float(sum(a * b for a, b in pairwise(self.sizes)))
