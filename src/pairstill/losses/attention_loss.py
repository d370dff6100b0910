"""TinyBERT's attention loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses.layer_map import LayerMap, check_batches
from pairstill.losses.layer_outputs import LayerOutputs


@dataclass(frozen=True)
class AttentionLoss:
    """Sum over student layers i of the mean squared error between its attention scores and those of teacher layer g(i).

    Jiao et al. 2020 (TinyBERT), section 3.1, equation 7: scores before the softmax, Q K^T / sqrt(width of a head), head by
    head, so both models need equally many heads. Masked positions count as 0 on both sides.

    Takes: two `LayerOutputs` with attention, of the same tokens.

    Attributes:
        layer_map: g.
        mean_over_padding: True divides by all `tokens x tokens` cells, and lets padded tokens look, as the authors' code does;
            a batch padded further then gives another value. False means over pairs of real tokens.
    """

    layer_map: LayerMap
    mean_over_padding: bool = False

    def __call__(self, student: LayerOutputs, teacher: LayerOutputs) -> Tensor:
        """The loss, a scalar.

        Raises:
            InputError: The numbers of layers or heads are other ones, or the tokens.
        """
        self.layer_map.check(student.layers, teacher.layers)
        if not student.attention or not teacher.attention:
            raise InputError("no attention scores are given", expected="scores before the softmax, of both models")
        terms = []
        for mine, place in zip(student.attention, self.layer_map.teacher_layers, strict=True):
            other = teacher.attention[place - 1]
            if mine.shape[1] != other.shape[1]:
                raise InputError(
                    f"the student has {mine.shape[1]} attention heads and the teacher {other.shape[1]}",
                    expected="equally many: attention is learnt head by head",
                    fix="Give the student as many heads, or leave the attention loss out",
                )
            check_batches(mine.shape, other.shape, "attention scores")
            terms.append(self._error(mine, other, student.mask))
        return torch.stack(terms).sum()

    def _error(self, mine: Tensor, other: Tensor, mask: Tensor | None) -> Tensor:
        if mine.dtype != torch.float64:
            mine, other = mine.float(), other.float()
        if mask is None:
            return (mine - other).square().mean()
        seen = mask[:, None, None, :]
        if not self.mean_over_padding:
            seen = seen & mask[:, None, :, None]
        kept = ((mine - other) * seen).square().sum()
        return kept / (mine.numel() if self.mean_over_padding else (seen.sum() * mine.shape[1]).clamp(min=1))
