"""Ids of a store, and the index that finds the row of an id without reading all ids.

A segment covers the rows that one edit added: the ids in row order, the 64-bit hashes of all ids in ascending order, and
the row that belongs to each hash (12 bytes an item). A look-up is a binary search for the hash and a comparison with the
id itself, so that ids of equal hashes are told apart. All of it is mapped: opening reads none of it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import ArtefactError, InputError
from pairstill.store.shard_file import Blocks, read_header

# Strings or integers, also as an Arrow array.
Ids: TypeAlias = Sequence[str] | Sequence[int] | np.ndarray | Any
TYPES = {"string": pa.large_string(), "integer": pa.int64()}
HASH_BYTES = 16
_MIX, _STEP = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


def as_ids(ids: Ids, expected: str | None = None) -> pa.Array:
    """Ids as an Arrow array: 64-bit integers, or strings with 64-bit offsets.

    Args:
        ids: Strings or integers, not mixed.
        expected: `string` or `integer`, what a store has; None takes either.

    Raises:
        InputError: An id is missing, or of another type.
    """
    try:
        array = ids if isinstance(ids, pa.Array | pa.ChunkedArray) else pa.array(ids)
        if pa.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        if len(array) == 0:
            array = pa.array([], TYPES[expected or "string"])
        if pa.types.is_integer(array.type):
            array, found = array.cast(pa.int64()), "integer"
        elif (
            pa.types.is_string(array.type)
            or pa.types.is_large_string(array.type)
            or pa.types.is_string_view(array.type)
        ):
            array, found = array.cast(pa.large_string()), "string"
        else:
            raise InputError(f"the ids have the type {array.type}", expected="strings or integers")
    except (pa.ArrowException, UnicodeError, OverflowError) as error:
        raise InputError(f"the ids cannot be used: {error}", expected="all strings, or all 64-bit integers") from None
    if array.null_count:
        place = int(np.flatnonzero(pc.is_null(array).to_numpy(zero_copy_only=False))[0])
        raise InputError(f"the id at position {place} is missing ({array.null_count} of {len(array)} ids are)")
    if expected is not None and found != expected:
        raise InputError(f"the ids are {found}s", expected=f"{expected}s, as in the store")
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return array


def type_of(ids: pa.Array) -> str:
    """`integer` or `string`, of what `as_ids` returned."""
    return "integer" if pa.types.is_integer(ids.type) else "string"


def hash_ids(ids: pa.Array) -> np.ndarray:
    """A 64-bit hash of every id that `as_ids` returned, the same on every machine: `(ids,)` uint64."""
    if type_of(ids) == "integer":
        return _mixed(np.ascontiguousarray(ids.to_numpy(zero_copy_only=False)).view(np.uint64) + _MIX)
    offsets, data = _string_buffers(ids)
    lengths = np.diff(offsets)
    # Words of 8 bytes at any address; what lies behind the end of an id is masked.
    padded = np.concatenate([data[offsets[0] : offsets[-1]], np.zeros(8, np.uint8)])
    words: np.ndarray = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))
    starts, counts = offsets[:-1] - offsets[0], (lengths + 7) // 8
    out = _mixed(lengths.astype(np.uint64) * _STEP + _MIX)
    order = np.argsort(counts, kind="stable")
    edges = np.flatnonzero(np.diff(counts[order], prepend=-1))
    for begin, end in itertools.pairwise([*edges, len(order)]):
        count = int(counts[order[begin]])
        for first in range(int(begin), int(end), 1 << 18):
            rows = order[first : min(int(end), first + (1 << 18))]
            state = out[rows]
            for word in range(count):
                value = words[starts[rows] + 8 * word]
                if word == count - 1:
                    value &= np.uint64(0xFFFFFFFFFFFFFFFF) >> (
                        np.uint64(64) - (8 * (lengths[rows] - 8 * word)).astype(np.uint64)
                    )
                state = _mixed((state ^ value) + _MIX)
            out[rows] = state
    return out


def _mixed(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * _STEP
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _string_buffers(ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets `(ids + 1,)` and the bytes that they point into."""
    _, offsets, data = ids.buffers()
    if offsets is None or len(ids) == 0:
        return np.zeros(1, np.int64), np.empty(0, np.uint8)
    found = np.frombuffer(offsets, np.int64)[ids.offset : ids.offset + len(ids) + 1]
    return found, np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


