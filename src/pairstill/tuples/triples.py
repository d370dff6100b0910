"""Triples (a query, what is relevant to it, what is not) as two tuples each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from pairstill.tuples.source_table import Part, SourceTable


def two_rows_each(source: SourceTable, pairs: Mapping[str, tuple[str, str]], repeated: Sequence[str]) -> SourceTable:
    """Rows 2 i and 2 i + 1 for row i: the first with what is relevant, the second with what is not.

    Errors about a row still name the line of its triple.

    Args:
        source: One row a triple.
        pairs: New column -> the column of the first row's value, the column of the second row's.
        repeated: Columns whose value both rows have.
    """
    parts = []
    for part in source.parts:
        count = part.table.num_rows
        twice = pa.array(np.repeat(np.arange(count), 2))
        columns = {name: part.table.column(name).take(twice) for name in repeated}
        order = pa.array(np.arange(2 * count).reshape(2, count).T.reshape(-1))
        for name, (first, second) in pairs.items():
            both = pa.chunked_array([*part.table.column(first).chunks, *part.table.column(second).chunks])
            columns[name] = both.take(order)
        parts.append(
            Part(part.name, pa.table(columns), lambda row, number=part.row_number: number(row // 2), part.split)  # type: ignore[misc]
        )
    return SourceTable(parts)
