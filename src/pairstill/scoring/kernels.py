"""The parts of a head that are no matrix products, fused per pair and compiled by numba: gather, attention, LayerNorm.

Between the matrix products of a small transformer lie many operations on few numbers. One library call each costs more than
the products themselves; fused, every pair stays in the first-level cache. Arrays are float32, or bfloat16 as the uint16
bits that NumPy can hold; arithmetic is float32 throughout. All functions release the interpreter's lock.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pairstill.compiled import FAST, OPTIONS, narrow, softmax, widen


@numba.njit(fastmath=FAST, inline="always")
def _normalise(values: Any, weight: Any, bias: Any, epsilon: float) -> None:
    """LayerNorm of one row in place."""
    size = values.shape[0]
    total = np.float32(0)
    for place in range(size):
        total += values[place]
    mean = total / np.float32(size)
    spread = np.float32(0)
    for place in range(size):
        difference = values[place] - mean
        spread += difference * difference
    scale = np.float32(1) / np.sqrt(spread / np.float32(size) + np.float32(epsilon))
    for place in range(size):
        values[place] = (values[place] - mean) * scale * weight[place] + bias[place]


@numba.njit(fastmath=FAST, inline="always")
def _dots(query: Any, keys: Any, count: int, scores: Any) -> None:
    """scores[j] = query . keys[j], four at a time so that the query is loaded once for them."""
    dim = query.shape[0]
    for start in range(0, count, 4):
        one, two, three, four = keys[start], keys[start + 1], keys[start + 2], keys[start + 3]
        first = second = third = fourth = np.float32(0)
        for place in range(dim):
            value = query[place]
            first += value * one[place]
            second += value * two[place]
            third += value * three[place]
            fourth += value * four[place]
        scores[start], scores[start + 1], scores[start + 2], scores[start + 3] = first, second, third, fourth


@numba.njit(fastmath=FAST, inline="always")
def _add_weighted(values: Any, shares: Any, count: int, total: Any) -> None:
    """Total += sum over j of shares[j] * values[j], four at a time."""
    dim = total.shape[0]
    for start in range(0, count, 4):
        one, two, three, four = values[start], values[start + 1], values[start + 2], values[start + 3]
        first, second, third, fourth = shares[start], shares[start + 1], shares[start + 2], shares[start + 3]
        for place in range(dim):
            total[place] += first * one[place] + second * two[place] + third * three[place] + fourth * four[place]


@numba.njit(fastmath=FAST, inline="always")
def _dots_of_two(one: Any, two: Any, keys: Any, count: int, first: Any, second: Any) -> None:
    """As `_dots` for two queries: every key is loaded once for both."""
    dim = one.shape[0]
    for start in range(0, count, 4):
        key_1, key_2, key_3, key_4 = keys[start], keys[start + 1], keys[start + 2], keys[start + 3]
        a = b = c = d = e = f = g = h = np.float32(0)
        for place in range(dim):
            left, right = one[place], two[place]
            a += left * key_1[place]
            b += left * key_2[place]
            c += left * key_3[place]
            d += left * key_4[place]
            e += right * key_1[place]
            f += right * key_2[place]
            g += right * key_3[place]
            h += right * key_4[place]
        first[start], first[start + 1], first[start + 2], first[start + 3] = a, b, c, d
        second[start], second[start + 1], second[start + 2], second[start + 3] = e, f, g, h


@numba.njit(fastmath=FAST, inline="always")
def _add_weighted_to_two(values: Any, first: Any, second: Any, count: int, one: Any, two: Any) -> None:
    """As `_add_weighted` for two rows: every value is loaded once for both."""
    dim = one.shape[0]
    for start in range(0, count, 4):
        value_1, value_2, value_3, value_4 = values[start], values[start + 1], values[start + 2], values[start + 3]
        a, b, c, d = first[start], first[start + 1], first[start + 2], first[start + 3]
        e, f, g, h = second[start], second[start + 1], second[start + 2], second[start + 3]
        for place in range(dim):
            p, q, r, s = value_1[place], value_2[place], value_3[place], value_4[place]
            one[place] += a * p + b * q + c * r + d * s
            two[place] += e * p + f * q + g * r + h * s


@numba.njit(fastmath=FAST, **OPTIONS)
def attend_items(
    packs: Any, lengths: Any, index: Any, starts: Any, weight: Any, bias: Any, epsilon: float, out: Any
) -> None:
    """First layer's attention, residual and LayerNorm, straight from prepared items.

    Args:
        packs: Per field `(items, 4, slots, dim)`: queries (scaled), keys, values times the output matrix, residuals.
        lengths: Per field `(items,)` valid slots.
        index: `(pairs, fields)`.
        starts: `(pairs,)` first row of each pair in `out`; a pair has as many rows as it has valid slots.
        weight: LayerNorm's.
        bias: LayerNorm's.
        epsilon: LayerNorm's.
        out: `(rows, dim)`.
    """
    dim = out.shape[1]
    most = 4
    for field in range(len(packs)):
        most += packs[field].shape[2]
    # Rows past the count are read in fours and weigh nothing.
    queries = np.zeros((most, dim), np.float32)
    keys = np.zeros((most, dim), np.float32)
    values = np.zeros((most, dim), np.float32)
    totals = np.zeros((most, dim), np.float32)
    first, second = np.zeros(most, np.float32), np.zeros(most, np.float32)
    query_bits, key_bits = queries.view(np.uint32), keys.view(np.uint32)
    value_bits, total_bits = values.view(np.uint32), totals.view(np.uint32)
    for pair in range(index.shape[0]):
        count = 0
        for field in range(len(packs)):
            pack = packs[field]
            item = index[pair, field]
            for slot in range(lengths[field][item]):
                widen(pack[item, 0, slot], queries[count], query_bits[count])
                widen(pack[item, 1, slot], keys[count], key_bits[count])
                widen(pack[item, 2, slot], values[count], value_bits[count])
                widen(pack[item, 3, slot], totals[count], total_bits[count])
                count += 1
        for row in range(0, count, 2):
            _dots_of_two(queries[row], queries[row + 1], keys, count, first, second)
            softmax(first, count)
            softmax(second, count)
            for place in range(count, count + 3):
                first[place] = second[place] = np.float32(0)
            _add_weighted_to_two(values, first, second, count, totals[row], totals[row + 1])
        for row in range(count):
            _normalise(totals[row], weight, bias, epsilon)
            narrow(totals[row], total_bits[row], out[starts[pair] + row])


@numba.njit(fastmath=FAST, **OPTIONS)
def normalise_rows(rows: Any, weight: Any, bias: Any, epsilon: float, starts: Any, first: Any) -> None:
    """LayerNorm of `rows (rows, dim)` in place; the rows at `starts` are also copied into `first`."""
    values = np.empty(rows.shape[1], np.float32)
    bits = values.view(np.uint32)
    for row in range(rows.shape[0]):
        widen(rows[row], values, bits)
        _normalise(values, weight, bias, epsilon)
        narrow(values, bits, rows[row])
    for pair in range(starts.shape[0]):
        first[pair] = rows[starts[pair]]


@numba.njit(fastmath=FAST, **OPTIONS)
def attend_first(rows: Any, starts: Any, counts: Any, queries: Any, out: Any) -> None:
    """Attention of position 0 of each pair over its rows, with key and value matrices folded away.

    Args:
        rows: `(rows, dim)` hidden vectors.
        starts: `(pairs,)` first row of each pair.
        counts: `(pairs,)` rows of each pair.
        queries: `(pairs, dim)` queries times the key matrix.
        out: `(pairs, dim)` attention-weighted means of the hidden vectors.
    """
    dim = rows.shape[1]
    most = 1
    for pair in range(starts.shape[0]):
        most = max(most, counts[pair])
    hidden = np.zeros((most + 3, dim), np.float32)
    query = np.empty(dim, np.float32)
    total = np.empty(dim, np.float32)
    scores = np.zeros(most + 3, np.float32)
    hidden_bits, query_bits, total_bits = hidden.view(np.uint32), query.view(np.uint32), total.view(np.uint32)
    for pair in range(starts.shape[0]):
        count = counts[pair]
        widen(queries[pair], query, query_bits)
        for place in range(count):
            widen(rows[starts[pair] + place], hidden[place], hidden_bits[place])
        _dots(query, hidden, count, scores)
        softmax(scores, count)
        for place in range(count, count + 3):
            scores[place] = np.float32(0)
        total[:] = np.float32(0)
        _add_weighted(hidden, scores, count, total)
        narrow(total, total_bits, out[pair])


@numba.njit(fastmath=FAST, **OPTIONS)
def normalise_and_read(
    rows: Any, weight: Any, bias: Any, epsilon: float, output: Any, output_bias: Any, logits: Any
) -> None:
    """LayerNorm of `rows (pairs, dim)` and the output layer `(outputs, dim)`: logits `(pairs, outputs)`."""
    values = np.empty(rows.shape[1], np.float32)
    bits = values.view(np.uint32)
    for row in range(logits.shape[0]):
        widen(rows[row], values, bits)
        _normalise(values, weight, bias, epsilon)
        for number in range(output.shape[0]):
            dot = np.float32(0)
            for place in range(values.shape[0]):
                dot += values[place] * output[number, place]
            logits[row, number] = dot + output_bias[number]


@numba.njit(fastmath=FAST, **OPTIONS)
def add_dots(left: Any, right: Any, first: Any, second: Any, scales: Any, logits: Any) -> None:
    """Logits[pair, output] += scales[output] * left[first[pair]] . right[second[pair]]."""
    dim = left.shape[1]
    one = np.empty(dim, np.float32)
    other = np.empty(dim, np.float32)
    one_bits, other_bits = one.view(np.uint32), other.view(np.uint32)
    held = -1
    for pair in range(first.shape[0]):
        if first[pair] != held:
            held = first[pair]
            widen(left[held], one, one_bits)
        widen(right[second[pair]], other, other_bits)
        dot = np.float32(0)
        for place in range(dim):
            dot += one[place] * other[place]
        for number in range(scales.shape[0]):
            logits[pair, number] += scales[number] * dot


@numba.njit(fastmath=FAST, **OPTIONS)
def add_rows(parts: Any, index: Any, activation: int, out: Any) -> None:
    """Sum of one row of each field's part, through ReLU where `activation` is 1: `out (pairs, width)`."""
    width = out.shape[1]
    total = np.empty(width, np.float32)
    part = np.empty(width, np.float32)
    total_bits, part_bits = total.view(np.uint32), part.view(np.uint32)
    for pair in range(index.shape[0]):
        widen(parts[0][index[pair, 0]], total, total_bits)
        for field in range(1, len(parts)):
            widen(parts[field][index[pair, field]], part, part_bits)
            for place in range(width):
                total[place] += part[place]
        if activation == 1:
            for place in range(width):
                total[place] = max(total[place], np.float32(0))
        narrow(total, total_bits, out[pair])


