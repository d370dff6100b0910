"""Cosine of two vectors with a learned scale and bias (DE-Cos, TwinBERT's retrieval version)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.students.heads.base import Head, Similarity, gather


class CosineHead(Head):
    """logit = scale * cos(a, b) + bias.

    The paper's DE-Cos takes the cosine itself; a sigmoid needs the scale and bias, as in TwinBERT's logistic regression.

    Args:
        dim: Size of the vectors.
        field_count: Two; a cosine is of two vectors.
        outputs: One; a cosine is one number.

    Raises:
        InputError: For another number of fields or outputs.
    """

    def __init__(self, dim: int, field_count: int = 2, outputs: int = 1) -> None:
        super().__init__()
        if field_count != 2 or outputs != 1:
            raise InputError(
                f"a cosine compares two vectors and gives one number; {field_count} fields and {outputs} outputs were asked for",
                fix="Choose a student with a feed-forward or transformer head",
            )
        self.dim = dim
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.bias = nn.Parameter(torch.tensor(-5.0))

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Normalise `(items, 1, dim)`."""
        del field, lengths
        return {"vector": nn.functional.normalize(vectors[:, 0].float(), dim=-1)}

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Dot product of normalised vectors, scaled."""
        left, right = gather(prepared, "vector", index)
        return (self.scale * (left * right).sum(dim=-1) + self.bias)[:, None]

    def similarity(self) -> Similarity:
        """The cosine with this head's scale and bias."""
        return Similarity("cosine", float(self.scale.detach()), float(self.bias.detach()))

    def start_at_zero(self) -> None:
        """Raise: a cosine needs no skip beside it."""
        raise InputError("a cosine head has no similarity skip: it is one", fix="Leave similarity_skip off")

    def multiply_adds_per_pair(self) -> float:
        """One dot product."""
        return float(self.dim)

    def multiply_adds_prepared(self, field: int) -> float:
        """The norm is paid per item and not counted per pair."""
        del field
        return 0.0
