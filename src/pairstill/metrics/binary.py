"""Metrics of yes-or-no labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pairstill.metrics.base import Floats, Measured, Metric, Predictions, group_sums, ratio
from pairstill.tuples.set_manifest import LabelKind

ONE_CLASS = "all labels are equal: nothing to tell apart"


def _tie_blocks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order that sorts `values` upwards, and where each block of equal values starts in it."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return order, np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))


def _weighted_blocks(predictions: Predictions, weights: np.ndarray) -> tuple[Floats, Floats]:
    """Weights of positives and negatives in each block of equal scores, lowest first: two `(resamples, blocks)`."""
    order, starts = _tie_blocks(predictions.scores)
    by_row = weights[:, predictions.groups[order]].astype(np.float64)
    positive = predictions.labels[order] > 0.5
    positives = np.add.reduceat(by_row * positive, starts, axis=1)
    negatives = np.add.reduceat(by_row * ~positive, starts, axis=1)
    return positives, negatives


@dataclass(frozen=True, repr=False)
class AucRoc(Metric):
    """Area under the receiver operating characteristic: how often a positive is above a negative, ties count half."""

    name: ClassVar[str] = "auc-roc"
    title: ClassVar[str] = "AUC-ROC"
    kinds: ClassVar[frozenset[LabelKind]] = frozenset({"binary"})

    def _measure(self, predictions: Predictions) -> Measured:
        value = float(self.resampled(predictions, np.ones((1, predictions.group_count)))[0])
        return Measured(None, ONE_CLASS) if np.isnan(value) else Measured(value)

    def resampled(self, predictions: Predictions, weights: np.ndarray) -> Floats:
        """By weighted counts over scores sorted once."""
        positives, negatives = _weighted_blocks(predictions, weights)
        below = np.cumsum(negatives, axis=1) - negatives
        won = (positives * (below + 0.5 * negatives)).sum(axis=1)
        return ratio(won, positives.sum(axis=1) * negatives.sum(axis=1))


@dataclass(frozen=True, repr=False)
class AveragePrecision(Metric):
    """Area under the precision-recall steps, `sum (R_i - R_(i-1)) P_i` over distinct scores from the top."""

    name: ClassVar[str] = "average-precision"
    title: ClassVar[str] = "Average precision"
    kinds: ClassVar[frozenset[LabelKind]] = frozenset({"binary"})

    def _measure(self, predictions: Predictions) -> Measured:
        if len(np.unique(predictions.labels)) < 2:
            return Measured(None, ONE_CLASS)
        return Measured(float(self.resampled(predictions, np.ones((1, predictions.group_count)))[0]))

    def resampled(self, predictions: Predictions, weights: np.ndarray) -> Floats:
        """By weighted counts over scores sorted once."""
        positives, negatives = _weighted_blocks(predictions, weights)
        positives, negatives = positives[:, ::-1], negatives[:, ::-1]
        found = np.cumsum(positives, axis=1)
        seen = found + np.cumsum(negatives, axis=1)
        precision = np.where(seen == 0, 0.0, ratio(found, seen))
        value = ratio((positives * precision).sum(axis=1), found[:, -1])
        return np.where(seen[:, -1] == found[:, -1], np.nan, value)


@dataclass(frozen=True, repr=False)
class LogLoss(Metric):
    """Mean negative log-likelihood in nats; for classes that of the true class."""

    name: ClassVar[str] = "log-loss"
    title: ClassVar[str] = "Log loss"
    kinds: ClassVar[frozenset[LabelKind]] = frozenset({"binary", "classes"})
    higher_is_better: ClassVar[bool] = False
    needs_probability: ClassVar[bool] = True

    def _losses(self, predictions: Predictions) -> Floats:
        if predictions.kind == "classes":
            top = predictions.logits.max(axis=1)
            total = top + np.log(np.exp(predictions.logits - top[:, None]).sum(axis=1))
            true = predictions.logits[np.arange(len(predictions)), predictions.labels.astype(np.int64)]
            return np.asarray(total - true)
        return np.asarray(np.logaddexp(0.0, predictions.scores) - predictions.labels * predictions.scores)

    def _measure(self, predictions: Predictions) -> Measured:
        return Measured(float(self._losses(predictions).mean()))

    def resampled(self, predictions: Predictions, weights: np.ndarray) -> Floats:
        """By sums per group."""
        losses = self._losses(predictions)
        sums = weights @ group_sums(predictions, np.stack([losses, np.ones_like(losses)], axis=1))
        return ratio(sums[:, 0], sums[:, 1])
