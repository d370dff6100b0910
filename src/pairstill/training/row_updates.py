"""Tables of which a step reads few rows (embeddings of n-grams): their gradients, and optimisers that touch those rows alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.compiled import share_threads
from pairstill.errors import InputError
from pairstill.students.encoders.bag import BagGradient, BagTable
from pairstill.training import row_kernels as kernels

EPSILON = 1e-12
"""Of the tables' Adam. Few tuples of a batch read a row, so its gradient may be a millionth of a dense weight's; an epsilon
made for those would all but stop it."""


def row_tables(module: nn.Module) -> list[BagTable]:
    """Tables whose gradients hold only the rows that were read."""
    return [one for one in module.modules() if isinstance(one, BagTable) and one.sparse]


class RowGradients:
    """Gives tables gradients of distinct, ascending rows, so that each row is updated once a step.

    Args:
        tables: Float32, on the CPU.

    Attributes:
        tables: Their parameters.

    Raises:
        InputError: A table is elsewhere.
    """

    def __init__(self, tables: Sequence[BagTable]) -> None:
        self._modules = list(tables)
        self.tables = [cast(nn.Parameter, one.weight) for one in tables]
        if any(one.device.type != "cpu" for one in self.tables):
            raise InputError(
                "tables of embeddings are updated row by row, which is done on a CPU", fix="Train on the CPU"
            )
        self._slots = [np.full(len(one), -1, dtype=np.int32) for one in self.tables]

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Around forward and backward pass; afterwards the tables that were read have gradients (earlier ones are replaced)."""
        # Without tables nothing compiled runs here, and no threads need to start.
        threads = share_threads() if self._modules else 1
        for one in self._modules:
            one.collected = []
        try:
            yield
            for one, slots in zip(self._modules, self._slots, strict=True):
                if one.collected:
                    one.weight.grad = _merged(one.weight, one.collected, slots, threads)
        finally:
            for one in self._modules:
                one.collected = None


class RowAdam(torch.optim.Optimizer):
    """Adam on the rows that a step read; the moments of the others rest (as in `torch.optim.SparseAdam`).

    One compiled pass over the rows, where `SparseAdam` makes a dozen. There is no weight decay: it would touch all rows.

    Args:
        groups: Parameter groups whose gradients come from `RowGradients`.
        betas: Decays of the moments.
        epsilon: Added to the root of the second moment before its bias is corrected.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], betas: tuple[float, float], epsilon: float = EPSILON) -> None:
        super().__init__(groups, {"betas": betas, "eps": epsilon})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient."""
        del closure
        for group in self.param_groups:
            (beta_1, beta_2), rate = group["betas"], group["lr"]
            for table in group["params"]:
                if table.grad is None:
                    continue
                state = self.state[table]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
                state["step"] += 1
                number = float(state["step"])
                corrected = rate * math.sqrt(1 - beta_2**number) / (1 - beta_1**number)
                kernels.adam(
                    rows_of(table), table.grad._values().numpy(), table.numpy(), state["exp_avg"].numpy(),
                    state["exp_avg_sq"].numpy(), corrected, beta_1, beta_2, group["eps"],
                )  # fmt: skip


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad on the rows that a step read, in one compiled pass; a row without a gradient would not move anyway.

    Args:
        groups: Parameter groups whose gradients come from `RowGradients`.
        accumulated: What the sums of squares begin with, above 0: nothing is added to their root.
    """

    def __init__(self, groups: Sequence[dict[str, Any]], accumulated: float) -> None:
        super().__init__(groups, {"accumulated": accumulated})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient."""
        del closure
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                state = self.state[table]
                if not state:
                    state["sum"] = torch.full_like(table, group["accumulated"])
                kernels.adagrad(
                    rows_of(table), table.grad._values().numpy(), table.numpy(), state["sum"].numpy(), group["lr"]
                )


def rows_of(table: nn.Parameter) -> np.ndarray:
    """The rows that a merged gradient has."""
    if table.grad is None:
        return np.empty(0, dtype=np.int64)
    found: np.ndarray = table.grad._indices()[0].numpy()
    return found


def clip_gradients(parameters: Sequence[nn.Parameter], largest: float) -> None:
    """Scale all gradients together so that their norm is at most `largest`; those of tables must be merged."""
    gradients = [one.grad._values() if one.grad.is_sparse else one.grad for one in parameters if one.grad is not None]
    norm = float(nn.utils.get_total_norm(gradients))
    # Mostly there is nothing to scale, and a pass over all gradients is saved.
    if norm > largest:
        torch._foreach_mul_(gradients, largest / (norm + 1e-6))


def _merged(table: Tensor, collected: Sequence[BagGradient], slots: np.ndarray, threads: int) -> Tensor:
    found, count = np.empty(sum(int(one.lengths.sum()) for one in collected), dtype=np.int64), 0
    for one in collected:
        count = kernels.distinct(one.ids.numpy(), one.lengths.numpy(), slots, found, count)
    rows = np.sort(found[:count])
    slots[rows] = np.arange(count, dtype=np.int32)
    sums = np.zeros((count, table.shape[1]), dtype=np.float32)
    for one in collected:
        gradient = one.gradient.float().numpy()
        kernels.add_bags(one.ids.numpy(), one.lengths.numpy(), gradient, slots, sums, threads)
    slots[rows] = -1
    return torch.sparse_coo_tensor(
        torch.from_numpy(rows)[None], torch.from_numpy(sums), table.shape, is_coalesced=True, check_invariants=False
    )
