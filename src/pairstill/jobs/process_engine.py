"""Processes on this machine: each takes the next shard as soon as it has done one; one that is lost is replaced."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import sys
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from pairstill.errors import InputError, PairstillError
from pairstill.jobs.shard import Receipt, Shard

ATTEMPTS = 3
"""How often a shard may lose its worker before the job gives up."""
_LOG = logging.getLogger(__name__)


class ProcessEngine:
    """Shards on several processes, started afresh (not forked), which keep the task, and what it opened, between shards.

    The task is pickled once a process. A process that dies is replaced and its shard done again, at most three times; a
    shard function is pure, so nothing else changes.

    Args:
        workers: Number of processes. What a shard function does with threads is its own affair.

    Raises:
        InputError: `workers` is below 1.
    """

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise InputError(f"the number of workers is {workers}", expected="at least 1")
        self.workers = workers

    def map(self, task: Callable[[Shard], Receipt], shards: Sequence[Shard]) -> Iterator[Receipt]:
        """Run `task` on every shard and yield receipts in the order in which they are done.

        Raises:
            PairstillError: A shard's input is at fault; shards of other processes that were under way are dropped.
            InputError: A shard lost its process three times.
        """
        waiting, lost = deque(shards), Counter[str]()
        workers: list[_Worker] = []
        try:
            while waiting or workers:
                while waiting and len(workers) < self.workers:
                    workers.append(_Worker.start(task, waiting.popleft()))
                ready = wait([one.answers for one in workers])
                for worker in [one for one in workers if one.answers in ready]:
                    receipt = worker.receive()
                    if receipt is not None:
                        yield receipt
                        if waiting:
                            worker.take(waiting.popleft())
                            continue
                    else:
                        shard = worker.shard
                        lost[shard.name] += 1
                        _LOG.warning("a worker was lost (%s) on %s", worker.ending(), shard.name)
                        if lost[shard.name] == ATTEMPTS:
                            raise worker_lost(shard, worker.ending())
                        waiting.appendleft(shard)
                    workers.remove(worker)
                    worker.stop()
        finally:
            for worker in workers:
                worker.kill()


def worker_lost(shard: Shard, how: str) -> InputError:
    """The error for a shard that lost its worker too often."""
    return InputError(
        f"the worker of '{shard.name}' was lost {ATTEMPTS} times ({how})",
        fix="Memory is the usual reason: give fewer workers or less --memory, then run the same command again: it resumes",
    )


@dataclass
class _Worker:
    process: Any
    answers: Connection
    shard: Shard

    @classmethod
    def start(cls, task: Callable[[Shard], Receipt], shard: Shard) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, task, os.getpid()), daemon=True)
        process.start()
        theirs.close()
        worker = cls(process, ours, shard)
        worker.take(shard)
        return worker

    def take(self, shard: Shard) -> None:
        self.shard = shard
        # A process that is gone is noticed by its silence.
        with contextlib.suppress(BrokenPipeError):
            self.answers.send(shard)

    def receive(self) -> Receipt | None:
        """The receipt; None where the process is gone."""
        try:
            kind, content = self.answers.recv()
        except (EOFError, ConnectionResetError):
            return None
        if kind == "receipt":
            found: Receipt = content
            return found
        raise failure(self.shard, kind, content)

    def ending(self) -> str:
        self.process.join(10)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def stop(self) -> None:
        self.answers.close()
        self.process.join()

    def kill(self) -> None:
        self.process.kill()
        self.stop()


def failure(shard: Shard, kind: str, content: str) -> Exception:
    """The exception that stands for one raised in a worker.

    Args:
        shard: On which.
        kind: `message` for an error that a user can act on, `traceback` for all others.
        content: The text.
    """
    if kind == "message":
        return InputError(content)
    return RuntimeError(f"{shard.name} failed in its worker:\n{content}")


def attempt(task: Callable[[Shard], Receipt], shard: Shard) -> tuple[str, Any]:
    """Run a shard: `receipt` and the receipt, or the arguments that `failure` wants."""
    try:
        return "receipt", task(shard)
    except PairstillError as error:
        return "message", str(error)
    except Exception:
        return "traceback", traceback.format_exc()


def _serve(answers: Connection, task: Callable[[Shard], Receipt], parent: int) -> None:
    """What a process does: shards from the pipe until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent(parent)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            answers.send(attempt(task, answers.recv()))


def _die_with_parent(parent: int) -> None:
    """On Linux, have the kernel kill this process when its parent is gone, rather than at the end of its shard."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
