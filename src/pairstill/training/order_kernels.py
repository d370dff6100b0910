"""Compiled loops that put rows in order."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pairstill.compiled import OPTIONS


@numba.njit(**OPTIONS)
def follow_neighbours(
    items: Any, group_starts: Any, holders: Any, item_starts: Any, begin: Any, cluster_rows: int, order: Any
) -> None:
    """Put groups in an order in which neighbours share items, as `pairstill.training.neighbours` describes.

    Args:
        items: `(rows,)` of each group's rows, group by group.
        group_starts: `(groups + 1,)` where a group's rows start.
        holders: `(rows,)` the groups that hold an item, item by item; rearranged.
        item_starts: `(items + 1,)` where an item's holders start.
        begin: `(groups,)` where clusters begin.
        cluster_rows: Rows of a cluster.
        order: Written: `(groups,)`.
    """
    count = len(begin)
    used = np.zeros(count, np.bool_)
    item_cluster = np.full(len(item_starts) - 1, -1, np.int64)
    shared = np.zeros(count, np.int64)
    left = item_starts[:-1].copy()
    most, read_at_most = min(16 * cluster_rows, count), 4 * cluster_rows
    candidates = np.empty(most, np.int64)
    known = rows = following = cluster = 0
    for number in range(count):
        chosen, best, kept = -1, 0.0, 0
        for place in range(known):
            one = candidates[place]
            if not used[one]:
                candidates[kept] = one
                kept += 1
                share = shared[one] / (group_starts[one + 1] - group_starts[one])
                if share > best:
                    chosen, best = one, share
        known = kept
        if chosen < 0:
            while used[begin[following]]:
                following += 1
            chosen = begin[following]
        used[chosen] = True
        order[number] = chosen
        rows += group_starts[chosen + 1] - group_starts[chosen]
        if rows >= cluster_rows:
            for place in range(known):
                shared[candidates[place]] = 0
            known, rows, cluster = 0, rows % cluster_rows, cluster + 1
            if not rows:
                continue
        for row in range(group_starts[chosen], group_starts[chosen + 1]):
            item = items[row]
            if item_cluster[item] == cluster:
                continue
            item_cluster[item] = cluster
            # Groups that have their place go before `left`, once, and are not met again.
            first, read = left[item], 0
            for place in range(first, item_starts[item + 1]):
                if read == read_at_most:
                    break
                one = holders[place]
                if used[one]:
                    holders[place] = holders[first]
                    first += 1
                    continue
                read += 1
                if shared[one] == 0:
                    if known == most:
                        continue
                    candidates[known] = one
                    known += 1
                shared[one] += 1
            left[item] = first
