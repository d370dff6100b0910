"""Rows of a large table of items that somebody names, found piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class UsedItems:
    """Which items are wanted.

    Attributes:
        column: The column of ids.
        ids: `large_string`, distinct.
    """

    column: str
    ids: pa.Array

    def select(self, pieces: Iterable[pa.RecordBatch], schema: pa.Schema) -> tuple[pa.Table, np.ndarray]:
        """Their rows, and where these stood; one piece at a time is held besides them."""
        kept, places, before = [], [np.empty(0, np.int64)], 0
        for piece in pieces:
            mask = pc.is_in(piece.column(self.column).cast(pa.large_string()), value_set=self.ids)
            found = np.flatnonzero(np.asarray(mask))
            if len(found):
                # `take` copies, so that the rest of the piece is freed.
                kept.append(piece.take(pa.array(found)))
                places.append(before + found)
            before += piece.num_rows
        return pa.Table.from_batches(kept, schema), np.concatenate(places)
