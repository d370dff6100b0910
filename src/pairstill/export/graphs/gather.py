"""Gathering what was prepared of the items of tuples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding

MASKED = -1e4


def gather_tokens(array: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`array[rows][:, columns]` of `(items, tokens, dim)`, without a copy of tokens that are not among the columns."""
    places = rows[:, None] * array.shape[1] + columns
    return embedding(places, array.flatten(0, 1))


def mask_bias(lengths: Sequence[Tensor], columns: Sequence[Tensor]) -> Tensor:
    """`(tuples, 1, all columns)`: 0 for valid tokens of the joined fields, a large negative number for the others."""
    hidden = [chosen >= length[:, None] for length, chosen in zip(lengths, columns, strict=True)]
    return torch.cat(hidden, dim=1)[:, None].float() * MASKED
