"""CSV and TSV: Arrow reads them, Python's csv module checks quotes and finds the line of a bad record."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv

from pairstill.errors import InputError
from pairstill.tuples.source_table import Part, check_columns
from pairstill.tuples.text_files import check_utf8
from pairstill.tuples.used_items import UsedItems

BLOCK_BYTES = 1 << 24


def read_delimited(
    path: Path,
    columns: Sequence[str],
    *,
    delimiter: str = ",",
    quotes: bool = True,
    names: Sequence[str] | None = None,
    used: UsedItems | None = None,
) -> Part:
    """Read columns of a file, all as text; an empty cell is the empty text.

    Row numbers are the lines on which records start; a header is line 1. Blank lines are no records, except in a file
    of one column.

    Args:
        path: The file.
        columns: Those wanted.
        delimiter: Between cells.
        quotes: Whether `"` quotes cells.
        names: Of all columns, where the file has no header line; None reads them there.
        used: Keep the rows of these items alone; None keeps all.

    Raises:
        InputError: The file is not UTF-8, a column is missing, a record has too few or too many cells, a quote is
            never closed or ends before its cell does.
    """
    quoted = check_utf8(path) and quotes
    given, names = names, names or header(path, delimiter, quotes)
    check_columns(columns, names, str(path))
    if quoted:
        _check_records(path, delimiter, quotes, given)
    try:
        table, places = _read(path, columns, delimiter, quotes, len(names) == 1, given, used)
    except pa.ArrowInvalid as error:
        _check_records(path, delimiter, quotes, given)
        raise InputError(f"the file cannot be read as delimited text: {error}", file=path) from None

    def line(row: int) -> int:
        return _line_of(path, delimiter, quotes, row if places is None else int(places[row]), 0 if given else 1)

    return Part(str(path), table, line)


def header(path: Path, delimiter: str, quotes: bool) -> list[str]:
    """Names of the columns, from the first line."""
    return next((record for _, record in _records(path, delimiter, quotes)), [])


def _read(
    path: Path,
    columns: Sequence[str],
    delimiter: str,
    quotes: bool,
    one_column: bool,
    names: Sequence[str] | None,
    used: UsedItems | None,
) -> tuple[pa.Table, np.ndarray | None]:
    """The rows, and where they stood in the file if they are not all."""
    block = BLOCK_BYTES
    while True:
        options: dict[str, Any] = {
            "read_options": arrow_csv.ReadOptions(block_size=block, column_names=names),
            "parse_options": arrow_csv.ParseOptions(
                delimiter=delimiter, quote_char='"' if quotes else False, newlines_in_values=quotes,
                ignore_empty_lines=not one_column,
            ),
            "convert_options": arrow_csv.ConvertOptions(
                column_types={name: pa.large_string() for name in columns}, include_columns=list(columns),
                strings_can_be_null=False, check_utf8=False,
            ),
        }  # fmt: skip
        try:
            if used is None:
                return arrow_csv.read_csv(path, **options), None
            with arrow_csv.open_csv(path, **options) as pieces:
                return used.select(pieces, pieces.schema)
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error) or block > path.stat().st_size:
                raise
            block *= 4


@contextlib.contextmanager
def _any_cell_size() -> Iterator[None]:
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _records(path: Path, delimiter: str, quotes: bool) -> Iterator[tuple[int, list[str]]]:
    """The line each record starts on, and its cells; the header is the first."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file, _any_cell_size():
        reader = csv.reader(
            file, delimiter=delimiter, strict=True, quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        )
        line = 1
        try:
            for record in reader:
                yield line, record
                line = reader.line_num + 1
        except csv.Error as error:
            reason = "a quote is never closed" if "end of data" in str(error) else f"a quote is misplaced ({error})"
            raise InputError(
                reason, file=path, row=line, expected='cells with quotes written as "say ""so"""',
                fix="If quotes are ordinary characters in this file, say so: --no-quotes, or 'quotes: false' in YAML",
            ) from None  # fmt: skip


def _check_records(path: Path, delimiter: str, quotes: bool, names: Sequence[str] | None = None) -> None:
    cells = None if names is None else len(names)
    for line, record in _records(path, delimiter, quotes):
        cells = len(record) if cells is None else cells
        if len(record) != cells and (record or cells == 1):
            raise (
                InputError(
                    f"the record has {len(record)} cells",
                    file=path,
                    row=line,
                    expected=f"{cells}, as in the header" if names is None else f"{cells}: {', '.join(names)}",
                    fix="Quote cells that contain the delimiter"
                    if quotes
                    else "A cell may not contain the delimiter or a line break here",
                )
                if record
                else InputError("the line is empty", file=path, row=line, expected="one cell a line")
            )


def _line_of(path: Path, delimiter: str, quotes: bool, row: int, headers: int) -> int:
    one_column = None
    position = -1 - headers
    for line, record in _records(path, delimiter, quotes):
        one_column = len(record) == 1 if one_column is None else one_column
        position += bool(record or one_column)
        if position == row:
            return line
    return row + 1 + headers
