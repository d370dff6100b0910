"""Precisions of a store: to what is written, and back to float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pairstill.errors import InputError

DTYPES = ("float32", "float16", "bfloat16", "int8", "uint8")
# Rows are converted in pieces that stay in cache.
_STEP = 1 << 20


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Round float32 to the nearest bfloat16 (ties to even), as uint16 bits; NaN stays NaN."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Widen bfloat16 bits to float32; exact."""
    wide = bits.astype(np.uint32)
    np.left_shift(wide, np.uint32(16), out=wide)
    return wide.view(np.float32)


def to_int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round every vector (last dimension) to 255 levels between minus and plus its largest absolute value.

    Args:
        array: `(..., dim)` floats.

    Returns:
        Levels `(..., dim)` int8 from -127 to 127 and scales `(...)` float32: a value is level times scale, at most half a
        scale away from what was given. A vector of zeros has scale 0.

    Raises:
        InputError: A value is not finite.
    """
    values = np.ascontiguousarray(array, dtype=np.float32)
    vectors = values.reshape(-1, values.shape[-1])
    levels, scales = np.empty(vectors.shape, np.int8), np.empty(len(vectors), np.float32)
    step = max(1, _STEP // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        part = vectors[start : start + step]
        largest = np.abs(part).max(axis=1, initial=0.0)
        if not np.isfinite(largest).all():
            raise InputError("a vector has a value that is not finite", expected="finite values in an int8 store")
        scale = largest / np.float32(127)
        # Below this a scale is so small that dividing by it overflows; such a vector is zero in any sum.
        scale[scale < np.finfo(np.float32).tiny] = 0
        divisor = np.where(scale > 0, scale, np.float32(1))
        scaled = np.where(scale[:, None] > 0, part / divisor[:, None], np.float32(0))
        levels[start : start + step] = np.clip(np.rint(scaled), -127, 127)
        scales[start : start + step] = scale
    return levels.reshape(values.shape), scales.reshape(values.shape[:-1])


def from_int8(levels: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Levels times scales as float32."""
    wide = levels.astype(np.float32)
    wide *= scales[..., None]
    return wide


def to_levels(array: np.ndarray) -> np.ndarray:
    """Round to 256 levels between -1 and 1, the same for every vector: q = round((v + 1) / (2 / 255)).

    TwinBERT's 8-bit embeddings, as in its authors' later code; a student that was trained for these levels loses nothing.

    Raises:
        InputError: A value is beyond -1 to 1, or not finite.
    """
    largest = np.abs(array).max(initial=0.0)
    if not largest <= 1:
        raise InputError(
            f"a value is {float(largest):.6g}, beyond the levels of a uint8 store", expected="-1 to 1, as after a tanh",
            fix="Choose int8, which has a scale for each vector",
        )  # fmt: skip
    levels: np.ndarray = np.rint((array.astype(np.float32) + np.float32(1)) * np.float32(127.5)).astype(np.uint8)
    return levels


def from_levels(levels: np.ndarray) -> np.ndarray:
    """Q (2 / 255) - 1 as float32."""
    wide = levels.astype(np.float32)
    wide *= np.float32(2 / 255)
    wide -= np.float32(1)
    return wide


def to_float16(array: np.ndarray) -> np.ndarray:
    """Round to float16.

    Raises:
        InputError: A finite value is beyond float16.
    """
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if np.isinf(half).any() and not np.isinf(array).any():
        raise InputError(
            f"a value is {float(np.abs(array).max()):.6g}, beyond float16", expected="at most 65504",
            fix="Choose bfloat16 or float32",
        )  # fmt: skip
    return half


def to_precision(name: str, array: Any, dtype: str) -> dict[str, tuple[str, np.ndarray]]:
    """Convert a float array, NumPy or PyTorch, to what a store of this precision holds: the array, and scales for int8.

    A uint8 store has its levels for `vectors` alone; all else is float32 in it.

    Args:
        name: Of the array; its scales are named `NAME_scales`.
        array: Floats on any device.
        dtype: One of `DTYPES`.
    """
    if not isinstance(array, np.ndarray):
        tensor = array.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            if dtype == "bfloat16":
                import torch

                return {name: ("BF16", tensor.contiguous().view(torch.uint16).numpy())}
            tensor = tensor.float()
        array = tensor.numpy()
    if dtype == "bfloat16":
        return {name: ("BF16", to_bfloat16(array))}
    if dtype == "float16":
        return {name: ("F16", to_float16(array))}
    if dtype == "uint8" and name == "vectors":
        return {name: ("U8", to_levels(array))}
    if dtype == "int8":
        levels, scales = to_int8(array)
        return {name: ("I8", levels), f"{name}_scales": ("F32", scales)}
    return {name: ("F32", array.astype(np.float32, copy=False))}


def widened_arrays(arrays: Mapping[str, tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """What `to_precision` made, as float32, scales applied and left out; arrays of other types as they are.

    Args:
        arrays: By name, (safetensors dtype, array). Scales of `vectors` are named `scales`.
    """
    out, applied = {}, set()
    for name, (dtype, array) in arrays.items():
        scales = "scales" if name == "vectors" else f"{name}_scales"
        if dtype == "BF16":
            out[name] = from_bfloat16(array)
        elif dtype == "U8" and name == "vectors" and array.ndim == 3:
            out[name] = from_levels(array)
        elif dtype == "I8" and scales in arrays:
            out[name] = from_int8(array, arrays[scales][1])
            applied.add(scales)
        else:
            out[name] = array.astype(np.float32) if dtype == "F16" else array
    return {name: array for name, array in out.items() if name not in applied}
