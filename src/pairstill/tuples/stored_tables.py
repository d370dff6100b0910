"""The Parquet files of a tuple set's folder: in memory where they are small, else mapped from scratch files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from pairstill.files import read_parquet
from pairstill.scratch import IN_MEMORY_BYTES, PIECE_ROWS, scratch_strings, scratch_table
from pairstill.tuples.collection import Collection, one_array


def read_collection(path: Path) -> Collection:
    """In memory where it is small, else in scratch files; numbers always in memory."""
    import pyarrow.parquet as pq

    with contextlib.suppress(pa.ArrowInvalid), pq.ParquetFile(path) as file:
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        numbers = pa.types.is_fixed_size_list(file.schema_arrow.types[1])
        if sum(one.total_byte_size for one in groups) > IN_MEMORY_BYTES and not numbers:

            def parts(name: str) -> Iterator[pa.Array]:
                return (batch.column(0) for batch in file.iter_batches(columns=[name]))

            ids, contents = file.schema_arrow.names
            kind = str if contents == "text" else bytes
            return Collection(
                scratch_strings(partial(parts, ids), str), scratch_strings(partial(parts, contents), kind)
            )
    table = read_parquet(path)
    column = "content" if "content" in table.column_names else "text"
    return Collection(one_array(table.column("id")), one_array(table.column(column)))


def read_tuples(path: Path) -> pa.Table:
    """In memory where it is small, else in a scratch file."""
    import pyarrow.parquet as pq

    # What is damaged is left to `read_parquet`, which says so.
    with contextlib.suppress(pa.ArrowInvalid), pq.ParquetFile(path) as file:
        if file.metadata.num_rows > PIECE_ROWS:
            return scratch_table(file.iter_batches(), file.schema_arrow)
    return read_parquet(path)
