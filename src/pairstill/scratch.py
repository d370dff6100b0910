"""Arrays that may be larger than memory: large ones lie in files without a name, so the system can write them out and read them again.

The files are made in Python's temporary folder (`TMPDIR`), which must be on a disk, and are gone when nobody uses them any more.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pairstill.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

IN_MEMORY_BYTES = 1 << 26
"""Larger arrays are files."""
NARROW_BYTES = (1 << 31) - 1
"""Strings of more need offsets of 64 bits."""
PIECE_ROWS = 1 << 20
"""Rows that are worked on at a time."""


def scratch_array(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of this shape that somebody fills: in memory where it is small, in a file where it is large.

    Raises:
        InputError: The temporary folder has no room for it.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size <= IN_MEMORY_BYTES:
        return np.empty(shape, kind)
    with _room(size), tempfile.TemporaryFile(prefix="pairstill-") as file:
        if hasattr(os, "posix_fallocate"):
            # A file with holes would end the process where the disk is full.
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)
        return np.frombuffer(mmap.mmap(file.fileno(), size), kind).reshape(shape)


def scratch_table(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    """A table in a file, mapped into memory.

    Raises:
        InputError: The temporary folder has no room for it.
    """
    import pyarrow as pa

    with _room(None), tempfile.TemporaryFile(prefix="pairstill-") as file:
        with pa.ipc.new_file(file, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()


def scratch_strings(parts: Callable[[], Iterable[pa.Array]], kind: type[str] | type[bytes]) -> pa.Array:
    """One array of the strings, or binaries, of `parts`, none of them null; it lies where `scratch_array` puts it.

    Args:
        parts: Gives them anew each time: they are read twice.
        kind: What they are.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    count = size = 0
    for part in parts():
        count, size = count + len(part), size + (pc.sum(pc.binary_length(part)).as_py() or 0)
    wide = size > NARROW_BYTES
    offsets, data = scratch_array((count + 1,), np.int64 if wide else np.int32), scratch_array((size,), np.uint8)
    offsets[0] = row = filled = 0
    for part in parts():
        own = part.cast(pa.large_string() if kind is str else pa.large_binary())
        places = np.frombuffer(own.buffers()[1], np.int64)[own.offset : own.offset + len(own) + 1]
        content = np.frombuffer(own.buffers()[2] or b"", np.uint8)[places[0] : places[-1]]
        offsets[row + 1 : row + 1 + len(own)] = places[1:] - places[0] + filled
        data[filled : filled + len(content)] = content
        row, filled = row + len(own), filled + len(content)
    text = (pa.large_string() if wide else pa.string()) if kind is str else (pa.large_binary() if wide else pa.binary())
    return pa.Array.from_buffers(text, count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def pieces(count: int) -> Iterator[slice]:
    """Slices of at most `PIECE_ROWS` that cover `count` rows."""
    for start in range(0, count, PIECE_ROWS):
        yield slice(start, min(start + PIECE_ROWS, count))


def positions(count: int, wanted: Callable[[slice], np.ndarray]) -> np.ndarray:
    """`(found,)` int64 rows, rising, of which `wanted` of their piece is true.

    Args:
        count: Rows in all.
        wanted: Boolean mask of a piece.
    """
    out, found = scratch_array((count,), np.int64), 0
    for piece in pieces(count):
        rows = np.flatnonzero(wanted(piece)) + piece.start
        out[found : found + len(rows)] = rows
        found += len(rows)
    return out[:found]


def take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """As `array[rows]`."""
    out = scratch_array((len(rows), *array.shape[1:]), array.dtype)
    for piece in pieces(len(rows)):
        out[piece] = array[rows[piece]]
    return out


@contextlib.contextmanager
def _room(size: int | None) -> Iterator[None]:
    """A full disk becomes one clear error."""
    try:
        yield
    except OSError as error:
        what = "" if size is None else f" of {size:,} bytes"
        raise InputError(
            f"a temporary file{what} cannot be written: {error.strerror or error}", file=tempfile.gettempdir(),
            fix="Make room, or name a folder on a larger disk in the environment variable TMPDIR",
        ) from None  # fmt: skip
