"""Groups of rows that share items, put beside each other."""

from __future__ import annotations

import numpy as np

from pairstill.training.order_kernels import follow_neighbours


def neighbours(group: np.ndarray, items: np.ndarray, begin: np.ndarray, cluster_rows: int) -> np.ndarray:
    """`(groups,)` an order of the groups in which about `cluster_rows` neighbouring rows have few distinct items.

    A cluster begins with the first group of `begin` that is left, or with the group that the one before ended in, and is continued
    by the group of whose rows the largest share has an item that is in the cluster already, until it has so many rows. At most
    16 times as many groups are looked at for a place, and 4 times as many holders of an item; of equals the first of `begin` come.

    Args:
        group: `(rows,)` group of each row, from 0, each with a row.
        items: `(rows,)` item of each row.
        begin: `(groups,)` a permutation: where clusters begin.
        cluster_rows: Rows of a cluster.
    """
    _, item = np.unique(items, return_inverse=True)
    rank = np.empty_like(begin)
    rank[begin] = np.arange(len(begin))
    order = np.empty(len(begin), np.int64)
    follow_neighbours(
        item[np.argsort(group, kind="stable")], _starts(group),
        group[np.lexsort((rank[group], item))], _starts(item), begin, cluster_rows, order,
    )  # fmt: skip
    return order


def _starts(codes: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(codes))])
