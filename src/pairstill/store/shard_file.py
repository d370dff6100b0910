"""One shard of a representation store: a safetensors file that is read through a memory map.

The format is safetensors' own (a length, a JSON header, the arrays' bytes); the header is padded so that the arrays
start at a multiple of 64 bytes, and vectors come first. Any safetensors reader opens it.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pairstill.errors import ArtefactError, InputError
from pairstill.files import write_atomic
from pairstill.representation import ARRAYS

ALIGNMENT = 64
# NumPy has no bfloat16: its bits are kept as unsigned 16-bit integers.
STORED: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U8": np.dtype("u1"),
}  # fmt: skip
NAMES = {dtype: name for name, dtype in STORED.items() if name != "BF16"}


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Round float32 to the nearest bfloat16 (ties to even), as uint16 bits; NaN stays NaN."""
    bits = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Widen bfloat16 bits to float32; exact."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def write_shard(path: Path, arrays: Mapping[str, tuple[str, np.ndarray]]) -> None:
    """Write arrays of equal first dimension atomically.

    Args:
        path: The file.
        arrays: By name, (safetensors dtype, array in the NumPy dtype of `STORED`).
    """
    header: dict[str, Any] = {}
    offset = 0
    blocks = []
    for name in [name for name in ARRAYS if name in arrays]:
        dtype, array = arrays[name]
        block = np.ascontiguousarray(array, dtype=STORED[dtype])
        header[name] = {"dtype": dtype, "shape": list(block.shape), "data_offsets": [offset, offset + block.nbytes]}
        offset += block.nbytes
        blocks.append(block)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    with write_atomic(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for block in blocks:
            file.write(block.reshape(-1).view(np.uint8).data)


def open_shard(path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Map a shard and return its arrays by name, (safetensors dtype, read-only array); nothing is read but the header.

    Raises:
        ArtefactError: The file is missing, truncated or no safetensors file.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise ArtefactError("the shard is missing", file=path, fix="Write the store again: it resumes") from None
    except ValueError:
        raise ArtefactError("the shard is empty", file=path, fix="Write the store again") from None
    try:
        return _arrays(mapped)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtefactError(f"the shard cannot be read: {error}", file=path, fix="Write the store again") from None


def _arrays(mapped: mmap.mmap) -> dict[str, tuple[str, np.ndarray]]:
    size = int.from_bytes(mapped[:8], "little")
    if size > len(mapped) - 8:
        raise ValueError(f"its header should have {size} bytes and the file has {len(mapped)}")
    header = json.loads(mapped[8 : 8 + size])
    header.pop("__metadata__", None)
    arrays = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: int(item[1]["data_offsets"][0])):
        begin, stop = entry["data_offsets"]
        dtype, shape = STORED.get(entry["dtype"]), tuple(entry["shape"])
        if dtype is None:
            raise ValueError(f"the type {entry['dtype']!r} of '{name}' is unknown")
        count = int(np.prod(shape, dtype=np.int64))
        if begin != end or stop - begin != count * dtype.itemsize:
            raise ValueError(f"the bytes of '{name}' do not fit its shape")
        end = stop
        if 8 + size + end > len(mapped):
            raise ValueError(f"the file ends at byte {len(mapped)}, inside '{name}'")
        arrays[name] = (entry["dtype"], np.frombuffer(mapped, dtype, count, 8 + size + begin).reshape(shape))
    if 8 + size + end != len(mapped):
        raise ValueError(f"the file has {len(mapped) - 8 - size - end} bytes more than its header says")
    return arrays


def to_stored(name: str, array: Any, dtype: str) -> tuple[str, np.ndarray]:
    """Convert an array of a representation to (safetensors dtype, NumPy array) of a store.

    Args:
        name: Of the array; float vectors and similarity take the store's precision (rounded to nearest), all others keep
            their own type, lengths int64.
        array: NumPy array, or PyTorch tensor on any device.
        dtype: The store's precision: float32, float16 or bfloat16.

    Raises:
        InputError: The type of the array cannot be stored.
    """
    is_vector = name in ("vectors", "similarity")
    if not isinstance(array, np.ndarray):
        tensor = array.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            if is_vector and dtype == "bfloat16":
                import torch

                return "BF16", tensor.contiguous().view(torch.uint16).numpy()
            tensor = tensor.float()
        array = tensor.numpy()
    if is_vector and array.dtype.kind == "f":
        if dtype == "bfloat16":
            return "BF16", to_bfloat16(array)
        return (
            ("F32", array.astype(np.float32, copy=False)) if dtype == "float32" else ("F16", array.astype(np.float16))
        )
    if name == "lengths":
        return "I64", array.astype(np.int64, copy=False)
    found = NAMES.get(array.dtype)
    if found is None:
        raise InputError(f"the array '{name}' has the type {array.dtype}", expected="floats or signed integers")
    return found, array
