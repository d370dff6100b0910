"""The dot-product head: one fused gather and dot product a pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pairstill.scoring import kernels
from pairstill.scoring.fast_heads.cosine import PreparedVector
from pairstill.scoring.fast_heads.linear import as_array
from pairstill.students.heads.dot import DotHead


class FastDotHead:
    """The same logits as `DotHead`.

    Args:
        head: The trained head.
        dtype: float32 or bfloat16, of the vectors.
    """

    prepared_type = PreparedVector
    slots = (1, 1)

    def __init__(self, head: DotHead, dtype: torch.dtype) -> None:
        self.dtype, self.outputs = dtype, 1
        scale, self.bias = (1.0, 0.0) if head.calibration is None else head.calibration.numbers()
        self.scale = np.array([scale], np.float32)

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> PreparedVector:
        """The vectors of `(items, 1, dim)` as they are."""
        del field, lengths
        return PreparedVector(as_array(vectors[:, 0].to(self.dtype).contiguous()))

    def score(self, prepared: Sequence[PreparedVector], index: np.ndarray) -> np.ndarray:
        """Logits `(pairs, 1)`."""
        logits = np.full((len(index), 1), self.bias, np.float32)
        first, second = np.ascontiguousarray(index[:, 0]), np.ascontiguousarray(index[:, 1])
        kernels.add_dots(prepared[0].vector, prepared[1].vector, first, second, self.scale, logits)
        return logits
