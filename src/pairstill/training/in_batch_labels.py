"""Which row of each query is its relevant one, where a teacher must say so."""

from __future__ import annotations

import numpy as np

from pairstill.losses import ScoreKind
from pairstill.scratch import pieces, scratch_array

NEITHER: dict[ScoreKind, float] = {"logit": 0.0, "probability": 0.5, "other": -np.inf}
"""A teacher that gives less calls a row irrelevant; a scale of its own has no such number."""


def in_batch_labels(compared: np.ndarray, scores: np.ndarray, labels: np.ndarray | None, kind: ScoreKind) -> np.ndarray:
    """Labels of all rows, for a loss that sets relevant rows against other passages.

    Decided over all rows, since a batch may hold a part of a query's. In a query without a label the teacher's best row
    is relevant, the first of several; where it is the only one, only if the teacher does not call it irrelevant (`NEITHER`). Rows
    without a label are otherwise irrelevant.

    Args:
        compared: `(rows,)` codes of the query, small numbers from 0.
        scores: `(rows,)` the teacher's.
        labels: `(rows,)` in [0, 1], NaN where a row has none; None where none has.
        kind: Of the scores.

    Returns:
        `(rows,)` float32, no NaN.
    """
    count = max((int(compared[piece].max()) for piece in pieces(len(compared))), default=-1) + 1
    best = scratch_array((count,), np.float32)
    rows = scratch_array((count,), np.int32)
    settled = np.zeros(count, bool)
    best[:], rows[:] = -np.inf, 0
    for piece in pieces(len(compared)):
        codes = compared[piece]
        np.maximum.at(best, codes, scores[piece])
        np.add.at(rows, codes, 1)
        if labels is not None:
            settled[codes[~np.isnan(labels[piece])]] = True
    settled |= (rows == 1) & (best < NEITHER[kind])
    out = scratch_array((len(compared),), np.float32)
    for piece in pieces(len(compared)):
        codes = compared[piece]
        out[piece] = 0 if labels is None else np.nan_to_num(labels[piece])
        reaching = np.flatnonzero(~settled[codes] & (scores[piece] == best[codes]))
        chosen, first = np.unique(codes[reaching], return_index=True)
        out[piece.start + reaching[first]] = 1
        settled[chosen] = True
    return out
