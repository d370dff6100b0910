"""Commands of `pairstill` in processes of their own, ended together."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
"""Exit codes of an interrupted `pairstill`."""


class RunningProcesses:
    """Processes of `pairstill` that were begun and can be stopped together."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, command: Sequence[str], log: Path | None = None) -> int:
        """Run a command to its end; returns its exit code.

        Args:
            command: Arguments of `pairstill`.
            log: File for what it says, and no signals of the terminal then: `stop` passes them on. None leaves it on the terminal.

        Raises:
            KeyboardInterrupt: It was interrupted, or all were stopped.
            SystemExit: Of a signal's handler; the process has been interrupted and has ended.
        """
        with contextlib.ExitStack() as opened:
            if log is not None:
                log.parent.mkdir(parents=True, exist_ok=True)
            output = None if log is None else opened.enter_context(log.open("wb"))
            with self._lock:
                if self._stopped:
                    raise KeyboardInterrupt
                process = subprocess.Popen(
                    [sys.executable, "-m", "pairstill", *command], stdout=output,
                    stderr=None if output is None else subprocess.STDOUT, process_group=None if output is None else 0,
                )  # fmt: skip
                self._processes.add(process)
            try:
                code = process.wait()
            except SystemExit:
                process.terminate()
                process.wait()
                raise
            finally:
                with self._lock:
                    self._processes.discard(process)
        if code in INTERRUPTED or code < 0:
            raise KeyboardInterrupt
        return code

    def stop(self) -> None:
        """Interrupt what runs, and begin nothing more.

        Not as the terminal does it: what a script starts in the background ignores that, and its own processes with it.
        """
        with self._lock:
            self._stopped = True
            for process in self._processes:
                process.terminate()
