"""Exact nearest neighbours by dot product: blocked matrix products find candidates, one fixed sum scores them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from pairstill.retrieval.best import Best, Found

BLOCK_ROWS = 8192
BLOCK_QUERIES = 1024
PAIR_NUMBERS = 1 << 17
"""Numbers of either side that are gathered at a time to score candidates: they stay in the cache."""
LONG_RUN = 32
"""Pairs of one query from which on its vector is read in place."""


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
    candidates are scored by `pair_dots`. So the result, its numbers to the bit, is the same for any block size.

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
            best.add(query, first + row, pair_dots(left, right, query, row))
            done += len(left) * (stop - first)
            if progress is not None:
                progress(done // len(items), len(queries))
        parts.append(best.found())
    if not parts:
        return Found(np.empty((0, depth), np.int64), np.empty((0, depth), np.float32))
    return Found(np.concatenate([one.rows for one in parts]), np.concatenate([one.scores for one in parts]))


def _candidates(left: np.ndarray, right: np.ndarray, last: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs, ascending by query, that may be among the best: none that is one of them is left out."""
    similar = left @ right.T
    # A sum of n products is off by at most n * 2^-24 of the product of the lengths, here and in `pair_dots`.
    margin = left.shape[1] * 2.0**-23 * np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1).max(initial=0)
    chosen = similar >= (last - margin)[:, None]
    many = np.flatnonzero(chosen.sum(axis=1) > 2 * depth)
    if len(many):
        place = similar.shape[1] - depth
        nth = np.partition(similar[many], place, axis=1)[:, place]
        chosen[many] &= similar[many] >= (nth - 2 * margin[many])[:, None]
    query, row = np.nonzero(chosen)
    return np.ascontiguousarray(query), np.ascontiguousarray(row)


def pair_dots(left: np.ndarray, right: np.ndarray, query: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Dot products of pairs, each summed in one order whatever the other pairs are; fastest where a query's follow each other.

    Args:
        left: `(queries, dim)` float32.
        right: `(items, dim)` float32.
        query: `(pairs,)` rows of `left`.
        row: `(pairs,)` rows of `right`.

    Returns:
        `(pairs,)` float32.
    """
    dots = np.empty(len(row), np.float32)
    step = max(1, PAIR_NUMBERS // max(1, left.shape[1]))
    starts = np.flatnonzero(np.diff(query, prepend=-1))
    if len(row) < LONG_RUN * len(starts):
        for start in range(0, len(row), step):
            part = slice(start, start + step)
            np.vecdot(right[row[part]], left[query[part]], out=dots[part])
        return dots
    for begin, end in itertools.pairwise([*starts.tolist(), len(row)]):
        for start in range(begin, end, step):
            part = slice(start, min(start + step, end))
            np.vecdot(right[row[part]], left[query[begin]], out=dots[part])
    return dots
