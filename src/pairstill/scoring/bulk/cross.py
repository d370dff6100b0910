"""Cross products: how one is cut, and the shard function that scores it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pairstill.jobs import Shard
from pairstill.scoring.bulk.results import ScoreWriter, partial_table
from pairstill.scoring.bulk.rows import CHUNK_PAIRS
from pairstill.scoring.bulk.scorer import Scorer
from pairstill.scoring.bulk.shards import Account, ShardSettings
from pairstill.scoring.bulk.top import Scored, joined, keep_top
from pairstill.store import RepresentationStore


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
        top = settings.keep.count
        with ScoreWriter(path, settings.schema(scorer)) as writer:
            best: dict[int, Scored] = {}
            for lefts, rights, logits in self._tiles(scorer, left, right):
                if top is None:
                    writer.write(self._table(scorer, lefts, rights, logits, writer.schema))
                else:
                    table = logits[:, settings.output].reshape(len(lefts), len(rights))
                    before = best.get(lefts[0], Scored.empty(2))
                    best[lefts[0]] = _best(before, lefts, rights, table, top, scorer.stores)
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

    def _table(self, scorer: Scorer, lefts: range, rights: range, logits: np.ndarray, schema: pa.Schema) -> pa.Table:
        """Rows of a tile, left item by left item."""
        places, columns = self.settings.kept(logits)
        within = places // len(rights), places % len(rights)
        ids = {
            name: store.ids_at(np.arange(one.start, one.stop)).take(pa.array(chosen))
            for name, store, one, chosen in zip(
                self.settings.fields, scorer.stores, (lefts, rights), within, strict=True
            )
        }
        return pa.table({**ids, **columns}, schema)


def _best(
    before: Scored, lefts: range, rights: range, scores: np.ndarray, count: int, stores: Sequence[RepresentationStore]
) -> Scored:
    """The `count` best of each left item, of what was best before and of a tile's `scores (left items, right items)`."""
    least = np.full(len(lefts), -np.inf, np.float32)
    owners = before.rows[:, 0] - lefts.start
    full = np.bincount(owners, minlength=len(lefts)) == count
    lowest = np.full(len(lefts), np.inf, np.float32)
    np.minimum.at(lowest, owners, before.scores)
    least[full] = lowest[full]
    if not full.all() and len(rights) > count:
        least = np.maximum(least, np.partition(scores, len(rights) - count, axis=1)[:, len(rights) - count])
    left, right = np.nonzero(scores >= least[:, None])
    found = Scored(np.stack([left + lefts.start, right + rights.start], axis=1), scores[left, right])
    return keep_top(joined([before, found]), count, stores)
