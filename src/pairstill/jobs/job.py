"""Jobs: long work in shards that survives being killed at any moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairstill import __version__
from pairstill.errors import ArtefactError, InputError
from pairstill.files import (
    MANIFEST,
    fingerprint_file,
    fingerprint_json,
    locked_folder,
    read_json,
    refuse_newer,
    write_json,
)
from pairstill.jobs.engine import Engine, LocalEngine
from pairstill.jobs.shard import Receipt, Shard
from pairstill.machine import describe

JOB_FORMAT = "pairstill/job"
JOB_VERSION = 1
JOB_FILE = "job.json"
RECEIPTS = "receipts"
SUMMARY_FILE = "summary.json"

ShardFunction = Callable[[Shard, Path], Mapping[str, Any]]


@dataclass(frozen=True)
class ShardTask:
    """What an engine runs on a shard: the shard function, then the receipt. Picklable where the function is.

    Attributes:
        folder: The job's folder.
        suffix: Of the outputs, such as `.parquet`.
        function: Takes the shard and the path that it must write atomically; returns details for the receipt. It depends
            on nothing else that changes, so that a shard done twice is the same bytes.
        precision: For the receipt.
    """

    folder: Path
    suffix: str
    function: ShardFunction
    precision: str | None

    def __call__(self, shard: Shard) -> Receipt:
        """Do the shard and write its receipt, in this order."""
        began = time.perf_counter()
        path = self.folder / f"{shard.name}{self.suffix}"
        details = dict(self.function(shard, path))
        if not path.is_file():
            raise RuntimeError(f"the shard function wrote no {path}")
        receipt = Receipt(
            shard=shard,
            file=path.name,
            bytes=path.stat().st_size,
            sha256=fingerprint_file(path),
            seconds=round(time.perf_counter() - began, 6),
            machine=describe(),
            precision=self.precision,
            details=details,
        )
        receipt.save(self.folder / RECEIPTS / f"{shard.name}.json")
        return receipt


class Job:
    """A folder of shards, each with a receipt, under settings that may not change.

    The output of a shard is renamed into place before its receipt is, so a receipt proves a whole output; a shard without
    a valid receipt is done again. Shard functions are pure, so an interrupted and resumed job ends with the same bytes
    as an undisturbed one.

    Args:
        folder: Made where it does not exist; may hold other files of the artefact.
        name: What the job does, such as `annotate`; one folder belongs to one job.
        settings: Everything that changes the result, as plain JSON values. A folder started with others is refused.
        suffix: Of the outputs, with its dot.
        precision: For the receipts; None where nothing is multiplied.

    Example:
        >>> import tempfile
        >>> def work(shard, path):
        ...     return {"written": path.write_text(" ".join(map(str, range(shard.start, shard.stop))))}
        >>> from pairstill.jobs import split_rows
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     receipts = Job(folder, "count", {"step": 1}, ".txt").run(split_rows(5, 2), work)
        >>> [one.details["written"] for one in receipts]
        [3, 3, 1]
    """

    def __init__(
        self,
        folder: str | Path,
        name: str,
        settings: Mapping[str, Any],
        suffix: str,
        *,
        precision: str | None = None,
    ) -> None:
        self.folder, self.name, self.settings = Path(folder), name, dict(settings)
        self.suffix, self.precision = suffix, precision
        self._held = False

    @property
    def fingerprint(self) -> str:
        """SHA-256 of name and settings."""
        return fingerprint_json({"name": self.name, "settings": self.settings})

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process, after checking that it belongs to this job.

        `run` does so itself. Hold it around several steps, or around files that are written beside the shards, so that
        no other process comes between them; `run` may be called meanwhile. The lock belongs to the process: a killed one
        leaves none behind.

        Raises:
            ArtefactError: Another process holds it, or the folder was started with other settings.
        """
        if self._held:
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(self.folder):
            self._claim()
            self._held = True
            try:
                yield
            finally:
                self._held = False

    def receipts(self, shards: Sequence[Shard]) -> dict[str, Receipt]:
        """Valid receipts of these shards by shard name; one whose output is missing or of another size is left out.

        Raises:
            ArtefactError: A receipt speaks of other rows than the shard of its name.
        """
        found = {}
        for shard in shards:
            path = self.folder / RECEIPTS / f"{shard.name}.json"
            if not path.exists():
                continue
            receipt = Receipt.load(path)
            if receipt.shard != shard:
                raise ArtefactError(
                    f"the receipt is of the rows {receipt.shard.start} to {receipt.shard.stop}", file=path,
                    expected=f"{shard.start} to {shard.stop}", fix="Choose an empty folder",
                )  # fmt: skip
            if receipt.output_is_there(self.folder):
                found[shard.name] = receipt
        return found

    def run(
        self,
        shards: Sequence[Shard],
        function: ShardFunction,
        progress: Callable[[int, int], None] | None = None,
        engine: Engine | None = None,
        summarise: Callable[[Sequence[Receipt]], Mapping[str, Any]] | None = None,
    ) -> list[Receipt]:
        """Do what is not done yet and return the receipts of all shards, in their order.

        Args:
            shards: All shards of the job.
            function: See `ShardTask`.
            progress: Called with (rows done, rows in all), first with what was done before.
            engine: Where shards run; None means one after the other in this process.
            summarise: Makes more content for `summary.json` from all receipts.

        Raises:
            ArtefactError: Another process works in the folder, or it was started with other settings.
            InputError: Two shards have the same name.
        """
        if len({shard.name for shard in shards}) < len(shards):
            raise InputError("two shards of the job have the same name")
        with self.locked():
            began = time.perf_counter()
            done = self.receipts(shards)
            resumed = len(done)
            total = sum(len(shard) for shard in shards)
            rows = sum(len(receipt.shard) for receipt in done.values())
            if progress:
                progress(rows, total)
            missing = [shard for shard in shards if shard.name not in done]
            task = ShardTask(self.folder, self.suffix, function, self.precision)
            for receipt in (engine or LocalEngine()).map(task, missing):
                done[receipt.shard.name] = receipt
                rows += len(receipt.shard)
                if progress:
                    progress(rows, total)
            receipts = [done[shard.name] for shard in shards]
            if missing or not (self.folder / SUMMARY_FILE).exists():
                more = summarise(receipts) if summarise else {}
                self.write_summary(receipts, resumed, time.perf_counter() - began, more)
            return receipts

    def write_summary(
        self, receipts: Sequence[Receipt], resumed: int, wall_s: float, more: Mapping[str, Any] | None = None
    ) -> None:
        """Write what ran, on what and how fast to `summary.json`; `more` comes at the end."""
        rows, seconds = sum(len(one.shard) for one in receipts), sum(one.seconds for one in receipts)
        machines: list[Mapping[str, Any]] = []
        for receipt in receipts:
            if receipt.machine not in machines:
                machines.append(receipt.machine)
        write_json(
            self.folder / SUMMARY_FILE,
            {
                "format": "pairstill/job-summary",
                "version": 1,
                "name": self.name,
                "fingerprint": self.fingerprint,
                "rows": rows,
                "shards": len(receipts),
                "shards_done_before_the_last_run": resumed,
                "shard_seconds": round(seconds, 3),
                "rows_per_shard_second": round(rows / seconds, 3) if seconds else None,
                "last_run_seconds": round(wall_s, 3),
                "bytes": sum(one.bytes for one in receipts),
                "precision": self.precision,
                "machines": machines,
                **(more or {}),
            },
        )

    def _claim(self) -> None:
        """Check or write `job.json`, and remove the temporary files of a killed predecessor."""
        path = self.folder / JOB_FILE
        if not path.exists() and (self.folder / MANIFEST).exists():
            raise ArtefactError(
                "the folder holds something that this job did not write", file=self.folder, expected="an empty folder",
                fix="Choose another folder for the output",
            )  # fmt: skip
        if path.exists():
            body = read_json(path)
            if not isinstance(body, dict) or body.get("format") != JOB_FORMAT:
                raise ArtefactError("the file is no job of pairstill", file=path, fix="Choose an empty folder")
            refuse_newer(path, body, JOB_VERSION, "resume")
            if body.get("fingerprint") != self.fingerprint:
                before = {"job": body.get("name"), **(body.get("settings") or {})}
                raise ArtefactError(
                    f"the folder was started with other settings: {_difference(before, {'job': self.name, **self.settings})}",
                    file=self.folder, fix="Choose another folder, or the same settings to resume",
                )  # fmt: skip
        for folder in (self.folder, self.folder / RECEIPTS):
            for left in folder.glob(".*.tmp"):
                left.unlink(missing_ok=True)
        if not path.exists():
            write_json(
                path,
                {
                    "format": JOB_FORMAT, "version": JOB_VERSION, "name": self.name, "fingerprint": self.fingerprint,
                    "pairstill": __version__, "settings": self.settings,
                },
            )  # fmt: skip


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which settings differ, at most three of them."""
    absent = object()
    parts = []
    for name in [*before, *(name for name in now if name not in before)]:
        old, new = before.get(name, absent), now.get(name, absent)
        if old != new:
            parts.append(f"{name} was {_short(old, absent)} and is {_short(new, absent)}")
    return "; ".join(parts[:3]) + (f"; and {len(parts) - 3} more" if len(parts) > 3 else "")


def _short(value: Any, absent: object) -> str:
    text = "not set" if value is absent else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