@numba.njit(fastmath=FAST, **OPTIONS)
def max_rows(parts: Any, index: Any, out: Any) -> None:
    """Elementwise maximum of one row of each field's part: `out (pairs, width)`."""
    width = out.shape[1]
    largest = np.empty(width, np.float32)
    part = np.empty(width, np.float32)
    largest_bits, part_bits = largest.view(np.uint32), part.view(np.uint32)
    for pair in range(index.shape[0]):
        widen(parts[0][index[pair, 0]], largest, largest_bits)
        for field in range(1, len(parts)):
            widen(parts[field][index[pair, field]], part, part_bits)
            for place in range(width):
                largest[place] = max(largest[place], part[place])
        narrow(largest, largest_bits, out[pair])


@numba.njit(fastmath=FAST, **OPTIONS)
def add_scaled_rows(parts: Any, scales: Any, index: Any, bias: Any, activation: int, out: Any) -> None:
    """As `add_rows`, the sum times `scales (pairs,)`, plus `bias (width,)`."""
    width = out.shape[1]
    total = np.empty(width, np.float32)
    part = np.empty(width, np.float32)
    total_bits, part_bits = total.view(np.uint32), part.view(np.uint32)
    for pair in range(index.shape[0]):
        widen(parts[0][index[pair, 0]], total, total_bits)
        for field in range(1, len(parts)):
            widen(parts[field][index[pair, field]], part, part_bits)
            for place in range(width):
                total[place] += part[place]
        scale = scales[pair]
        for place in range(width):
            total[place] = total[place] * scale + bias[place]
        if activation == 1:
            for place in range(width):
                total[place] = max(total[place], np.float32(0))
        narrow(total, total_bits, out[pair])


@numba.njit(fastmath=FAST, **OPTIONS)
def quantise_rows(rows: Any, step: float, zero: float, out: Any) -> None:
    """Unsigned 8-bit integers, nearest to `rows (rows, dim)` / step + zero, cut at 0 and 255."""
    values = np.empty(rows.shape[1], np.float32)
    bits = values.view(np.uint32)
    scale, shift = np.float32(1 / step), np.float32(zero + 0.5)
    for row in range(rows.shape[0]):
        widen(rows[row], values, bits)
        for place in range(values.shape[0]):
            stored = np.floor(values[place] * scale + shift)
            out[row, place] = np.uint8(min(max(stored, np.float32(0)), np.float32(255)))
