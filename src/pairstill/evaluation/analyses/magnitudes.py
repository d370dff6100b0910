"""How large the scores of each system are, and how far they spread within a group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pairstill.evaluation.system import Role

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Distribution:
    """Of a list of numbers.

    Attributes:
        count: How many.
        mean: Their mean.
        deviation: Their standard deviation.
        minimum: The least.
        maximum: The greatest.
        quantiles: At .05, .25, .5, .75 and .95.
    """

    count: int
    mean: float
    deviation: float
    minimum: float
    maximum: float
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> Distribution:
        """Measure at least one number."""
        return cls(
            len(values), float(values.mean()), float(values.std()), float(values.min()), float(values.max()),
            tuple(float(one) for one in np.quantile(values, QUANTILES)),
        )  # fmt: skip


@dataclass(frozen=True)
class Magnitude:
    """Scores of one system.

    Attributes:
        system: Its name.
        role: `teacher`, `student`, `floor` or `other`.
        calibrated: False where the score is a similarity and no logit.
        scores: Of all rows.
        within_groups: Of the standard deviations of the scores of each group of two rows or more; None without such.
    """

    system: str
    role: Role
    calibrated: bool
    scores: Distribution
    within_groups: Distribution | None


def magnitude_of(system: str, role: Role, calibrated: bool, scores: np.ndarray, groups: np.ndarray) -> Magnitude:
    """Measure one system's scores (Margin-MSE, arXiv 2010.02666, compares them by architecture).

    A loss on the scores themselves asks a student for the teacher's magnitudes, a loss on margins for its spread within
    groups alone; where both columns fit the teacher's, either was learned.

    Args:
        system: Its name.
        role: Its part in the comparison.
        calibrated: Whether scores are logits.
        scores: `(rows,)`.
        groups: `(rows,)` from 0 without gaps.
    """
    counts = np.bincount(groups)
    means = np.bincount(groups, weights=scores) / counts
    squares = np.bincount(groups, weights=(scores - means[groups]) ** 2) / counts
    spread = np.sqrt(squares[counts > 1])
    return Magnitude(
        system, role, calibrated, Distribution.of(scores), Distribution.of(spread) if len(spread) else None
    )
