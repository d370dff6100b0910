"""Metrics of multi-class labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pairstill.metrics.base import Floats, Measured, Metric, Predictions, group_sums, ratio
from pairstill.tuples.set_manifest import LabelKind


def decisions(predictions: Predictions) -> np.ndarray:
    """`(rows,)` class of the greatest logit; for one output whether its sigmoid is at least one half."""
    if predictions.kind == "classes":
        return np.asarray(predictions.logits.argmax(axis=1))
    return np.asarray((predictions.scores >= 0).astype(np.int64))


@dataclass(frozen=True, repr=False)
class Accuracy(Metric):
    """Share of right decisions."""

    name: ClassVar[str] = "accuracy"
    title: ClassVar[str] = "Accuracy"
    kinds: ClassVar[frozenset[LabelKind]] = frozenset({"classes", "binary"})
    needs_probability: ClassVar[bool] = True

    def _measure(self, predictions: Predictions) -> Measured:
        return Measured(float((decisions(predictions) == predictions.labels).mean()))

    def resampled(self, predictions: Predictions, weights: np.ndarray) -> Floats:
        """By sums per group."""
        right = (decisions(predictions) == predictions.labels).astype(np.float64)
        sums = weights @ group_sums(predictions, np.stack([right, np.ones_like(right)], axis=1))
        return ratio(sums[:, 0], sums[:, 1])


@dataclass(frozen=True, repr=False)
class MacroF1(Metric):
    """Mean of the classes' F1, over classes that occur in the labels or the decisions; F1 is 0 where nothing was right."""

    name: ClassVar[str] = "macro-f1"
    title: ClassVar[str] = "Macro-F1"
    kinds: ClassVar[frozenset[LabelKind]] = frozenset({"classes", "binary"})
    needs_probability: ClassVar[bool] = True

    def _measure(self, predictions: Predictions) -> Measured:
        return Measured(float(self.resampled(predictions, np.ones((1, predictions.group_count)))[0]))

    def resampled(self, predictions: Predictions, weights: np.ndarray) -> Floats:
        """By counts of right, decided and true rows per class and group."""
        classes = predictions.logits.shape[1] if predictions.kind == "classes" else 2
        chosen = decisions(predictions)[:, None] == np.arange(classes)
        true = predictions.labels[:, None] == np.arange(classes)
        counts = np.concatenate([chosen & true, chosen, true], axis=1).astype(np.float64)
        right, decided, present = np.split(weights @ group_sums(predictions, counts), 3, axis=1)
        return np.asarray(np.nanmean(ratio(2 * right, decided + present), axis=1))
