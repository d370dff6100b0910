"""Search for the neighbours of a tuple set's queries, by an encoder or by BM25."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairstill.mining.embeddings import TextEncoder, write_embeddings
from pairstill.mining.neighbours import Neighbours, nearest_by_dot
from pairstill.mining.settings import MiningSettings
from pairstill.retrieval.bm25 import BM25
from pairstill.tuples import TupleSet

PAIR_BLOCK = 65_536


@dataclass(frozen=True)
class Found:
    """What the search found.

    Attributes:
        neighbours: Of the asked queries, in their order.
        given: `(rows,)` float32 similarity of each given pair; NaN where it was not computed.
    """

    neighbours: Neighbours
    given: np.ndarray


def search(
    tuple_set: TupleSet,
    query_field: int,
    passage_field: int,
    asked: np.ndarray,
    settings: MiningSettings,
    pairs: np.ndarray,
    work: Path,
    encoder: TextEncoder | None,
    progress_of: Callable[[str], Callable[[int, int], None] | None],
) -> Found:
    """The nearest passages of the query items `asked`.

    Args:
        tuple_set: The texts.
        query_field: Position of the field that asks.
        passage_field: Position of the field that is searched.
        asked: `(queries,)` int64 query items.
        settings: How to search, and how deep.
        pairs: `(rows, 2)` int64 items of given pairs, whose similarity is wanted too.
        work: Folder for vectors.
        encoder: Used instead of loading `settings.encoder`.
        progress_of: Gives the progress callable of a named step.
    """
    queries = tuple_set.texts(query_field, asked)
    passages = tuple_set.texts(passage_field)
    if settings.by == "bm25":
        found = BM25(passages).search(queries, settings.depth, progress_of("Searching"))
        neighbours = Neighbours(found.rows.astype(np.int32), found.scores)
        return Found(neighbours, np.full(len(pairs), np.nan, dtype=np.float32))
    described = {"encoder": settings.encoder, "max_length": settings.max_length}
    if encoder is None:
        from pairstill.students.encoders.pretrained import MeanPooledEncoder
        from pairstill.students.persistence import state_fingerprint

        base = MeanPooledEncoder(settings.encoder, settings.max_length)
        # A folder of that name may hold other weights tomorrow.
        encoder, described["weights"] = base, state_fingerprint(base.model.state_dict(), [])
    right = write_embeddings(
        work / "passages", passages, encoder, described, precision=settings.precision,
        progress=progress_of("Encoding passages"),
    )  # fmt: skip
    left = write_embeddings(
        work / "queries", queries, encoder, described, precision=settings.precision,
        progress=progress_of("Encoding queries"),
    )  # fmt: skip
    vectors = left[:]
    neighbours = nearest_by_dot(vectors, right, settings.depth, progress=progress_of("Searching"))
    row_of = np.full(len(tuple_set.collection_of(query_field)), -1, dtype=np.int64)
    row_of[asked] = np.arange(len(asked))
    given = np.full(len(pairs), np.nan, dtype=np.float32)
    known = np.flatnonzero(row_of[pairs[:, 0]] >= 0)
    for start in range(0, len(known), PAIR_BLOCK):
        rows = known[start : start + PAIR_BLOCK]
        query = vectors[row_of[pairs[rows, 0]]].astype(np.float32)
        given[rows] = (query * right.take(pairs[rows, 1]).astype(np.float32)).sum(axis=1)
    return Found(neighbours, given)
