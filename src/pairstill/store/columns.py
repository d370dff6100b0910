"""One array of all shards, gathered from by row."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from pairstill.errors import ArtefactError
from pairstill.store.mapping import joins, map_pieces
from pairstill.store.shard_file import STORED, FileArray

# Rows taken from one of many runs pass through a buffer of this size, which stays in cache.
BUFFER_BYTES = 1 << 18


class Column:
    """An array of all shards as if it were one; shards whose bytes end with a page lie side by side in memory.

    Args:
        parts: Of the shards, in row order, all of one type and shape but for the rows.
    """

    def __init__(self, parts: Sequence[FileArray]) -> None:
        self.stored, self.dtype, self.shape = parts[0].dtype, STORED[parts[0].dtype], parts[0].shape[1:]
        groups: list[list[FileArray]] = []
        for part in parts:
            if groups and joins(groups[-1][-1].piece, part.piece):
                groups[-1].append(part)
            else:
                groups.append([part])
        self.runs = [
            map_pieces([part.piece for part in group]).view(self.dtype).reshape(-1, *self.shape)
            if self._row_bytes()
            else np.empty((sum(part.shape[0] for part in group), *self.shape), self.dtype)
            for group in groups
        ]
        self.starts = np.array([0, *itertools.accumulate(len(run) for run in self.runs)], np.int64)

    def _row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows, checked by the caller, in their order: `(rows, ...)`."""
        out = np.empty((len(rows), *self.shape), self.dtype)
        longest = max(self.runs, key=len)
        # Taking from unaligned memory would copy all of it first.
        if 2 * len(longest) < self.starts[-1] or not longest.flags.aligned:
            self._take_grouped(rows, np.arange(len(rows)), out)
            return out
        # "clip" writes straight into `out`; rows of other runs are overwritten.
        start = int(self.starts[next(number for number, run in enumerate(self.runs) if run is longest)])
        np.take(longest, rows - start if start else rows, axis=0, out=out, mode="clip")
        if len(self.runs) > 1:
            self._take_grouped(rows, np.flatnonzero((rows < start) | (rows >= start + len(longest))), out)
        return out

    def _take_grouped(self, rows: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
        """Fill `out[places]` with the rows at these places, run by run, through a buffer that stays in cache."""
        if not places.size:
            return
        order = places[np.argsort(rows[places], kind="stable")]
        ascending = rows[order]
        edges = np.searchsorted(ascending, self.starts).tolist()
        step = max(1, BUFFER_BYTES // max(1, self._row_bytes()))
        for number, run in enumerate(self.runs):
            for first in range(edges[number], edges[number + 1], step):
                part = slice(first, min(first + step, edges[number + 1]))
                out[order[part]] = run[ascending[part] - self.starts[number]]


class RaggedColumn:
    """The entries of all items of all shards, one behind the other in each shard.

    Args:
        parts: Of the shards, in row order.
        shard_starts: `(shards + 1,)` first row of each shard, and the number of rows.
    """

    def __init__(self, parts: Sequence[FileArray], shard_starts: np.ndarray) -> None:
        self.stored, self.dtype, self.shape = parts[0].dtype, STORED[parts[0].dtype], parts[0].shape[1:]
        self._paths = [part.piece.path for part in parts]
        self._shards = [part.map() for part in parts]
        self._starts = shard_starts

    def take(self, rows: np.ndarray, offsets: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """All entries of the rows, one row behind the other: `(sum of lengths, ...)`.

        Args:
            rows: Checked by the caller.
            offsets: `(rows,)` where each begins in its shard.
            lengths: `(rows,)` entries of each.

        Raises:
            ArtefactError: A place lies outside of its shard.
        """
        out = np.empty((int(lengths.sum()), *self.shape), self.dtype)
        ends = np.cumsum(lengths)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(numbers, kind="stable")
        edges = np.searchsorted(numbers[order], np.arange(len(self._shards) + 1)).tolist()
        for number, shard in enumerate(self._shards):
            chosen = order[edges[number] : edges[number + 1]]
            if not chosen.size:
                continue
            begin, count = offsets[chosen], lengths[chosen]
            if int(begin.min()) < 0 or int((begin + count).max()) > len(shard):
                raise ArtefactError(
                    "an item lies outside of the shard", file=self._paths[number], fix="Write the store again"
                )
            out[spread(ends[chosen] - count, count)] = shard[spread(begin, count)]
        return out


def spread(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The integers from each start on, as many as its length, one run behind the other.

    Example:
        >>> spread(np.array([5, 0]), np.array([2, 3])).tolist()
        [5, 6, 0, 1, 2]
    """
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(int(ends[-1]) if len(ends) else 0)
