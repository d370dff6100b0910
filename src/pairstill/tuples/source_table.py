"""A table read from one or several files, which remembers where each row stood."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa

from pairstill.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Part:
    """The rows of one file (or of one split of a dataset).

    Attributes:
        name: What messages call it.
        table: Its rows, in the file's order.
        row_number: From a position in `table` to the number a user finds the row by (a line, or a row counted from 1).
        split: The split that the rows belong to, where the part says it; None where it does not.
        class_names: Names of the classes of integer columns, where the source carries them.
    """

    name: str
    table: pa.Table
    row_number: Callable[[int], int]
    split: str | None = None
    class_names: dict[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class SourceTable:
    """Parts in their order, as one table."""

    parts: Sequence[Part]

    @cached_property
    def table(self) -> pa.Table:
        """All rows.

        Raises:
            InputError: A column holds different types in two parts.
        """
        first = self.parts[0]
        schema = first.table.schema
        for part in self.parts[1:]:
            for name in schema.names:
                mine, other = schema.field(name).type, part.table.schema.field(name).type
                joined = _common_type(mine, other)
                if joined is None:
                    raise InputError(
                        f"the column holds {other}", file=part.name, column=name,
                        expected=f"{mine}, as in {first.name}", fix="Write both files with the same type",
                    )  # fmt: skip
                schema = schema.set(schema.get_field_index(name), pa.field(name, joined))
        return pa.concat_tables([part.table.cast(schema) for part in self.parts])

    def __len__(self) -> int:
        """Number of rows."""
        return sum(part.table.num_rows for part in self.parts)

    @property
    def name(self) -> str:
        """What messages about the whole table call it."""
        return self.parts[0].name if len(self.parts) == 1 else f"{self.parts[0].name} and {len(self.parts) - 1} more"

    def place(self, row: int) -> tuple[str, int]:
        """File and row number of the row at this position."""
        for part in self.parts:
            if row < part.table.num_rows:
                return part.name, part.row_number(row)
            row -= part.table.num_rows
        raise IndexError(row)

    def describe_place(self, row: int) -> str:
        """Such as `train.csv, row 7`."""
        file, number = self.place(row)
        return f"{file}, row {number}"

    def error(
        self, row: int, column: str, found: str, *, expected: str | None = None, fix: str | None = None
    ) -> InputError:
        """An error about the cell at this position."""
        file, number = self.place(row)
        return InputError(found, file=file, row=number, column=column, expected=expected, fix=fix)

    def renamed(self, names: Mapping[str, str]) -> SourceTable:
        """The same rows under other names of columns."""
        return SourceTable(
            [
                replace(part, table=part.table.rename_columns([names.get(one, one) for one in part.table.column_names]))
                for part in self.parts
            ]
        )

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of all rows."""
        return self.table.column(name)


def _common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in (one, other)]
    if all(numbers):
        both_integers = pa.types.is_integer(one) and pa.types.is_integer(other)
        return pa.int64() if both_integers else pa.float64()
    return None


def plain_table(table: pa.Table) -> pa.Table:
    """Texts of any Arrow string type become `large_string`, so that 2 GiB are no limit; dictionaries are decoded."""
    for position, field in enumerate(table.schema):
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
            column = table.column(position)
            if pa.types.is_dictionary(field.type):
                column = column.cast(kind)
            table = table.set_column(position, field.name, column.cast(pa.large_string()))
        elif pa.types.is_dictionary(field.type):
            table = table.set_column(position, field.name, table.column(position).cast(kind))
    return table


def check_columns(wanted: Sequence[str], present: Sequence[str], file: str) -> None:
    """Refuse a file that lacks a wanted column, or has it twice.

    Raises:
        InputError: With the nearest column that is there.
    """
    for name in wanted:
        if list(present).count(name) > 1:
            raise InputError("the file has two columns of this name", file=file, column=name, fix="Rename one of them")
        if name not in present:
            raise InputError(
                f"there is no column '{name}'", file=file, expected=f"one of {', '.join(present)}",
                fix=_other_delimiter(present) or did_you_mean(name, present),
            )  # fmt: skip


def _other_delimiter(present: Sequence[str]) -> str | None:
    """What to do where the only column's name looks like several names."""
    if len(present) == 1 and "\t" in present[0]:
        return "Its columns stand between tabs: say --format tsv, or 'format: tsv' in YAML"
    if len(present) == 1 and ";" in present[0]:
        return "Its columns stand between semicolons: write it again with commas or tabs"
    return None


def first_row(mask: pa.ChunkedArray | pa.Array | np.ndarray) -> int | None:
    """Position of the first True of a mask without nulls; None where there is none."""
    found = np.flatnonzero(np.asarray(mask))
    return int(found[0]) if len(found) else None
