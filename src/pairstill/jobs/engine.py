"""Engines: where the shards of a job are worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pairstill.jobs.shard import Receipt, Shard


class Engine(Protocol):
    """Maps a task over shards and yields receipts in the order in which they are done.

    The task is picklable where the shard function is, and writes output and receipt by itself; an engine only decides
    where and when it runs. Nothing else has to come back for the job to be resumable.
    """

    def map(self, task: Callable[[Shard], Receipt], shards: Sequence[Shard]) -> Iterator[Receipt]:
        """Run `task` on every shard."""


class LocalEngine:
    """One shard after the other in this process; the threads of the matrix products keep the cores busy."""

    def map(self, task: Callable[[Shard], Receipt], shards: Sequence[Shard]) -> Iterator[Receipt]:
        """Run `task` on every shard, in order."""
        for shard in shards:
            yield task(shard)
