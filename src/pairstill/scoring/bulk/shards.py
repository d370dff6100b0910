"""The shard functions of a bulk job: pure, picklable, and they keep student and stores open between shards."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pairstill.files import read_parquet, write_atomic
from pairstill.jobs import Shard
from pairstill.machine import memory_use
from pairstill.scoring.bulk.inputs import PairInput
from pairstill.scoring.bulk.keep import Keep
from pairstill.scoring.bulk.rows import CHUNK_PAIRS, OnBadRow, SkippedRows, chunks, skipped_schema
from pairstill.scoring.bulk.scorer import Scorer, ScorerSettings
from pairstill.scoring.bulk.tiling import score_rows
from pairstill.scoring.bulk.top import Scored, final_order, joined, keep_top, without_repeats
from pairstill.store import RepresentationStore

ROW_GROUP = 1 << 20
"""Most rows of a row group of the output."""


@dataclass
class ShardSettings:
    """What the shard functions of a job have in common.

    Attributes:
        scorer: Opened at the first shard of a process.
        fields: Names, in the student's order.
        keep: What is kept.
        output: Which logit is compared, where a part is kept.
        limits: Per field, most items held prepared.
        fingerprints: Of student, stores and input, repeated in every receipt.
    """

    scorer: ScorerSettings
    fields: tuple[str, ...]
    keep: Keep
    output: int
    limits: tuple[int, ...]
    fingerprints: Mapping[str, Any]
    open_s: float = field(default=0.0, init=False, repr=False, compare=False)
    _opened: Scorer | None = field(default=None, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open."""
        return {**self.__dict__, "_opened": None}

    def open(self) -> Scorer:
        """The scorer, opened once a process; `open_s` is how long that took, 0 where it was open."""
        self.open_s = 0.0
        if self._opened is None:
            began = time.perf_counter()
            self._opened = self.scorer.open()
            self.open_s = time.perf_counter() - began
        return self._opened


class Account:
    """What a shard cost."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._before = scorer.prepare_s, scorer.head_s, scorer.bytes_read, scorer.items_prepared
        self.pairs = self.scored = self.written = self.skipped = self.input_bytes = 0
        self.anonymous = 0

    def look(self) -> None:
        """Note the memory in use now."""
        self.anonymous = max(self.anonymous, memory_use().get("anonymous", 0))

    def details(self, settings: ShardSettings) -> dict[str, Any]:
        """For the receipt."""
        self.look()
        prepare_s, head_s, bytes_read, items = self._before
        memory = memory_use()
        return {
            "pairs": self.pairs,
            "pairs_scored": self.scored,
            "rows_written": self.written,
            "rows_skipped": self.skipped,
            "items_prepared": self._scorer.items_prepared - items,
            "open_seconds": round(settings.open_s, 6),
            "prepare_seconds": round(self._scorer.prepare_s - prepare_s, 6),
            "head_seconds": round(self._scorer.head_s - head_s, 6),
            "bytes_read_of_stores": int(self._scorer.bytes_read - bytes_read),
            "bytes_read_of_input": self.input_bytes,
            "anonymous_bytes": self.anonymous,
            "mapped_bytes": memory.get("mapped", 0),
            "peak_bytes": memory.get("peak", 0),
            **settings.fingerprints,
        }


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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Rename it into place, unless there was an error."""
        try:
            if kind is None:
                self.flush()
        except BaseException:
            import sys

            self._stack.__exit__(*sys.exc_info())
            raise
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


def score_names(outputs: int) -> list[str]:
    """Columns of the raw logits: `score`, or `score_0`, `score_1`, ... of several."""
    return ["score"] if outputs == 1 else [f"score_{number}" for number in range(outputs)]


def result_schema(settings: ShardSettings, stores: Sequence[RepresentationStore], outputs: int) -> pa.Schema:
    """Columns of a result: the ids of each field, and the scores."""
    names = score_names(outputs) if settings.keep.kind == "all" else ["score"]
    kinds = [pa.int64() if one.manifest.id_type == "integer" else pa.large_string() for one in stores]
    return pa.schema(list(zip(settings.fields, kinds, strict=True)) + [(name, pa.float32()) for name in names])


def partial_schema(fields: int) -> pa.Schema:
    """Columns of a partial result: store rows, and the score."""
    return pa.schema([(f"row_{number}", pa.int64()) for number in range(fields)] + [("score", pa.float32())])


