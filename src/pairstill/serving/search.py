"""Search in items that change: by an index as far as it reaches, exactly in what came since, without what is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.retrieval.approximate import ApproximateIndex
from pairstill.retrieval.best import Found
from pairstill.retrieval.exact import exact_search, pair_dots
from pairstill.retrieval.vectors import StoredVectors
from pairstill.store import RepresentationStore

ASK_AGAIN = 4
"""Times an index is asked for twice as many, where too many of what it found are gone; then all items are searched."""


@dataclass(frozen=True)
class Coverage:
    """Which items of a store an index covers. A store's edits keep the order of what they leave and append everything else.

    Attributes:
        items: Of the index.
        gone: `(gone,)` rows of the index whose items are deleted or replaced, ascending. Its other rows are the first items of
            the store, in order.
    """

    items: int
    gone: np.ndarray

    @property
    def covered(self) -> int:
        """Items at the beginning of the store that the index covers."""
        return self.items - len(self.gone)

    def rows(self, index_rows: np.ndarray) -> np.ndarray:
        """Rows of the store for rows of the index; -1 for those that are gone, and for -1."""
        before = np.searchsorted(self.gone, index_rows)
        gone = np.zeros(index_rows.shape, bool)
        if len(self.gone):
            gone = self.gone[np.minimum(before, len(self.gone) - 1)] == index_rows
        return np.where(gone | (index_rows < 0), -1, index_rows - before)

    def without(self, rows: np.ndarray) -> Coverage:
        """After the items at these rows of the store were deleted or replaced."""
        covered = rows[rows < self.covered]
        if not len(covered):
            return self
        shifted = self.gone - np.arange(len(self.gone))
        return replace(self, gone=np.union1d(self.gone, covered + np.searchsorted(shifted, covered, side="right")))


@dataclass(frozen=True)
class Covered:
    """An index, what it covers, and the vectors of the other items.

    Attributes:
        index: Of an earlier state of the store.
        coverage: Of the present one.
        fresh: `(items - coverage.covered, dim)` vectors of all other items, in memory.
    """

    index: ApproximateIndex
    coverage: Coverage
    fresh: np.ndarray

    @classmethod
    def of(cls, index: ApproximateIndex, coverage: Coverage, vectors: StoredVectors) -> Covered:
        """With the vectors that the index lacks, read from the store."""
        return cls(index, coverage, vectors.block(coverage.covered, len(vectors)))

    def after(self, vectors: StoredVectors, gone: np.ndarray) -> Covered:
        """After an edit.

        Args:
            vectors: Of the store after it.
            gone: Rows before the edit of the items that it deleted or replaced, ascending.
        """
        coverage = self.coverage.without(gone)
        kept = np.delete(self.fresh, gone[gone >= self.coverage.covered] - self.coverage.covered, axis=0)
        added = vectors.block(coverage.covered + len(kept), len(vectors))
        return Covered(self.index, coverage, np.concatenate([kept, added]))

    @property
    def behind(self) -> int:
        """Items that came or went since the index was built."""
        return len(self.fresh) + len(self.coverage.gone)


class ItemSearch:
    """The nearest items of one state of a store; immutable.

    Args:
        vectors: Of the store.
        covered: None searches exactly.
    """

    def __init__(self, vectors: StoredVectors, covered: Covered | None) -> None:
        self.vectors, self.covered = vectors, covered

    def search(self, queries: np.ndarray, depth: int, *, exact: bool = False) -> Found:
        """The nearest items, the most similar first, equally similar ones by id.

        Args:
            queries: `(queries, dim)` float32, as the store's vectors.
            depth: At least 1.
            exact: Whether to compare with every item, although there is an index.
        """
        queries, depth = np.ascontiguousarray(queries, dtype=np.float32), min(depth, len(self.vectors))
        if not depth or not len(queries):
            return Found(np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
        rows = None if exact or self.covered is None else self._candidates(self.covered, queries, depth)
        if rows is None:
            rows = _nearest(queries, self.vectors, depth, lambda: self.vectors.by_id)
        return self._best(queries, rows, depth)

    def _candidates(self, covered: Covered, queries: np.ndarray, depth: int) -> np.ndarray | None:
        """`(queries, many)` rows, -1 in between; None where too much of what the index finds is gone."""
        coverage = covered.coverage
        wanted = min(depth, coverage.covered)
        asked = min(
            depth + 2 * depth * len(coverage.gone) // coverage.items + min(8, len(coverage.gone)), coverage.items
        )
        rows = np.empty((len(queries), 0), np.int64)
        for _ in range(ASK_AGAIN if wanted else 0):
            rows = coverage.rows(covered.index.search(queries, asked).rows)
            if ((rows >= 0).sum(axis=1) >= wanted).all():
                break
            asked = min(2 * asked, coverage.items)
        else:
            if wanted:
                return None
        if len(covered.fresh):
            fresh = _nearest(queries, covered.fresh, depth, lambda: self._fresh_by_id(coverage.covered))
            rows = np.concatenate([rows, fresh + coverage.covered], axis=1)
        return rows

    def _fresh_by_id(self, covered: int) -> np.ndarray:
        return np.asarray(pc.sort_indices(self.vectors.ids_at(np.arange(covered, len(self.vectors))))).astype(np.int64)

    def _best(self, queries: np.ndarray, rows: np.ndarray, depth: int) -> Found:
        """The best of some rows, scored by the sum that exact search uses: an index sums in another order."""
        query, place = np.nonzero(rows >= 0)
        distinct, where = np.unique(rows[query, place], return_inverse=True)
        scores = pair_dots(queries, self.vectors.take(distinct), query, where)
        order = np.lexsort((ranks(self.vectors.ids_at(distinct))[where], -scores, query))
        starts = np.searchsorted(query, np.arange(len(queries)))
        rank = np.arange(len(query)) - starts[query]
        best = Found(np.full((len(queries), depth), -1), np.full((len(queries), depth), -np.inf, np.float32))
        kept = rank < depth
        best.rows[query[kept], rank[kept]] = distinct[where[order[kept]]]
        best.scores[query[kept], rank[kept]] = scores[order[kept]]
        return best


def _nearest(
    queries: np.ndarray, vectors: np.ndarray | StoredVectors, depth: int, by_id: Callable[[], np.ndarray]
) -> np.ndarray:
    """`(queries, depth)` rows of the nearest by exact search.

    Sorting all ids takes longer than a search, so they are sorted only where items tie for the last place.
    """
    found = exact_search(queries, _Ordered(vectors, np.arange(len(vectors))), depth + 1)
    if found.rows.shape[1] > depth and (found.scores[:, depth - 1] == found.scores[:, depth]).any():
        found = exact_search(queries, _Ordered(vectors, by_id()), depth)
    return found.rows[:, :depth]


@dataclass(frozen=True)
class _Ordered:
    """Vectors, and rows in the order in which equal ones are returned."""

    vectors: np.ndarray | StoredVectors
    by_id: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)

    def block(self, start: int, stop: int) -> np.ndarray:
        return self.vectors[start:stop] if isinstance(self.vectors, np.ndarray) else self.vectors.block(start, stop)


def ranks(ids: pa.Array) -> np.ndarray:
    """Place of each id in their order."""
    out = np.empty(len(ids), np.int64)
    out[np.asarray(pc.sort_indices(ids))] = np.arange(len(ids))
    return out


def searchable(store: RepresentationStore) -> bool:
    """Whether a store keeps one vector an item."""
    return store.stride == "fixed" and store.tokens == 1 and store.dim is not None and store.has_ids
