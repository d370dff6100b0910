"""Bags of n-grams: one sum of embeddings a text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

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


class BagEncoder(nn.Module):
    """Sums the embeddings of a text's n-grams (BERT2DNN); the count is kept beside the sum, so bags can be joined.

    Args:
        entries: Number of n-grams.
        dim: Of an embedding.
    """

    def __init__(self, entries: int, dim: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(entries, dim, mode="sum", sparse=True)
        nn.init.normal_(self.table.weight, std=dim**-0.5)

    def forward(self, ids: Tensor, lengths: Tensor) -> Representation[Tensor]:
        """Of `(items, n-grams)` ids: vectors `(items, 1, dim)` are the sums, scalars `(items, 1)` the counts."""
        valid = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        sums = self.table(ids[valid], lengths.cumsum(0) - lengths)
        return Representation(sums[:, None], torch.ones_like(lengths), scalars=lengths[:, None].float())
