"""The running mean of the weights over the last steps: what is looked at, kept and shipped is steadier than any one step."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.training import row_kernels as kernels
from pairstill.training.row_updates import rows_of


class WeightAverage:
    """An exponential moving average of parameters (Polyak averaging; beyond the five papers).

    Batches that share texts are cheap and correlated, so single steps jump; the mean over about 1 / (1 - decay) steps does
    not. Early on the window is shorter, min(decay, (1 + step) / (10 + step)), so that the start is soon forgotten.

    The mean of a table's row approaches the row while that stands still, so it is brought up to date only before the row
    changes, or is wanted.

    Args:
        parameters: What is trained, and what else moves with it, such as running statistics.
        decay: Weight of the past, from 0 (no averaging) up to, not including, 1.
        tables: Those of the parameters that are updated by few rows a step.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float, tables: Sequence[nn.Parameter] = ()) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.decay = decay
        self.means = [one.detach().clone() for one in self.parameters]
        held = {id(one) for one in tables}
        self._tables = [number for number, one in enumerate(self.parameters) if id(one) in held]
        self._dense = [number for number, one in enumerate(self.parameters) if id(one) not in held]
        # Sums of the logarithms of the decays: up to now, and up to when each row's mean was last brought up to date.
        self._log = torch.zeros((), dtype=torch.float64)
        self._logs = {number: torch.zeros(len(self.parameters[number]), dtype=torch.float64) for number in self._tables}

    @torch.no_grad()
    def before_update(self) -> None:
        """Bring the means of the tables' rows that have a gradient up to date; call it before the optimiser's step."""
        for number in self._tables:
            self._approach(number, rows_of(self.parameters[number]))  # type: ignore[arg-type]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after optimiser step `step` (counted from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        if self._dense:
            means, parameters = ([held[number] for number in self._dense] for held in (self.means, self.parameters))
            torch._foreach_lerp_(means, [one.detach() for one in parameters], 1 - decay)
        self._log += math.log(decay)

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the parameters hold their means."""
        with torch.no_grad():
            for number in self._tables:
                self._approach(number, np.arange(len(self.parameters[number])))
            kept = [one.detach().clone() for one in self.parameters]
            torch._foreach_copy_(self.parameters, self.means)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, kept)

    def state(self) -> dict[str, Tensor]:
        """The means by number, for a checkpoint; of tables also how far each row's is up to date."""
        means = {str(number): mean for number, mean in enumerate(self.means)}
        logs = {f"{number}.log": logs for number, logs in self._logs.items()}
        return means | logs | ({"log": self._log} if self._tables else {})

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        for number, mean in enumerate(self.means):
            mean.copy_(state[str(number)])
        for number, logs in self._logs.items():
            logs.copy_(state[f"{number}.log"])
            self._log.copy_(state["log"])

    def _approach(self, number: int, rows: np.ndarray) -> None:
        table, means = self.parameters[number].detach(), self.means[number]
        kernels.approach(rows, table.numpy(), means.numpy(), self._logs[number].numpy(), float(self._log))