def partial_table(scored: Scored) -> pa.Table:
    """Rows of a partial result."""
    columns = {f"row_{number}": scored.rows[:, number] for number in range(scored.rows.shape[1])}
    return pa.table({**columns, "score": scored.scores}, partial_schema(scored.rows.shape[1]))


@dataclass
class ScorePairs:
    """Score rows of an input by id.

    Attributes:
        settings: See there.
        source: The input.
        on_bad_row: `stop` or `skip`.
        skipped: Folder of the files of skipped rows.
    """

    settings: ShardSettings
    source: PairInput
    on_bad_row: OnBadRow
    skipped: str

    def __call__(self, shard: Shard, path: Path) -> Mapping[str, Any]:
        """Score a shard: rows of the input."""
        settings, scorer = self.settings, self.settings.open()
        stores = dict(zip(settings.fields, scorer.stores, strict=True))
        account, digest, kind = Account(scorer), hashlib.sha256(), settings.keep.kind
        schema = (
            partial_schema(len(stores)) if kind == "top" else result_schema(settings, scorer.stores, scorer.outputs)
        )
        leftover = SkippedRows(Path(self.skipped) / f"{shard.name}.parquet", settings.fields, self.on_bad_row)
        with ScoreWriter(path, schema) as writer, leftover as skipped:
            for chunk in chunks(self.source, shard.start, shard.stop, stores, skipped):
                account.pairs += len(chunk.rows)
                account.input_bytes += sum(column.nbytes for column in chunk.ids.values())
                digest.update(chunk.rows.tobytes())
                if kind == "top":
                    rows = chunk.rows[without_repeats(chunk.rows)]
                    scores = score_rows(scorer, rows, settings.limits)[:, settings.output]
                    account.scored += len(rows)
                    best = keep_top(Scored(rows, scores), settings.keep.count or 1, scorer.stores)
                    writer.write(partial_table(best))
                    writer.flush()
                else:
                    logits = score_rows(scorer, chunk.rows, settings.limits)
                    account.scored += len(chunk.rows)
                    writer.write(_rows_of(chunk.ids, logits, settings, schema))
                account.look()
        account.written, account.skipped = writer.rows, skipped.count
        return {**account.details(settings), "input_sha256": digest.hexdigest()}


def _rows_of(ids: Mapping[str, pa.Array], logits: np.ndarray, settings: ShardSettings, schema: pa.Schema) -> pa.Table:
    if settings.keep.kind == "all":
        scores = {name: logits[:, number] for number, name in enumerate(score_names(logits.shape[1]))}
        return pa.table({**ids, **scores}, schema)
    compared = logits[:, settings.output]
    chosen = np.flatnonzero(compared > np.float32(settings.keep.threshold))
    return pa.table(
        {**{name: column.take(pa.array(chosen)) for name, column in ids.items()}, "score": compared[chosen]}, schema
    )


