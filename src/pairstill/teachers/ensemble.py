"""Several teachers as one by averaging: their logits, or their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_of_logits(teachers: Sequence[np.ndarray]) -> np.ndarray:
    """The plain mean, tuple by tuple: the T2 ensemble of Margin-MSE (Hofstätter et al. 2020, section 3).

    A teacher whose logits spread wider counts for more; see `mean_of_probabilities`.

    Args:
        teachers: `(tuples, outputs)` of each teacher.

    Returns:
        `(tuples, outputs)` float64.
    """
    return np.mean([one.astype(np.float64) for one in teachers], axis=0)  # type: ignore[no-any-return]


def mean_of_probabilities(teachers: Sequence[np.ndarray]) -> np.ndarray:
    """Logits of the mean probability: every teacher has one vote, however wide its logits spread.

    log(mean p / mean (1 - p)) with p = sigmoid(z) for one output, log(mean softmax(z)) for several. Computed from logarithms, so
    that probabilities next to 0 and 1 keep their order and no logit is infinite.

    Args:
        teachers: `(tuples, outputs)` raw logits of each teacher.

    Returns:
        `(tuples, outputs)` float64.
    """
    logits = np.stack(teachers).astype(np.float64)
    if logits.shape[2] == 1:
        # log sigmoid(z) = -log(1 + exp(-z)); the common factor 1 / teachers cancels.
        return np.asarray(_log_sum(-np.logaddexp(0, -logits)) - _log_sum(-np.logaddexp(0, logits)))
    log_softmax = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    return np.asarray(_log_sum(log_softmax) - np.log(len(logits)))


def _log_sum(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp.reduce(values, axis=0))
