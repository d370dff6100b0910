"""The paired bootstrap of Berg-Kirkpatrick, Burkett and Klein (2012), figure 1, over groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pairstill.metrics.base import Floats, Metric, Predictions

CELLS_PER_CHUNK = 2_000_000
ROUNDING = 1e-12
"""Differences below this are none: the same mean, summed in another order."""


@dataclass(frozen=True)
class PairTest:
    """Whether one system's lead over another is more than luck of the test set.

    Attributes:
        better: Position of the system with the better value.
        other: Position of the other one.
        difference: How much better it is on the whole set, never negative.
        p_value: Share of resamples on which the difference exceeds twice the observed one; 1 where there is no
            difference, None where one of the two has no value.
    """

    better: int
    other: int
    difference: float | None
    p_value: float | None


def resample_weights(groups: int, rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw groups with replacement: pieces `(some resamples, groups)` of how often each was drawn.

    The pieces together are the same numbers for a given seed, whatever their sizes.
    """
    generator = np.random.default_rng(seed)
    size = max(1, CELLS_PER_CHUNK // max(groups, rows, 1))
    for start in range(0, resamples, size):
        count = min(size, resamples - start)
        drawn = np.stack([generator.integers(0, groups, groups) for _ in range(count)])
        flat = np.bincount((drawn + np.arange(count)[:, None] * groups).ravel(), minlength=count * groups)
        yield flat.reshape(count, groups).astype(np.float64)


def resampled_values(
    metrics: Sequence[Metric], systems: Sequence[Sequence[Predictions]], resamples: int, seed: int
) -> Floats:
    """`(systems, resamples)`: each system's metric on the same resamples, the mean over its seeds.

    Args:
        metrics: The metric to read each system by; the same one, but for readings that differ (`Pearson.raw`).
        systems: Per system its predictions, one per seed, all on the same rows in the same order.
        resamples: Number of resamples.
        seed: Of the draws.
    """
    one = systems[0][0]
    pieces = []
    for weights in resample_weights(one.group_count, len(one), resamples, seed):
        pieces.append(
            [
                np.mean([metric.resampled(run, weights) for run in runs], axis=0)
                for metric, runs in zip(metrics, systems, strict=True)
            ]
        )
    return np.concatenate([np.asarray(piece) for piece in pieces], axis=1)


def paired_bootstrap(
    metrics: Sequence[Metric],
    systems: Sequence[Sequence[Predictions]],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[PairTest, ...]:
    """Test every pair of systems on resamples of groups.

    With d the lead of the better system on the whole set, the p-value is the share of resamples whose lead is greater
    than 2 d (the resamples are centred on d, so this is how often luck alone would make a lead beyond d). A resample
    without a value counts as exceeding. Rows of one group (query) are drawn together, for they are not independent.

    Args:
        metrics: The metric to read each system by (see `resampled_values`).
        systems: Per system its predictions, one per seed.
        resamples: Number of resamples.
        seed: Of the draws; equal seeds give equal p-values.

    Returns:
        One test for each pair of positions i < j, in order.
    """
    observed: list[float | None] = []
    for metric, runs in zip(metrics, systems, strict=True):
        values = [metric.measure(run).value for run in runs]
        known = [value for value in values if value is not None]
        observed.append(float(np.mean(known)) if len(known) == len(values) and known else None)
    defined = [position for position, value in enumerate(observed) if value is not None]
    drawn: dict[int, Floats] = {}
    if len(defined) > 1:
        matrix = resampled_values([metrics[k] for k in defined], [systems[k] for k in defined], resamples, seed)
        drawn = dict(zip(defined, matrix, strict=True))
    sign = 1.0 if metrics and metrics[0].higher_is_better else -1.0
    tests = []
    for i in range(len(systems)):
        for j in range(i + 1, len(systems)):
            left, right = observed[i], observed[j]
            if left is None or right is None:
                tests.append(PairTest(i, j, None, None))
                continue
            lead = sign * (left - right)
            better, other = (i, j) if lead >= 0 else (j, i)
            leads = sign * (drawn[better] - drawn[other])
            p_value = 1.0
            if abs(lead) > ROUNDING:
                p_value = float(np.mean(np.isnan(leads) | (leads > 2 * abs(lead) + ROUNDING)))
            tests.append(PairTest(better, other, abs(lead), p_value))
    return tuple(tests)
