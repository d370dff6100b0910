"""Late interaction over centroids, compiled."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pairstill.compiled import FAST, OPTIONS


@numba.njit(fastmath=FAST, **OPTIONS)
def centroid_maxima(products: Any, codes: Any, offsets: Any, items: Any, out: Any) -> None:
    """out[place] = sum over a query's tokens of the largest product with a centroid of items[place].

    Args:
        products: `(centroids, tokens)` float32.
        codes: `(all tokens,)` the centroid of every stored token.
        offsets: `(items + 1,)` first token of each item, which has at least one.
        items: `(places,)`.
        out: `(places,)` float32.
    """
    width = products.shape[1]
    best = np.empty(width, np.float32)
    for place in range(items.shape[0]):
        item = items[place]
        best[:] = products[codes[offsets[item]]]
        for token in range(offsets[item] + 1, offsets[item + 1]):
            row = products[codes[token]]
            for query in range(width):
                best[query] = max(best[query], row[query])
        total = np.float32(0)
        for query in range(width):
            total += best[query]
        out[place] = total
