"""Compiled loops over the few rows of a large table that a step reads, on as many threads as Numba was told.

Each row is one thread's, so the numbers do not depend on how many there are.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pairstill.compiled import OPTIONS

_FAST = {"contract", "nsz"}


@numba.njit(**OPTIONS)
def distinct(ids: Any, lengths: Any, slots: Any, out: Any, count: int) -> int:
    """Add the distinct ids to those that were found before, in the order that they are met; `slots` knows where each is.

    Args:
        ids: `(bags, longest)`.
        lengths: `(bags,)` entries of each.
        slots: `(rows of the table,)` -1 where a row was not met; changed.
        out: `(at least the entries of all calls,)`, of which the first `count` are filled.
        count: How many were found before.

    Returns:
        How many there are now.
    """
    for bag in range(ids.shape[0]):
        for entry in range(lengths[bag]):
            one = ids[bag, entry]
            if slots[one] < 0:
                slots[one] = count
                out[count] = one
                count += 1
    return count


@numba.njit(parallel=True, fastmath=_FAST, **OPTIONS)
def add_bags(ids: Any, lengths: Any, gradients: Any, slots: Any, out: Any, parts: int) -> None:
    """out[slots[ids[bag, i]]] += gradients[bag], in order.

    Args:
        ids: `(bags, longest)`.
        lengths: `(bags,)` entries of each.
        gradients: `(bags, dim)` float32.
        slots: `(rows of the table,)`.
        out: `(distinct rows, dim)` float32, added to.
        parts: Into how many the rows of `out` are divided, each of which reads all ids and adds its own.
    """
    dim, rows = gradients.shape[1], out.shape[0]
    for part in numba.prange(parts):
        low, high = rows * part // parts, rows * (part + 1) // parts
        for bag in range(ids.shape[0]):
            gradient = gradients[bag]
            for entry in range(lengths[bag]):
                slot = slots[ids[bag, entry]]
                if low <= slot < high:
                    target = out[slot]
                    for place in range(dim):
                        target[place] += gradient[place]


@numba.njit(parallel=True, fastmath=_FAST, **OPTIONS)
def adam(
    ids: Any, gradients: Any, table: Any, means: Any, squares: Any, step: float, beta_1: float, beta_2: float,
    epsilon: float,
) -> None:  # fmt: skip
    """Adam on the rows `ids` of a table and its moments, in place; `step` is the rate with both bias corrections."""
    dim = table.shape[1]
    rate, small = np.float32(step), np.float32(epsilon)
    keep_1, keep_2 = np.float32(beta_1), np.float32(beta_2)
    add_1, add_2 = np.float32(1 - beta_1), np.float32(1 - beta_2)
    for entry in numba.prange(ids.shape[0]):
        row = ids[entry]
        gradient, weight, mean, square = gradients[entry], table[row], means[row], squares[row]
        for place in range(dim):
            value = gradient[place]
            first = mean[place] * keep_1 + value * add_1
            second = square[place] * keep_2 + value * value * add_2
            mean[place], square[place] = first, second
            weight[place] -= rate * first / (np.sqrt(second) + small)


@numba.njit(parallel=True, fastmath=_FAST, **OPTIONS)
def adagrad(ids: Any, gradients: Any, table: Any, sums: Any, rate: float) -> None:
    """Adagrad on the rows `ids` of a table and its sums of squares, in place."""
    dim, step = table.shape[1], np.float32(rate)
    for entry in numba.prange(ids.shape[0]):
        row = ids[entry]
        gradient, weight, summed = gradients[entry], table[row], sums[row]
        for place in range(dim):
            value = gradient[place]
            total = summed[place] + value * value
            summed[place] = total
            weight[place] -= step * value / np.sqrt(total)


@numba.njit(parallel=True, fastmath=_FAST, **OPTIONS)
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
    for entry in numba.prange(ids.shape[0]):
        row = ids[entry]
        kept = np.float32(np.exp(now - logs[row]))
        logs[row] = now
        weight, mean = table[row], means[row]
        for place in range(dim):
            mean[place] = weight[place] + (mean[place] - weight[place]) * kept
