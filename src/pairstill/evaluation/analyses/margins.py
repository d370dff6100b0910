"""The teacher's margins between items of one group whose labels differ (Margin-MSE, arXiv 2010.02666)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pairstill.errors import InputError

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_PAIRS = 2_000_000
BINS = 60
NO_PAIRS = "no group has two items with different labels"


@dataclass(frozen=True)
class Margins:
    """Differences of the teacher's logits, better label minus worse, over pairs of items of one group.

    Attributes:
        system: The teacher's name.
        groups: Groups with such a pair.
        pairs: All such pairs.
        measured: Of them, those that the numbers are from; fewer than `pairs` for very many.
        below_zero: Share of pairs that the teacher orders against their labels.
        at_zero: Share of pairs that it gives equal logits.
        mean: Of the margins.
        deviation: Their standard deviation.
        quantiles: Probability as text (`0.05`) -> margin.
        edges: Of the histogram's bins, one more than `counts`; 0 is one of them. A bin holds its lower edge.
        counts: Pairs in each bin.
    """

    system: str
    groups: int
    pairs: int
    measured: int
    below_zero: float
    at_zero: float
    mean: float
    deviation: float
    quantiles: dict[str, float]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def margins_of(
    system: str, logits: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int = 0, most: int = MOST_PAIRS
) -> Margins:
    """Measure the margins of one system.

    For every two items i and j of a group with label(i) > label(j), the margin is logit(i) - logit(j). A margin loss
    teaches a student these numbers, so those below 0 teach it what the labels deny.

    Args:
        system: Its name.
        logits: `(rows,)`.
        labels: `(rows,)`, no NaN.
        groups: `(rows,)`, equal where rows belong together.
        seed: Of the sample of pairs.
        most: Pairs that are measured at most; of more, so many are drawn at random.

    Raises:
        InputError: No group has two items with different labels.
    """
    order = np.lexsort((labels, groups))
    groups, labels, logits = groups[order], labels[order], np.asarray(logits, dtype=np.float64)[order]
    starts = _first_of_run(groups)
    worse = _first_of_run(groups, labels) - starts
    ends = np.cumsum(worse)
    pairs = int(ends[-1]) if len(ends) else 0
    if not pairs:
        raise InputError(NO_PAIRS, expected="labels that differ within a group")
    drawn = np.arange(pairs) if pairs <= most else np.sort(np.random.default_rng(seed).integers(0, pairs, most))
    better = np.searchsorted(ends, drawn, side="right")
    found = logits[better] - logits[starts[better] + drawn - (ends - worse)[better]]
    edges = _edges(float(found.min()), float(found.max()))
    return Margins(
        system=system,
        groups=len(np.unique(groups[worse > 0])),
        pairs=pairs,
        measured=len(found),
        below_zero=float((found < 0).mean()),
        at_zero=float((found == 0).mean()),
        mean=float(found.mean()),
        deviation=float(found.std()),
        quantiles={
            f"{one:g}": float(value) for one, value in zip(QUANTILES, np.quantile(found, QUANTILES), strict=True)
        },
        edges=tuple(edges),
        counts=tuple(int(one) for one in np.histogram(found, edges)[0]),
    )


def _first_of_run(*keys: np.ndarray) -> np.ndarray:
    """`(rows,)` where each row's run of equal sorted keys begins."""
    if not len(keys[0]):
        return np.zeros(0, dtype=np.int64)
    new = np.zeros(len(keys[0]), dtype=bool)
    new[0] = True
    for one in keys:
        new[1:] |= one[1:] != one[:-1]
    return np.asarray(np.flatnonzero(new)[np.cumsum(new) - 1])


def _edges(low: float, high: float) -> list[float]:
    """About `BINS` bins of a round width, whose edges are multiples of it."""
    span = max(high - low, 1e-6)
    step = 10.0 ** math.floor(math.log10(span / BINS))
    step = next(step * k for k in (1, 2, 2.5, 5, 10) if span / (step * k) <= BINS)
    first, last = math.floor(low / step), math.floor(high / step) + 1
    edges = [k * step for k in range(first, last + 1)]
    # A quotient that was rounded to a whole number would leave the extreme value out.
    return [min(edges[0], low), *edges[1:-1], max(edges[-1], high)]
