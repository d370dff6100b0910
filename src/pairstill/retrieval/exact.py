"""Exact nearest neighbours by dot product: blocked matrix products find candidates, one fixed kernel scores them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch

from pairstill.retrieval.best import Best, Found
from pairstill.scoring import kernels

BLOCK_ROWS = 8192
BLOCK_QUERIES = 1024


class Vectors(Protocol):
    """Vectors that are searched, such as `StoredVectors`."""

    @property
    def by_id(self) -> np.ndarray:
        """`(items,)` rows in the order in which items of equal similarity are returned."""

    def __len__(self) -> int:
        """Number of items."""

    def block(self, start: int, stop: int) -> np.ndarray:
        """`(stop - start, dim)` float32."""


def exact_search(
    queries: np.ndarray,
    items: Vectors,
    depth: int,
    *,
    block_rows: int = BLOCK_ROWS,
    block_queries: int = BLOCK_QUERIES,
    progress: Callable[[int, int], None] | None = None,
) -> Found:
    """The `depth` nearest items of every query, by dot product.

    Memory: about `block_queries * (block_rows + 4 * depth)` numbers besides the result; items are read a block at a time. The
    last bits of a matrix product depend on its shape, so products only choose candidates, with a margin for their rounding;
    candidates are scored by one kernel. So the result, its numbers to the bit, is the same for any block size.

    Args:
        queries: `(queries, dim)` float32.
        items: What is searched.
        depth: At least 1; no more than there are items are found.
        block_rows: Items at a time.
        block_queries: Queries at a time.
        progress: Called with (queries done, in all).
    """
    depth, done, parts = min(depth, len(items)), 0, []
    for start in range(0, len(queries), block_queries):
        left = np.ascontiguousarray(queries[start : start + block_queries], dtype=np.float32)
        best = Best(len(left), depth, items.by_id)
        for first in range(0, len(items), block_rows):
            stop = min(first + block_rows, len(items))
            right = items.block(first, stop)
            query, row = _candidates(left, right, best.last, depth)
            dots = np.zeros((len(row), 1), np.float32)
            kernels.add_dots(left, right, query, row, np.ones(1, np.float32), dots)
            best.add(query, first + row, dots[:, 0])
            done += len(left) * (stop - first)
            if progress is not None:
                progress(done // len(items), len(queries))
        parts.append(best.found())
    if not parts:
        return Found(np.empty((0, depth), np.int64), np.empty((0, depth), np.float32))
    return Found(np.concatenate([one.rows for one in parts]), np.concatenate([one.scores for one in parts]))


def _candidates(left: np.ndarray, right: np.ndarray, last: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs, ascending by query, that may be among the best: none that is one of them is left out."""
    similar = (torch.from_numpy(left) @ torch.from_numpy(right).T).numpy()
    # A sum of n products is off by at most n * 2^-24 of the product of the lengths, here and in the kernel.
    margin = left.shape[1] * 2.0**-23 * np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1).max(initial=0)
    chosen = similar >= (last - margin)[:, None]
    many = np.flatnonzero(chosen.sum(axis=1) > 2 * depth)
    if len(many):
        place = similar.shape[1] - depth
        nth = np.partition(similar[many], place, axis=1)[:, place]
        chosen[many] &= similar[many] >= (nth - 2 * margin[many])[:, None]
    query, row = np.nonzero(chosen)
    return np.ascontiguousarray(query), np.ascontiguousarray(row)


def load_kernel() -> None:
    """Compile the kernel, or load it compiled, so that what is timed next does not count it."""
    one = np.ones((1, 1), np.float32)
    kernels.add_dots(one, one, np.zeros(1, np.int64), np.zeros(1, np.int64), one[0], np.zeros((1, 1), np.float32))
