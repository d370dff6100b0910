"""What a bulk job writes: scores with ids or store rows, and the rows that were skipped, in Parquet."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from pairstill.files import read_parquet, write_atomic
from pairstill.scoring.bulk.rows import skipped_schema
from pairstill.scoring.bulk.top import Scored
from pairstill.store import RepresentationStore

ROW_GROUP = 1 << 20
"""Most rows of a row group of the output."""


class ScoreWriter:
    """Writes scored rows to a Parquet file, row group by row group; use it as a context manager.

    Args:
        path: The file, whole or not at all.
        schema: Of its rows.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        self._stack = contextlib.ExitStack()
        self._pending: list[pa.Table] = []
        self._count = 0

    def __enter__(self) -> ScoreWriter:
        """Open a temporary file."""
        file = self._stack.enter_context(write_atomic(self.path))
        self._writer = self._stack.enter_context(pq.ParquetWriter(file, self.schema, compression="zstd"))
        self._stack.push(self._write_rest)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Rename it into place, unless there was an error."""
        self._stack.__exit__(kind, error, trace)

    def write(self, table: pa.Table) -> None:
        """Add rows; they become a row group when there are enough."""
        self.rows += table.num_rows
        for start in range(0, table.num_rows, ROW_GROUP):
            part = table.slice(start, ROW_GROUP)
            if self._count + part.num_rows > ROW_GROUP:
                self.flush()
            self._pending.append(part)
            self._count += part.num_rows

    def flush(self) -> None:
        """End the row group."""
        if self._count:
            self._writer.write_table(pa.concat_tables(self._pending).combine_chunks(), row_group_size=ROW_GROUP)
        self._pending, self._count = [], 0

    def _write_rest(self, kind: type[BaseException] | None, *_: object) -> None:
        """Runs before the file is closed; an error in here is like one before: the file does not come to be."""
        if kind is None:
            self.flush()


def score_names(outputs: int) -> list[str]:
    """Columns of the raw logits: `score`, or `score_0`, `score_1`, ... of several."""
    return ["score"] if outputs == 1 else [f"score_{number}" for number in range(outputs)]


def result_schema(fields: Sequence[str], stores: Sequence[RepresentationStore], outputs: int) -> pa.Schema:
    """Columns of a result: the ids of each field, and the scores.

    Args:
        fields: Names.
        stores: One a field.
        outputs: How many scores of a pair are kept.
    """
    kinds = [pa.int64() if one.manifest.id_type == "integer" else pa.large_string() for one in stores]
    return pa.schema(list(zip(fields, kinds, strict=True)) + [(name, pa.float32()) for name in score_names(outputs)])


def partial_schema(fields: int) -> pa.Schema:
    """Columns of a partial result: store rows, and the score."""
    return pa.schema([(f"row_{number}", pa.int64()) for number in range(fields)] + [("score", pa.float32())])


def partial_table(scored: Scored) -> pa.Table:
    """Rows of a partial result."""
    columns = {f"row_{number}": scored.rows[:, number] for number in range(scored.rows.shape[1])}
    return pa.table({**columns, "score": scored.scores}, partial_schema(scored.rows.shape[1]))


def join_skipped(
    folder: Path, names: Sequence[str], fields: Sequence[str], unread: Sequence[tuple[str, str]], out: Path
) -> None:
    """One file of all that was skipped; none where there is nothing.

    Args:
        folder: Of the shards' files.
        names: Of the shards, in order.
        fields: Names of the fields.
        unread: Input files that could not be read at all, with the reason.
        out: The file.
    """
    present = [folder / f"{name}.parquet" for name in names if (folder / f"{name}.parquet").exists()]
    if not present and not unread:
        return
    schema = skipped_schema(fields)
    with ScoreWriter(out, schema) as writer:
        for file, reason in unread:
            writer.write(pa.Table.from_pylist([{"file": file, "reason": reason}], schema))
        for path in present:
            writer.write(read_parquet(path))
