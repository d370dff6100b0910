"""The merge step of a bulk job that keeps the top: the best of what every shard kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairstill.jobs import Shard
from pairstill.scoring.bulk.cross import CrossPlan
from pairstill.scoring.bulk.results import ROW_GROUP, ScoreWriter
from pairstill.scoring.bulk.scorer import ScorerSettings
from pairstill.scoring.bulk.top import Scored, final_order, joined, keep_top
from pairstill.store import RepresentationStore


@dataclass
class MergeTop:
    """The merge step: the best of each left item, from the best of every shard.

    Attributes:
        scorer: Of the shards; it opens their stores.
        fields: Names.
        count: How many are kept.
        partial: Folder of the shards' results.
        files: Of it, in the order of their shards.
        cross: Where the job is a cross product: only the shards of a left block are read for its items.
    """

    scorer: ScorerSettings
    fields: tuple[str, ...]
    count: int
    partial: str
    files: tuple[str, ...]
    cross: CrossPlan | None
    _opened: list[RepresentationStore] = field(default_factory=list, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open."""
        return {**self.__dict__, "_opened": []}

    def __call__(self, shard: Shard, path: Path) -> Mapping[str, Any]:
        """Merge a shard: left items by store row."""
        if not self._opened:
            self._opened = self.scorer.open_stores()
        stores = self._opened
        best = Scored.empty(len(stores))
        pending, count = [best], 0
        for part in self._parts(shard):
            pending.append(part)
            count += len(part)
            if count >= ROW_GROUP:
                pending, count = [keep_top(joined(pending), self.count, stores)], 0
        best = keep_top(joined(pending), self.count, stores)
        ids = [store.ids_at(best.rows[:, number]) for number, store in enumerate(stores)]
        order = final_order(best.rows[:, 0], best.scores, ids[1:])
        columns = {name: column.take(pa.array(order)) for name, column in zip(self.fields, ids, strict=True)}
        table = pa.table({**columns, "score": best.scores[order]})
        with ScoreWriter(path, table.schema) as writer:
            writer.write(table)
        return {"rows_written": table.num_rows}

    def _parts(self, shard: Shard) -> Iterator[Scored]:
        names: Sequence[str] = self.files
        if self.cross is not None:
            blocks = self.cross.right_blocks
            first, last = shard.start // self.cross.left_block, (shard.stop - 1) // self.cross.left_block
            names = names[first * blocks : (last + 1) * blocks]
        for name in names:
            yield from _between(Path(self.partial) / name, shard.start, shard.stop)


def _between(path: Path, start: int, stop: int) -> Iterator[Scored]:
    """Rows of a partial result whose left row is from `start` up to `stop`; other row groups are not read."""
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            statistics = file.metadata.row_group(number).column(0).statistics
            if (
                statistics is not None
                and statistics.has_min_max
                and not (statistics.min < stop and statistics.max >= start)
            ):
                continue
            table = file.read_row_group(number, use_threads=False)
            left = table.column("row_0")
            table = table.filter(pc.and_(pc.greater_equal(left, start), pc.less(left, stop)))
            fields = table.num_columns - 1
            rows = np.stack([table.column(place).to_numpy() for place in range(fields)], axis=1)
            yield Scored(rows, table.column(fields).to_numpy())
