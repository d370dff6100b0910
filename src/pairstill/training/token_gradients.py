"""Dense gradients of token embeddings whose memory is kept from step to step, and cleared row by row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from pairstill.students.encoders.token_table import TokenTable


def token_tables(module: nn.Module) -> list[TokenTable]:
    """The tables of tokens that a training step may collect gradients of: those on the CPU."""
    return [one for one in module.modules() if isinstance(one, TokenTable) and one.weight.device.type == "cpu"]


class TokenGradients:
    """Gives tables the gradients that PyTorch would, without a new array of zeros for each time that they are read.

    Args:
        tables: For one process: gradients that are collected do not reach those that several exchange.
    """

    def __init__(self, tables: Sequence[TokenTable]) -> None:
        self._tables = list(tables)
        self._kept: list[tuple[Tensor, Tensor] | None] = [None] * len(self._tables)

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Around forward and backward pass; afterwards the tables that were read have gradients, valid until the next time."""
        for one in self._tables:
            one.collected = []
        try:
            yield
            for number, one in enumerate(self._tables):
                if one.collected:
                    self._add(number, one, one.collected)
        finally:
            for one in self._tables:
                one.collected = None

    def _add(self, number: int, table: TokenTable, collected: Sequence[tuple[Tensor, Tensor]]) -> None:
        ids = torch.cat([rows for rows, _ in collected])
        total = table.weight.grad
        if total is None:
            kept = self._kept[number]
            total = torch.zeros_like(table.weight) if kept is None else kept[0].index_fill_(0, kept[1], 0)
            self._kept[number] = (total, ids)
        for rows, gradient in collected:
            if table.padding_idx is not None and (rows == table.padding_idx).any():
                gradient = gradient.masked_fill((rows == table.padding_idx)[:, None], 0)
            total.index_add_(0, rows, gradient.to(total.dtype))
        table.weight.grad = total
