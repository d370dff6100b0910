"""What a layer needs beside products, compiled: tokens to padded heads and back, the softmax with its gradient, sums over tokens.

One pass each where PyTorch makes several, on as many threads as Numba was told: each number is one thread's, so it does not
depend on how many there are. Arrays are float32, or bfloat16 as uint16 bits; all functions release the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pairstill.compiled import FAST, OPTIONS, narrow, softmax, widen


@numba.njit(parallel=True, **OPTIONS)
def spread_heads(packed: Any, starts: Any, lengths: Any, out: Any) -> None:
    """Padded heads of packed tokens; zeros past each length.

    Args:
        packed: `(tokens, parts * heads * dim)`, text after text.
        starts: `(texts,)` first token of each.
        lengths: `(texts,)`.
        out: `(parts, texts, heads, width, dim)`, written.
    """
    parts, texts, heads, width, dim = out.shape
    for text in numba.prange(texts):
        for part in range(parts):
            for head in range(heads):
                column = (part * heads + head) * dim
                for token in range(lengths[text]):
                    row, target = packed[starts[text] + token], out[part, text, head, token]
                    for place in range(dim):
                        target[place] = row[column + place]
                for token in range(lengths[text], width):
                    target = out[part, text, head, token]
                    for place in range(dim):
                        target[place] = 0


@numba.njit(parallel=True, **OPTIONS)
def pack_heads(padded: Any, starts: Any, lengths: Any, out: Any) -> None:
    """The reverse of `spread_heads`; tokens of no text are left as they are."""
    parts, texts, heads, _width, dim = padded.shape
    for text in numba.prange(texts):
        for part in range(parts):
            for head in range(heads):
                column = (part * heads + head) * dim
                for token in range(lengths[text]):
                    row, target = padded[part, text, head, token], out[starts[text] + token]
                    for place in range(dim):
                        target[column + place] = row[place]


@numba.njit(parallel=True, fastmath=FAST, **OPTIONS)
def softmax_rows(scores: Any, lengths: Any, attended: Any, scale: float) -> None:
    """Attention weights in the place of scores: a softmax over the first keys of each text, zero elsewhere.

    Args:
        scores: `(texts, heads, width, width)`, changed.
        lengths: `(texts,)` queries.
        attended: `(texts,)` keys, at least one.
        scale: Factor on the scores.
    """
    texts, heads, width, _width = scores.shape
    factor = np.float32(scale)
    for text in numba.prange(texts):
        keys = attended[text]
        values = np.empty(width, np.float32)
        bits = values.view(np.uint32)
        for head in range(heads):
            for query in range(width):
                row = scores[text, head, query]
                if query < lengths[text]:
                    widen(row[:keys], values, bits)
                    for place in range(keys):
                        values[place] *= factor
                    softmax(values, keys)
                    narrow(values, bits, row[:keys])
                    for place in range(keys, width):
                        row[place] = 0
                else:
                    for place in range(width):
                        row[place] = 0


@numba.njit(parallel=True, fastmath=FAST, **OPTIONS)
def softmax_rows_backward(weights: Any, gradients: Any, lengths: Any, attended: Any, scale: float) -> None:
    """Gradients of the scores in the place of those of the weights; where the weights are zero by a mask, they must be, too.

    Args:
        weights: What `softmax_rows` gave, `(texts, heads, width, width)`.
        gradients: With respect to them, changed.
        lengths: As there.
        attended: As there.
        scale: As there.
    """
    texts, heads, width, _width = gradients.shape
    factor = np.float32(scale)
    for text in numba.prange(texts):
        keys = attended[text]
        values, slopes = np.empty(width, np.float32), np.empty(width, np.float32)
        value_bits, slope_bits = values.view(np.uint32), slopes.view(np.uint32)
        for head in range(heads):
            for query in range(lengths[text]):
                row = gradients[text, head, query]
                widen(weights[text, head, query, :keys], values, value_bits)
                widen(row[:keys], slopes, slope_bits)
                mean = np.float32(0)
                for place in range(keys):
                    mean += values[place] * slopes[place]
                for place in range(keys):
                    slopes[place] = values[place] * (slopes[place] - mean) * factor
                narrow(slopes, slope_bits, row[:keys])
                for place in range(keys, width):
                    row[place] = 0


@numba.njit(parallel=True, fastmath=FAST, **OPTIONS)
def add_columns(rows: Any, out: Any, parts: int) -> None:
    """Add all `rows (rows, dim)` to `out (dim,)`, float32, whose columns are divided into `parts`."""
    count, dim = rows.shape
    for part in numba.prange(parts):
        low, high = dim * part // parts, dim * (part + 1) // parts
        total = out[low:high]
        values = np.empty(high - low, np.float32)
        bits = values.view(np.uint32)
        for row in range(count):
            widen(rows[row, low:high], values, bits)
            for place in range(high - low):
                total[place] += values[place]
