"""Dropout whose random numbers are cheap on a CPU: eight elements share one 64-bit draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

STEPS = 256


def dropped_steps(probability: float) -> int:
    """How many of the 256 values of a byte drop an element; at least one, so that some dropout stays some, and never all."""
    return min(max(1, round(probability * STEPS)), STEPS - 1)


class Dropped:
    """Which elements of one tensor are dropped, drawn when it is called; for gradients that are written by hand.

    Args:
        probability: Of an element's being dropped, rounded as in `dropout`; 0 drops nothing.
    """

    def __init__(self, probability: float) -> None:
        steps = dropped_steps(probability) if probability else 0
        self._steps, self._scale = steps, STEPS / (STEPS - steps)
        self._kept: Tensor | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Draw, drop and scale."""
        if not self._steps:
            return values
        count = values.numel()
        words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
        self._kept = (words.view(torch.uint8)[:count] >= self._steps).view(values.shape)
        return self.backward(values)

    def backward(self, gradient: Tensor) -> Tensor:
        """Drop and scale the same elements."""
        return gradient if self._kept is None else torch.where(self._kept, gradient, 0).mul_(self._scale)


class _ByteDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, probability: float) -> Tensor:
        ctx.dropped = Dropped(probability)
        dropped: Tensor = ctx.dropped(values)
        return dropped

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.dropped.backward(gradients[0]), None


def dropout(values: Tensor, probability: float) -> Tensor:
    """Set elements to zero at random and scale the others, so that the expectation stays.

    On a CPU the probability is rounded to a multiple of 1/256 (.1 becomes 26/256) and the scale is that of the rounded
    one; elsewhere PyTorch's own dropout is used. Random numbers come from PyTorch's generator.

    Args:
        values: Any shape.
        probability: Of an element's being dropped; 0 returns `values`.
    """
    if not probability:
        return values
    if values.device.type != "cpu" or probability > 1 - 1 / STEPS:
        return nn.functional.dropout(values, probability)
    return _ByteDropout.apply(values, probability)  # type: ignore[no-any-return, no-untyped-call]


class Dropout(nn.Module):
    """`dropout` in training, identity otherwise.

    Args:
        p: Probability, named as in `torch.nn.Dropout`, which models read.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, values: Tensor) -> Tensor:
        """Same shape and precision as `values`."""
        return dropout(values, self.p) if self.training else values


def replace_dropout(model: nn.Module) -> None:
    """Put `Dropout` in the place of every `torch.nn.Dropout` of a model."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, Dropout(child.p))
