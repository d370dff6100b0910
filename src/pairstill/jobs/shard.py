"""Shards and receipts: how a long job is cut, and what proves that a piece of it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pairstill.errors import ArtefactError, InputError
from pairstill.files import fingerprint_file, read_json, refuse_newer, write_json

RECEIPT_FORMAT = "pairstill/receipt"
RECEIPT_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """A piece of a job: the rows from `start` up to, not including, `stop`.

    Attributes:
        name: Names its output file and its receipt, such as `shard-00003`.
        start: First row.
        stop: One past the last row.
    """

    name: str
    start: int
    stop: int

    def __len__(self) -> int:
        """Number of rows."""
        return self.stop - self.start


def split_rows(rows: int, rows_per_shard: int) -> list[Shard]:
    """Cut `rows` rows into shards of `rows_per_shard`, the last one possibly smaller.

    Raises:
        InputError: The size of a shard is below 1.

    Example:
        >>> [(one.name, len(one)) for one in split_rows(5, 2)]
        [('shard-00000', 2), ('shard-00001', 2), ('shard-00002', 1)]
    """
    if rows_per_shard < 1:
        raise InputError(f"the number of rows per shard is {rows_per_shard}", expected="at least 1")
    starts = range(0, rows, rows_per_shard)
    return [
        Shard(f"shard-{number:05d}", start, min(start + rows_per_shard, rows)) for number, start in enumerate(starts)
    ]


@dataclass(frozen=True)
class Receipt:
    """Proof that a shard's output was written whole.

    Attributes:
        shard: The shard.
        file: Name of the output in the job's folder.
        bytes: Size of the output.
        sha256: Checksum of the output.
        seconds: How long the shard took.
        machine: Where it ran, from `pairstill.machine.describe`.
        precision: In which precision; None where nothing was multiplied.
        details: What the shard function returned, such as how many texts were truncated.
    """

    shard: Shard
    file: str
    bytes: int
    sha256: str
    seconds: float
    machine: Mapping[str, Any] = field(default_factory=dict)
    precision: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the receipt atomically."""
        write_json(path, {"format": RECEIPT_FORMAT, "version": RECEIPT_VERSION, **asdict(self)})

    @classmethod
    def load(cls, path: Path) -> Receipt:
        """Read a receipt.

        Raises:
            ArtefactError: It is no receipt, or a newer version wrote it.
        """
        body = read_json(path)
        if not isinstance(body, dict) or body.get("format") != RECEIPT_FORMAT:
            raise ArtefactError("the file is no receipt", file=path, expected=f"format '{RECEIPT_FORMAT}'")
        refuse_newer(path, body, RECEIPT_VERSION)
        try:
            return cls(
                shard=Shard(**body["shard"]),
                **{
                    name: body[name]
                    for name in ("file", "bytes", "sha256", "seconds", "machine", "precision", "details")
                },
            )
        except (KeyError, TypeError) as error:
            raise ArtefactError(f"the receipt lacks a field: {error}", file=path, fix="Remove it and resume") from None

    def output_is_there(self, folder: Path) -> bool:
        """Whether the output exists with the receipt's size; cheap, for resuming. `check` also reads the bytes."""
        path = folder / self.file
        return path.is_file() and path.stat().st_size == self.bytes

    def check(self, folder: Path) -> None:
        """Compare the output with its checksum.

        Raises:
            ArtefactError: The output is missing, truncated or changed.
        """
        check_output(folder / self.file, self.bytes, self.sha256)


def check_output(path: Path, size: int, sha256: str) -> None:
    """Compare a file with the size and checksum that were recorded of it.

    Raises:
        ArtefactError: It is missing, truncated or changed.
    """
    if not path.is_file():
        raise ArtefactError("the shard is missing", file=path, fix="Run the command that wrote it again: it resumes")
    found = path.stat().st_size
    if found != size:
        raise ArtefactError(
            f"the shard has {found} bytes", file=path, expected=f"{size} bytes",
            fix="Remove it and run the command that wrote it again: it resumes",
        )  # fmt: skip
    if fingerprint_file(path) != sha256:
        raise ArtefactError(
            "the shard is damaged: its checksum is not the recorded one", file=path,
            fix="Remove it and run the command that wrote it again: it resumes",
        )  # fmt: skip
