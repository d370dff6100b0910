"""Dropout whose random numbers are cheap on a CPU: eight elements share one 64-bit draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

STEPS = 256


def dropped_steps(probability: float) -> int:
    """How many of the 256 values of a byte drop an element; at least one, so that some dropout stays some."""
    return max(1, round(probability * STEPS))


class _ByteDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, steps: int) -> Tensor:
        count = values.numel()
        words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = (words.view(torch.uint8)[:count] >= steps).view(values.shape)
        ctx.save_for_backward(kept)
        ctx.scale = STEPS / (STEPS - steps)
        return torch.where(kept, values, 0).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return torch.where(kept, gradients[0], 0).mul_(ctx.scale), None


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
    return _ByteDropout.apply(values, dropped_steps(probability))  # type: ignore[no-any-return, no-untyped-call]


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
