"""Kernel pooling: how many word pairs of two texts are how similar (TK)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pairstill.students.encoders.pretrained import attention_mask
from pairstill.students.heads.base import Head, gather
from pairstill.students.heads.calibration import refuse_classes

CENTRES = (1.0, 0.9, 0.7, 0.5, 0.3, 0.1, -0.1, -0.3, -0.5, -0.7, -0.9)
WIDTH = 0.1
LEAST = 1e-10
COMPARED = 1 << 20
"""Word pairs whose kernels are computed at a time where no gradient is asked for."""


class KernelHead(Head):
    """Sums over 11 Gaussian kernels k of the cosines M_ij of words i of the first and j of the second text.

    P_ik = sum over j of exp(-(M_ij - mu_k)^2 / (2 sigma^2)),
    score = sum over k of w_k sum over i of ln(max(alpha_k P_ik, 1e-10)) + v_k sum over i of P_ik / (words of the second text).

    Hofstätter et al., TK (ECAI 2020, arXiv 2002.01854), section 3.2.

    Args:
        slots: Most words of each field.
        dim: Of the word vectors.
        field_count: Two.
        outputs: One.
        length_normalised: Whether there is the second sum, of the published TK; Margin-MSE's code has the first alone.

    Raises:
        InputError: For another number of fields or outputs.
    """

    centres: Tensor

    def __init__(
        self, slots: Sequence[int], dim: int, field_count: int = 2, outputs: int = 1, *, length_normalised: bool = True
    ) -> None:
        super().__init__()
        refuse_classes("kernel pooling", field_count, outputs)
        self.slots, self.dim = tuple(slots), dim
        self.register_buffer("centres", torch.tensor(CENTRES), persistent=False)
        self.alpha = nn.Parameter(torch.ones(len(CENTRES)))
        self.log_weights = nn.Parameter(torch.empty(len(CENTRES)).uniform_(-0.014, 0.014))
        self.mean_weights = (
            nn.Parameter(torch.empty(len(CENTRES)).uniform_(-0.014, 0.014)) if length_normalised else None
        )

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Word vectors `(items, words, dim)` of length 1."""
        del field
        return {"vectors": nn.functional.normalize(vectors.float(), dim=-1), "lengths": lengths}

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Kernels of all word pairs, summed."""
        words = prepared[0]["vectors"].shape[1] * prepared[1]["vectors"].shape[1]
        rows = max(1, len(index) if torch.is_grad_enabled() else COMPARED // max(words, 1))
        return torch.cat([self._score(prepared, part) for part in torch.split(index, rows)])

    def _score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        first, second = gather(prepared, "lengths", index)
        left, right = gather(prepared, "vectors", index)
        return self.pooled(left, first, right, second)

    def pooled(self, left: Tensor, first: Tensor, right: Tensor, second: Tensor) -> Tensor:
        """Logits `(tuples, 1)` of word vectors `(tuples, words, dim)`, of which the first so many `(tuples,)` are valid."""
        cosines = torch.bmm(left, right.transpose(1, 2)).float()
        kernels = torch.exp((cosines[..., None] - self.centres).square() * (-0.5 / WIDTH**2))
        valid = attention_mask(second, cosines.shape[2])[:, None, :, None].to(kernels.dtype)
        pooled = (kernels * valid).sum(dim=2)
        there = attention_mask(first, cosines.shape[1])[:, :, None].to(pooled.dtype)
        total = ((self.alpha * pooled).clamp(min=LEAST).log() * there).sum(dim=1) @ self.log_weights
        if self.mean_weights is not None:
            means = (pooled * there).sum(dim=1) / second[:, None].to(pooled.dtype)
            total = total + means @ self.mean_weights
        return total[:, None]

    def start_at_zero(self) -> None:
        """Zero the weights of the kernels."""
        nn.init.zeros_(self.log_weights)
        if self.mean_weights is not None:
            nn.init.zeros_(self.mean_weights)

    def multiply_adds_per_pair(self) -> float:
        """Of the longest texts."""
        return self.multiply_adds(self.slots)

    def multiply_adds(self, lengths: Sequence[float]) -> float:
        """Of texts of so many words: the cosine, and three a kernel, its exponential not counted."""
        return float(lengths[0] * lengths[1] * (self.dim + 3 * len(CENTRES)))

    def multiply_adds_prepared(self, field: int) -> float:
        """None."""
        del field
        return 0.0
