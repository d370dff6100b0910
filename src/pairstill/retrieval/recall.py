"""What an approximate search finds of what exact search finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pairstill.retrieval.best import Found


@dataclass(frozen=True)
class Recall:
    """Recall against exact search, and both speeds, on a sample of queries all searched in one call.

    Attributes:
        depth: The share is of the best so many.
        value: Mean share of the truly nearest that were found.
        queries: How many were asked.
        asked: `queries`, or `items` of the store, each without itself.
        approximate_per_s: Queries a second.
        exact_per_s: Queries a second.
    """

    depth: int
    value: float
    queries: int
    asked: Literal["queries", "items"]
    approximate_per_s: float
    exact_per_s: float


def share_found(found: Found, truth: Found) -> float:
    """Mean share of a query's truly best items that were found; any other item that scores as high counts as well."""
    # Sums in another order agree to some 1e-6 of their size.
    last = truth.scores[:, -1:]
    near = found.scores >= last - 1e-5 * np.maximum(np.abs(last), 1e-3)
    near |= (found.rows[:, :, None] == truth.rows[:, None]).any(axis=2)
    return float(near.sum(axis=1).clip(max=truth.rows.shape[1]).mean() / truth.rows.shape[1])
