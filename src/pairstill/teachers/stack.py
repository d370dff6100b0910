"""Several teachers as one by stacking: a logistic regression over their scores, fitted on labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pairstill.errors import InputError
from pairstill.tuples import Labels

ITERATIONS = 1000


@dataclass(frozen=True)
class Stack:
    """A logistic regression over the outputs of all teachers, teacher after teacher.

    BERT2DNN (Zhang et al. 2020) trains its student on stacked teachers and does not say how they are stacked; this is the plainest way.

    Attributes:
        coefficients: `(outputs, teachers * outputs of a teacher)` float64.
        intercepts: `(outputs,)` float64.
    """

    coefficients: np.ndarray
    intercepts: np.ndarray

    @classmethod
    def fit(
        cls, teachers: Sequence[np.ndarray], labels: np.ndarray, kind: Labels, weights: np.ndarray | None = None
    ) -> Stack:
        """Fit on labelled tuples, with scikit-learn's L2 penalty of strength 1, which hundreds of tuples outweigh.

        The penalty is on logits of standard deviation 1, so that it does not matter on what scale a teacher scores. A graded label y counts as y of a positive and 1 - y of a negative tuple: the sigmoid cross-entropy that teachers and students
        are trained with.

        Args:
            teachers: `(tuples, outputs)` of each teacher.
            labels: `(tuples,)` in [0, 1], or class numbers.
            kind: What the labels are.
            weights: `(tuples,)`; None weighs all alike.

        Raises:
            InputError: The labels are all the same, or a class has none.
        """
        from sklearn.linear_model import LogisticRegression

        features = np.concatenate(teachers, axis=1).astype(np.float64)
        scale = features.std(axis=0)
        scale[scale == 0] = 1
        features /= scale
        weights = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
        model = LogisticRegression(max_iter=ITERATIONS)
        if kind.kind == "classes":
            absent = [name for number, name in enumerate(kind.classes) if not (labels == number).any()]
            if absent:
                raise InputError(
                    f"no row to fit the stack on has the class '{absent[0]}'", expected="labelled rows of every class",
                    fix="Name more splits with --fit-split, or leave out --fit-slice",
                )  # fmt: skip
            model.fit(features, labels.astype(np.int64), weights)
            if len(kind.classes) == 2:
                # One decision value: the second class against the first.
                weight = model.coef_ / scale
                return cls(np.concatenate([np.zeros_like(weight), weight]), np.array([0.0, model.intercept_[0]]))
            return cls(model.coef_ / scale, model.intercept_)
        share = np.concatenate([labels, 1 - labels]).astype(np.float64) * np.concatenate([weights, weights])
        answers = np.repeat([1, 0], len(labels))
        if not all(share[answers == one].any() for one in (0, 1)):
            raise InputError(
                "the rows to fit the stack on all have the same label", expected="rows that are relevant and rows that are not",
                fix="Name more splits with --fit-split, or leave out --fit-slice",
            )  # fmt: skip
        model.fit(np.concatenate([features, features]), answers, share)
        return cls(model.coef_ / scale, model.intercept_)

    def logits(self, teachers: Sequence[np.ndarray]) -> np.ndarray:
        """`(tuples, outputs)` float64 raw logits of tuples that every teacher scored."""
        return np.asarray(np.concatenate(teachers, axis=1) @ self.coefficients.T + self.intercepts)
