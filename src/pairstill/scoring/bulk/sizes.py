"""How a bulk job is cut, and the memory that follows: a stated bound that grows with neither pairs nor stores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pairstill.errors import InputError
from pairstill.scoring.bulk.rows import CHUNK_PAIRS
from pairstill.scoring.bulk.scorer import BLOCK_ITEMS

LEAST_MEMORY = 16 << 20
SHARD_MULTIPLY_ADDS = 1e13
"""Of a shard: about half a minute of one core."""
LEAST_SHARD_PAIRS, MOST_SHARD_PAIRS, MOST_SHARDS = 1 << 20, 1 << 24, 1 << 16
BYTES_PER_PAIR = 112
"""Ids as they are read (20 bytes of text), codes, store rows, their order, and what Arrow and NumPy hold beside it; a field."""


@dataclass(frozen=True)
class Sizes:
    """How a job is cut.

    Attributes:
        pairs_per_shard: About so many; a shard is lost where a worker is.
        limits: Per field, most items held prepared.
        tile_bytes: Of all prepared items at the most.
        worker_bytes: What a worker holds at the most, besides `base`: prepared items, pairs and scores.
    """

    pairs_per_shard: int
    limits: tuple[int, ...]
    tile_bytes: int
    worker_bytes: int

    def settings(self) -> dict[str, Any]:
        """As JSON."""
        body = asdict(self)
        return {"pairs_per_shard": body["pairs_per_shard"], "items_held": list(self.limits)}

    def said(self, workers: int, base: int) -> str:
        """The bound, for people.

        Args:
            workers: Number of processes.
            base: Bytes of a process that has loaded the student, with nothing prepared.
        """
        whole = (workers + 1) * base + workers * self.worker_bytes
        return (
            f"memory: at most {_gigabytes(whole)} (this process and its workers, {workers}, take {_gigabytes(base)} each for Python, "
            f"PyTorch and the head; a worker {_gigabytes(self.tile_bytes)} of prepared items and "
            f"{_gigabytes(self.worker_bytes - self.tile_bytes)} of pairs); mapped pages of the stores come on top and can be taken "
            "back at any time"
        )


def plan_sizes(
    pairs: int,
    prepared_bytes: Sequence[float],
    stored_bytes: Sequence[float],
    outputs: int,
    multiply_adds: float,
    memory: int,
    pairs_per_shard: int | None,
    cross: bool,
) -> Sizes:
    """Cut a job.

    The bound of a worker, besides what it needs to have the student open:

        memory                                            prepared items, shared between the fields
        + 512 x (largest stored item + largest prepared)  while a block is prepared
        + 1,048,576 x (fields x (8, cross product; 112, input by id) + 8 x outputs)

    Args:
        pairs: Of the job.
        prepared_bytes: Of an item, a field.
        stored_bytes: Of an item in float32, a field.
        outputs: Logits of a pair.
        multiply_adds: Of a pair.
        memory: Bytes for prepared items of a worker.
        pairs_per_shard: None chooses by what a pair costs and how many there are.
        cross: Whether it is a cross product.

    Raises:
        InputError: The memory or the size of a shard is too small.
    """
    if memory < LEAST_MEMORY:
        raise InputError(f"the memory for prepared items is {memory:,} bytes", expected=f"at least {LEAST_MEMORY:,}")
    if pairs_per_shard is not None and pairs_per_shard < 1:
        raise InputError(f"the number of pairs of a shard is {pairs_per_shard}", expected="at least 1")
    chosen = pairs_per_shard
    if chosen is None:
        cost = int(np.clip(SHARD_MULTIPLY_ADDS / max(1.0, multiply_adds), LEAST_SHARD_PAIRS, MOST_SHARD_PAIRS))
        chosen = max(cost, -(-pairs // MOST_SHARDS))
    share = memory / len(prepared_bytes)
    limits = tuple(max(1, int(share / max(1.0, one))) for one in prepared_bytes)
    worker = memory + int(BLOCK_ITEMS * (max(stored_bytes) + max(prepared_bytes)))
    worker += CHUNK_PAIRS * (len(prepared_bytes) * (8 if cross else BYTES_PER_PAIR) + 8 * outputs)
    return Sizes(chosen, limits, memory, worker)


def cross_blocks(left: int, right: int, sizes: Sizes) -> tuple[int, int]:
    """Left and right items of a shard of a cross product, about `pairs_per_shard` pairs.

    More right items than left ones: fewer rows are kept of each left item before the merge.
    """
    wanted = max(1, round((sizes.pairs_per_shard / 32) ** 0.5))
    left_block = max(1, min(left, wanted, sizes.limits[0]))
    right_block = max(1, min(right, sizes.pairs_per_shard // left_block))
    if right_block == right:
        left_block = max(1, min(left, sizes.pairs_per_shard // right_block, sizes.limits[0]))
    return left_block, right_block


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
