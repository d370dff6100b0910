"""The opened files of one state of a store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from pairstill.errors import ArtefactError
from pairstill.files import read_parquet
from pairstill.jobs import check_output
from pairstill.store.blocks import PER_ENTRY
from pairstill.store.columns import Column, RaggedColumn
from pairstill.store.ids import IdSegment, as_ids
from pairstill.store.manifest import LEGACY_IDS, FileEntry, StoreManifest
from pairstill.store.shard_file import FileArray, read_header


class StoreFiles:
    """Maps of the files of a store; they stay valid when a writer removes the files.

    Attributes:
        segments: Ids, in row order; empty where there are none.
        deleted: Deleted rows, ascending.
    """

    def __init__(
        self, manifest: StoreManifest, shards: Sequence[Mapping[str, FileArray]], segments: Sequence[IdSegment],
        deleted: np.ndarray,
    ) -> None:  # fmt: skip
        self.segments, self.deleted = list(segments), deleted
        ragged = manifest.stride == "ragged"
        starts = np.array([0, *itertools.accumulate(entry.rows for entry in manifest.shards)], np.int64)
        self._columns: dict[str, Column] = {}
        self._ragged: dict[str, RaggedColumn] = {}
        for name in [*manifest.arrays, *(["offsets"] if ragged else [])]:
            parts = [shard[name] for shard in shards]
            if ragged and name in PER_ENTRY:
                self._ragged[name] = RaggedColumn(parts, starts)
            else:
                self._columns[name] = Column(parts)
        self._rows, self._entries = manifest.rows, sum(entry.entries or 0 for entry in manifest.shards)

    @classmethod
    def open(
        cls, folder: Path, manifest: StoreManifest, *, checksums: bool,
        progress: Callable[[int, int], None] | None = None,
    ) -> StoreFiles:  # fmt: skip
        """Map all files.

        Args:
            folder: The store's.
            manifest: Of the state.
            checksums: Whether every file is read and compared with its checksum.
            progress: Called with (bytes compared, bytes in all).

        Raises:
            ArtefactError: A file is missing, damaged, or holds something else than the manifest says.
        """
        if checksums:
            done, total = 0, sum(entry.bytes for entry in manifest.files)
            if progress:
                progress(done, total)
            for entry in manifest.files:
                if entry.sha256:
                    _check_output(folder, entry, manifest.generation)
                done += entry.bytes
                if progress:
                    progress(done, total)
        shards = [_open_shard(folder, manifest, entry) for entry in manifest.shards]
        segments = [_open_ids(folder, entry, manifest.id_type or "") for entry in manifest.id_files]
        deleted = np.empty(0, np.int64)
        if manifest.deletions is not None:
            deleted = _open_deletions(folder, manifest.deletions, manifest.rows)
        return cls(manifest, shards, segments, deleted)

    def count(self, name: str) -> int:
        """Rows of an array over all shards."""
        return self._entries if name in self._ragged else self._rows

    def take(self, names: Sequence[str], rows: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
        """Rows of some arrays as (safetensors dtype, array); arrays with a row per entry come flat."""
        out = {
            name: (self._columns[name].stored, self._columns[name].take(rows))
            for name in names
            if name in self._columns
        }
        ragged = [name for name in names if name in self._ragged]
        if ragged:
            offsets = self._columns["offsets"].take(rows)
            lengths = out["lengths"][1] if "lengths" in out else self._columns["lengths"].take(rows)
            for name in ragged:
                out[name] = (self._ragged[name].stored, self._ragged[name].take(rows, offsets, lengths))
        return out


def _check_output(folder: Path, entry: FileEntry, generation: int) -> None:
    try:
        check_output(folder / entry.file, entry.bytes, entry.sha256)
    except ArtefactError as error:
        if generation == 1:
            raise
        raise ArtefactError(
            error.found, file=error.file, expected=error.expected,
            fix="The store was edited, so writing it cannot be resumed: write it again into another folder",
        ) from None  # fmt: skip


def _open_shard(folder: Path, manifest: StoreManifest, entry: FileEntry) -> dict[str, FileArray]:
    path = folder / entry.file
    shard = read_header(path)
    expected = {
        name: (dtype, (entry.entries if manifest.stride == "ragged" and name in PER_ENTRY else entry.rows, *shape))
        for name, (dtype, shape) in manifest.arrays.items()
    }
    if manifest.stride == "ragged":
        expected["offsets"] = ("I64", (entry.rows,))
    found = {name: (array.dtype, array.shape) for name, array in shard.items()}
    if found != expected:
        raise ArtefactError(
            f"the shard holds {_said(found)}", file=path, expected=_said(expected), fix="Write the store again"
        )
    _check_bytes(path, shard, entry)
    return shard


def _open_ids(folder: Path, entry: FileEntry, id_type: str) -> IdSegment:
    path = folder / entry.file
    if entry.file == LEGACY_IDS:
        return IdSegment.of(entry.start, as_ids(read_parquet(path).column("id"), id_type), path)
    return IdSegment.open(path, entry.start, entry.rows, id_type)


def _open_deletions(folder: Path, entry: FileEntry, rows: int) -> np.ndarray:
    path = folder / entry.file
    found = read_header(path)
    if {name: (array.dtype, array.shape) for name, array in found.items()} != {"rows": ("I64", (entry.rows,))}:
        raise ArtefactError("the file is no list of deleted rows", file=path, fix="Write the store again")
    _check_bytes(path, found, entry)
    deleted = found["rows"].map()
    if len(deleted) and (int(deleted[0]) < 0 or int(deleted[-1]) >= rows or bool((np.diff(deleted) <= 0).any())):
        raise ArtefactError(
            "the list of deleted rows is damaged: it is out of range or not ascending", file=path,
            expected=f"rows from 0 to {rows - 1}, each once", fix="Write the store again",
        )  # fmt: skip
    return deleted


def _check_bytes(path: Path, arrays: Mapping[str, FileArray], entry: FileEntry) -> None:
    for array in arrays.values():
        if array.piece.file_size != entry.bytes:
            raise ArtefactError(
                f"the file has {array.piece.file_size} bytes", file=path, expected=f"{entry.bytes} bytes",
                fix="Write the store again",
            )  # fmt: skip


def _said(arrays: Mapping[str, tuple[str, tuple[int | None, ...]]]) -> str:
    return ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in sorted(arrays.items()))
