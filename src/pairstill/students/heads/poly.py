"""Poly-encoder attention: the second text's vector attends over the first text's context vectors (DiPair, appendix C)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.students.encoders.pretrained import attention_mask
from pairstill.students.heads.base import Head, gather
from pairstill.students.heads.calibration import Calibration, calibrated, refuse_classes


class PolyHead(Head):
    """With contexts c_1..c_m and candidate v: w = softmax(c_i . v), score = (sum of w_i c_i) . v.

    Humeau et al., Poly-encoders (arXiv 1905.01969), section 4.4, where the second attention is over the m contexts.

    Args:
        contexts: The number m.
        dim: Of all vectors.
        field_count: Two.
        outputs: One.
        output_scaling: Factor on every vector before any product.
        scaled_attention: Divide the products under the softmax by the root of the dimension.
        scaled: Whether a learned scale and bias turn the score into the logit.

    Raises:
        InputError: For another number of fields or outputs.
    """

    def __init__(
        self, contexts: int, dim: int, field_count: int = 2, outputs: int = 1, *, output_scaling: float = 1.0,
        scaled_attention: bool = False, scaled: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        refuse_classes("a poly-encoder", field_count, outputs)
        self.contexts, self.dim, self.output_scaling = contexts, dim, output_scaling
        self.temperature = dim**0.5 if scaled_attention else 1.0
        self.calibration = Calibration() if scaled else None

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Scaled vectors: `(items, contexts, dim)` of field 0, `(items, dim)` of field 1."""
        vectors = vectors.float() * self.output_scaling
        return {"vectors": vectors, "lengths": lengths} if field == 0 else {"vector": vectors[:, 0]}

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Attention over the contexts; since both ends meet the candidate, score = sum of w_i (c_i . v)."""
        (contexts,) = gather(prepared[:1], "vectors", index[:, :1])
        (candidate,) = gather(prepared[1:], "vector", index[:, 1:])
        products = torch.bmm(contexts, candidate[:, :, None])[:, :, 0].float()
        hidden = attention_mask(prepared[0]["lengths"][index[:, 0]], products.shape[1]) == 0
        weights = torch.softmax((products / self.temperature).masked_fill(hidden, -torch.inf), dim=1)
        return calibrated(self.calibration, (weights * products).sum(dim=1))

    def start_at_zero(self) -> None:
        """Raise: a poly-encoder needs no skip beside it."""
        raise InputError("a poly-encoder has no similarity skip: it is a similarity", fix="Leave similarity_skip off")

    def multiply_adds_per_pair(self) -> float:
        """One product a context, and their weighted sum."""
        return float(self.contexts * (self.dim + 1))

    def multiply_adds_prepared(self, field: int) -> float:
        """None."""
        del field
        return 0.0
