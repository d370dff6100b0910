"""The nearest passages of queries, exactly, in memory that does not grow with queries x passages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

QUERY_BLOCK = 2_048
PASSAGE_BLOCK = 8_192


@dataclass(frozen=True)
class Neighbours:
    """Nearest passages, the best first; equal similarities by passage number.

    Attributes:
        items: `(queries, depth)` int32 passage numbers; -1 where a query has fewer.
        similarities: `(queries, depth)` float32; -inf where `items` is -1.
    """

    items: np.ndarray
    similarities: np.ndarray


def nearest_by_dot(
    queries: np.ndarray,
    passages: np.ndarray | Blocks,
    depth: int,
    *,
    query_block: int = QUERY_BLOCK,
    passage_block: int = PASSAGE_BLOCK,
    progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """Exact nearest neighbours by dot product.

    One block of similarities is held at a time (64 MiB with the default sizes), besides the result; the whole matrix
    never exists. `passages` may be a memory map.

    Args:
        queries: `(queries, dim)` floats.
        passages: `(passages, dim)` floats, or an object with `len` and row slices.
        depth: Neighbours a query.
        query_block: Queries at a time.
        passage_block: Passages at a time.
        progress: Called with (queries done, in all).
    """
    from pairstill.retrieval.exact import exact_search

    found = exact_search(
        np.asarray(queries), _InOrder(passages), depth, block_rows=passage_block, block_queries=query_block,
        progress=progress,
    )  # fmt: skip
    return Neighbours(found.rows.astype(np.int32), found.scores)


class _InOrder:
    """Passages for `exact_search`; equal similarities keep their order."""

    def __init__(self, passages: np.ndarray | Blocks) -> None:
        self.passages, self.by_id = passages, np.arange(len(passages))

    def __len__(self) -> int:
        return len(self.passages)

    def block(self, start: int, stop: int) -> np.ndarray:
        return np.asarray(self.passages[start:stop]).astype(np.float32)


class Blocks:
    """Rows of several arrays one after the other, read by slices, so that shards on disk look like one matrix."""

    def __init__(self, parts: list[np.ndarray]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        """Rows in all."""
        return int(self.starts[-1])

    def __getitem__(self, rows: slice) -> np.ndarray:
        """The rows of a slice without step."""
        start, stop, _ = rows.indices(len(self))
        found = [
            part[max(start - offset, 0) : stop - offset]
            for part, offset in zip(self.parts, self.starts, strict=False)
            if offset < stop and offset + len(part) > start
        ]
        return np.concatenate(found) if found else self.parts[0][:0]

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows by number, in the order asked for."""
        out = np.empty((len(rows), self.parts[0].shape[1]), dtype=self.parts[0].dtype)
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(owner):
            here = owner == number
            out[here] = self.parts[number][rows[here] - self.starts[number]]
        return out