def segment_arrays(ids: pa.Array, content_hash: np.ndarray | None = None) -> dict[str, Blocks]:
    """The arrays of a segment's file.

    Args:
        ids: From `as_ids`, in row order.
        content_hash: `(ids, 16)` uint8; None where none are kept.

    Raises:
        InputError: An id occurs twice.
    """
    hashes, order = check_distinct(ids)
    arrays: dict[str, Blocks] = {"hashes": ("U64", [hashes]), "rows": ("U32", [order.astype(np.uint32)])}
    if content_hash is not None:
        arrays["content_hash"] = ("U8", [as_content_hash(content_hash, len(ids))])
    if type_of(ids) == "integer":
        return {**arrays, "ids": ("I64", [ids.to_numpy(zero_copy_only=False)])}
    offsets, data = _string_buffers(ids)
    return {
        **arrays, "id_offsets": ("I64", [offsets - offsets[0]]),
        "id_bytes": ("U8", [data[offsets[0] : offsets[-1]]]),
    }  # fmt: skip


def content_hashes(texts: Iterable[str | bytes | np.ndarray]) -> np.ndarray:
    """A hash of every item, by which a store knows what changed: `(items, 16)` uint8, BLAKE2b of its UTF-8, float32 numbers or bytes.

    Example:
        >>> content_hashes(["a", "b", "a"]).shape
        (3, 16)
    """
    joined = b"".join(hashlib.blake2b(_bytes_of(one), digest_size=HASH_BYTES).digest() for one in texts)
    return np.frombuffer(joined, np.uint8).reshape(-1, HASH_BYTES)


def _bytes_of(item: str | bytes | np.ndarray) -> bytes:
    if isinstance(item, str):
        return item.encode()
    return item if isinstance(item, bytes) else np.asarray(item, np.float32).tobytes()


def as_content_hash(content_hash: np.ndarray, rows: int) -> np.ndarray:
    """Check content hashes: `(rows, 16)` uint8."""
    if content_hash.shape != (rows, HASH_BYTES) or content_hash.dtype != np.uint8:
        raise InputError(
            f"the content hashes are {content_hash.dtype} {list(content_hash.shape)}",
            expected=f"uint8 {[rows, HASH_BYTES]}",
        )
    return content_hash


