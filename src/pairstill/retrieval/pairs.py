"""Search by scoring pairs: every item, or candidates of a first stage, by any head; MaxSim and other late interaction too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from pairstill.errors import ArtefactError, InputError
from pairstill.representation import Representation
from pairstill.retrieval.best import Best, Found
from pairstill.scoring.fast_head import FastHead, runs_fast
from pairstill.store import RepresentationStore
from pairstill.students import Student

BLOCK_ITEMS = 1024
BLOCK_QUERIES = 64

Progress = Callable[[int, int], None]


class PairScorer:
    """Float32 logits of pairs: by the head's fast form where there is one, otherwise by the student itself.

    Args:
        student: Of two fields and one output.
        query_field: Position of the field that asks.

    Raises:
        InputError: The student has other fields or outputs.
    """

    def __init__(self, student: Student, query_field: int) -> None:
        check_two_fields(student)
        self.student, self.query_field = student.eval(), query_field
        self._fast = FastHead.of(student) if runs_fast(student) else None

    def prepare(self, field: int, representation: Representation[Any]) -> Any:
        """What depends on one item alone."""
        if self._fast is not None:
            return self._fast.prepare(field, representation)
        with torch.inference_mode():
            return self.student.prepare(field, representation)

    def score(self, queries: Any, items: Any, query: np.ndarray, item: np.ndarray) -> np.ndarray:
        """`(pairs,)` logits of places in what was prepared.

        Raises:
            ArtefactError: A logit is no finite number.
        """
        prepared = [queries, items] if self.query_field == 0 else [items, queries]
        index = np.stack([query, item] if self.query_field == 0 else [item, query], axis=1)
        logits = (
            self._fast.score(prepared, index)[:, 0] if self._fast is not None else self._by_student(prepared, index)
        )
        if not np.isfinite(logits).all():
            raise ArtefactError("the student gives a logit that is no finite number", fix="Look at student and store")
        return logits

    def cross(self, queries: Representation[np.ndarray]) -> Callable[[Any, int], np.ndarray]:
        """Prepare queries once; what comes back gives `(queries, items)` logits of so many prepared items."""
        count = len(queries)
        if self._fast is not None:
            left = self.prepare(self.query_field, queries)

            def all_at_once(items: Any, size: int) -> np.ndarray:
                query, item = np.repeat(np.arange(count), size), np.tile(np.arange(size), count)
                return self.score(left, items, query, item).reshape(count, size)

            return all_at_once
        lefts = [self.prepare(self.query_field, queries.take(slice(number, number + 1))) for number in range(count)]

        def one_by_one(items: Any, size: int) -> np.ndarray:
            # Whole rows of one query: MaxSim then compares it with all items in one product.
            places = np.arange(size)
            return np.stack([self.score(left, items, np.zeros_like(places), places) for left in lefts])

        return one_by_one

    def _by_student(self, prepared: Sequence[Any], index: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self.student.score_buckets(prepared, torch.from_numpy(index))[:, 0].float().numpy()
        return logits


def check_two_fields(student: Student) -> None:
    """Raise `InputError` unless a query of one field ranks items of the other by one number."""
    if student.field_count != 2 or student.outputs != 1:
        raise InputError(
            f"the student takes {student.field_count} fields and gives {student.outputs} outputs",
            expected="two fields and one output: a query and what is searched",
        )


def rows_by_id(store: RepresentationStore) -> np.ndarray:
    """Rows of a store with ids in the order of these."""
    return np.asarray(pc.sort_indices(store.ids)).astype(np.int64)


def search_all(
    scorer: PairScorer,
    queries: Representation[np.ndarray],
    store: RepresentationStore,
    by_id: np.ndarray,
    depth: int,
    progress: Progress | None = None,
) -> Found:
    """The best items of every query, by scoring every item of a store.

    Args:
        scorer: Of the student.
        queries: Encoded.
        store: Of the items; read block by block, once for every 64 queries.
        by_id: Rows in the order of their ids.
        depth: Items kept of a query.
        progress: Called with (queries done, in all).
    """
    depth, done, parts = min(depth, len(store)), 0, []
    for start in range(0, len(queries), BLOCK_QUERIES):
        block = queries.take(slice(start, start + BLOCK_QUERIES))
        logits_of, best = scorer.cross(block), Best(len(block), depth, by_id)
        for first in range(0, len(store), BLOCK_ITEMS):
            rows = np.arange(first, min(first + BLOCK_ITEMS, len(store)))
            items = scorer.prepare(1 - scorer.query_field, store.gather_tensors(rows, torch.float32))
            logits = logits_of(items, len(rows))
            best.add(np.repeat(np.arange(len(block)), len(rows)), np.tile(rows, len(block)), logits.ravel())
            done += logits.size
            if progress is not None:
                progress(done // len(store), len(queries))
        parts.append(best.found())
    return Found(np.concatenate([one.rows for one in parts]), np.concatenate([one.scores for one in parts]))


def score_candidates(
    scorer: PairScorer,
    queries: Representation[np.ndarray],
    store: RepresentationStore,
    by_id: np.ndarray,
    candidates: Sequence[np.ndarray],
    depth: int,
    progress: Progress | None = None,
) -> Found:
    """The best of each query's candidates.

    Args:
        scorer: Of the student.
        queries: Encoded.
        store: Of the items.
        by_id: Rows in the order of their ids.
        candidates: Per query, distinct rows of the store; a query may have none.
        depth: Items kept of a query.
        progress: Called with (queries done, in all).
    """
    best = Best(len(queries), min(depth, max((len(one) for one in candidates), default=0)), by_id)
    scores = [np.empty(0, np.float32)]
    for number, rows in enumerate(candidates):
        left = scorer.prepare(scorer.query_field, queries.take(slice(number, number + 1)))
        for first in range(0, len(rows), BLOCK_ITEMS):
            part = rows[first : first + BLOCK_ITEMS]
            right = scorer.prepare(1 - scorer.query_field, store.gather_tensors(part, torch.float32))
            scores.append(scorer.score(left, right, np.zeros(len(part), np.int64), np.arange(len(part))))
        if progress is not None:
            progress(number + 1, len(queries))
    asked = np.repeat(np.arange(len(queries)), [len(one) for one in candidates])
    best.add(asked, np.concatenate([np.empty(0, np.int64), *candidates]), np.concatenate(scores))
    return best.found()
