"""The nearest passages of queries, exactly, in memory that does not grow with queries x passages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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


def nearest_by_bm25(
    queries: Iterable[str],
    query_count: int,
    passages: list[str],
    depth: int,
    progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """Nearest passages by BM25 (bm25s, Lucene's form); a passage that shares no word with the query is none.

    Memory: the index, and one number a passage.

    Raises:
        MissingExtraError: bm25s is not installed.
    """
    try:
        import bm25s
    except ImportError:
        from pairstill.errors import MissingExtraError

        raise MissingExtraError("bm25s", "train") from None
    depth = min(depth, len(passages))
    items = np.full((query_count, depth), -1, dtype=np.int32)
    similarities = np.full((query_count, depth), -np.inf, dtype=np.float32)
    retriever = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    retriever.index(bm25s.tokenize(passages, stopwords=None, show_progress=False), show_progress=False)
    for number, query in enumerate(queries):
        tokens = bm25s.tokenize(query, stopwords=None, return_ids=False, show_progress=False)[0]
        known = [token for token in tokens if token in retriever.vocab_dict]
        if known:
            scores = np.asarray(retriever.get_scores(known), dtype=np.float32)
            found = _top(scores, depth)
            items[number, : len(found)] = found
            similarities[number, : len(found)] = scores[found]
        if progress is not None:
            progress(number + 1, query_count)
    return Neighbours(items, similarities)


def _top(scores: np.ndarray, depth: int) -> np.ndarray:
    """Numbers of the `depth` highest positive scores, the best first, equal ones by number."""
    if depth < len(scores):
        least = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        candidates = np.flatnonzero((scores >= least) & (scores > 0))
    else:
        candidates = np.flatnonzero(scores > 0)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:depth]
