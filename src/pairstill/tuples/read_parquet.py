"""Parquet tables of the user."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pairstill.errors import InputError
from pairstill.tuples.source_table import Part, check_columns, plain_table
from pairstill.tuples.used_items import UsedItems


def read_parquet_source(path: Path, columns: Sequence[str], used: UsedItems | None = None) -> Part:
    """Read columns of a Parquet file, of all rows or of those of some items; row numbers count from 1.

    Raises:
        InputError: The file is truncated or damaged, a column is missing, or a text is not UTF-8.
    """
    with _opened(path) as file:
        check_columns(columns, list(file.schema_arrow.names), str(path))
        if used is None:
            table, places = file.read(columns=list(columns)), None
        else:
            schema = pa.schema([file.schema_arrow.field(name) for name in columns])
            pieces = (one.select(list(columns)) for one in file.iter_batches(columns=list(columns)))
            table, places = used.select(pieces, schema)
    table = table.select(list(columns))
    for name in columns:
        check_valid_text(table.column(name), name, str(path))
    return Part(str(path), plain_table(table), lambda row: (row if places is None else int(places[row])) + 1)


def parquet_columns(path: Path) -> list[str]:
    """Names of the columns of a file."""
    with _opened(path) as file:
        return list(file.schema_arrow.names)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"the file cannot be read as Parquet: {error}", file=path, fix="It is damaged or cut off: copy it again"
        ) from None


def check_valid_text(column: pa.ChunkedArray, name: str, file: str) -> None:
    """Refuse texts that are not UTF-8, which Parquet and Arrow files can hold.

    Raises:
        InputError: With the row of the first one.
    """
    before = 0
    for chunk in column.chunks:
        if not _is_valid(chunk):
            low, high = 0, len(chunk)
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _is_valid(chunk.slice(low, middle - low)) else (low, middle)
            raise InputError(
                "the text is not UTF-8", file=file, row=before + low + 1, column=name, fix="Write it again as UTF-8"
            )
        before += len(chunk)


def _is_valid(chunk: pa.Array) -> bool:
    try:
        chunk.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
