"""Pairs in tiles: every item is prepared as seldom as the room for prepared items allows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pairstill.scoring.bulk.scorer import Scorer


def score_rows(scorer: Scorer, rows: np.ndarray, limits: Sequence[int]) -> np.ndarray:
    """Logits of pairs of store rows, in their order.

    Fields whose items all have room are prepared once; of the others, those with more items are cut into tiles first, and
    only the items that a tile's pairs need of the next field are prepared beside it.

    Args:
        scorer: Opened.
        rows: `(pairs, fields)` store rows.
        limits: Per field, most items that are held prepared.

    Returns:
        `(pairs, outputs)` float32.
    """
    out = np.empty((len(rows), scorer.outputs), np.float32)
    distinct, places = [], np.empty_like(rows)
    for field in range(rows.shape[1]):
        found, places[:, field] = np.unique(rows[:, field], return_inverse=True)
        distinct.append(found)
    fitting = [len(one) <= limit for one, limit in zip(distinct, limits, strict=True)]
    order = sorted(range(rows.shape[1]), key=lambda field: (not fitting[field], -len(distinct[field]) / limits[field]))
    tiles: list[Any] = [None] * rows.shape[1]

    def descend(chosen: np.ndarray, depth: int) -> None:
        if depth == len(order):
            # Neighbours share their first item, which then stays in the nearest cache.
            by_items = np.lexsort([local[chosen, field] for field in reversed(range(rows.shape[1]))])
            chosen = chosen[by_items]
            out[chosen] = scorer.score(tiles, local[chosen])
            return
        field = order[depth]
        for part, items in cut(places[:, field], chosen, distinct[field], limits[field], local[:, field]):
            tiles[field] = scorer.prepare(field, items)
            descend(part, depth + 1)
        tiles[field] = None

    local = np.empty_like(rows)
    if len(rows):
        descend(np.arange(len(rows)), 0)
    return out


def cut(
    places: np.ndarray, chosen: np.ndarray, distinct: np.ndarray, limit: int, local: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut pairs by the items of one field, ascending, at most `limit` items a tile.

    Args:
        places: `(all pairs,)` places in `distinct`.
        chosen: Positions of the pairs that are cut.
        distinct: Store rows, ascending.
        limit: Most items of a tile.
        local: `(all pairs,)`; the places in the tile are written here.

    Yields:
        Positions of a tile's pairs, and the store rows of its items.
    """
    mine = places[chosen]
    used = np.zeros(len(distinct), bool)
    used[mine] = True
    items = distinct[used]
    within = (np.cumsum(used) - 1)[mine]
    if len(items) <= limit:
        local[chosen] = within
        yield chosen, items
        return
    tile = within // limit
    order = np.argsort(tile, kind="stable")
    edges = np.searchsorted(tile[order], np.arange(-(-len(items) // limit) + 1))
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        part = chosen[order[start:stop]]
        local[part] = within[order[start:stop]] - number * limit
        yield part, items[number * limit : (number + 1) * limit]
