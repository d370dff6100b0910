"""The token embeddings of a transformer, of which a training step reads few rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function


class TokenTable(nn.Embedding):
    """Embeddings of tokens whose gradients can be kept as the rows that were read.

    PyTorch writes a gradient as large as the table, most of it zeros, for every time that it is read: a tenth of a training
    step on a CPU. Where somebody collects (`pairstill.training.token_gradients`), a backward pass leaves ids and gradients
    instead.

    Attributes:
        collected: None, or what backward passes append `(ids, gradients)` to in place of giving the table a gradient.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__(
            embedding.num_embeddings, embedding.embedding_dim, embedding.padding_idx, _weight=embedding.weight.detach()
        )
        self.weight = embedding.weight
        self.collected: list[tuple[Tensor, Tensor]] | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """`(..., dim)` of ids of any shape."""
        if self.collected is None or not self.weight.requires_grad or not torch.is_grad_enabled():
            return super().forward(ids)
        rows: Tensor = _Rows.apply(self.weight, ids, self.collected)  # type: ignore[no-untyped-call]
        return rows


def keep_token_table(model: Any) -> None:
    """Put a `TokenTable` in the place of a transformer's token embeddings, where it has plain ones."""
    found = model.get_input_embeddings()
    if type(found) is nn.Embedding:
        model.set_input_embeddings(TokenTable(found))


class _Rows(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, collected: list[tuple[Tensor, Tensor]]) -> Tensor:
        ctx.ids, ctx.collected = ids, collected
        return nn.functional.embedding(ids, table)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ctx.collected.append((ctx.ids.flatten(), gradients[0].flatten(0, -2)))
        return None, None, None
