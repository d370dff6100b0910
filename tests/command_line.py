"""The `pairstill` command in processes of its own, forked from one that has imported what they need: PyTorch and transformers
take longer to import than a tiny model to train."""

from __future__ import annotations

import multiprocessing
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_IMPORTED = [
    "accelerate", "numba", "pandas", "pyarrow.dataset", "sklearn.linear_model", "torch", "torch.distributed", "torch.optim",
    "transformers.conversion_mapping", "transformers.integrations.flash_attention", "transformers.loss.loss_utils",
    "transformers.models.auto.modeling_auto", "transformers.models.bert.modeling_bert", "pairstill.cli.app", "pairstill.losses",
    "pairstill.scoring.fast_head", "pairstill.students", "pairstill.teachers.annotate", "pairstill.training.procedures",
]  # fmt: skip
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(_IMPORTED)


def _main(
    arguments: list[str], cwd: str, environment: dict[str, str], files: tuple[str, str], limit_bytes: int | None
) -> None:
    for path, stream in zip(files, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY), stream)
    sys.stdout, sys.stderr = (open(stream, "w", buffering=1, closefd=False) for stream in (1, 2))  # noqa: SIM115
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    os.chdir(cwd)
    os.environ.update(environment)
    sys.argv = ["pairstill", *arguments]
    from pairstill.cli.app import main

    main()


class Command:
    """A running `pairstill ARGUMENTS`, in a folder, with more environment variables, with a limit on the size of the files that it writes."""

    def __init__(
        self, *arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None, limit_bytes: int | None = None
    ) -> None:  # fmt: skip
        self._arguments = [str(one) for one in arguments]
        self._scratch = tempfile.TemporaryDirectory()
        self._said = tuple(Path(self._scratch.name, name) for name in ("out", "err"))
        for one in self._said:
            one.touch()
        given = (
            self._arguments,
            str(cwd or Path.cwd()),
            dict(environment or {}),
            tuple(map(str, self._said)),
            limit_bytes,
        )
        self._process = _PROCESSES.Process(target=_main, args=given)
        self._process.start()

    def ended(self, within_s: float = 0) -> bool:
        """Whether it ends within so many seconds."""
        self._process.join(within_s)
        return self._process.exitcode is not None

    def kill(self) -> None:
        """`kill -9`, of this process alone."""
        self._process.kill()

    def wait(self, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """How it ended; `returncode` is the negative of the signal that killed it."""
        late = not self.ended(timeout_s)
        if late:
            self.kill()
            self._process.join()
        out, err = (one.read_text() for one in self._said)
        self._scratch.cleanup()
        if late:
            raise subprocess.TimeoutExpired(self._arguments, timeout_s, out, err)
        return subprocess.CompletedProcess(self._arguments, self._process.exitcode or 0, out, err)


def pairstill(
    *arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None, limit_bytes: int | None = None
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a command to its end."""
    return Command(*arguments, cwd=cwd, environment=environment, limit_bytes=limit_bytes).wait()


def works(*arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """What a command prints that must succeed."""
    done = pairstill(*arguments, cwd=cwd, environment=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def works_in_two_processes(arguments: Sequence[object]) -> None:
    """Run one command as two processes that share the work, with what `torchrun` would tell them."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
    done: dict[int, subprocess.CompletedProcess[str]] = {}

    def run(rank: int) -> None:
        told = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": 2,
            "LOCAL_WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        done[rank] = pairstill(*arguments, environment={name: str(value) for name, value in told.items()})

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done[rank].returncode for rank in range(2)] == [0, 0], done[0].stderr + done[1].stderr
