"""Compiled loops over the few rows of a large table that a step reads."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pairstill.compiled import OPTIONS

_FAST = {"contract", "nsz"}


@numba.njit(**OPTIONS)
def distinct(ids: Any, slots: Any, out: Any) -> int:
    """The distinct ids, in the order that they are met; each one's place in that order is left in `slots`.

    Args:
        ids: `(entries,)`.
        slots: `(rows of the table,)` -1 everywhere.
        out: Written: at most `(entries,)`.

    Returns:
        How many there are.
    """
    count = 0
    for one in ids:
        if slots[one] < 0:
            slots[one] = count
            out[count] = one
            count += 1
    return count


@numba.njit(fastmath=_FAST, **OPTIONS)
def add_bags(ids: Any, starts: Any, gradients: Any, slots: Any, out: Any) -> None:
    """out[slots[ids[i]]] += gradients[the bag of i], in order.

    Args:
        ids: `(entries,)`, bag after bag.
        starts: `(bags,)` first entry of each.
        gradients: `(bags, dim)`.
        slots: `(rows of the table,)`.
        out: `(distinct rows, dim)`, added to.
    """
    dim, bags = gradients.shape[1], len(starts)
    for bag in range(bags):
        gradient = gradients[bag]
        for entry in range(starts[bag], starts[bag + 1] if bag + 1 < bags else len(ids)):
            target = out[slots[ids[entry]]]
            for place in range(dim):
                target[place] += gradient[place]


@numba.njit(fastmath=_FAST, **OPTIONS)
def adam(
    ids: Any, gradients: Any, table: Any, means: Any, squares: Any, step: float, beta_1: float, beta_2: float,
    epsilon: float,
) -> None:  # fmt: skip
    """Adam on the rows `ids` of a table and its moments, in place; `step` is the rate with both bias corrections."""
    dim = table.shape[1]
    rate, small = np.float32(step), np.float32(epsilon)
    keep_1, keep_2 = np.float32(beta_1), np.float32(beta_2)
    add_1, add_2 = np.float32(1 - beta_1), np.float32(1 - beta_2)
    for entry in range(ids.shape[0]):
        row = ids[entry]
        gradient, weight, mean, square = gradients[entry], table[row], means[row], squares[row]
        for place in range(dim):
            value = gradient[place]
            first = mean[place] * keep_1 + value * add_1
            second = square[place] * keep_2 + value * value * add_2
            mean[place], square[place] = first, second
            weight[place] -= rate * first / (np.sqrt(second) + small)


@numba.njit(fastmath=_FAST, **OPTIONS)
def approach(ids: Any, table: Any, means: Any, logs: Any, now: float) -> None:
    """Bring the running means of rows up to date, the table's rows having stood still since.

    Args:
        ids: `(rows,)` that are brought up to date.
        table: `(all rows, dim)`.
        means: `(all rows, dim)`, changed.
        logs: `(all rows,)` float64 sum of the logarithms of the decays up to each row's last update, set to `now`.
        now: The same sum up to the present.
    """
    dim = table.shape[1]
    for row in ids:
        kept = np.float32(np.exp(now - logs[row]))
        logs[row] = now
        weight, mean = table[row], means[row]
        for place in range(dim):
            mean[place] = weight[place] + (mean[place] - weight[place]) * kept
