"""From ids to store rows in bulk, and what becomes of rows that cannot be scored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairstill.errors import InputError
from pairstill.files import write_atomic
from pairstill.scoring.bulk.inputs import PairInput, Piece, expand
from pairstill.store import RepresentationStore

OnBadRow = Literal["stop", "skip"]
CHUNK_PAIRS = 1 << 20
"""Most pairs that a worker holds at a time, whatever a shard has."""


@dataclass(frozen=True)
class Chunk:
    """Pairs that are scored together.

    Attributes:
        ids: Of each field, one a pair.
        rows: `(pairs, fields)` store rows.
    """

    ids: Mapping[str, pa.Array]
    rows: np.ndarray


class SkippedRows:
    """Rows that are left out, written to a Parquet file as they are found; nothing is written where there are none.

    Use it as a context manager. In the mode `stop` the first one is raised instead.

    Args:
        path: The file: `file`, `row` (from 1), `rows` (how many, from this one on), `reason` and the ids as text.
        fields: Names of the fields.
        mode: `stop` or `skip`.
    """

    def __init__(self, path: Path, fields: Sequence[str], mode: OnBadRow) -> None:
        self.path, self.fields, self.mode, self.count = path, list(fields), mode, 0
        self.schema = skipped_schema(fields)
        self._stack = contextlib.ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> SkippedRows:
        """Nothing is written yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file; after an error there is none."""
        self._stack.__exit__(kind, error, trace)

    def unreadable(self, piece: Piece) -> None:
        """Leave out a piece that could not be read."""
        if self.mode == "stop":
            raise InputError(
                f"{piece.problem} (rows {piece.row + 1:,} to {piece.row + piece.rows:,})", file=piece.file,
                row=piece.row + 1, fix="Copy the file again, or go on without them with --on-bad-row skip",
            )  # fmt: skip
        none = {name: [None] for name in self.fields}
        self._write(
            {"file": [piece.file], "row": [piece.row + 1], "rows": [piece.rows], "reason": [piece.problem], **none}
        )

    def add(self, piece: Piece, rows: np.ndarray, reasons: Sequence[str], ids: Mapping[str, pa.Array] | None) -> None:
        """Leave out pairs of a piece.

        Args:
            piece: Where they stand.
            rows: `(pairs,)` rows of the piece's table.
            reasons: One a pair.
            ids: One a pair, of every field; None where they are not known.
        """
        if not len(rows):
            return
        if self.mode == "stop":
            more = f" (so it is with {len(rows):,} of the {piece.rows:,} rows read at once)" if len(rows) > 1 else ""
            raise InputError(
                reasons[0] + more, file=piece.file, row=piece.row + int(rows[0]) + 1,
                fix="Run the same command with --on-bad-row skip, which keeps what is done and writes such rows down; or encode what is "
                "missing and start again in another folder",
            )  # fmt: skip
        columns = {name: [None] * len(rows) if ids is None else ids[name].cast(pa.string()) for name in self.fields}
        self._write(
            {"file": [piece.file] * len(rows), "row": piece.row + rows + 1, "rows": [1] * len(rows), "reason": reasons,
             **columns}
        )  # fmt: skip

    def _write(self, columns: Mapping[str, Any]) -> None:
        table = pa.table(dict(columns), self.schema)
        self.count += sum(table.column("rows").to_pylist())
        if self._writer is None:
            file = self._stack.enter_context(write_atomic(self.path))
            self._writer = self._stack.enter_context(pq.ParquetWriter(file, self.schema, compression="zstd"))
        self._writer.write_table(table)


def skipped_schema(fields: Sequence[str]) -> pa.Schema:
    """Columns of a file of skipped rows."""
    return pa.schema(
        [("file", pa.string()), ("row", pa.int64()), ("rows", pa.int64()), ("reason", pa.string())]
        + [(name, pa.string()) for name in fields]
    )  # fmt: skip


def chunks(
    source: PairInput, start: int, stop: int, stores: Mapping[str, RepresentationStore], skipped: SkippedRows
) -> Iterator[Chunk]:
    """Pairs of the input's rows from `start` up to `stop`, in their order, at most `CHUNK_PAIRS` at a time.

    Raises:
        InputError: A row is bad, in the mode `stop`.
    """
    pending: list[Chunk] = []
    count = 0
    for piece in source.read(start, stop):
        if piece.table is None:
            skipped.unreadable(piece)
            continue
        found = _piece(piece, source.lists, stores, skipped)
        for begin in range(0, len(found.rows), CHUNK_PAIRS):
            part = _cut(found, begin, begin + CHUNK_PAIRS)
            if count + len(part.rows) > CHUNK_PAIRS:
                yield _joined(pending)
                pending, count = [], 0
            pending.append(part)
            count += len(part.rows)
    if count:
        yield _joined(pending)


def _piece(
    piece: Piece, lists: Sequence[str], stores: Mapping[str, RepresentationStore], skipped: SkippedRows
) -> Chunk:
    assert piece.table is not None
    ids, parents, bad = expand(piece.table, lists)
    ids = {name: as_one_type(column) for name, column in ids.items()}
    skipped.add(piece, bad, ["a list is missing, or two lists differ in length"] * len(bad), None)
    rows = np.stack([look_up(ids[name], store) for name, store in stores.items()], axis=1)
    wrong = np.flatnonzero((rows < 0).any(axis=1))
    if wrong.size:
        names, some = list(stores), {name: column.take(pa.array(wrong)) for name, column in ids.items()}
        first = (rows[wrong] < 0).argmax(axis=1)
        reasons = [_reason(names[field], some[names[field]][place].as_py()) for place, field in enumerate(first)]
        skipped.add(piece, parents[wrong], reasons, some)
        good = np.flatnonzero((rows >= 0).all(axis=1))
        keep = pa.array(good)
        return Chunk({name: column.take(keep) for name, column in ids.items()}, rows[good])
    return Chunk(ids, rows)


def as_one_type(ids: pa.Array) -> pa.Array:
    """Ids of every file as 64-bit integers, or as strings with 64-bit offsets."""
    return ids.cast(pa.int64() if pa.types.is_integer(ids.type) else pa.large_string())


def _reason(field: str, one: Any) -> str:
    return f"the id of '{field}' is missing" if one is None else f"the store of '{field}' has no item {one!r}"


def look_up(ids: pa.Array, store: RepresentationStore) -> np.ndarray:
    """Store rows of ids, each distinct one looked up once; -1 where an id is missing or unknown."""
    coded = pc.dictionary_encode(ids)
    found = store.lookup(coded.dictionary) if len(coded.dictionary) else np.empty(0, np.int64)
    if not ids.null_count:
        return np.asarray(found[coded.indices.to_numpy()])
    places = coded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    return np.asarray(np.append(found, -1)[places])


def _cut(chunk: Chunk, start: int, stop: int) -> Chunk:
    if start == 0 and stop >= len(chunk.rows):
        return chunk
    return Chunk(
        {name: column.slice(start, stop - start) for name, column in chunk.ids.items()}, chunk.rows[start:stop]
    )


def _joined(parts: list[Chunk]) -> Chunk:
    if len(parts) == 1:
        return parts[0]
    names = parts[0].ids
    return Chunk(
        {name: pa.concat_arrays([part.ids[name] for part in parts]) for name in names},
        np.concatenate([part.rows for part in parts]),
    )
