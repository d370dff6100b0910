"""The files of a store: safetensors, read through a memory map.

The format is safetensors' own (a length, a JSON header, the arrays' bytes), so any reader of it opens them. The header is
padded so that the arrays begin with a page, and wider elements come first, so that every array is aligned. The same
arrays always give the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairstill.errors import ArtefactError
from pairstill.files import write_atomic
from pairstill.store.mapping import Piece, map_pieces, open_file

# The largest page of the processors in use: maps begin with one.
HEADER_UNIT = 16_384
LARGEST_HEADER = 100_000_000
# NumPy has no bfloat16: its bits are kept as unsigned 16-bit integers.
STORED: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"), "I32": np.dtype("<i4"), "I16": np.dtype("<i2"), "I8": np.dtype("i1"), "U8": np.dtype("u1"),
    "U32": np.dtype("<u4"), "U64": np.dtype("<u8"),
}  # fmt: skip

Blocks = tuple[str, Sequence[np.ndarray]]


@dataclass(frozen=True)
class FileArray:
    """Where an array lies in a file.

    Attributes:
        dtype: safetensors' name of its type.
        shape: Its shape.
        piece: Its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    piece: Piece

    def map(self) -> np.ndarray:
        """The array, read-only, mapped."""
        return map_pieces([self.piece]).view(STORED[self.dtype]).reshape(self.shape)


def write_arrays(path: Path, arrays: Mapping[str, Blocks]) -> None:
    """Write arrays atomically.

    Args:
        path: The file.
        arrays: By name, (safetensors dtype, blocks in the NumPy dtype of `STORED` that make up the array one behind the
            other along their first dimension).
    """
    header: dict[str, Any] = {}
    offset = 0
    ordered: list[np.ndarray] = []
    for name in sorted(arrays, key=lambda name: (-STORED[arrays[name][0]].itemsize, name)):
        dtype, given = arrays[name]
        blocks = [np.ascontiguousarray(block, dtype=STORED[dtype]) for block in given]
        size = sum(block.nbytes for block in blocks)
        shape = [sum(len(block) for block in blocks), *blocks[0].shape[1:]]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
        ordered += blocks
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % HEADER_UNIT)
    with write_atomic(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for block in ordered:
            file.write(block.reshape(-1).view(np.uint8).data)


def read_header(path: Path) -> dict[str, FileArray]:
    """Where the arrays of a file lie, by name; nothing else is read.

    Raises:
        ArtefactError: The file is missing, truncated or no safetensors file.
    """
    descriptor = open_file(path)
    try:
        return _read_header(path, descriptor, os.fstat(descriptor).st_size)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"the file cannot be read: {error}", file=path, fix="Write the store again") from None
    finally:
        os.close(descriptor)


def _read_header(path: Path, descriptor: int, file_size: int) -> dict[str, FileArray]:
    if file_size < 8:
        raise ValueError(f"it has {file_size} bytes")
    size = int.from_bytes(os.pread(descriptor, 8, 0), "little")
    if size > min(file_size - 8, LARGEST_HEADER):
        raise ValueError(f"its header should have {size} bytes and the file has {file_size}")
    header = json.loads(os.pread(descriptor, size, 8))
    header.pop("__metadata__", None)
    arrays = {}
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: int(item[1]["data_offsets"][0])):
        begin, stop = entry["data_offsets"]
        dtype, shape = STORED.get(entry["dtype"]), tuple(entry["shape"])
        if dtype is None:
            raise ValueError(f"the type {entry['dtype']!r} of '{name}' is unknown")
        if begin < end:
            raise ValueError(f"'{name}' overlaps the array before it")
        if not all(isinstance(one, int) and one >= 0 for one in (begin, stop, *shape)):
            raise ValueError(f"the place of '{name}' is no place")
        count = 1
        for one in shape:
            count *= one
        if begin != end or stop - begin != count * dtype.itemsize:
            raise ValueError(f"the bytes of '{name}' do not fit its shape")
        end = stop
        if 8 + size + end > file_size:
            raise ValueError(f"the file ends at byte {file_size}, inside '{name}'")
        arrays[name] = FileArray(entry["dtype"], shape, Piece(path, 8 + size + begin, stop - begin, file_size))
    if 8 + size + end != file_size:
        raise ValueError(f"the file has {file_size - 8 - size - end} bytes more than its header says")
    return arrays
