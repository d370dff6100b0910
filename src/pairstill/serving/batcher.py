"""Requests at the same time share the processor: they are computed together, in turn, and no longer than they are waited for.

One thread computes. Requests wait in a queue; a batch takes from its head as much as `batch_pairs` allow. A request that does
not fit is cut: its rest goes to the end of the queue. So, whatever others ask for, a request's first share is computed after
the batch that is running and at most one share (of `batch_pairs` pairs) of each request that came before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from pairstill.errors import PairstillError
from pairstill.serving.errors import ServiceError
from pairstill.serving.failures import log_failure
from pairstill.serving.settings import Limits

logger = logging.getLogger(__name__)
READ_AGAIN = 0.75
"""From this part of a full queue on, once one was refused, requests are refused unread."""


class Work:
    """What a request wants computed, in steps that may be computed apart.

    Args:
        costs: `(steps,)` what each step costs, in pairs of stored items.

    Attributes:
        stage_s: Seconds of each stage of the batches that it was in.
        queue_s: Seconds that it waited, known when it is done.
    """

    def __init__(self, costs: np.ndarray) -> None:
        self._ends = np.cumsum(costs, dtype=np.int64)
        self.stage_s: dict[str, float] = {}
        self.queue_s = 0.0

    @property
    def kind(self) -> Hashable:
        """Works of one kind are computed in one go."""
        return type(self).__name__

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return len(self._ends)

    @property
    def cost(self) -> int:
        """Of all steps."""
        return self.cost_of(0, self.steps)

    def cost_of(self, start: int, stop: int) -> int:
        """Of the steps from `start` up to, not including, `stop`."""
        before = int(self._ends[start - 1]) if start else 0
        return int(self._ends[stop - 1]) - before if stop > start else 0

    def stop_within(self, start: int, room: int) -> int:
        """The step up to which, from `start`, all cost no more than `room`."""
        before = int(self._ends[start - 1]) if start else 0
        return int(np.searchsorted(self._ends, before + room, side="right"))


@dataclass(frozen=True)
class Piece:
    """The steps of a work that a batch computes."""

    work: Work
    start: int
    stop: int

    @property
    def cost(self) -> int:
        """Of these steps."""
        return self.work.cost_of(self.start, self.stop)


Compute = Callable[[Sequence[Piece]], Mapping[str, float]]
"""Computes a batch, leaves the results in the works, returns the seconds of each stage."""


class Observer(Protocol):
    """Is told of every batch."""

    def batch(self, requests: int, pairs: int, stage_s: Mapping[str, float]) -> None:
        """A batch was computed."""


@dataclass
class _Job:
    work: Work
    deadline: float
    done: asyncio.Future[None]
    arrived: float
    next: int = 0
    computed_s: float = 0.0
    given_up: bool = False
    failed: Exception | None = field(default=None)


class Batcher:
    """The queue and the thread; all methods belong to the event loop's thread.

    Args:
        compute: Called in the thread of its own.
        limits: See there.
        observer: Told of every batch.

    Attributes:
        admitted_pairs: Of requests that are not answered yet.
        overloaded: Whether a request was refused by a queue that was, and is, nearly full: then others need not be read.
    """

    def __init__(self, compute: Compute, limits: Limits, observer: Observer) -> None:
        self._compute, self._limits, self._observer = compute, limits, observer
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.admitted_pairs = 0
        self.overloaded = False

    def start(self) -> None:
        """Start the thread; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="pairstill-batcher", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Let what is queued be computed, then end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    @contextlib.contextmanager
    def admitted(self, pairs: int) -> Iterator[None]:
        """Count a request's pairs among those that are admitted, from here to its answer.

        Raises:
            ServiceError: 429, there is no room; nobody waits for it.
        """
        if self.admitted_pairs and self.admitted_pairs + pairs > self._limits.queue_pairs:
            # One that is too large for a queue that is half empty says nothing about the next one.
            self.overloaded = self.admitted_pairs >= READ_AGAIN * self._limits.queue_pairs
            raise queue_full()
        self.admitted_pairs += pairs
        try:
            yield
        finally:
            self.admitted_pairs -= pairs
            if self.admitted_pairs < READ_AGAIN * self._limits.queue_pairs:
                self.overloaded = False

    async def run(self, work: Work, deadline: float) -> None:
        """Have a work computed; its results are in it then.

        Args:
            work: Of an admitted request.
            deadline: On the event loop's clock.

        Raises:
            ServiceError: 503, the deadline passed first. What was not computed by then never is.
        """
        job = _Job(work, deadline, asyncio.get_running_loop().create_future(), time.monotonic())
        with self._changed:
            if self._stopping:
                raise ServiceError(503, "the service is stopping", retry_after_s=1, close=True)
            self._jobs.append(job)
            self._changed.notify()
        try:
            async with asyncio.timeout_at(deadline):
                await job.done
        except TimeoutError:
            raise _too_late() from None
        finally:
            job.given_up = True

    def _run(self) -> None:
        while True:
            with self._changed:
                busy = bool(self._jobs)
                while not self._jobs:
                    if self._stopping:
                        return
                    self._changed.wait()
                if busy:
                    self._wait_for_more()
                batch = self._take()
            if batch:
                self._compute_batch(batch)

    def _wait_for_more(self) -> None:
        until = self._jobs[0].arrived + self._limits.batch_wait_ms / 1000
        while not self._stopping and sum(_rest(job) for job in self._jobs) < self._limits.batch_pairs:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._changed.wait(left)

    def _take(self) -> list[tuple[_Job, Piece]]:
        room, now = self._limits.batch_pairs, time.monotonic()
        taken: list[tuple[_Job, Piece]] = []
        cut: list[_Job] = []
        while self._jobs and room > 0:
            job = self._jobs[0]
            if job.given_up or now >= job.deadline:
                self._jobs.popleft()
                if not job.given_up:
                    self._settle([(job, _too_late())])
                continue
            stop = job.work.stop_within(job.next, room)
            if stop == job.next:
                if taken:
                    break
                stop += 1  # a step that costs more than a batch may is a batch of its own
            piece = Piece(job.work, job.next, stop)
            self._jobs.popleft()
            taken.append((job, piece))
            room -= piece.cost
            job.next = stop
            if stop < job.work.steps:
                cut.append(job)
        self._jobs.extend(cut)
        return taken

    def _compute_batch(self, batch: list[tuple[_Job, Piece]]) -> None:
        began = time.monotonic()
        pieces = [piece for _, piece in batch]
        stage_s: Mapping[str, float] = {}
        try:
            stage_s = self._compute(pieces)
        except Exception as error:
            if len(batch) > 1:  # one that cannot be computed takes no other with it
                for one in batch:
                    self._compute_batch([one])
                return
            if not isinstance(error, PairstillError):
                log_failure(logger, "a batch failed", error)
            batch[0][0].failed = error
        took = time.monotonic() - began
        self._observer.batch(len(pieces), sum(piece.cost for piece in pieces), stage_s)
        settled: list[tuple[_Job, Exception | None]] = []
        for job, piece in batch:
            job.computed_s += took
            for stage, seconds in stage_s.items():
                job.work.stage_s[stage] = job.work.stage_s.get(stage, 0.0) + seconds
            if job.failed is not None:
                job.given_up = True
                settled.append((job, job.failed))
            elif piece.stop == job.work.steps:
                job.work.queue_s = max(0.0, time.monotonic() - job.arrived - job.computed_s)
                settled.append((job, None))
        if settled:
            self._settle(settled)

    def _settle(self, settled: list[tuple[_Job, Exception | None]]) -> None:
        """Wake the requests; called in the batcher's thread."""

        def wake() -> None:
            for job, error in settled:
                if not job.done.done():
                    if error is None:
                        job.done.set_result(None)
                    else:
                        job.done.set_exception(error)

        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(wake)


def queue_full() -> ServiceError:
    """429."""
    return ServiceError(
        429, "the queue is full", retry_after_s=1, fix="Ask again later, or ask for fewer documents at a time"
    )


def _rest(job: _Job) -> int:
    return 0 if job.given_up else job.work.cost_of(job.next, job.work.steps)


def _too_late() -> ServiceError:
    return ServiceError(
        503, "the time allowed for an answer passed", retry_after_s=1, fix="Ask again later, or for fewer documents"
    )
