"""The best items of each query, found a part at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_NONE = np.iinfo(np.int64).min
_LOW = np.int64(0xFFFFFFFF)


@dataclass(frozen=True)
class Found:
    """The best items of each query, the highest score first, equal ones by id.

    Attributes:
        rows: `(queries, depth)` int64 rows of the store; -1 where fewer were found.
        scores: `(queries, depth)` float32; -inf where `rows` is -1.
    """

    rows: np.ndarray
    scores: np.ndarray


class Best:
    """Keeps the best of what is added, whatever the parts and their order.

    Args:
        queries: How many there are.
        depth: Items kept of each.
        by_id: `(items,)` rows of the store in the order of their ids: of equal scores, the first of these are kept.
    """

    def __init__(self, queries: int, depth: int, by_id: np.ndarray) -> None:
        self._by_id = by_id
        self._rank = np.empty(len(by_id), np.int64)
        self._rank[by_id] = np.arange(len(by_id))
        # A key orders by score, then by falling rank: its upper half is the float's, its lower half the rank's.
        self._keys = np.full((queries, depth), _NONE, np.int64)

    @property
    def last(self) -> np.ndarray:
        """`(queries,)` float32 score of the last item that is kept; -inf where there is room."""
        last = self._keys.min(axis=1)
        return np.where(last == _NONE, np.float32(-np.inf), _floats(last))

    def add(self, queries: np.ndarray, rows: np.ndarray, scores: np.ndarray) -> None:
        """Add scored pairs; a pair may be added once.

        Args:
            queries: `(pairs,)` numbers of the queries, ascending.
            rows: `(pairs,)` of the items.
            scores: `(pairs,)` float32, finite.
        """
        if not len(queries):
            return
        count, depth = self._keys.shape
        counts = np.bincount(queries, minlength=count)
        width = int(counts.max())
        keys = np.full((count, depth + width), _NONE, np.int64)
        keys[:, :depth] = self._keys
        keys[queries, depth + np.arange(len(queries)) - (np.cumsum(counts) - counts)[queries]] = _keys(
            scores, self._rank[rows]
        )
        self._keys = np.partition(keys, width, axis=1)[:, width:]

    def found(self) -> Found:
        """What is kept."""
        keys = np.sort(self._keys, axis=1)[:, ::-1]
        there = keys != _NONE
        rows = self._by_id[np.where(there, _LOW - (keys & _LOW), 0)]
        return Found(np.where(there, rows, -1), np.where(there, _floats(keys), np.float32(-np.inf)))


def _keys(scores: np.ndarray, rank: np.ndarray) -> np.ndarray:
    bits = (scores + np.float32(0)).view(np.int32)  # -0 becomes 0
    ordered = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
    keys: np.ndarray = (ordered.astype(np.int64) << np.int64(32)) | (_LOW - rank)
    return keys


def _floats(keys: np.ndarray) -> np.ndarray:
    bits = (keys >> np.int64(32)).astype(np.int32)
    return (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
