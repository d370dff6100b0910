"""A feed-forward network over the flattened kept vectors (DE-FFNN, DiPair-FFNN)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from pairstill.students.heads.base import Head, gather

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh, "silu": nn.SiLU}


def activation_module(name: str) -> nn.Module:
    """The activation of that name; `gelu_tanh` is GELU's tanh form, much faster in bfloat16 on a CPU."""
    return nn.GELU(approximate="tanh") if name == "gelu_tanh" else ACTIVATIONS[name]()


@dataclass(frozen=True)
class FeedForwardHeadConfig:
    """Widths and activation of the hidden layers (the paper: x-128-128)."""

    widths: tuple[int, ...] = (128, 128)
    activation: Literal["relu", "gelu", "gelu_tanh", "tanh", "silu"] = "relu"


class FeedForwardHead(Head):
    """W1 [a; b] = W1a a + W1b b: the first layer falls apart by field, so `prepare` pays for it once per item.

    Args:
        config: Widths and activation.
        dims: Per field, `(tokens, dim)` of the kept vectors.
        outputs: Number of logits.
    """

    def __init__(self, config: FeedForwardHeadConfig, dims: Sequence[tuple[int, int]], outputs: int) -> None:
        super().__init__()
        self.config, self.slots = config, tuple(tokens for tokens, _ in dims)
        self.sizes = [tokens * dim for tokens, dim in dims]
        self.first = nn.ModuleList(
            nn.Linear(size, config.widths[0], bias=field == 0) for field, size in enumerate(self.sizes)
        )
        for part, size in zip(self.first, self.sizes, strict=True):
            nn.init.normal_(part.weight, std=(size * len(self.sizes)) ** -0.5)  # type: ignore[arg-type]
        self.activation = activation_module(config.activation)
        layers: list[nn.Module] = []
        for inside, outside in pairwise(config.widths):
            layers += [nn.Linear(inside, outside), activation_module(config.activation)]
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(config.widths[-1], outputs)

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """This field's part of the first layer, `(items, width)`."""
        del lengths
        return {"first": self.first[field](vectors.flatten(1))}

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Sum the parts, then the rest of the network."""
        total, *others = gather(prepared, "first", index)
        for one in others:
            total = total + one
        logits: Tensor = self.output(self.hidden(self.activation(total)))
        return logits.float()

    def start_at_zero(self) -> None:
        """Zero the output layer."""
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def multiply_adds_per_pair(self) -> float:
        """All layers."""
        widths = [sum(self.sizes), *self.config.widths, self.output.out_features]
        return float(sum(a * b for a, b in pairwise(widths)))

    def multiply_adds_prepared(self, field: int) -> float:
        """The field's part of the first layer."""
        return float(self.sizes[field] * self.config.widths[0])


def mask_positions(slots: Sequence[int], lengths: Sequence[Tensor]) -> Tensor:
    """`(tuples, all slots)` true where a slot holds a token: slots are fixed per field, short texts leave some empty."""
    return torch.cat(
        [
            torch.arange(count, device=length.device) < length[:, None]
            for count, length in zip(slots, lengths, strict=True)
        ],
        dim=1,
    )
