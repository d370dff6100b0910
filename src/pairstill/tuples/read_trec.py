"""Judgements and runs as TREC writes them: lines of parts between white space, without a header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pairstill.errors import InputError
from pairstill.tuples.source_table import Part, check_columns
from pairstill.tuples.text_files import check_utf8

TREC_COLUMNS = {
    "qrels": ("query", "iteration", "document", "relevance"),
    "run": ("query", "q0", "document", "rank", "score", "system"),
}
"""Names that the parts of a line are given."""
PIECE_LINES = 65_536


def read_trec(path: Path, kind: str, columns: Sequence[str]) -> Part:
    """Read columns of judgements (`qrels`) or of a ranking (`run`), all as text. Row numbers are lines; blank lines are none.

    Raises:
        InputError: The file is not UTF-8, a line has another number of parts, or there is no such column.
    """
    names = TREC_COLUMNS[kind]
    check_utf8(path)
    check_columns(columns, names, str(path))
    places = [names.index(one) for one in columns]
    pieces: list[list[pa.Array]] = []
    blank: list[int] = []
    lines: list[list[str]] = []

    def finish() -> None:
        pieces.append([pa.array([one[place] for one in lines], pa.large_string()) for place in places])
        lines.clear()

    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            parts = line.split()
            if not parts:
                blank.append(number)
                continue
            if len(parts) != len(names):
                raise InputError(
                    f"the line has {len(parts)} parts",
                    file=path,
                    row=number,
                    expected=f"{len(names)}: {' '.join(names)}",
                )
            lines.append(parts)
            if len(lines) == PIECE_LINES:
                finish()
        finish()
    schema = pa.schema([(name, pa.large_string()) for name in columns])
    table = pa.Table.from_batches([pa.record_batch(piece, schema=schema) for piece in pieces], schema)
    return Part(str(path), table, lambda row: _line_of(blank, row))


def _line_of(blank: Sequence[int], row: int) -> int:
    """Line of a row: one more for every blank line before it."""
    line = row + 1
    for one in np.asarray(blank, dtype=np.int64):
        if one > line:
            break
        line += 1
    return line
