"""On which groups a system wins and loses against another one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pairstill.errors import InputError
from pairstill.evaluation.analyses.inputs import Inputs
from pairstill.metrics.base import Floats, Metric
from pairstill.metrics.ranking import RankingMetric

SHOWN = 10
CURVE_POINTS = 401
TIE = 1e-9
ABSOLUTE_ERROR = "absolute error"


@dataclass(frozen=True)
class GroupOutcome:
    """One group.

    Attributes:
        group: Its name.
        texts: Field -> text, of the fields that all its rows share.
        rows: Its labelled rows.
        value: The metric of the system.
        other: The metric of the other one.
        gain: How much better the system is; above 0 it has won.
    """

    group: str
    texts: dict[str, str]
    rows: int
    value: float
    other: float
    gain: float


@dataclass(frozen=True)
class SystemWins:
    """One system against the other, group by group.

    Attributes:
        system: Its name.
        won: Groups where it is better.
        tied: Groups of equal value.
        lost: Groups where it is worse.
        mean_gain: Over all groups.
        curve: Gains from the greatest to the least; of very many groups, evenly spaced ones.
        greatest_wins: The ten groups of greatest gain, of those that were won.
        greatest_losses: The ten of least, of those that were lost.
        groups: Every group in the order of the split.
    """

    system: str
    won: int
    tied: int
    lost: int
    mean_gain: float
    curve: tuple[float, ...]
    greatest_wins: tuple[GroupOutcome, ...]
    greatest_losses: tuple[GroupOutcome, ...]
    groups: tuple[GroupOutcome, ...] = ()


@dataclass(frozen=True)
class Wins:
    """Wins and losses of systems against one.

    Attributes:
        against: The other system.
        metric: `nDCG@10` or another ranking metric, or `absolute error`.
        systems: One entry a student or other system.
        left_out: Systems that the metric is not defined for.
    """

    against: str
    metric: str
    systems: tuple[SystemWins, ...]
    left_out: tuple[str, ...] = ()


def group_metric(headline: Metric, kind: str, groups: np.ndarray) -> RankingMetric | None:
    """What groups are compared by: the headline if it ranks, else nDCG@10; None for the absolute error of each row.

    A ranking of one row says nothing: where fewer than half of the labelled rows share their group with another one, as for
    classes, each row counts by itself.
    """
    counts = np.bincount(groups)
    if kind == "classes" or 2 * int(counts[counts > 1].sum()) < len(groups):
        return None
    return headline if isinstance(headline, RankingMetric) else RankingMetric("nDCG", 10)


def wins(inputs: Inputs, headline: Metric, against: str) -> Wins:
    """Compare every student and other system with the system `against`, on each group of labelled rows.

    The absolute error of a row is |sigmoid(logit) - label|, for classes 1 - the probability of the right one; less is
    better. Of several seeds the mean of the logits is measured.

    Raises:
        InputError: `against` gave no scores, or is a similarity where rows are compared by absolute error, or no system is
            left to compare with it.
    """
    if against not in inputs.logits:
        raise InputError(f"the system '{against}' gave no scores", expected=f"one of {', '.join(inputs.logits)}")
    metric = group_metric(headline, inputs.tuple_set.labels.kind, inputs.groups)
    names = [one.name for one in inputs.trained if one.role != "teacher" and one.name != against]
    left_out: list[str] = []
    if metric is None:
        if not inputs.system(against).calibrated:
            raise InputError(
                f"the scores of '{against}' are similarities, and rows of their own are compared by probability",
                fix="Choose another system with --against",
            )
        left_out = [name for name in names if not inputs.system(name).calibrated]
        names = [name for name in names if name not in left_out]
    if not names:
        raise InputError(f"there is no system to compare with '{against}'", fix="Give a student")
    rows_of = (
        _rows_by_group(inputs.groups) if metric is not None else [np.array([one]) for one in range(len(inputs.groups))]
    )
    other = _values(inputs, metric, against)
    found = tuple(
        _against(inputs, name, _values(inputs, metric, name), other, metric is None, rows_of) for name in names
    )
    return Wins(against, ABSOLUTE_ERROR if metric is None else metric.name, found, tuple(left_out))


def _values(inputs: Inputs, metric: RankingMetric | None, name: str) -> Floats:
    """`(groups,)` of the metric, NaN where a group has no relevant row; `(rows,)` of the absolute error."""
    predictions = inputs.predictions(name)
    if metric is not None:
        return metric.by_group(predictions)
    if predictions.kind == "classes":
        right = predictions.labels.astype(np.int64)
        return np.asarray(1.0 - predictions.probabilities[np.arange(len(right)), right])
    return np.asarray(np.abs(predictions.probabilities - predictions.labels))


def _rows_by_group(groups: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.cumsum(np.bincount(groups))[:-1])


def _against(
    inputs: Inputs, name: str, values: Floats, other: Floats, lower_is_better: bool, rows_of: list[np.ndarray]
) -> SystemWins:
    outcomes = []
    for number, rows in enumerate(rows_of):
        if np.isnan(values[number]):
            continue
        gain = float(values[number] - other[number]) * (-1 if lower_is_better else 1)
        group = inputs.group_names[inputs.groups[rows[0]]]
        outcomes.append(
            GroupOutcome(
                group, inputs.shared_texts(rows), len(rows), float(values[number]), float(other[number]),
                0.0 if abs(gain) <= TIE else gain,
            )
        )  # fmt: skip
    ranked = sorted(outcomes, key=lambda one: -one.gain)
    gains = np.array([one.gain for one in ranked])
    places = np.unique(np.linspace(0, max(len(gains) - 1, 0), min(len(gains), CURVE_POINTS)).astype(np.int64))
    return SystemWins(
        name, int((gains > 0).sum()), int((gains == 0).sum()), int((gains < 0).sum()),
        float(gains.mean()) if len(gains) else 0.0, tuple(float(gains[one]) for one in places),
        tuple(one for one in ranked[:SHOWN] if one.gain > 0),
        tuple(one for one in reversed(ranked[-SHOWN:]) if one.gain < 0), tuple(outcomes),
    )  # fmt: skip
