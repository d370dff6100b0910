"""MaxSim: every token of the first text finds its best match in the second (ColBERT)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.students.encoders.pretrained import attention_mask
from pairstill.students.heads.base import Head, gather
from pairstill.students.heads.calibration import Calibration, calibrated, refuse_classes

GATHERED = 1 << 24
"""Numbers that are gathered at a time where no gradient is asked for."""


class MaxSimHead(Head):
    """score = sum over tokens i of the first text of max over tokens j of the second of q_i . d_j.

    Khattab and Zaharia, ColBERT (arXiv 2004.12832), section 3.3; Margin-MSE (arXiv 2010.02666), section 4, which normalises
    no vector.

    Args:
        slots: Most tokens of each field.
        dim: Of the token vectors.
        field_count: Two.
        outputs: One.
        normalise: Make every token vector of length 1, so that products are cosines.
        scaled: Whether a learned scale and bias turn the sum into the logit.

    Raises:
        InputError: For another number of fields or outputs.
    """

    def __init__(
        self, slots: Sequence[int], dim: int, field_count: int = 2, outputs: int = 1, *, normalise: bool = False,
        scaled: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        refuse_classes("MaxSim", field_count, outputs)
        self.slots, self.dim, self.normalise = tuple(slots), dim, normalise
        self.calibration = Calibration() if scaled else None

    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Token vectors `(items, tokens, dim)`, normalised where that is asked for."""
        del field
        vectors = vectors.float()
        return {"vectors": nn.functional.normalize(vectors, dim=-1) if self.normalise else vectors, "lengths": lengths}

    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Sums of maxima; a cross product compares each pair of items once."""
        left, right = prepared
        if 2 * len(index) > len(left["vectors"]) * len(right["vectors"]):
            return calibrated(self.calibration, self._crossed(left, right)[index[:, 0], index[:, 1]])
        numbers = (left["vectors"].shape[1] + right["vectors"].shape[1]) * self.dim
        rows = max(1, len(index) if torch.is_grad_enabled() else GATHERED // max(numbers, 1))
        parts = [self._paired(left, right, part) for part in torch.split(index, rows)]
        return calibrated(self.calibration, torch.cat(parts))

    def _paired(self, left: Mapping[str, Tensor], right: Mapping[str, Tensor], index: Tensor) -> Tensor:
        first, second = gather([left, right], "vectors", index)
        first_lengths, second_lengths = gather([left, right], "lengths", index)
        return sum_of_maxima(first, first_lengths, second, second_lengths)

    def _crossed(self, left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> Tensor:
        """`(first items, second items)`."""
        items, tokens = right["vectors"].shape[:2]
        flat, hidden = right["vectors"].flatten(0, 1).T, attention_mask(right["lengths"], tokens) == 0
        rows = []
        for query, length in zip(left["vectors"], left["lengths"], strict=True):
            products = (query @ flat).view(-1, items, tokens).float()
            best = products.masked_fill(hidden, -torch.inf).amax(dim=2)
            rows.append((best * (torch.arange(len(best), device=best.device) < length)[:, None]).sum(dim=0))
        return torch.stack(rows)

    def start_at_zero(self) -> None:
        """Raise: MaxSim needs no skip beside it."""
        raise InputError("MaxSim has no similarity skip: it is a similarity", fix="Leave similarity_skip off")

    def multiply_adds_per_pair(self) -> float:
        """Of the longest texts."""
        return self.multiply_adds(self.slots)

    def multiply_adds(self, lengths: Sequence[float]) -> float:
        """Of texts of so many tokens."""
        return float(lengths[0] * lengths[1] * self.dim)

    def multiply_adds_prepared(self, field: int) -> float:
        """None."""
        del field
        return 0.0


def sum_of_maxima(left: Tensor, left_lengths: Tensor, right: Tensor, right_lengths: Tensor) -> Tensor:
    """MaxSim `(tuples,)` of token vectors `(tuples, tokens, dim)`, of which the first `lengths (tuples,)` are valid."""
    products = torch.bmm(left, right.transpose(1, 2)).float()
    hidden = attention_mask(right_lengths, products.shape[2])[:, None] == 0
    best = products.masked_fill(hidden, -torch.inf).amax(dim=2)
    return (best * attention_mask(left_lengths, products.shape[1])).sum(dim=1)
