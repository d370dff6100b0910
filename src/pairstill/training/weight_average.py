"""The running mean of the weights over the last steps: what is looked at, kept and shipped is steadier than any one step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class WeightAverage:
    """An exponential moving average of parameters (Polyak averaging; beyond the five papers).

    Batches that share texts are cheap and correlated, so single steps jump; the mean over about 1 / (1 - decay) steps does
    not. Early on the window is shorter, min(decay, (1 + step) / (10 + step)), so that the start is soon forgotten.

    Args:
        parameters: What is trained.
        decay: Weight of the past, from 0 (no averaging) up to, not including, 1.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.decay = decay
        self.means = [one.detach().clone() for one in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after optimiser step `step` (counted from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.means, [one.detach() for one in self.parameters], 1 - decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the parameters hold their means."""
        with torch.no_grad():
            kept = [one.detach().clone() for one in self.parameters]
            torch._foreach_copy_(self.parameters, self.means)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, kept)

    def state(self) -> dict[str, Tensor]:
        """The means by number, for a checkpoint."""
        return {str(number): mean for number, mean in enumerate(self.means)}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        for number, mean in enumerate(self.means):
            mean.copy_(state[str(number)])
