"""Blocks of work on threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
        """`function` of every block; a single block is the caller's own work.

        No caller has more blocks waiting than there are threads: one of few blocks is not kept waiting by one of many.
        """
        if self._pool is None or len(blocks) < 2:
            return [function(one) for one in blocks]
        room = threading.Semaphore(2 * self.threads)

        def work(block: Block) -> Result:
            try:
                return function(block)
            finally:
                room.release()

        results: list[Future[Result]] = []
        try:
            for one in blocks:
                room.acquire()
                results.append(self._pool.submit(work, one))
            return [one.result() for one in results]
        finally:
            for waiting in results:
                waiting.cancel()
