"""A residual block over the joined vectors, then logistic regression (TwinBERT's relevance version)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from pairstill.students.heads.base import Head, gather


@dataclass(frozen=True)
class ResidualHeadConfig:
    """Shape of the block; the paper's own is not known, the defaults are its authors' later TextGNN with a narrower middle.

    Attributes:
        combine: `max`: elementwise, over the fields; `concat`: one after another.
        depth: Linear layers of the residual function; 1 is a single one (with `relu` off: the form of TRMD).
        width: Of the layers between; TextGNN's sample configuration has 2048.
        batch_norm: Normalise after each linear layer.
        relu: ReLU of the sum; those between two layers are always there.
    """

    combine: Literal["max", "concat"] = "max"
    depth: int = 2
    width: int = 512
    batch_norm: bool = False
    relu: bool = True


class ResidualHead(Head):
    """x = max(a, b) or [a; b]; h = W1 ReLU(W0 x + b0) + b1; logits = W ReLU(h + x) + b.

    Of a concatenation the first layer falls apart by field, W0 [a; b] = W0a a + W0b b, so `prepare` pays for it once per item.
    A maximum has no such part. Batch normalisation uses the pairs of a training step, and running statistics in evaluation
    mode, where a logit therefore depends on no other pair.

    Args:
        config: Shape of the block.
        dim: Size of a vector.
        field_count: Vectors of a tuple.
        outputs: Number of logits.
    """

    def __init__(self, config: ResidualHeadConfig, dim: int, field_count: int, outputs: int) -> None:
        super().__init__()
        self.config, self.dim, self.slots = config, dim, (1,) * field_count
        self.parts = field_count if config.combine == "concat" else 1
        joined = self.parts * dim
        self.sizes = [joined, *[config.width] * (config.depth - 1), joined]
        self.first = nn.ModuleList(nn.Linear(dim, self.sizes[1], bias=part == 0) for part in range(self.parts))
        for part in self.first:
            nn.init.normal_(part.weight, std=joined**-0.5)  # type: ignore[arg-type]
        nn.init.zeros_(self.first[0].bias)  # type: ignore[arg-type]
        self.hidden = nn.ModuleList(nn.Linear(inside, outside) for inside, outside in pairwise(self.sizes[1:]))
        self.norms = nn.ModuleList(nn.BatchNorm1d(size) for size in self.sizes[1:] if config.batch_norm)
        self.output = nn.Linear(joined, outputs)

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """The vector `(items, dim)`, and of a concatenation the field's part of the first layer."""
        del lengths
        vector = vectors[:, 0].float()
        if self.config.combine == "max":
            return {"vector": vector}
        return {"vector": vector, "first": self.first[field](vector)}

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Join the vectors, then the block and the logistic regression."""
        vectors = gather(prepared, "vector", index)
        if self.config.combine == "max":
            joined = torch.stack(vectors).amax(dim=0)
            values: Tensor = self.first[0](joined)
        else:
            joined = torch.cat(vectors, dim=-1)
            values = torch.stack(gather(prepared, "first", index)).sum(dim=0)
        values = self._normalised(0, values)
        for number, layer in enumerate(self.hidden, start=1):
            values = self._normalised(number, layer(torch.relu(values)))
        values = values + joined
        logits: Tensor = self.output(torch.relu(values) if self.config.relu else values)
        return logits.float()

    def _normalised(self, number: int, values: Tensor) -> Tensor:
        if not self.config.batch_norm:
            return values
        norm: nn.BatchNorm1d = self.norms[number]  # type: ignore[assignment]
        # One pair has no spread: it is normalised by what was seen before.
        batch = norm.training and len(values) > 1
        normalised: Tensor = nn.functional.batch_norm(
            values.float(), norm.running_mean, norm.running_var, norm.weight, norm.bias, batch, norm.momentum or 0.0, norm.eps
        )  # fmt: skip
        return normalised

    def start_at_zero(self) -> None:
        """Zero the output layer."""
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def multiply_adds_per_pair(self) -> float:
        """All layers."""
        return float(sum(a * b for a, b in pairwise([*self.sizes, self.output.out_features])))

    def multiply_adds_prepared(self, field: int) -> float:
        """Of a concatenation the field's part of the first layer."""
        del field
        return float(self.dim * self.sizes[1]) if self.config.combine == "concat" else 0.0
