"""Read-only memory maps that hold no file descriptor, and that can lay pieces of many files side by side.

Python's own maps keep a descriptor each, and a store of ten million items has more shards than a process may have files
open. Pieces that begin and end with a page are mapped to consecutive addresses, so that one `np.take` gathers from all of
them.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pairstill.errors import ArtefactError

_PROT_NONE, _MAP_FIXED = 0, 0x10
_FAILED = ctypes.c_void_p(-1).value


@dataclass(frozen=True)
class Piece:
    """A part of a file.

    Attributes:
        path: The file.
        offset: Its first byte.
        size: Number of bytes.
        file_size: Bytes that the whole file must have; reading a map beyond the end of a file would kill the process.
    """

    path: Path
    offset: int
    size: int
    file_size: int


def joins(left: Piece, right: Piece) -> bool:
    """Whether `right` can be mapped directly behind `left`."""
    return not (
        left.offset % mmap.PAGESIZE or left.size % mmap.PAGESIZE or right.offset % mmap.PAGESIZE or not left.size
    )


def map_pieces(pieces: Sequence[Piece]) -> np.ndarray:
    """The bytes of all pieces, one behind the other, as one read-only uint8 array that nothing is read for yet.

    Args:
        pieces: One of any offset and size, or several of which each `joins` the next.

    Raises:
        ArtefactError: A file is missing or has another size than it should.
    """
    shift = pieces[0].offset % mmap.PAGESIZE
    size = sum(piece.size for piece in pieces)
    if not size:
        return np.empty(0, np.uint8)
    mapping = _Mapping(_map(None, shift + size, _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0), shift, size)
    address = mapping.address
    for piece in pieces:
        if not piece.size:
            continue
        descriptor = open_file(piece.path)
        try:
            check_size(piece.path, descriptor, piece.file_size)
            _map(
                address,
                shift + piece.size,
                mmap.PROT_READ,
                mmap.MAP_SHARED | _MAP_FIXED,
                descriptor,
                piece.offset - shift,
            )
        finally:
            os.close(descriptor)
        address += shift + piece.size
    return np.asarray(mapping)


def open_file(path: Path) -> int:
    """A descriptor for reading; raises `ArtefactError` where the file is missing."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        raise ArtefactError("the file is missing", file=path, fix="Write the store again") from None


def check_size(path: Path, descriptor: int, expected: int) -> None:
    """Raise `ArtefactError` where an open file has another size."""
    found = os.fstat(descriptor).st_size
    if found != expected:
        raise ArtefactError(
            f"the file has {found} bytes", file=path, expected=f"{expected} bytes", fix="Write the store again"
        )


class _Mapping:
    """Owns a range of addresses; NumPy arrays that show it keep it alive."""

    def __init__(self, address: int, shift: int, size: int) -> None:
        self.address, self._whole = address, shift + size
        # At the end of the process the module's names may be gone before the last map.
        self._unmap = _library().munmap
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (size,), "data": (address + shift, True)}

    def __del__(self) -> None:
        self._unmap(self.address, self._whole)


@functools.cache
def _library() -> Any:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64
    ]  # fmt: skip
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return library


def _map(address: int | None, size: int, protection: int, flags: int, descriptor: int, offset: int) -> int:
    found = _library().mmap(address, size, protection, flags, descriptor, offset)
    if found is None or found == _FAILED:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)} (mapping {size} bytes)")
    return int(found)
