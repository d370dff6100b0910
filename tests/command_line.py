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


def pairstill(
    *arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None, limit_bytes: int | None = None,
    timeout_s: float = 300,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run `pairstill ARGUMENTS` in a folder, with more environment variables, with a limit on the size of the files that it writes."""
    given = [str(one) for one in arguments]
    with tempfile.TemporaryDirectory() as scratch:
        out, err = Path(scratch, "out"), Path(scratch, "err")
        out.touch(), err.touch()
        process = _PROCESSES.Process(
            target=_main,
            args=(given, str(cwd or Path.cwd()), dict(environment or {}), (str(out), str(err)), limit_bytes),
        )
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(given, timeout_s, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(given, process.exitcode, out.read_text(), err.read_text())


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
