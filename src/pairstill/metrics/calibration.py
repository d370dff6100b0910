"""Whether predicted probabilities come true."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from pairstill.metrics.base import Floats, Measured, Metric, Predictions
from pairstill.tuples.set_manifest import LabelKind

Binning = Literal["equal-mass", "equal-width"]


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of a calibration plot.

    Attributes:
        predicted: Mean predicted probability in the bin.
        observed: Mean label in the bin (for classes the share of right answers).
        rows: How many rows fell into it.
    """

    predicted: float
    observed: float
    rows: int


def _confidence_and_truth(predictions: Predictions) -> tuple[Floats, Floats]:
    if predictions.kind == "classes":
        chosen = predictions.logits.argmax(axis=1)
        return predictions.probabilities.max(axis=1), (chosen == predictions.labels).astype(np.float64)
    return predictions.probabilities, predictions.labels


def reliability(
    predictions: Predictions, bins: int = 15, binning: Binning = "equal-mass"
) -> tuple[ReliabilityBin, ...]:
    """Mean prediction against mean label in bins, lowest prediction first; empty bins are left out.

    Args:
        predictions: Binary or graded labels (the sigmoid against the label), or classes (the greatest probability against
            whether it was right).
        bins: Number of bins.
        binning: `equal-mass` cuts the sorted predictions into parts of equal size, rows of equal prediction kept in the
            bin of the first of them; `equal-width` cuts [0, 1] into equal intervals.
    """
    confidence, truth = _confidence_and_truth(predictions)
    if len(confidence) == 0:
        return ()
    if binning == "equal-width":
        codes = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    else:
        order = np.sort(confidence)
        codes = np.searchsorted(order, confidence, side="left") * bins // len(confidence)
    rows = np.bincount(codes, minlength=bins)
    predicted = np.bincount(codes, weights=confidence, minlength=bins)
    observed = np.bincount(codes, weights=truth, minlength=bins)
    return tuple(
        ReliabilityBin(float(predicted[k] / rows[k]), float(observed[k] / rows[k]), int(rows[k]))
        for k in np.flatnonzero(rows)
    )


@dataclass(frozen=True, repr=False)
class CalibrationError(Metric):
    """Expected calibration error: the mean distance of prediction and label over 15 bins, weighted by their rows.

    The bins hold equal numbers of rows unless `binning` says otherwise, so that a model whose probabilities crowd
    together is not judged by one bin. For classes it is that of the greatest probability.
    """

    bins: int = 15
    binning: Binning = "equal-mass"
    name: ClassVar[str] = "calibration-error"
    title: ClassVar[str] = "ECE"
    kinds: ClassVar[frozenset[LabelKind]] = frozenset({"binary", "classes"})
    higher_is_better: ClassVar[bool] = False
    needs_probability: ClassVar[bool] = True

    def _measure(self, predictions: Predictions) -> Measured:
        found = reliability(predictions, self.bins, self.binning)
        total = sum(one.rows for one in found)
        return Measured(sum(abs(one.predicted - one.observed) * one.rows for one in found) / total)