@dataclass(frozen=True)
class CrossPlan:
    """How a cross product is cut: shards are blocks of left items by blocks of right items, left blocks slowest.

    Attributes:
        left: Items of the first field.
        right: Items of the second.
        left_block: Of a shard.
        right_block: Of a shard.
    """

    left: int
    right: int
    left_block: int
    right_block: int

    @property
    def right_blocks(self) -> int:
        """Shards that share a left block."""
        return -(-self.right // self.right_block)

    def shards(self) -> list[Shard]:
        """All shards; their rows count pairs."""
        found, done = [], 0
        for number in range(-(-self.left // self.left_block) * self.right_blocks):
            left, right = self.block(number)
            pairs = len(left) * len(right)
            found.append(Shard(f"shard-{number:05d}", done, done + pairs))
            done += pairs
        return found

    def block(self, number: int) -> tuple[range, range]:
        """Left and right store rows of a shard."""
        left, right = divmod(number, self.right_blocks)
        left *= self.left_block
        right *= self.right_block
        return (
            range(left, min(self.left, left + self.left_block)),
            range(right, min(self.right, right + self.right_block)),
        )


@dataclass
class ScoreCross:
    """Score every item of one store with every item of another.

    Attributes:
        settings: See there.
        plan: How it is cut.
    """

    settings: ShardSettings
    plan: CrossPlan

    def __call__(self, shard: Shard, path: Path) -> Mapping[str, Any]:
        """Score a shard: a block of left items with a block of right items."""
        settings, scorer = self.settings, self.settings.open()
        left, right = self.plan.block(int(shard.name.rsplit("-", 1)[1]))
        account = Account(scorer)
        account.pairs = account.scored = len(shard)
        top = settings.keep.kind == "top"
        schema = partial_schema(2) if top else result_schema(settings, scorer.stores, scorer.outputs)
        with ScoreWriter(path, schema) as writer:
            best: dict[int, Scored] = {}
            for lefts, rights, logits in self._tiles(scorer, left, right):
                if top:
                    before = best.get(lefts[0], Scored.empty(2))
                    best[lefts[0]] = self._fold(before, lefts, rights, logits[:, settings.output], scorer)
                else:
                    writer.write(self._table(scorer, lefts, rights, logits, schema))
                account.look()
            for scored in best.values():
                writer.write(partial_table(scored))
        account.written = writer.rows
        return account.details(settings)

    def _tiles(self, scorer: Scorer, left: range, right: range) -> Iterator[tuple[range, range, np.ndarray]]:
        """Tiles of right items, under each of them pieces of the left block: (left rows, right rows, logits)."""
        prepared_left = scorer.prepare(0, np.arange(left.start, left.stop))
        for start in range(right.start, right.stop, self.settings.limits[1]):
            rights = range(start, min(right.stop, start + self.settings.limits[1]))
            prepared_right = scorer.prepare(1, np.arange(rights.start, rights.stop))
            step = max(1, CHUNK_PAIRS // len(rights))
            for first in range(left.start, left.stop, step):
                lefts = range(first, min(left.stop, first + step))
                index = np.empty((len(lefts) * len(rights), 2), np.int64)
                index[:, 0] = np.repeat(np.arange(len(lefts)) + (first - left.start), len(rights))
                index[:, 1] = np.tile(np.arange(len(rights)), len(lefts))
                yield lefts, rights, scorer.score([prepared_left, prepared_right], index)

    def _fold(self, before: Scored, lefts: range, rights: range, scores: np.ndarray, scorer: Scorer) -> Scored:
        """The best of what was best before and of a tile."""
        count = self.settings.keep.count or 1
        table = scores.reshape(len(lefts), len(rights))
        least = np.full(len(lefts), -np.inf, np.float32)
        owners = before.rows[:, 0] - lefts.start
        full = np.bincount(owners, minlength=len(lefts)) == count
        lowest = np.full(len(lefts), np.inf, np.float32)
        np.minimum.at(lowest, owners, before.scores)
        least[full] = lowest[full]
        if not full.all() and len(rights) > count:
            least = np.maximum(least, np.partition(table, len(rights) - count, axis=1)[:, len(rights) - count])
        left, right = np.nonzero(table >= least[:, None])
        found = Scored(np.stack([left + lefts.start, right + rights.start], axis=1), table[left, right])
        return keep_top(joined([before, found]), count, scorer.stores)

    def _table(self, scorer: Scorer, lefts: range, rights: range, logits: np.ndarray, schema: pa.Schema) -> pa.Table:
        """Rows of a tile, left item by left item."""
        names = [
            store.ids_at(np.arange(one.start, one.stop))
            for store, one in zip(scorer.stores, (lefts, rights), strict=True)
        ]
        left, right = self.settings.fields
        places = np.arange(len(lefts) * len(rights))
        if self.settings.keep.kind == "above":
            places = np.flatnonzero(logits[:, self.settings.output] > np.float32(self.settings.keep.threshold))
        ids = {
            left: names[0].take(pa.array(places // len(rights))), right: names[1].take(pa.array(places % len(rights))),
        }  # fmt: skip
        if self.settings.keep.kind == "above":
            return pa.table({**ids, "score": logits[places, self.settings.output]}, schema)
        return pa.table({**ids, **dict(zip(score_names(scorer.outputs), logits.T, strict=True))}, schema)


@dataclass
class MergeTop:
    """The merge step: the best of each left item, from the best of every shard.

    Attributes:
        stores: Folders, one a field.
        fields: Names.
        count: How many are kept.
        partial: Folder of the shards' results.
        files: Of it, in the order of their shards.
        cross: Where the job is a cross product: only the shards of a left block are read for its items.
    """

    stores: tuple[str, ...]
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
            self._opened = [RepresentationStore.open(folder, checksums=False) for folder in self.stores]
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
    if not present and (not unread or out.exists()):
        return
    schema = skipped_schema(fields)
    with ScoreWriter(out, schema) as writer:
        for file, reason in unread:
            writer.write(pa.Table.from_pylist([{"file": file, "reason": reason}], schema))
        for path in present:
            writer.write(read_parquet(path))