def check_distinct(ids: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Check that no id occurs twice.

    Args:
        ids: From `as_ids`.

    Returns:
        The ids' hashes, ascending, and the position of each.

    Raises:
        InputError: An id occurs twice.
    """
    found = hash_ids(ids)
    order = np.argsort(found, kind="stable")
    hashes = found[order]
    equal = hashes[1:] == hashes[:-1]
    if not equal.any():
        return hashes, order
    suspects = np.sort(order[np.concatenate([equal, [False]]) | np.concatenate([[False], equal])])
    seen: dict[Any, int] = {}
    for row, one in zip(suspects.tolist(), ids.take(pa.array(suspects)).to_pylist(), strict=True):
        if one in seen:
            raise InputError(
                f"the id {one!r} occurs twice, at the positions {seen[one]} and {row} (counted from 0)",
                expected="every id once",
            )
        seen[one] = row
    return hashes, order


class IdSegment:
    """Ids of consecutive rows, and their index.

    Attributes:
        start: First row.
        content_hash: `(rows, 16)` uint8; None where none are kept.
    """

    def __init__(self, start: int, arrays: Mapping[str, np.ndarray], path: Path) -> None:
        self.start, self._path = start, path
        self._hashes, self._rows = arrays["hashes"], arrays["rows"]
        self._integers, self._offsets, self._bytes = (arrays.get(name) for name in ("ids", "id_offsets", "id_bytes"))
        self.content_hash = arrays.get("content_hash")

    @classmethod
    def open(cls, path: Path, start: int, rows: int, id_type: str) -> IdSegment:
        """Map a segment's file.

        Raises:
            ArtefactError: It does not hold what it should.
        """
        found = read_header(path)
        expected: dict[str, tuple[str, tuple[int, ...]]] = {"hashes": ("U64", (rows,)), "rows": ("U32", (rows,))}
        if id_type == "integer":
            expected["ids"] = ("I64", (rows,))
        else:
            expected["id_offsets"] = ("I64", (rows + 1,))
            expected["id_bytes"] = ("U8", found["id_bytes"].shape if "id_bytes" in found else (0,))
        if "content_hash" in found:
            expected["content_hash"] = ("U8", (rows, HASH_BYTES))
        if {name: (one.dtype, one.shape) for name, one in found.items()} != expected:
            raise ArtefactError(
                f"the file holds {', '.join(f'{name} {one.dtype} {list(one.shape)}' for name, one in found.items())}",
                file=path, expected=f"ids of {rows} rows", fix="Write the store again",
            )  # fmt: skip
        return cls(start, {name: one.map() for name, one in found.items()}, path)

    @classmethod
    def of(cls, start: int, ids: pa.Array, path: Path) -> IdSegment:
        """In memory, for ids that were stored without an index."""
        arrays = segment_arrays(ids)
        return cls(start, {name: blocks[0] for name, (_, blocks) in arrays.items()}, path)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    def array(self) -> pa.Array:
        """All ids in row order, without a copy."""
        if self._integers is not None:
            return pa.array(self._integers)
        self._check_offsets(slice(None, -1), slice(1, None))
        return self._strings()

    def take(self, rows: np.ndarray) -> pa.Array:
        """Ids at rows of this segment, counted from its start."""
        if self._integers is not None:
            return pa.array(self._integers[rows])
        self._check_offsets(rows, rows + 1)
        return self._strings().take(pa.array(rows))

    def _strings(self) -> pa.Array:
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(self._offsets), pa.py_buffer(self._bytes))

    def _check_offsets(self, begin: Any, end: Any) -> None:
        # Arrow trusts offsets, and would read outside of the file.
        offsets, data = self._offsets, self._bytes
        assert offsets is not None
        assert data is not None
        first, last = offsets[begin], offsets[end]
        if len(first) and (int(first.min()) < 0 or int(last.max()) > len(data) or bool((first > last).any())):
            raise self._damaged()

    def _damaged(self) -> ArtefactError:
        return ArtefactError("the ids are damaged", file=self._path, fix="Write the store again")

    def search(self, hashes: np.ndarray, ids: pa.Array) -> np.ndarray:
        """Rows of ids, counted from this segment's start; -1 where it does not have one.

        Args:
            hashes: Of the ids, ascending (the search then walks through memory in order).
            ids: From `as_ids`.
        """
        found = np.full(len(ids), -1, np.int64)
        at = np.searchsorted(self._hashes, hashes)
        open_ = np.arange(len(ids))
        while True:
            open_ = open_[at[open_] < len(self)]
            open_ = open_[self._hashes[at[open_]] == hashes[open_]]
            if not open_.size:
                return found
            rows = self._rows[at[open_]].astype(np.int64)
            if int(rows.max()) >= len(self):
                raise self._damaged()
            equal = pc.equal(self.take(rows), ids.take(pa.array(open_))).to_numpy(zero_copy_only=False)
            found[open_[equal]] = rows[equal]
            open_ = open_[~equal]
            at[open_] += 1


def find_rows(segments: Sequence[IdSegment], ids: pa.Array, deleted: np.ndarray) -> np.ndarray:
    """Rows of ids over all segments, `(ids,)` int64; -1 where an id is unknown or deleted.

    Args:
        segments: Of the store.
        ids: From `as_ids`, of the store's type.
        deleted: Rows that are deleted, ascending.
    """
    hashes = hash_ids(ids)
    order = np.argsort(hashes, kind="stable")
    out = np.full(len(ids), -1, np.int64)
    for segment in reversed(segments):
        found = segment.search(hashes[order], ids.take(pa.array(order)))
        hit = found >= 0
        rows = found[hit] + segment.start
        places = order[hit]
        if deleted.size:
            alive = ~is_in(rows, deleted)
            rows, places = rows[alive], places[alive]
        out[places] = rows
        order = order[out[order] < 0]
        if not order.size:
            break
    return out


def is_in(rows: np.ndarray, ascending: np.ndarray) -> np.ndarray:
    """Whether each row occurs in an ascending array."""
    if not ascending.size:
        return np.zeros(len(rows), bool)
    at = np.searchsorted(ascending, rows)
    return np.asarray(ascending[np.minimum(at, len(ascending) - 1)] == rows)
