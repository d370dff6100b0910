"""BM25 over a collection's texts: the first stage that no student has to be trained for."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pairstill.errors import InputError, MissingExtraError
from pairstill.machine import describe
from pairstill.retrieval.best import Found
from pairstill.retrieval.run import write_run
from pairstill.retrieval.search import Queries
from pairstill.store.ids import as_ids
from pairstill.tokens.words import words

K1, B = 1.5, 0.75
BLOCK_QUERIES = 256


@dataclass(frozen=True)
class Items:
    """What is searched.

    Attributes:
        ids: Distinct strings or integers.
        texts: As many.
        name: Of their field.
    """

    ids: pa.Array
    texts: Sequence[str]
    name: str


@dataclass(frozen=True)
class WordsSearched:
    """What a search by words did.

    Attributes:
        queries: How many.
        items: How many.
        rows: Of the run.
        without_items: Queries that share no word with any item.
        index_s: Seconds of indexing.
        searched_per_s: Queries a second after that.
    """

    queries: int
    items: int
    rows: int
    without_items: int
    index_s: float
    searched_per_s: float


class BM25:
    """Texts indexed by their `words` (bm25s, Lucene's form, k1 1.5, b 0.75), as BM25 among the floors reads them.

    Args:
        texts: What is searched.

    Raises:
        MissingExtraError: bm25s is not installed.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        try:
            import bm25s
        except ImportError:
            raise MissingExtraError("bm25s", "train") from None
        read = [words(text) for text in texts]
        self._count, self._index = len(texts), bm25s.BM25(method="lucene", k1=K1, b=B)
        self._known = {word for text in read for word in text}
        if self._known:
            self._index.index(read, show_progress=False)

    def search(self, queries: Sequence[str], depth: int, progress: Callable[[int, int], None] | None = None) -> Found:
        """The best texts of each query, equal ones by number; a text that shares no word with a query is none.

        Args:
            queries: Texts.
            depth: Texts of each, at most.
            progress: Called with (queries done, in all).
        """
        depth, count = min(depth, self._count), len(queries)
        rows = np.full((count, depth), -1, dtype=np.int64)
        scores = np.full((count, depth), -np.inf, dtype=np.float32)
        for number, query in enumerate(queries):
            known = [word for word in words(query) if word in self._known]
            if known:
                found = np.asarray(self._index.get_scores(known), dtype=np.float32)
                best = _top(found, depth)
                rows[number, : len(best)], scores[number, : len(best)] = best, found[best]
            if progress is not None:
                progress(number + 1, count)
        return Found(rows, scores)


def search_words(
    items: Items, queries: Queries, out: str | Path, depth: int = 1000, progress: Callable[[int, int], None] | None = None
) -> WordsSearched:  # fmt: skip
    """Find the best items of every query by BM25 and write the run.

    Args:
        items: Texts that are searched; they are indexed now.
        queries: Texts that ask.
        out: Folder of the run.
        depth: Items returned for a query.
        progress: Called with (queries done, in all).

    Raises:
        InputError: Queries or items are none, or no texts.
        MissingExtraError: bm25s is not installed.
    """
    if queries.kind != "text":
        raise InputError(
            f"the field '{queries.name}' is of kind {queries.kind}", expected="text, of which BM25 reads words"
        )
    if not len(queries.texts) or not len(items.texts):
        raise InputError(
            f"there are {len(queries.texts):,} queries and {len(items.texts):,} items", expected="at least one of each"
        )
    asked, ids = as_ids(queries.ids), as_ids(items.ids)
    body: dict[str, Any] = {
        "way": "bm25", "bm25": {"method": "lucene", "k1": K1, "b": B}, "items": len(ids), "queries": len(asked), "depth": depth,
    }  # fmt: skip
    began = time.perf_counter()
    index = BM25(items.texts)
    index_s, search_s, without = time.perf_counter() - began, 0.0, 0
    with write_run(Path(out), (queries.name, items.name), (asked.type, ids.type), "bm25", body) as writer:
        for start in range(0, len(asked), BLOCK_QUERIES):
            part = queries.texts[start : start + BLOCK_QUERIES]
            began = time.perf_counter()
            found = index.search(part, depth)
            search_s += time.perf_counter() - began
            writer.write(asked.slice(start, len(part)), found, ids.take(pa.array(found.rows[found.rows >= 0])))
            without += int((found.rows[:, 0] < 0).sum())
            if progress is not None:
                progress(start + len(part), len(asked))
        per_s = len(asked) / search_s
        body["speed"] = {"index_s": round(index_s, 3), "searched_per_s": round(per_s, 3), "machine": describe()}
        return WordsSearched(len(asked), len(ids), writer.rows, without, index_s, per_s)


def _top(scores: np.ndarray, depth: int) -> np.ndarray:
    """Numbers of the `depth` highest positive scores, the best first, equal ones by number."""
    if depth < len(scores):
        least = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        candidates = np.flatnonzero((scores >= least) & (scores > 0))
    else:
        candidates = np.flatnonzero(scores > 0)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:depth]
