"""Bags of n-grams: one sum of embeddings a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from pairstill.representation import Representation


@dataclass(frozen=True)
class BagEncoderConfig:
    """N-grams of the texts, and their embeddings.

    Attributes:
        dim: Of an n-gram's embedding.
        vocabulary: N-grams that are learned at most: the most frequent of the training texts.
        minimum_count: How often an n-gram must occur in the distinct training texts.
        hash_buckets: Hash n-grams into so many buckets, with no vocabulary; None learns one.
        bigrams: Pairs of neighbouring words beside the single words.
        split_punctuation: ASCII punctuation marks are words of their own; False splits at white space alone (the paper's
            code).
        shared: One table of embeddings for all fields, or one each.
        max_lengths: Words read per field; one number serves all fields.
    """

    dim: int = 64
    vocabulary: int = 150_000
    minimum_count: int = 2
    hash_buckets: int | None = None
    bigrams: bool = True
    split_punctuation: bool = False
    shared: bool = True
    max_lengths: tuple[int, ...] = (256,)


@dataclass(frozen=True)
class BagGradient:
    """What the gradients of a table's rows are made from.

    Attributes:
        ids: `(bags, longest)` int64 rows that were read, padded.
        lengths: `(bags,)` int64 how many each bag reads.
        gradient: `(bags, dim)` with respect to the sums: that of every entry of the bag.
    """

    ids: Tensor
    lengths: Tensor
    gradient: Tensor


class BagTable(nn.EmbeddingBag):
    """Embeddings whose sums are read, and whose gradients hold the rows that were read.

    PyTorch writes a gradient for every entry, several megabytes a batch, to add the equal ones afterwards. Where somebody
    collects (`pairstill.training.row_updates`), a backward pass leaves a `BagGradient` instead.

    Attributes:
        collected: None, or what backward passes append to in place of giving the table a gradient.
    """

    def __init__(self, entries: int, dim: int) -> None:
        super().__init__(entries, dim, mode="sum", sparse=True)
        self.collected: list[BagGradient] | None = None

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        """Sums `(bags, dim)` of the rows `ids (bags, longest)`, of which each bag reads the first `lengths (bags,)`."""
        if self.collected is None:
            valid = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
            return super().forward(ids[valid], lengths.cumsum(0) - lengths)
        sums: Tensor = _Sums.apply(self.weight, ids, lengths, self.collected)  # type: ignore[no-untyped-call]
        return sums


class _Sums(Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor, lengths: Tensor, collected: list[BagGradient]) -> Tensor:
        from pairstill.students.encoders.bag_kernels import sum_bags

        if ids.numel() and int(ids.max()) >= len(table):
            raise IndexError(f"a bag reads row {int(ids.max())} of a table of {len(table)}")
        ctx.save_for_backward(ids, lengths)
        ctx.collected = collected
        sums = table.new_empty(len(ids), table.shape[1])
        sum_bags(ids.numpy(), lengths.numpy(), table.numpy(), sums.numpy())
        return sums

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, None]:
        ids, lengths = ctx.saved_tensors
        ctx.collected.append(BagGradient(ids, lengths, gradients[0]))
        return None, None, None, None


class BagEncoder(nn.Module):
    """Sums the embeddings of a text's n-grams (BERT2DNN); the count is kept beside the sum, so bags can be joined.

    Args:
        entries: Number of n-grams.
        dim: Of an embedding.
    """

    def __init__(self, entries: int, dim: int) -> None:
        super().__init__()
        self.table = BagTable(entries, dim)
        nn.init.normal_(self.table.weight, std=dim**-0.5)

    def forward(self, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """Of `(items, n-grams)` ids: vectors `(items, 1, dim)` are the sums, scalars `(items, 1)` the counts."""
        sums = self.table(ids, lengths)
        return Representation(sums[:, None], torch.ones_like(lengths), scalars=lengths[:, None].float())
