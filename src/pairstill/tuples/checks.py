"""Columns of a source table as ids, texts and numbers; each check names the first bad cell."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.tuples.source_table import SourceTable, first_row

NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$"


def flat(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = column.chunk(0)
    return column


def keys(source: SourceTable, column: str, what: str = "id") -> pa.Array:
    """A column of ids (or groups, or splits) as `large_string`; integers are written out.

    Raises:
        InputError: A value is null or empty, or the column holds neither strings nor integers.
    """
    values = source.column(column)
    missing = first_row(values.is_null())
    if missing is not None:
        raise source.error(missing, column, f"the {what} is null", expected="a value in every row")
    if pa.types.is_integer(values.type):
        return flat(values.cast(pa.large_string()))
    if not pa.types.is_large_string(values.type):
        raise source.error(
            0, column, f"the column holds {values.type}", expected=f"strings or integers to be used as {what}",
            fix="Convert the column",
        )  # fmt: skip
    empty = first_row(pc.equal(pc.binary_length(values), 0))
    if empty is not None:
        raise source.error(empty, column, f"the {what} is empty", expected="a value in every row")
    return flat(values)


def texts(source: SourceTable, columns: Sequence[str], join: str) -> pa.Array:
    """The text of each row as `large_string`; of several columns those that are empty are left out of the join.

    Raises:
        InputError: A column holds no strings, or a text is missing, empty or white space alone.
    """
    found = []
    for name in columns:
        column = source.column(name)
        if pa.types.is_null(column.type):
            column = column.cast(pa.large_string())
        if not pa.types.is_large_string(column.type):
            row = first_row(column.is_valid()) or 0
            raise source.error(
                row, name, f"the value {column[row].as_py()!r} is no text (the column holds {column.type})",
                expected="strings", fix="Name the column that holds the text, or convert this one to strings",
            )  # fmt: skip
        found.append(column)
    if len(found) == 1:
        missing = first_row(found[0].is_null())
        if missing is not None:
            raise source.error(missing, columns[0], "the text is missing (null)", expected="a text in every row")
    blanks = [pc.fill_null(_blank(one), True) for one in found]
    blank_row = first_row(functools.reduce(pc.and_, blanks))
    if blank_row is not None:
        kind = "empty" if not any(one[blank_row].as_py() for one in found) else "white space alone"
        raise source.error(
            blank_row, " + ".join(columns), f"the text is {kind}", expected="a text in every row",
            fix="Remove the row, or fill in its text",
        )  # fmt: skip
    if len(found) == 1:
        return flat(found[0])
    # Arrow 26 loses rows in which every part is null; there are none left here.
    nothing = pa.scalar(None, pa.large_string())
    parts = [pc.if_else(blank, nothing, one) for blank, one in zip(blanks, found, strict=True)]
    joined = pc.binary_join_element_wise(*parts, pa.scalar(join, pa.large_string()), null_handling="skip")
    if len(joined) != len(source):
        raise RuntimeError("joining columns changed the number of rows")
    return flat(joined)


def _blank(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.or_(pc.equal(pc.binary_length(column), 0), pc.utf8_is_space(column))


def numbers(source: SourceTable, column: str, what: str) -> pa.Array:
    """A column as float64, null where it is null or an empty cell; truth values are 0 and 1.

    Raises:
        InputError: A value is no number, NaN or infinite.
    """
    values = source.column(column)
    if pa.types.is_large_string(values.type):
        values = _parsed(source, column, values, what)
    elif pa.types.is_boolean(values.type) or pa.types.is_integer(values.type) or pa.types.is_null(values.type):
        values = (
            values.cast(pa.float64(), safe=False)
            if not pa.types.is_boolean(values.type)
            else values.cast(pa.int8()).cast(pa.float64())
        )
    elif pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    else:
        raise source.error(0, column, f"the column holds {values.type}", expected="numbers")
    values = flat(values)
    bad = first_row(~np.isfinite(pc.fill_null(values, 0.0).to_numpy(zero_copy_only=False)))
    if bad is not None:
        raise source.error(
            bad, column, f"the {what} is {values[bad].as_py()}", expected="a finite number",
            fix="Correct it, or leave the cell empty (null) where there is none" if what == "label" else "Correct it",
        )  # fmt: skip
    return values


def _parsed(source: SourceTable, column: str, values: pa.ChunkedArray, what: str) -> pa.ChunkedArray:
    words = pc.utf8_lower(pc.utf8_trim_whitespace(values))
    nothing = pc.equal(pc.binary_length(words), 0)
    words = pc.if_else(nothing, pa.scalar(None, pa.large_string()), words)
    words = pc.replace_with_mask(
        flat(words), flat(pc.fill_null(pc.equal(words, "true"), False)), pa.scalar("1", words.type)
    )
    words = pc.replace_with_mask(words, pc.fill_null(pc.equal(words, "false"), False), pa.scalar("0", words.type))
    bad = first_row(pc.invert(pc.fill_null(pc.match_substring_regex(words, NUMBER), True)))
    if bad is not None:
        raise source.error(
            bad, column, f"the {what} {values[bad].as_py()!r} is no number", expected="a finite number",
            fix="Where labels are names of classes, declare them: --classes, or 'classes:' in YAML"
            if what == "label" else None,
        )  # fmt: skip
    return pa.chunked_array([pc.cast(pc.replace_substring_regex(words, r"^\+", ""), pa.float64())])
