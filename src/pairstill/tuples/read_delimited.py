"""CSV and TSV: Arrow reads them, Python's csv module checks quotes and finds the line of a bad record."""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv

from pairstill.errors import InputError
from pairstill.tuples.source_table import Part, check_columns
from pairstill.tuples.text_files import check_utf8

BLOCK_BYTES = 1 << 24


def read_delimited(path: Path, columns: Sequence[str], *, delimiter: str = ",", quotes: bool = True) -> Part:
    """Read columns of a file with a header line, all as text; an empty cell is the empty text.

    Row numbers are the lines on which records start; the header is line 1. Blank lines are no records, except in a file
    of one column.

    Raises:
        InputError: The file is not UTF-8, a column is missing, a record has too few or too many cells, a quote is
            never closed or ends before its cell does.
    """
    quoted = check_utf8(path) and quotes
    names = header(path, delimiter, quotes)
    check_columns(columns, names, str(path))
    if quoted:
        _check_records(path, delimiter, quotes)
    try:
        table = _read(path, columns, delimiter, quotes, one_column=len(names) == 1)
    except pa.ArrowInvalid as error:
        _check_records(path, delimiter, quotes)
        raise InputError(f"the file cannot be read as delimited text: {error}", file=path) from None
    return Part(str(path), table, lambda row: _line_of(path, delimiter, quotes, row))


def header(path: Path, delimiter: str, quotes: bool) -> list[str]:
    """Names of the columns, from the first line."""
    return next((record for _, record in _records(path, delimiter, quotes)), [])


def _read(path: Path, columns: Sequence[str], delimiter: str, quotes: bool, one_column: bool) -> pa.Table:
    block = BLOCK_BYTES
    while True:
        try:
            return arrow_csv.read_csv(
                path,
                read_options=arrow_csv.ReadOptions(block_size=block),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=delimiter, quote_char='"' if quotes else False, newlines_in_values=quotes,
                    ignore_empty_lines=not one_column,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types={name: pa.large_string() for name in columns}, include_columns=list(columns),
                    strings_can_be_null=False, check_utf8=False,
                ),
            )  # fmt: skip
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


def _check_records(path: Path, delimiter: str, quotes: bool) -> None:
    cells = None
    for line, record in _records(path, delimiter, quotes):
        cells = len(record) if cells is None else cells
        if len(record) != cells and (record or cells == 1):
            raise (
                InputError(
                    f"the record has {len(record)} cells",
                    file=path,
                    row=line,
                    expected=f"{cells}, as in the header",
                    fix="Quote cells that contain the delimiter"
                    if quotes
                    else "A cell may not contain the delimiter or a line break here",
                )
                if record
                else InputError("the line is empty", file=path, row=line, expected="one cell a line")
            )


def _line_of(path: Path, delimiter: str, quotes: bool, row: int) -> int:
    one_column = None
    position = -2
    for line, record in _records(path, delimiter, quotes):
        one_column = len(record) == 1 if one_column is None else one_column
        position += bool(record or one_column)
        if position == row:
            return line
    return row + 2
