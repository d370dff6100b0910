"""Blocks of work on threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Block = TypeVar("Block")
Result = TypeVar("Result")


class Workers:
    """Threads that several callers share; results come in the order of the blocks.

    Args:
        threads: How many blocks are worked on at once, over all callers; with 1, the caller works.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "pairstill") if threads > 1 else None

    def map(self, function: Callable[[Block], Result], blocks: Sequence[Block]) -> list[Result]:
        """`function` of every block; a single block is the caller's own work."""
        if self._pool is None or len(blocks) < 2:
            return [function(one) for one in blocks]
        return list(self._pool.map(function, blocks))
