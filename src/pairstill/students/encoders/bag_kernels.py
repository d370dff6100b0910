"""Sums of rows of a table, compiled, on as many threads as Numba was told."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pairstill.compiled import OPTIONS


@numba.njit(parallel=True, fastmath={"contract", "nsz"}, **OPTIONS)
def sum_bags(ids: Any, lengths: Any, table: Any, out: Any) -> None:
    """out[bag] = Σ table[ids[bag, i]] over the first `lengths[bag]` entries, in order.

    Args:
        ids: `(bags, longest)`.
        lengths: `(bags,)`.
        table: `(rows, dim)` float32.
        out: `(bags, dim)` float32, written.
    """
    dim = table.shape[1]
    for bag in numba.prange(ids.shape[0]):
        total = out[bag]
        for place in range(dim):
            total[place] = np.float32(0)
        for entry in range(lengths[bag]):
            row = table[ids[bag, entry]]
            for place in range(dim):
                total[place] += row[place]
