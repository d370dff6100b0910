"""The shard function of pairs by id, and what all shard functions share: pure, picklable, opened once a process."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pairstill.jobs import Shard
from pairstill.machine import memory_use
from pairstill.scoring.bulk.inputs import PairInput
from pairstill.scoring.bulk.keep import Keep
from pairstill.scoring.bulk.results import ScoreWriter, partial_schema, partial_table, result_schema, score_names
from pairstill.scoring.bulk.rows import OnBadRow, SkippedRows, chunks
from pairstill.scoring.bulk.scorer import Scorer, ScorerSettings
from pairstill.scoring.bulk.tiling import score_rows
from pairstill.scoring.bulk.top import Scored, keep_top, without_repeats


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

    def schema(self, scorer: Scorer) -> pa.Schema:
        """Columns of what a shard writes."""
        if self.keep.kind == "top":
            return partial_schema(len(self.fields))
        return result_schema(self.fields, scorer.stores, scorer.outputs if self.keep.kind == "all" else 1)

    def kept(self, logits: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Which pairs of `logits (pairs, outputs)` a result without a merge step holds: their places, their scores by column."""
        if self.keep.kind == "all":
            return np.arange(len(logits)), dict(zip(score_names(logits.shape[1]), logits.T, strict=True))
        compared = logits[:, self.output]
        places = np.flatnonzero(compared > np.float32(self.keep.threshold))
        return places, {"score": compared[places]}


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
        account, digest, top = Account(scorer), hashlib.sha256(), settings.keep.count
        leftover = SkippedRows(Path(self.skipped) / f"{shard.name}.parquet", settings.fields, self.on_bad_row)
        with ScoreWriter(path, settings.schema(scorer)) as writer, leftover as skipped:
            for chunk in chunks(self.source, shard.start, shard.stop, stores, skipped):
                account.pairs += len(chunk.rows)
                account.input_bytes += sum(column.nbytes for column in chunk.ids.values())
                digest.update(chunk.rows.tobytes())
                rows = chunk.rows if top is None else chunk.rows[without_repeats(chunk.rows)]
                logits = score_rows(scorer, rows, settings.limits)
                account.scored += len(rows)
                if top is None:
                    places, columns = settings.kept(logits)
                    ids = chunk.ids
                    if len(places) < len(rows):
                        ids = {name: column.take(pa.array(places)) for name, column in ids.items()}
                    writer.write(pa.table({**ids, **columns}, writer.schema))
                else:
                    best = keep_top(Scored(rows, logits[:, settings.output]), top, scorer.stores)
                    writer.write(partial_table(best))
                    writer.flush()
                account.look()
        account.written, account.skipped = writer.rows, skipped.count
        return {**account.details(settings), "input_sha256": digest.hexdigest()}
