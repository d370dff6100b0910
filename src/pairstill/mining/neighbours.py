"""The k nearest passages of each query, exactly, without ever holding all similarities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Neighbours:
    """Nearest items of each query, nearest first.

    Attributes:
        items: `(queries, k)` int64 rows of the searched collection; -1 where there are fewer than k.
        similarities: `(queries, k)` float32; -inf where there is no item.
    """

    items: np.ndarray
    similarities: np.ndarray


def dense_neighbours(
    queries: np.ndarray,
    passages: np.ndarray,
    k: int,
    *,
    query_block: int = 512,
    passage_block: int = 65_536,
    progress: Progress | None = None,
) -> Neighbours:
    """Exact search by dot product in blocks of queries by passages; ties go to the earlier passage.

    Args:
        queries: `(queries, dim)` float.
        passages: `(passages, dim)` float, possibly mapped from disk in float16.
        k: Neighbours per query.
        query_block: Queries at once; with `passage_block` it bounds the memory.
        passage_block: Passages at once.
        progress: Called with (queries done, queries).
    """
    count = min(k, len(passages))
    items = np.full((len(queries), k), -1, dtype=np.int64)
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for low in range(0, len(passages), passage_block):
        block = np.asarray(passages[low : low + passage_block], dtype=np.float32).T
        for start in range(0, len(queries), query_block):
            rows = slice(start, min(start + query_block, len(queries)))
            similarities = np.asarray(queries[rows], dtype=np.float32) @ block
            keep = min(count, block.shape[1])
            part = (
                np.argpartition(-similarities, keep - 1, axis=1)[:, :keep]
                if keep < block.shape[1]
                else np.arange(keep)[None]
            )
            part = np.broadcast_to(part, (similarities.shape[0], keep))
            values = np.concatenate([best[rows], np.take_along_axis(similarities, part, axis=1)], axis=1)
            numbers = np.concatenate([items[rows], part + low], axis=1)
            order = np.lexsort((np.where(numbers < 0, np.iinfo(np.int64).max, numbers), -values), axis=1)[:, :k]
            best[rows] = np.take_along_axis(values, order, axis=1)
            items[rows] = np.take_along_axis(numbers, order, axis=1)
            if progress is not None:
                done = low * len(queries) + rows.stop * block.shape[1]
                progress(done // max(len(passages), 1), len(queries))
    return Neighbours(items, best)


def bm25_neighbours(
    queries: Sequence[str], passages: Sequence[str], k: int, *, progress: Progress | None = None
) -> Neighbours:
    """The k best passages by BM25 (Lucene's variant, English stop words left out); unmatched places are -1."""
    import bm25s

    retriever = bm25s.BM25()
    retriever.index(bm25s.tokenize(list(passages), stopwords="en", show_progress=False), show_progress=False)
    items = np.full((len(queries), k), -1, dtype=np.int64)
    best = np.full((len(queries), k), -np.inf, dtype=np.float32)
    count = min(k, len(passages))
    for start in range(0, len(queries), 1024):
        tokens = bm25s.tokenize(
            list(queries[start : start + 1024]), stopwords="en", return_ids=False, show_progress=False
        )
        found, scores = retriever.retrieve(tokens, k=count, show_progress=False)
        hit = scores > 0
        items[start : start + 1024, :count] = np.where(hit, found, -1)
        best[start : start + 1024, :count] = np.where(hit, scores, -np.inf)
        if progress is not None:
            progress(min(start + 1024, len(queries)), len(queries))
    return Neighbours(items, best)
