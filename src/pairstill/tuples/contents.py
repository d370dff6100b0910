"""What the items of a table are: texts as they stand, numbers and images behind a hash of their bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.tuples.checks import flat, numbers, texts
from pairstill.tuples.collection import Collection, Kind
from pairstill.tuples.content_source import ContentSource
from pairstill.tuples.images import decode_image
from pairstill.tuples.source_table import SourceTable, first_row

LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Contents:
    """Content of every row of a table.

    Attributes:
        kind: Of all rows.
        keys: `(rows,)` `large_string`; equal content has equal keys. The texts themselves, or see `content_key`.
        values: Bytes by key: float32 numbers, or encoded images; empty for texts.
        features: How many numbers an item has; None for other kinds.
    """

    kind: Kind
    keys: pa.Array
    values: dict[str, bytes] = field(default_factory=dict)
    features: int | None = None


def read_contents(source: SourceTable, columns: ContentSource) -> Contents:
    """Read and check the columns that hold content.

    Raises:
        InputError: A text is missing or empty; a number is missing, no number, not finite or beyond float32, or a list has
            another length; an image is missing or does not decode.
    """
    if columns.kind == "numeric":
        return _numeric(source, columns.numeric or [])
    if columns.kind == "image":
        return _images(source, (columns.image or [""])[0])
    return Contents("text", texts(source, columns.text or [], columns.join))


def restored(collection: Collection, contents: Sequence[Contents]) -> Collection:
    """A collection of keys as one of what they stand for."""
    if contents[0].kind == "text":
        return collection
    found = {key: value for one in contents for key, value in one.values.items()}
    values = [found[key] for key in collection.contents.to_pylist()]
    if contents[0].kind == "image":
        small = sum(map(len, values)) < 2**31 - 1
        return Collection(collection.ids, pa.array(values, pa.binary() if small else pa.large_binary()))
    flattened = np.frombuffer(b"".join(values), np.float32)
    return Collection(collection.ids, pa.FixedSizeListArray.from_arrays(pa.array(flattened), contents[0].features))


def content_key(kind: Kind, data: bytes) -> str:
    """`n` (numbers) or `i` (an image) and 32 hexadecimal digits of the BLAKE2b hash; also the id where the source gives none."""
    return kind[0] + hashlib.blake2b(data, digest_size=16).hexdigest()


def _numeric(source: SourceTable, columns: Sequence[str]) -> Contents:
    kind = source.column(columns[0]).type
    if len(columns) == 1 and (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        found = _lists(source, columns[0])
    else:
        found = np.stack([_single(source, name) for name in columns], axis=1)
    beyond = np.argwhere(np.abs(found) > LARGEST)
    if len(beyond):
        row, place = (int(one) for one in beyond[0])
        raise source.error(
            row, columns[min(place, len(columns) - 1)], f"the number is {found[row, place]:g}",
            expected="a number that float32 holds", fix="Scale the column",
        )  # fmt: skip
    # Minus zero is zero.
    rows = np.ascontiguousarray(found + 0.0, dtype=np.float32)
    data = [one.tobytes() for one in rows]
    keys = [content_key("numeric", one) for one in data]
    return Contents(
        "numeric", pa.array(keys, pa.large_string()), dict(zip(keys, data, strict=True)), int(rows.shape[1])
    )


def _single(source: SourceTable, name: str) -> np.ndarray:
    found = numbers(source, name, "number")
    missing = first_row(found.is_null())
    if missing is not None:
        raise source.error(
            missing, name, "the number is missing", expected="a number in every row",
            fix="Fill it in (a mean, and a column that says it was missing), or remove the row",
        )  # fmt: skip
    return np.asarray(found.to_numpy(zero_copy_only=False))


def _lists(source: SourceTable, name: str) -> np.ndarray:
    lists = flat(source.column(name))
    values = lists.type.value_type
    if not (pa.types.is_integer(values) or pa.types.is_floating(values)):
        raise source.error(0, name, f"the column holds {lists.type}", expected="lists of numbers")
    missing = first_row(lists.is_null())
    if missing is not None:
        raise source.error(missing, name, "the list is missing (null)", expected="a list in every row")
    lengths = np.asarray(pc.list_value_length(lists))
    width = int(lengths[0])
    other = first_row(lengths != max(width, 1))
    if other is not None:
        raise source.error(
            other, name, f"the list has {int(lengths[other])} numbers",
            expected=f"{width}, as in the first row" if width else "at least one", fix="Lists are of one length",
        )  # fmt: skip
    found = pc.list_flatten(lists).cast(pa.float64())
    plain = np.asarray(found.to_numpy(zero_copy_only=False)).reshape(len(lists), width)
    bad = np.argwhere(~np.isfinite(plain))
    if len(bad):
        row, place = (int(one) for one in bad[0])
        null = found[row * width + place].as_py() is None
        raise source.error(
            row, name, f"number {place + 1} of the list is {'missing' if null else plain[row, place]}",
            expected="a finite number", fix="Correct it",
        )  # fmt: skip
    return plain


def _images(source: SourceTable, name: str) -> Contents:
    keys: list[str] = []
    values: dict[str, bytes] = {}
    for part in source.parts:
        file = Path(part.name)
        folder = file.parent if file.is_file() else Path()
        found: dict[str | bytes, str] = {}
        cells = _paths_or_bytes(source, name, flat(part.table.column(name)), len(keys))
        for row, value in enumerate(cells, start=len(keys)):
            if value not in found:
                data = value if isinstance(value, bytes) else _file(source, name, row, folder / value)
                _check_decodes(source, name, row, data, value)
                found[value] = content_key("image", data)
                values[found[value]] = data
        keys += [found[one] for one in cells]
    return Contents("image", pa.array(keys, pa.large_string()), values)


def _paths_or_bytes(source: SourceTable, name: str, column: pa.Array, before: int) -> list[str | bytes]:
    """Of every row of a part that stands behind `before` other rows."""
    if pa.types.is_struct(column.type) and {one.name for one in column.type} >= {"bytes", "path"}:
        # Images of the `datasets` library: bytes, or a path where they are not embedded.
        data, paths = pc.struct_field(column, "bytes"), pc.struct_field(column, "path")
        values = [path if one is None else one for one, path in zip(data.to_pylist(), paths.to_pylist(), strict=True)]
    elif (
        pa.types.is_large_string(column.type) or pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
    ):  # fmt: skip
        encoded = pc.dictionary_encode(column)
        known = encoded.dictionary.to_pylist()
        values = [None if one is None else known[one] for one in encoded.indices.to_pylist()]
    else:
        raise source.error(
            before, name, f"the column holds {column.type}", expected="paths of image files, or encoded images"
        )
    missing = next((row for row, one in enumerate(values) if not one), None)
    if missing is not None:
        raise source.error(
            before + missing, name, "the image is missing", expected="a path, or an encoded image, in every row"
        )
    return values


def _file(source: SourceTable, name: str, row: int, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise source.error(
            row, name, f"the image '{path}' cannot be read: {error.strerror}",
            expected="a path that starts at the folder of the table, or an absolute one",
        ) from None  # fmt: skip


def _check_decodes(source: SourceTable, name: str, row: int, data: bytes, value: str | bytes) -> None:
    try:
        decode_image(data)
    except ValueError as error:
        named = f" '{value}'" if isinstance(value, str) else ""
        raise source.error(
            row, name, f"the image{named} does not decode: {error}", fix="Replace the image, or remove the row"
        ) from None
