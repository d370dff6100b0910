"""Ray: the shards of a job on the machines of a cluster."""

from __future__ import annotations

import logging
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pairstill.errors import InputError, MissingExtraError
from pairstill.jobs.process_engine import ATTEMPTS, attempt, failure, worker_lost
from pairstill.jobs.shard import Receipt, Shard

CONNECT_S = 10
START = "the start"
_LOG = logging.getLogger(__name__)


class RayEngine:
    """Shards on Ray actors, one core each, which keep the task, and what it opened, between shards.

    An actor that is lost, with its node or alone, is replaced, wherever Ray has room, and its shard done again. Every
    node must see the job's folder, the student and the stores under the same paths.

    Args:
        workers: Number of actors; None means one for every core of the cluster.
        address: Of the cluster, such as `auto` or `10.0.0.1:6379`; None starts Ray on this machine for the time of the job.

    Raises:
        InputError: `workers` is below 1.
        MissingExtraError: Ray is not installed.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        if workers is not None and workers < 1:
            raise InputError(f"the number of workers is {workers}", expected="at least 1")
        try:
            import ray
        except ImportError:
            raise MissingExtraError("ray", "ray") from None
        self._ray, self.workers, self.address = ray, workers, address

    def map(self, task: Callable[[Shard], Receipt], shards: Sequence[Shard]) -> Iterator[Receipt]:
        """Run `task` on every shard and yield receipts in the order in which they are done.

        Raises:
            PairstillError: A shard's input is at fault.
            InputError: There is no cluster at the address, or a shard lost its actor three times.
        """
        ray, ours = self._ray, not self._ray.is_initialized()
        if ours:
            self._connect()
        actors: list[Any] = []
        try:
            workers = self.workers = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            actor, stored = ray.remote(num_cpus=1, max_restarts=0)(_Worker), ray.put(task)
            waiting, lost = deque(shards), Counter[str]()
            # Answers that are waited for: of an actor that is not there yet None, of one at work its shard.
            pending: dict[Any, tuple[Any, Shard | None]] = {}
            while waiting or any(shard is not None for _, shard in pending.values()):
                # Shards are given to actors that are there alone: one that Ray has no room for may never come.
                while len(pending) < workers and sum(shard is None for _, shard in pending.values()) < len(waiting):
                    actors.append(actor.remote(stored))
                    pending[actors[-1].ready.remote()] = actors[-1], None
                for answer in ray.wait(list(pending), num_returns=1)[0]:
                    worker, shard = pending.pop(answer)
                    try:
                        found = ray.get(answer)
                    except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                        how = next(line for line in reversed(str(error).splitlines()) if line.strip()).strip()
                        name = shard.name if shard is not None else START
                        lost[name] += 1
                        _LOG.warning("an actor was lost on %s: %s", name, how)
                        actors.remove(worker)
                        # It may only be out of reach.
                        ray.kill(worker)
                        if lost[name] == ATTEMPTS:
                            raise self._given_up(shard, how) from None
                        if shard is not None:
                            waiting.appendleft(shard)
                        continue
                    if shard is not None:
                        kind, content = found
                        if kind != "receipt":
                            raise failure(shard, kind, content)
                        yield content
                    else:
                        lost[START] = 0
                    if waiting:
                        given = waiting.popleft()
                        pending[worker.run.remote(given)] = worker, given
                    else:
                        actors.remove(worker)
                        ray.kill(worker)
        finally:
            for worker in actors:
                ray.kill(worker)
            if ours:
                ray.shutdown()

    @staticmethod
    def _given_up(shard: Shard | None, how: str) -> InputError:
        if shard is not None:
            return worker_lost(shard, how)
        return InputError(
            f"no actor can be started: {how}", expected="the same packages on every machine of the cluster",
            fix="Install pairstill there, too, and run the same command again: it resumes",
        )  # fmt: skip

    def _connect(self) -> None:
        try:
            host, colon, port = (self.address or "").rpartition(":")
            if colon and "/" not in host and port.isdigit():
                # Ray itself waits for minutes where nobody answers.
                socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
            self._ray.init(
                address=self.address or "local", num_cpus=self.workers if self.address is None else None,
                include_dashboard=False if self.address is None else None, log_to_driver=False, logging_level=logging.ERROR,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise InputError(
                f"there is no Ray cluster at '{self.address}': {str(error).splitlines()[0]}",
                fix="Start one with `ray start --head`, and give its address, or `auto` on a machine of the cluster",
            ) from None


class _Worker:
    """The actor."""

    def __init__(self, task: Callable[[Shard], Receipt]) -> None:
        self.task = task

    def ready(self) -> None:
        """Answers when it is there."""

    def run(self, shard: Shard) -> tuple[str, Any]:
        """A shard."""
        return attempt(self.task, shard)
