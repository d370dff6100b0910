"""As `kernels`, over the token vectors of two texts: MaxSim, kernel pooling, poly-encoder attention."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pairstill.compiled import FAST, OPTIONS, powers_of_two, softmax, widen
from pairstill.scoring.kernels import _dots, _dots_of_two


@numba.njit(fastmath=FAST, **OPTIONS)
def sum_of_maxima(
    left: Any, left_lengths: Any, right: Any, right_lengths: Any, first: Any, second: Any, out: Any
) -> None:
    """MaxSim: out[pair] = sum over tokens of left[first] of the largest product with a token of right[second].

    Args:
        left: `(items, tokens, dim)`.
        left_lengths: `(items,)` valid tokens.
        right: As `left`.
        right_lengths: As `left_lengths`.
        first: `(pairs,)` rows of `left`.
        second: `(pairs,)` rows of `right`.
        out: `(pairs,)`.
    """
    dim = left.shape[2]
    # Tokens are read in twos and fours; those past the length are never compared.
    queries = np.zeros((left.shape[1] + 1, dim), np.float32)
    keys = np.zeros((right.shape[1] + 3, dim), np.float32)
    one, two = np.zeros(right.shape[1] + 3, np.float32), np.zeros(right.shape[1] + 3, np.float32)
    query_bits, key_bits = queries.view(np.uint32), keys.view(np.uint32)
    held = -1
    for pair in range(first.shape[0]):
        if first[pair] != held:
            held = first[pair]
            for token in range(left_lengths[held]):
                widen(left[held, token], queries[token], query_bits[token])
        item = second[pair]
        count = right_lengths[item]
        for token in range(count):
            widen(right[item, token], keys[token], key_bits[token])
        total = np.float32(0)
        for token in range(0, left_lengths[held], 2):
            _dots_of_two(queries[token], queries[token + 1], keys, count, one, two)
            best, other = one[0], two[0]
            for place in range(1, count):
                best = max(best, one[place])
                other = max(other, two[place])
            total += best
            if token + 1 < left_lengths[held]:
                total += other
        out[pair] = total


@numba.njit(fastmath=FAST, inline="always")
def _gaussian_sum(cosines: Any, count: int, centre: Any, factor: Any, scratch: Any, bits: Any) -> Any:
    """Sum of exp(-(c - centre)^2 / (2 width^2)) = 2^(factor (c - centre)^2)."""
    for place in range(count):
        difference = cosines[place] - centre
        scratch[place] = difference * difference * factor
    powers_of_two(scratch, bits, count)
    total = np.float32(0)
    for place in range(count):
        total += scratch[place]
    return total


@numba.njit(fastmath=FAST, **OPTIONS)
def pool_kernels(
    left: Any, left_lengths: Any, right: Any, right_lengths: Any, first: Any, second: Any, centres: Any, alpha: Any,
    log_weights: Any, mean_weights: Any, width: float, out: Any,
) -> None:  # fmt: skip
    """TK's kernel pooling of the products of normalised word vectors; see `KernelHead` for the formula.

    Args:
        left: `(items, words, dim)` of length 1.
        left_lengths: `(items,)` valid words.
        right: As `left`.
        right_lengths: As `left_lengths`.
        first: `(pairs,)` rows of `left`.
        second: `(pairs,)` rows of `right`.
        centres: `(kernels,)`.
        alpha: `(kernels,)` factors within the logarithm.
        log_weights: `(kernels,)`.
        mean_weights: `(kernels,)` of the sums divided by the second text's length.
        width: Of every kernel.
        out: `(pairs,)`.
    """
    dim = left.shape[2]
    factor = np.float32(-0.5 / (width * width) * 1.4426950408889634)
    queries = np.zeros((left.shape[1] + 1, dim), np.float32)
    keys = np.zeros((right.shape[1] + 3, dim), np.float32)
    cosines = np.zeros((2, right.shape[1] + 3), np.float32)
    scratch = np.zeros(right.shape[1] + 3, np.float32)
    query_bits, key_bits, bits = queries.view(np.uint32), keys.view(np.uint32), scratch.view(np.int32)
    held = -1
    for pair in range(first.shape[0]):
        if first[pair] != held:
            held = first[pair]
            for token in range(left_lengths[held]):
                widen(left[held, token], queries[token], query_bits[token])
        item = second[pair]
        count = right_lengths[item]
        for token in range(count):
            widen(right[item, token], keys[token], key_bits[token])
        share = np.float32(1) / np.float32(count)
        total = np.float32(0)
        for token in range(0, left_lengths[held], 2):
            _dots_of_two(queries[token], queries[token + 1], keys, count, cosines[0], cosines[1])
            for row in range(min(2, left_lengths[held] - token)):
                for number in range(centres.shape[0]):
                    pooled = _gaussian_sum(cosines[row], count, centres[number], factor, scratch, bits)
                    logarithm = np.log(max(alpha[number] * pooled, np.float32(1e-10)))
                    total += log_weights[number] * logarithm + mean_weights[number] * pooled * share
        out[pair] = total


@numba.njit(fastmath=FAST, **OPTIONS)
def attend_contexts(
    contexts: Any, lengths: Any, candidates: Any, first: Any, second: Any, temperature: float, out: Any
) -> None:
    """Poly-encoder: the mean of a candidate's products with the contexts, weighted by their softmax.

    Args:
        contexts: `(items, contexts, dim)`.
        lengths: `(items,)` valid contexts.
        candidates: `(items, 1, dim)`.
        first: `(pairs,)` rows of `contexts`.
        second: `(pairs,)` rows of `candidates`.
        temperature: What products are divided by under the softmax.
        out: `(pairs,)`.
    """
    dim = contexts.shape[2]
    keys = np.zeros((contexts.shape[1] + 3, dim), np.float32)
    candidate = np.empty(dim, np.float32)
    products, weights = np.zeros(len(keys), np.float32), np.zeros(len(keys), np.float32)
    key_bits, candidate_bits = keys.view(np.uint32), candidate.view(np.uint32)
    share = np.float32(1 / temperature)
    held = -1
    for pair in range(first.shape[0]):
        if first[pair] != held:
            held = first[pair]
            for token in range(lengths[held]):
                widen(contexts[held, token], keys[token], key_bits[token])
        count = lengths[held]
        widen(candidates[second[pair], 0], candidate, candidate_bits)
        _dots(candidate, keys, count, products)
        for place in range(count):
            weights[place] = products[place] * share
        softmax(weights, count)
        total = np.float32(0)
        for place in range(count):
            total += weights[place] * products[place]
        out[pair] = total
