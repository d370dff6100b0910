"""The cosine head: one fused gather and dot product a pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pairstill.scoring import kernels
from pairstill.scoring.fast_heads.linear import as_array
from pairstill.students.heads.cosine import CosineHead


@dataclass(frozen=True)
class PreparedVector:
    """Normalised vectors, `(items, dim)`."""

    vector: np.ndarray


class FastCosineHead:
    """The same logits as `CosineHead`.

    Args:
        head: The trained head.
        dtype: float32 or bfloat16, of the normalised vectors.
    """

    prepared_type = PreparedVector

    def __init__(self, head: CosineHead, dtype: torch.dtype) -> None:
        self.dtype, self.slots, self.outputs = dtype, (1, 1), 1
        self.scale = np.array([float(head.scale.detach())], np.float32)
        self.bias = float(head.bias.detach())

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> PreparedVector:
        """Normalise `(items, 1, dim)`."""
        del field, lengths
        return PreparedVector(normalised(vectors[:, 0], self.dtype))

    def score(self, prepared: Sequence[PreparedVector], index: np.ndarray) -> np.ndarray:
        """Logits `(pairs, 1)`."""
        logits = np.full((len(index), 1), self.bias, np.float32)
        first, second = np.ascontiguousarray(index[:, 0]), np.ascontiguousarray(index[:, 1])
        kernels.add_dots(prepared[0].vector, prepared[1].vector, first, second, self.scale, logits)
        return logits


def normalised(vectors: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Rows of length 1; bfloat16 as bits."""
    return as_array(torch.nn.functional.normalize(vectors.float(), dim=-1).to(dtype).contiguous())
