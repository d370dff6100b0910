"""Which tuples of a batch stand beside which: pairs and lists of a group."""

from __future__ import annotations

import torch
from torch import Tensor


def group_pairs(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Every unordered pair of tuples of a group, once.

    Args:
        groups: `(tuples,)` integers.

    Returns:
        Two `(pairs,)` tensors of positions; empty where no group has two tuples.
    """
    order = torch.argsort(groups, stable=True)
    counts = torch.unique_consecutive(groups[order], return_counts=True)[1]
    position = torch.arange(len(groups), device=groups.device)
    later = torch.repeat_interleave(counts.cumsum(0), counts) - 1 - position
    left = torch.repeat_interleave(position, later)
    ordinal = torch.arange(len(left), device=groups.device) - torch.repeat_interleave(later.cumsum(0) - later, later)
    return order[left], order[left + 1 + ordinal]


def ordered_pairs(groups: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of a group with the greater value first; equal values make no pair, nor do NaNs."""
    left, right = group_pairs(groups)
    swap = values[left] < values[right]
    better, worse = torch.where(swap, right, left), torch.where(swap, left, right)
    kept = values[better] > values[worse]
    return better[kept], worse[kept]


def group_lists(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Groups as rows of a rectangle.

    Args:
        groups: `(tuples,)` integers, at least one.

    Returns:
        Positions `(lists, longest)` (0 beyond a list's end) and a mask of the same shape, true where there is a tuple.
    """
    order = torch.argsort(groups, stable=True)
    counts = torch.unique_consecutive(groups[order], return_counts=True)[1]
    column = torch.arange(int(counts.max()), device=groups.device)
    mask = column < counts[:, None]
    places = ((counts.cumsum(0) - counts)[:, None] + column).masked_fill(~mask, 0)
    return order[places].masked_fill(~mask, 0), mask
