"""Pairs by id, in Parquet files on any file system that fsspec reaches: planned by their footers, read in pieces."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pairstill.errors import InputError
from pairstill.files import fingerprint_json

BATCH_ROWS = 65_536
FOOTER_BYTES = 65_536
READ_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class InputFile:
    """A Parquet file of pairs.

    Attributes:
        name: Where it lies, as its file system names it.
        fingerprint: SHA-256 of its size and last 64 KiB, in which Parquet keeps what it holds and where.
        groups: Rows of each row group.
        pairs: Pairs of each row group: its rows, or the entries of its lists.
        problem: Why it cannot be read; None where it can.
    """

    name: str
    fingerprint: str
    groups: tuple[int, ...]
    pairs: tuple[int, ...]
    problem: str | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(self.groups)


@dataclass(frozen=True)
class Piece:
    """Rows that were read, or that could not be.

    Attributes:
        file: Name of the file.
        row: First row in that file, from 0.
        rows: Number of rows.
        table: The columns of the fields, by field name; None where they cannot be read.
        problem: Why not.
    """

    file: str
    row: int
    rows: int
    table: pa.Table | None
    problem: str | None = None


@dataclass(frozen=True)
class PairInput:
    """All files of a job's input, as one sequence of rows.

    Attributes:
        address: A file or folder, or an fsspec address such as `s3://bucket/pairs` or `memory://pairs`.
        columns: Field name -> column.
        files: In the order of their names.
        lists: Fields whose column holds a list: a row is a group.
    """

    address: str
    columns: Mapping[str, str]
    files: tuple[InputFile, ...]
    lists: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Rows of all files that can be read."""
        return sum(one.rows for one in self.files)

    @property
    def pairs(self) -> int:
        """Pairs of all files that can be read (an empty list counts as one)."""
        return sum(sum(one.pairs) for one in self.files)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the files' fingerprints, in order, and which columns are read."""
        return fingerprint_json([dict(self.columns), [one.fingerprint for one in self.files]])

    def read(self, start: int, stop: int) -> Iterator[Piece]:
        """The rows from `start` up to, not including, `stop`, piece by piece."""
        before = 0
        system, _ = _file_system(self.address)
        for one in self.files:
            if before < stop and start < before + one.rows:
                yield from self._read_file(system, one, max(0, start - before), min(one.rows, stop - before))
            before += one.rows

    def _read_file(self, system: Any, file: InputFile, start: int, stop: int) -> Iterator[Piece]:
        first = 0
        for number, rows in enumerate(file.groups):
            begin, end = max(start, first), min(stop, first + rows)
            if begin < end:
                yield from self._read_group(system, file, number, first, begin, end)
            first += rows

    def _read_group(
        self, system: Any, file: InputFile, number: int, first: int, begin: int, end: int
    ) -> Iterator[Piece]:
        done = first
        try:
            with (
                system.open(file.name, "rb") as opened,
                pq.ParquetFile(opened, buffer_size=READ_BUFFER_BYTES, page_checksum_verification=True) as parquet,
            ):
                names = list(dict.fromkeys(self.columns.values()))
                # Rows whose lists have about as many pairs.
                rows = max(1, BATCH_ROWS * file.groups[number] // max(file.groups[number], file.pairs[number]))
                for batch in parquet.iter_batches(rows, row_groups=[number], columns=names, use_threads=False):
                    low, high = max(begin, done), min(end, done + len(batch))
                    if low < high:
                        part = batch.slice(low - done, high - low)
                        arrays = {field: part.column(name) for field, name in self.columns.items()}
                        yield Piece(file.name, low, high - low, pa.table(arrays))
                    done += len(batch)
                    if done >= end:
                        return
        except (pa.ArrowException, OSError, UnicodeError) as error:
            low = max(begin, done)
            yield Piece(file.name, low, end - low, None, f"the rows cannot be read: {_short(error)}")


def plan_input(address: str, columns: Mapping[str, str], id_types: Mapping[str, str]) -> PairInput:
    """Find the files and read their footers.

    Args:
        address: See `PairInput`.
        columns: Field name -> column.
        id_types: Field name -> `string` or `integer`, what the field's store has.

    Raises:
        InputError: There are no files, none can be read, or one that can be read lacks a column or has another type.
    """
    system, path = _file_system(address)
    files, kinds = [], None
    for name in _names(system, path, address):
        file, found = _plan_file(system, name, columns, id_types)
        if found is not None:
            if kinds is not None and found != kinds:
                raise InputError(
                    f"the columns with lists are {', '.join(found) or 'none'}", file=name,
                    expected=f"{', '.join(kinds) or 'none'}, as in the files before it",
                )  # fmt: skip
            kinds = found
        files.append(file)
    if kinds is None:
        raise InputError(
            str(files[0].problem), file=files[0].name, expected="a Parquet file of pairs, or a TREC run (NAME.trec)",
            fix="If it is one, it is damaged or cut off: copy it again",
        )  # fmt: skip
    return PairInput(address, dict(columns), tuple(files), kinds)


def _plan_file(
    system: Any, name: str, columns: Mapping[str, str], id_types: Mapping[str, str]
) -> tuple[InputFile, tuple[str, ...] | None]:
    digest = hashlib.sha256()
    try:
        with system.open(name, "rb") as opened:
            size = opened.seek(0, 2)
            digest.update(str(size).encode())
            opened.seek(max(0, size - FOOTER_BYTES))
            digest.update(opened.read())
            opened.seek(0)
            with pq.ParquetFile(opened) as parquet:
                schema, metadata = parquet.schema_arrow, parquet.metadata
                lists = _check_schema(schema, name, columns, id_types)
                groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
                rows = pairs = tuple(one.num_rows for one in groups)
                if lists:
                    paths = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
                    leaf = next(number for number, one in enumerate(paths) if one.startswith(f"{columns[lists[0]]}."))
                    pairs = tuple(one.column(leaf).num_values for one in groups)
    except (pa.ArrowException, OSError) as error:
        return InputFile(name, digest.hexdigest(), (), (), f"the file cannot be read as Parquet: {_short(error)}"), None
    return InputFile(name, digest.hexdigest(), rows, pairs), lists


def _check_schema(
    schema: pa.Schema, file: str, columns: Mapping[str, str], id_types: Mapping[str, str]
) -> tuple[str, ...]:
    lists = []
    for field, column in columns.items():
        if column not in schema.names:
            raise InputError(
                f"the file has no column '{column}'", file=file, expected=f"ids of the field '{field}'",
                fix=f"Its columns are {', '.join(schema.names)}: name the right one with --column {field}=NAME",
            )  # fmt: skip
        kind = schema.field(column).type
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lists.append(field)
            kind = kind.value_type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        found = (
            "integer" if pa.types.is_integer(kind)
            else "string" if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
            else str(kind)
        )  # fmt: skip
        if found != id_types[field]:
            raise InputError(
                f"the column holds {found} ids", file=file, column=column,
                expected=f"{id_types[field]}s, as the store of '{field}' has",
                fix="Write the column in the store's type, or encode the items again with ids of this type",
            )  # fmt: skip
    if lists and next(iter(columns)) in lists:
        raise InputError(
            "the first field's column holds lists", file=file, column=columns[next(iter(columns))],
            expected="one id a row of the first field, and lists of the others",
        )  # fmt: skip
    return tuple(lists)


def expand(table: pa.Table, lists: Sequence[str]) -> tuple[dict[str, pa.Array], np.ndarray, np.ndarray]:
    """Groups as pairs.

    Args:
        table: A column a field, by name.
        lists: Fields whose column holds lists.

    Returns:
        Ids of each field, one a pair; the row of the table that each pair comes from; the rows that are no group: a list is
        missing, or two lists differ in length. Those give no pairs, nor do empty lists.
    """
    columns = {name: _flat(table.column(name)) for name in table.column_names}
    if not lists:
        return columns, np.arange(table.num_rows), np.empty(0, np.int64)
    good = np.ones(table.num_rows, bool)
    lengths = [np.asarray(columns[name].value_lengths().fill_null(-1)) for name in lists]
    for one in lengths:
        good &= (one == lengths[0]) & (one >= 0)
    bad = np.flatnonzero(~good)
    if bad.size:
        keep = pa.array(np.flatnonzero(good))
        columns = {name: column.take(keep) for name, column in columns.items()}
    rows = np.repeat(np.flatnonzero(good), lengths[0][good])
    parents = pa.array(np.repeat(np.arange(int(good.sum())), lengths[0][good]))
    return {
        name: column.flatten() if name in lists else column.take(parents) for name, column in columns.items()
    }, rows, bad  # fmt: skip


def _flat(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], combined.type)
    return combined.cast(combined.type.value_type) if pa.types.is_dictionary(combined.type) else combined


def _file_system(address: str) -> tuple[Any, str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address)
    except (ValueError, ImportError) as error:
        raise InputError(
            f"the address '{address}' cannot be used: {_short(error)}",
            fix="Install the package of its file system, such as s3fs or gcsfs",
        ) from None
    return system, path


def _names(system: Any, path: str, address: str) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        if system.isfile(path):
            return [path]
        names = sorted(one for one in system.find(path) if one.endswith(".parquet") and not _hidden(one, path))
        if names:
            return names
        if system.isdir(path):
            raise InputError("the folder has no Parquet files", file=address, expected="files that end in .parquet")
    raise InputError("the file does not exist", file=address)


def _hidden(name: str, folder: str) -> bool:
    inside = name[len(folder) :] if name.startswith(folder) else name
    return any(part.startswith((".", "_")) for part in inside.split("/") if part)


def _short(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:300]
