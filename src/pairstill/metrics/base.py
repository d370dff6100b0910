"""What every metric shares: its input, its outcome, and how it behaves under resampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pairstill.tuples.set_manifest import LabelKind, Labels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A metric's value, or why there is none.

    Attributes:
        value: None where the metric is not defined on this input.
        reason: Why it is not; None where there is a value.
    """

    value: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Relevance:
    """How labels in [0, 1] become what ranking metrics read.

    Attributes:
        levels: nDCG reads the gain `floor(label * levels + 0.5)`, a whole number from 0 to `levels`.
        threshold: MAP, MRR and Recall call a row relevant where its label is at least this.
    """

    levels: int = 1
    threshold: float = 0.5

    @classmethod
    def of(cls, labels: Labels) -> Relevance:
        """The default for a label kind.

        Graded labels whose declared range is 2 to 10 whole units wide get a gain per unit (a range of 1 to 3 gives the
        gains 0, 1, 2), any other range five gains from 0 to 4; a row is relevant from the middle of the range on.
        """
        if labels.kind != "graded" or labels.minimum is None or labels.maximum is None:
            return cls()
        width = labels.maximum - labels.minimum
        return cls(int(width) if float(width).is_integer() and 2 <= width <= 10 else 4, 0.5)

    def gains(self, labels: Floats) -> NDArray[np.int64]:
        """`(rows,)` labels to integer gains."""
        return np.floor(labels * self.levels + 0.5).astype(np.int64)

    def relevant(self, labels: Floats) -> NDArray[np.int64]:
        """`(rows,)` labels to 0 or 1."""
        return (labels >= self.threshold - 1e-9).astype(np.int64)


@dataclass(frozen=True)
class Predictions:
    """What one system said about labelled rows.

    Use `Predictions.of`, which checks shapes and numbers the groups without gaps.

    Attributes:
        logits: `(rows, outputs)` float64, finite.
        labels: `(rows,)` float64, no NaN: 0 or 1, a grade in [0, 1], or a class number.
        groups: `(rows,)` int64 from 0 without gaps; rows of equal number belong together (such as one query).
        kind: What the labels are.
        calibrated: Whether the sigmoid (softmax) of the logits claims to be a probability; False for similarities.
        relevance: How ranking metrics read the labels.
        documents: `(rows,)` names by which ranking metrics break ties, as trec_eval does (greater name first).
    """

    logits: Floats
    labels: Floats
    groups: NDArray[np.int64]
    kind: LabelKind
    calibrated: bool = True
    relevance: Relevance = field(default_factory=Relevance)
    documents: NDArray[np.str_] | None = None

    @classmethod
    def of(
        cls,
        logits: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray,
        kind: LabelKind,
        *,
        calibrated: bool = True,
        relevance: Relevance | None = None,
        documents: np.ndarray | None = None,
    ) -> Predictions:
        """Check shapes, widen to float64 and number the groups from 0; of two logits for labels of one number, their difference.

        Raises:
            ValueError: Lengths differ, a logit is not finite, or a label is NaN.
        """
        wide = np.asarray(logits, dtype=np.float64)
        wide = wide[:, None] if wide.ndim == 1 else wide
        if kind != "classes" and wide.ndim == 2 and wide.shape[1] == 2:
            wide = wide[:, 1:] - wide[:, :1]
        truth = np.asarray(labels, dtype=np.float64)
        if wide.ndim != 2 or not len(wide) == len(truth) == len(groups):
            raise ValueError(f"shapes differ: logits {wide.shape}, labels {truth.shape}, groups {np.shape(groups)}")
        if not np.isfinite(wide).all() or np.isnan(truth).any():
            raise ValueError("logits must be finite and labels must not be NaN; leave such rows out first")
        codes = np.unique(groups, return_inverse=True)[1].astype(np.int64)
        return cls(wide, truth, codes, kind, calibrated, relevance or Relevance(), documents)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    @property
    def group_count(self) -> int:
        """Number of groups."""
        return int(self.groups.max()) + 1 if len(self) else 0

    @cached_property
    def scores(self) -> Floats:
        """`(rows,)` the single output; for classes the greatest logit."""
        return self.logits[:, 0] if self.logits.shape[1] == 1 else self.logits.max(axis=1)

    @cached_property
    def probabilities(self) -> Floats:
        """`(rows,)` sigmoid of the single output, or `(rows, classes)` softmax."""
        if self.kind == "classes":
            shifted = np.exp(self.logits - self.logits.max(axis=1, keepdims=True))
            return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
        return sigmoid(self.scores)

    def repeated(self, group_weights: np.ndarray) -> Predictions:
        """Each row as often as its group's weight says; copies of a group are groups of their own."""
        counts = np.asarray(group_weights)[self.groups].astype(np.int64)
        rows = np.repeat(np.arange(len(self)), counts)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        copy = np.arange(len(rows)) - first
        groups = self.groups[rows] * (int(counts.max(initial=0)) + 1) + copy
        return Predictions.of(
            self.logits[rows], self.labels[rows], groups, self.kind, calibrated=self.calibrated,
            relevance=self.relevance, documents=None if self.documents is None else self.documents[rows],
        )  # fmt: skip


def sigmoid(values: np.ndarray) -> Floats:
    """The logistic function without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(values, dtype=np.float64))))


class Metric(ABC):
    """A number that says how good predictions are.

    Attributes:
        name: As written on the command line and in files, such as `auc-roc` or `nDCG@10`.
        title: As written in a table.
        kinds: Label kinds that it is defined for.
        higher_is_better: False for losses and errors.
        needs_probability: True where a similarity that is no logit has no value.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kinds: ClassVar[frozenset[LabelKind]]
    higher_is_better: ClassVar[bool] = True
    needs_probability: ClassVar[bool] = False

    def measure(self, predictions: Predictions) -> Measured:
        """The value on all rows; None with the reason on degenerate input, never an exception for it."""
        if predictions.kind not in self.kinds:
            return Measured(None, f"{self.title} is not defined for {predictions.kind} labels")
        if len(predictions) == 0:
            return Measured(None, "no labelled rows")
        if self.needs_probability and not predictions.calibrated:
            return Measured(None, "the score is a similarity, not a probability")
        return self._measure(predictions)

    @abstractmethod
    def _measure(self, predictions: Predictions) -> Measured:
        """The value where input is not empty and of the right kind."""

    def resampled(self, predictions: Predictions, weights: np.ndarray) -> Floats:
        """The value on resamples of whole groups.

        Args:
            predictions: The rows.
            weights: `(resamples, groups)`, how often each resample drew each group.

        Returns:
            `(resamples,)`, NaN where a resample has no value. Subclasses replace this plain loop by arithmetic.
        """
        values = [self.measure(predictions.repeated(one)).value for one in weights]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    def __repr__(self) -> str:
        """The name."""
        return f"<{type(self).__name__} {self.name}>"


def group_sums(predictions: Predictions, values: np.ndarray) -> Floats:
    """`(groups, k)` sums over each group of `values (rows, k)`."""
    columns = [
        np.bincount(predictions.groups, weights=values[:, k], minlength=predictions.group_count)
        for k in range(values.shape[1])
    ]
    return np.stack(columns, axis=1)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> Floats:
    """Element-wise quotient, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(denominator == 0, np.nan, numerator / denominator), dtype=np.float64)
