"""The base's own cosine, scaled and added to the logit: a student starts at the base's floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from pairstill.students.heads.base import gather


class SimilaritySkip(nn.Module):
    """logit += sum over pairs of fields of scale * cos(a, b), + bias. Beyond the papers; an option of every head.

    Args:
        field_count: Every pair of fields has a cosine of its own.
        outputs: Every output has scales of its own.
    """

    def __init__(self, field_count: int, outputs: int) -> None:
        super().__init__()
        self.pairs = tuple(combinations(range(field_count), 2)) if field_count > 1 else ()
        self.scale = nn.Parameter(torch.full((max(len(self.pairs), 1), outputs), 5.0))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def prepare(self, vector: Tensor) -> Tensor:
        """Normalise `(items, dim)`."""
        return nn.functional.normalize(vector.float(), dim=-1)

    def cosines(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """`(tuples, pairs of fields)` cosines."""
        gathered = gather(prepared, "similarity", index)
        return torch.stack([(gathered[a] * gathered[b]).sum(dim=-1) for a, b in self.pairs], dim=-1)

    def forward(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """The term of the logit, `(tuples, outputs)`."""
        if not self.pairs:
            return self.bias.expand(len(index), -1)
        cosines = self.cosines(prepared, index)
        return (cosines[:, :, None] * self.scale).sum(dim=1) + self.bias

    def multiply_adds_per_pair(self, dim: int) -> float:
        """One dot product a pair of fields."""
        return float(dim * len(self.pairs))
