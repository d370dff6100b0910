"""How well scores follow grades: Pearson, Spearman, Kendall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pairstill.metrics.base import Floats, Measured, Metric, Predictions, group_sums, ratio, sigmoid
from pairstill.tuples.set_manifest import LabelKind

GRADED: frozenset[LabelKind] = frozenset({"graded", "binary"})


def _constant(left: np.ndarray, right: np.ndarray) -> str | None:
    if len(left) < 2:
        return "fewer than two labelled rows"
    if np.ptp(left) == 0:
        return "the system gives every row the same score"
    return "all labels are equal" if np.ptp(right) == 0 else None


def pearson(left: np.ndarray, right: np.ndarray) -> Measured:
    """Pearson's correlation of two `(rows,)` arrays; None where one of them is constant."""
    left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    reason = _constant(left, right)
    if reason is not None:
        return Measured(None, reason)
    x, y = left - left.mean(), right - right.mean()
    denominator = float(np.sqrt((x * x).sum() * (y * y).sum()))
    if denominator == 0.0:
        return Measured(None, "the scores differ by less than floating point can tell")
    return Measured(float(np.clip((x * y).sum() / denominator, -1.0, 1.0)))


def spearman(left: np.ndarray, right: np.ndarray) -> Measured:
    """Spearman's rank correlation, equal values share their mean rank."""
    reason = _constant(left, right)
    if reason is not None:
        return Measured(None, reason)
    from scipy.stats import rankdata

    return pearson(rankdata(left), rankdata(right))


def kendall(left: np.ndarray, right: np.ndarray) -> Measured:
    """Kendall's tau-b, which corrects for ties."""
    reason = _constant(left, right)
    if reason is not None:
        return Measured(None, reason)
    from scipy.stats import kendalltau

    return Measured(float(kendalltau(left, right).statistic))


def _weighted_pearson(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> Floats:
    """Pearson of `x` and `y` (`(resamples, rows)` or `(rows,)`) under `weights (resamples, rows)`."""
    total = weights.sum(axis=1)
    x = x - ratio((weights * x).sum(axis=1), total)[:, None]
    y = y - ratio((weights * y).sum(axis=1), total)[:, None]
    covariance = (weights * x * y).sum(axis=1)
    spread = (weights * x * x).sum(axis=1) * (weights * y * y).sum(axis=1)
    return np.asarray(ratio(covariance, np.sqrt(spread)))


def _weighted_ranks(values: np.ndarray, weights: np.ndarray) -> Floats:
    """Mean ranks `(resamples, rows)` that each row's value has where it occurs `weights` times."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    in_block = np.add.reduceat(weights[:, order], starts, axis=1)
    rank = np.cumsum(in_block, axis=1) - in_block + 0.5 * (in_block + 1.0)
    block_of = np.empty(len(values), dtype=np.int64)
    block_of[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    return np.asarray(rank[:, block_of])


@dataclass(frozen=True, repr=False)
class Pearson(Metric):
    """Pearson's correlation of sigmoid(logit) with the label, the sigmoid applied to every system alike.

    Attributes:
        raw: Leave the sigmoid out; read for floors, whose similarities the sigmoid may flatten.
    """

    raw: bool = False
    name: ClassVar[str] = "pearson"
    title: ClassVar[str] = "Pearson"
    kinds: ClassVar[frozenset[LabelKind]] = GRADED

    def _values(self, predictions: Predictions) -> Floats:
        return predictions.scores if self.raw else sigmoid(predictions.scores)

    def _measure(self, predictions: Predictions) -> Measured:
        return pearson(self._values(predictions), predictions.labels)

    def resampled(self, predictions: Predictions, weights: np.ndarray) -> Floats:
        """By the six sums of each group, of values centred on the whole so that little is lost to rounding."""
        x, y = self._values(predictions), predictions.labels
        if _constant(x, y) is not None:
            return np.full(len(weights), np.nan)
        x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
        sums = weights @ group_sums(predictions, np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1))
        n, sx, sy, sxx, syy, sxy = sums.T
        spread = np.maximum(n * sxx - sx * sx, 0.0) * np.maximum(n * syy - sy * sy, 0.0)
        return ratio(n * sxy - sx * sy, np.sqrt(np.where(spread < 1e-18 * n**4, 0.0, spread)))


@dataclass(frozen=True, repr=False)
class Spearman(Metric):
    """Spearman's rank correlation of scores and labels."""

    name: ClassVar[str] = "spearman"
    title: ClassVar[str] = "Spearman"
    kinds: ClassVar[frozenset[LabelKind]] = GRADED

    def _measure(self, predictions: Predictions) -> Measured:
        return spearman(predictions.scores, predictions.labels)

    def resampled(self, predictions: Predictions, weights: np.ndarray) -> Floats:
        """By weighted mean ranks over values sorted once."""
        by_row = weights[:, predictions.groups].astype(np.float64)
        return _weighted_pearson(
            _weighted_ranks(predictions.scores, by_row), _weighted_ranks(predictions.labels, by_row), by_row
        )


@dataclass(frozen=True, repr=False)
class Kendall(Metric):
    """Kendall's tau-b of scores and labels. Resampling runs the plain loop: seconds per hundred resamples."""

    name: ClassVar[str] = "kendall"
    title: ClassVar[str] = "Kendall"
    kinds: ClassVar[frozenset[LabelKind]] = GRADED

    def _measure(self, predictions: Predictions) -> Measured:
        return kendall(predictions.scores, predictions.labels)
