"""What a linear model reads from one kept vector."""

from __future__ import annotations

import numpy as np

from pairstill.evaluation.analyses.kept import Encoded
from pairstill.metrics.base import Floats, Measured
from pairstill.metrics.graded import pearson

FOLDS = 5
SHRINKAGE = 0.1
LEAST_ROWS = 50


def probe(encoded: Encoded, field: int, slot: int, target: np.ndarray, groups: np.ndarray) -> Measured:
    """How well the teacher's probability can be told from one slot and the mean of the other fields' slots.

    Ridge regression on [v * m; |v - m|], where v is the slot's projected vector and m the mean of the filled slots of the
    other field (of several, the mean of their means). Features are standardised on the training folds, the penalty is
    `SHRINKAGE` a row. Five folds of whole groups; the predictions of the held-out ones are taken together. Rows whose text
    does not fill the slot are left out.

    Args:
        encoded: The sample.
        field: Of the slot.
        slot: From 0.
        target: `(rows,)` the teacher's probability.
        groups: `(rows,)`, equal where rows belong together.

    Returns:
        Pearson of held-out predictions and target.
    """
    others = [encoded.means(one) for one in range(len(encoded.representations)) if one != field]
    if not others:
        return Measured(None, "there is no other field")
    rows = np.flatnonzero(encoded.has_slot(field, slot))
    if len(rows) < LEAST_ROWS or len(np.unique(groups[rows])) < FOLDS:
        return Measured(None, f"fewer than {LEAST_ROWS} rows or {FOLDS} groups fill the slot")
    vectors = encoded.representations[field].vectors[encoded.index[rows, field], slot].astype(np.float64)
    mean = np.mean(others, axis=0)[rows]
    return _held_out(np.concatenate([vectors * mean, np.abs(vectors - mean)], axis=1), target[rows], groups[rows])


def _held_out(features: Floats, target: np.ndarray, groups: np.ndarray) -> Measured:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    predicted = np.empty(len(target))
    for train, held_out in GroupKFold(FOLDS).split(features, target, groups):
        model = make_pipeline(StandardScaler(), Ridge(alpha=SHRINKAGE * len(train)))
        predicted[held_out] = model.fit(features[train], target[train]).predict(features[held_out])
    return pearson(predicted, target)
