"""Parts of compiled loops: rows of float32 or of bfloat16 bits into float32 and back, and a softmax that is made of vector instructions.

Arrays are float32, or bfloat16 as the uint16 bits that NumPy can hold; arithmetic is float32 throughout. Each part is compiled
into the function that calls it.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import overload

OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
FAST = {"reassoc", "contract", "nsz", "arcp"}


def share_threads() -> int:
    """Have the compiled loops that this thread calls run on as many threads as PyTorch uses; returns the number."""
    import torch

    said = torch.get_num_threads()
    threads: int = min(said, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    numba.set_num_threads(threads)
    # The first call starts Numba's threads; where both use one OpenMP library, that gives PyTorch all cores.
    torch.set_num_threads(said)
    return threads


def widen(row: np.ndarray, out: np.ndarray, bits: np.ndarray) -> None:
    """Copy a row of float32, or of bfloat16 bits, into float32; `bits` is `out` seen as uint32."""
    raise NotImplementedError("compiled code alone calls this")


def narrow(values: np.ndarray, bits: np.ndarray, row: np.ndarray) -> None:
    """Copy float32 into a row of float32, or of bfloat16 bits (nearest, ties to even); `bits` is `values` as uint32."""
    raise NotImplementedError("compiled code alone calls this")


@overload(widen, inline="always")
def _widen(row: Any, out: Any, bits: Any) -> Any:
    if row.dtype == numba.uint16:

        def from_bits(row: Any, out: Any, bits: Any) -> None:
            for place in range(row.shape[0]):
                bits[place] = np.uint32(row[place]) << np.uint32(16)

        return from_bits

    def copy(row: Any, out: Any, bits: Any) -> None:
        for place in range(row.shape[0]):
            out[place] = row[place]

    return copy


@overload(narrow, inline="always")
def _narrow(values: Any, bits: Any, row: Any) -> Any:
    if row.dtype == numba.uint16:

        def to_bits(values: Any, bits: Any, row: Any) -> None:
            for place in range(row.shape[0]):
                one = bits[place]
                row[place] = np.uint16(
                    (one + np.uint32(0x7FFF) + ((one >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
                )

        return to_bits

    def copy(values: Any, bits: Any, row: Any) -> None:
        for place in range(row.shape[0]):
            row[place] = values[place]

    return copy


@numba.njit(fastmath=FAST, inline="always")
def powers_of_two(values: Any, bits: Any, count: int) -> None:
    """2^x in the place of the first `count` values x of at most 0; `bits` is `values` seen as int32.

    2^x = 2^n 2^f with n whole and |f| <= 1/2; the Taylor series of 2^f to the seventh power is exact in float32. The compiler
    makes vector instructions of it, which it cannot of a call to the mathematical library.
    """
    for place in range(count):
        power = max(values[place], np.float32(-126))
        whole = np.floor(power + np.float32(0.5))
        rest = power - whole
        series = np.float32(1.5252733804059840e-05)
        series = series * rest + np.float32(1.5403530393381608e-04)
        series = series * rest + np.float32(1.3333558146428443e-03)
        series = series * rest + np.float32(9.6181291076284770e-03)
        series = series * rest + np.float32(5.5504108664821580e-02)
        series = series * rest + np.float32(2.4022650695910072e-01)
        series = series * rest + np.float32(6.9314718055994530e-01)
        values[place] = series * rest + np.float32(1)
        bits[place] += np.int32(whole) << np.int32(23)


@numba.njit(fastmath=FAST, inline="always")
def softmax(scores: Any, count: int) -> None:
    """Softmax of the first `count` scores in place."""
    largest = scores[0]
    for place in range(1, count):
        largest = max(largest, scores[place])
    for place in range(count):
        scores[place] = (scores[place] - largest) * np.float32(1.4426950408889634)
    powers_of_two(scores, scores.view(np.int32), count)
    total = np.float32(0)
    for place in range(count):
        total += scores[place]
    share = np.float32(1) / total
    for place in range(count):
        scores[place] *= share
