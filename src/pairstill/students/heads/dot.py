"""Dot product of two vectors (BERT_DOT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from pairstill.errors import InputError
from pairstill.students.heads.base import Head, Similarity, gather
from pairstill.students.heads.calibration import Calibration, calibrated, refuse_classes


class DotHead(Head):
    """logit = a . b, or scale * (a . b) + bias (Margin-MSE, arXiv 2010.02666, section 4).

    Args:
        dim: Size of the vectors.
        field_count: Two.
        outputs: One.
        scaled: Whether there are a learned scale and bias.

    Raises:
        InputError: For another number of fields or outputs.
    """

    def __init__(self, dim: int, field_count: int = 2, outputs: int = 1, *, scaled: bool = True) -> None:
        super().__init__()
        refuse_classes("a dot product", field_count, outputs)
        self.dim = dim
        self.calibration = Calibration() if scaled else None

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """The vectors of `(items, 1, dim)` as they are."""
        del field, lengths
        return {"vector": vectors[:, 0].float()}

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Dot products."""
        left, right = gather(prepared, "vector", index)
        return calibrated(self.calibration, (left * right).sum(dim=-1))

    def similarity(self) -> Similarity:
        """The dot product, with scale and bias where they were learned."""
        return Similarity("dot", *((1.0, 0.0) if self.calibration is None else self.calibration.numbers()))

    def start_at_zero(self) -> None:
        """Raise: a dot product needs no skip beside it."""
        raise InputError("a dot product has no similarity skip: it is a similarity", fix="Leave similarity_skip off")

    def multiply_adds_per_pair(self) -> float:
        """One dot product."""
        return float(self.dim)

    def multiply_adds_prepared(self, field: int) -> float:
        """None."""
        del field
        return 0.0
