"""Items by id: texts, numbers or images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import InputError
from pairstill.scratch import PIECE_ROWS

Kind = Literal["text", "numeric", "image"]
KINDS: tuple[Kind, ...] = ("text", "numeric", "image")


@dataclass(frozen=True)
class Collection:
    """Items by id.

    Attributes:
        ids: Strings, distinct.
        contents: As many: texts as strings, numbers as lists of fixed size of float32, images as binary (encoded, such as PNG).
    """

    ids: pa.Array
    contents: pa.Array

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    @property
    def kind(self) -> Kind:
        """Of the contents."""
        if pa.types.is_fixed_size_list(self.contents.type):
            return "numeric"
        return "image" if _is_binary(self.contents.type) else "text"

    @property
    def texts(self) -> pa.Array:
        """The contents where they are texts.

        Raises:
            InputError: They are not.
        """
        if self.kind != "text":
            raise InputError(f"a collection holds content of kind {self.kind}", expected="texts, which this works on")
        return self.contents

    @cached_property
    def text_list(self) -> list[str]:
        """All texts as Python strings."""
        return list(self.texts.to_pylist())

    @cached_property
    def values(self) -> list[str] | list[bytes] | np.ndarray:
        """All contents: strings, encoded images, or `(items, features)` float32."""
        if self.kind == "numeric":
            width = self.contents.type.list_size
            return np.asarray(self.contents.flatten().to_numpy(zero_copy_only=False)).reshape(len(self), width)
        return self.text_list if self.kind == "text" else list(self.contents.to_pylist())

    def take(self, rows: np.ndarray) -> list[str] | list[bytes] | np.ndarray:
        """Contents of the items at `rows (items,)`, as `values` has them, without making the others."""
        if self.kind == "numeric":
            numbers: np.ndarray = np.asarray(self.values)[rows]
            return numbers
        return list(self.contents.take(pa.array(rows, pa.int64())).to_pylist())

    def codes(self) -> np.ndarray:
        """`(items,)` int64: equal contents have equal codes, whatever their ids."""
        if self.kind != "numeric":
            return np.asarray(pc.dictionary_encode(self.contents).indices, dtype=np.int64)
        rows = np.ascontiguousarray(self.values)
        whole = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
        return np.asarray(np.unique(whole, return_inverse=True)[1], dtype=np.int64)


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """One contiguous array; more than 2 GiB of text does not fit 32-bit offsets and becomes `large_string`."""
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray) and combined.num_chunks > 1:
        wide = pa.large_binary() if _is_binary(column.type) else pa.large_string()
        combined = column.cast(wide).combine_chunks()
    return combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _short(chunks: Sequence[pa.Array]) -> Iterator[pa.Array]:
    """Pieces of chunks of which copies are small."""
    for chunk in chunks:
        for start in range(0, len(chunk), PIECE_ROWS // 16):
            yield chunk.slice(start, PIECE_ROWS // 16)


def content_fingerprint(columns: Sequence[pa.Array | pa.ChunkedArray]) -> str:
    """SHA-256 over values and nulls, whatever the chunks are and whether offsets have 32 or 64 bits."""
    digest = hashlib.sha256()
    for column in columns:
        valid, lengths, values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        for chunk in _short(column.chunks if isinstance(column, pa.ChunkedArray) else [column]):
            valid.update(np.asarray(chunk.is_valid()).astype(np.uint8).tobytes())
            if pa.types.is_integer(chunk.type):
                values.update(pc.fill_null(chunk.cast(pa.int64()), 0).to_numpy(zero_copy_only=False).tobytes())
                continue
            if pa.types.is_floating(chunk.type):
                values.update(pc.fill_null(chunk.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False).tobytes())
                continue
            if pa.types.is_fixed_size_list(chunk.type):
                lengths.update(np.full(len(chunk), chunk.type.list_size).tobytes())
                values.update(np.ascontiguousarray(chunk.flatten().to_numpy(zero_copy_only=False)).tobytes())
                continue
            if _is_binary(chunk.type):
                texts = pc.fill_null(chunk.cast(pa.large_binary()), b"")
            else:
                texts = pc.fill_null(chunk.cast(pa.large_string()), "")
            _, offset_buffer, data = texts.buffers()
            offsets = np.frombuffer(offset_buffer, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
            lengths.update(np.diff(offsets).tobytes())
            if data is not None:
                values.update(memoryview(data)[offsets[0] : offsets[-1]])
        for one in (valid, lengths, values):
            digest.update(one.digest())
    return digest.hexdigest()
