"""Changing a store: append, replace, delete, compact. Every change makes a new state; the old one lasts until then."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pairstill.errors import ArtefactError, InputError
from pairstill.files import locked_folder
from pairstill.jobs.job import RECEIPTS
from pairstill.representation import Representation
from pairstill.store.blocks import Block, ShardBuffer, make_block
from pairstill.store.ids import Ids, as_content_hash, as_ids, check_distinct, is_in, segment_arrays
from pairstill.store.manifest import LEGACY_IDS, FileEntry, StoreManifest
from pairstill.store.shard_file import Blocks, write_arrays
from pairstill.store.store import RepresentationStore

_Expected = Literal["new", "known", "any"]
"""Of ids: which ones the store may have."""
_OURS = re.compile(r"(shard|ids|deleted)-\d{5,}(-\d{5,})?\.safetensors")


class StoreEditor:
    """Changes a finished store; use it as a context manager and call `commit`.

    Nothing changes for readers until `commit`, which replaces the manifest in one step. A process that is killed, and an
    editor that is left without a commit, leave the state before. Appended items come behind all others.

    Args:
        folder: Of a store that `StoreWriter` finished.
        encoder_fingerprint: Of the encoder that makes the new items; None where none is appended.

    Raises:
        ArtefactError: It is no store, was made by another encoder, or another process writes to it (on entering).

    Example:
        >>> with StoreEditor("runs/store/query", encoder_fingerprint=mine) as editor:            # doctest: +SKIP
        ...     editor.delete(["q7"])
        ...     editor.append(encode(["new text"]), ["q8"])
        ...     store = editor.commit()
    """

    def __init__(self, folder: str | Path, *, encoder_fingerprint: str | None = None) -> None:
        self.folder, self._fingerprint = Path(folder), encoder_fingerprint
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> StoreEditor:
        """Lock the store, open it, and remove what a killed editor left."""
        # An error that says what is wrong with the folder comes before one about its lock.
        StoreManifest.load(self.folder)
        self._stack.enter_context(locked_folder(self.folder))
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._stack.close)
            self.store = RepresentationStore.open(self.folder, self._fingerprint, checksums=False)
            _clean(self.folder, self.store.manifest)
            self._begin()
            on_error.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not committed and unlock."""
        with self._stack:
            if self._shards:
                _drop(self.folder, self._shards)

    def _begin(self) -> None:
        self._shards: list[FileEntry] = []
        self._ids: list[pa.Array] = []
        self._content_hash: list[np.ndarray] = []
        self._deleted = self.store.deleted_rows
        self._longest = self.store.manifest.longest
        manifest = self.store.manifest
        self._buffer = ShardBuffer(manifest.shard_rows, self._write, dict(manifest.arrays))

    def append(
        self,
        representation: Representation[Any],
        ids: Ids | None = None,
        *,
        prepared: Mapping[str, Any] | None = None,
        content_hash: np.ndarray | None = None,
    ) -> None:
        """Add new items.

        Args:
            representation: Of the items, as the encoder gives it.
            ids: Of the items, none of which the store has; None in a store without ids.
            prepared: As `StoreWriter.append`.
            content_hash: `(items, 16)` uint8, for all or for none of the items of a commit.

        Raises:
            InputError: The store has one of the ids, or the items do not fit it.
        """
        self._add(representation, ids, "new", prepared, content_hash)

    def replace(
        self,
        representation: Representation[Any],
        ids: Ids,
        *,
        prepared: Mapping[str, Any] | None = None,
        content_hash: np.ndarray | None = None,
    ) -> None:
        """Put new representations in place of those of items that the store has; they move behind all others.

        Raises:
            InputError: The store lacks one of the ids, or the items do not fit it.
        """
        self._add(representation, ids, "known", prepared, content_hash)

    def put(
        self,
        representation: Representation[Any],
        ids: Ids,
        *,
        prepared: Mapping[str, Any] | None = None,
        content_hash: np.ndarray | None = None,
    ) -> None:
        """Append the items whose ids the store lacks, and replace the others."""
        self._add(representation, ids, "any", prepared, content_hash)

    def delete(self, ids: Ids) -> None:
        """Delete items; `compact` frees their space.

        Raises:
            InputError: The store lacks one of the ids, or one is given twice.
        """
        array = as_ids(ids, self.store.manifest.id_type)
        check_distinct(array)
        self._bury(self._rows(array, "known"))

    def commit(self) -> RepresentationStore:
        """Make the changes the store's state and open it; the editor can then be used for more.

        Raises:
            InputError: An id was appended twice. Nothing is changed then.
        """
        manifest, store = self.store.manifest, self.store
        ids = pa.concat_arrays(self._ids) if self._ids else None
        arrays = None
        if ids is not None:
            if self._content_hash and sum(map(len, self._content_hash)) != len(ids):
                raise InputError(
                    "content hashes are given for some of the items", expected="for all of a commit, or none"
                )
            arrays = segment_arrays(ids, np.concatenate(self._content_hash) if self._content_hash else None)
        self._buffer.flush()
        if not self._shards and len(self._deleted) == store.deleted:
            return store
        number = manifest.generation + 1
        id_files = manifest.id_files
        if id_files and id_files[0].file == LEGACY_IDS:
            legacy = segment_arrays(as_ids(store.ids))
            id_files = (_write_file(self.folder / "ids-00000.safetensors", legacy, 0, manifest.rows),)
        if arrays is not None and ids is not None:
            path = self.folder / f"ids-{number:05d}.safetensors"
            id_files = (*id_files, _write_file(path, arrays, manifest.rows, len(ids)))
        deletions = manifest.deletions
        if len(self._deleted) > store.deleted:
            path = self.folder / f"deleted-{number:05d}.safetensors"
            deletions = _write_file(path, {"rows": ("I64", [self._deleted])}, 0, len(self._deleted))
        manifest.next(
            shards=(*manifest.shards, *self._shards), id_files=id_files, deletions=deletions,
            longest=self._longest if manifest.stride == "ragged" else manifest.longest,
        ).write(self.folder)  # fmt: skip
        self.store = RepresentationStore.open(self.folder, checksums=False)
        self._begin()
        return self.store

    def merge(self, commits: int, *, block_rows: int = 4096) -> RepresentationStore:
        """Write what the last commits added as if it had been one, without the items deleted since.

        Many small commits make many small files, and looking up an id asks the ids of each. Items keep their rows. Readers
        that have the store open keep what they opened.

        Args:
            commits: How many, the store's first writing counted as one.
            block_rows: Items that are held in memory besides a shard.

        Raises:
            InputError: The store has no ids, fewer commits, or there are changes that were not committed.
        """
        manifest = self.store.manifest
        if self._ids or len(self._deleted) != self.store.deleted:
            raise InputError("there are changes that were not committed", file=self.folder, fix="Commit them first")
        if not 1 <= commits <= len(manifest.id_files):
            raise InputError(
                f"{commits} commits are to be merged", file=self.folder, expected=f"1 to {len(manifest.id_files)}"
            )
        first = manifest.id_files[-commits].start
        new = _rewritten(self.store, first, manifest.shard_rows, block_rows, None)
        new.write(self.folder)
        _clean(self.folder, new)
        self.store = RepresentationStore.open(self.folder, checksums=False)
        self._begin()
        return self.store

    def _add(
        self, representation: Representation[Any], ids: Ids | None, expected: _Expected, prepared: Mapping[str, Any] | None,
        content_hash: np.ndarray | None,
    ) -> None:  # fmt: skip
        manifest = self.store.manifest
        if (ids is None) != (manifest.id_type is None):
            raise InputError(
                f"the items have {'no ' if ids is None else ''}ids", file=self.folder,
                expected=f"{'no ' if manifest.id_type is None else ''}ids, as the store has",
            )  # fmt: skip
        if content_hash is not None and ids is None:
            raise InputError("content hashes are given without ids", file=self.folder, fix="Leave them out")
        block = make_block(representation, manifest.dtype, manifest.stride, prepared)
        old = np.empty(0, np.int64)
        if ids is not None:
            array = as_ids(ids, manifest.id_type)
            if len(array) != len(block):
                raise InputError(f"{len(array)} ids are given for {len(block)} items")
            if content_hash is not None:
                as_content_hash(content_hash, len(block))
            check_distinct(array)
            old = self._rows(array, expected)
        self._buffer.append(block)
        self._longest = max(self._longest, block.longest)
        if ids is not None and len(array):
            self._ids.append(array)
            if content_hash is not None:
                self._content_hash.append(content_hash.copy())
            self._bury(old)

    def _rows(self, ids: pa.Array, expected: _Expected) -> np.ndarray:
        """Rows in the shards of those ids that the store has."""
        rows = self.store.lookup_stored(ids)
        known = (rows >= 0) & ~is_in(rows, self._deleted)
        wrong = np.flatnonzero(known if expected == "new" else ~known)
        if expected != "any" and wrong.size:
            one, place = ids[int(wrong[0])].as_py(), int(wrong[0])
            raise InputError(
                f"the store has {'already the' if expected == 'new' else 'no'} item {one!r} (position {place}; so it is with "
                f"{wrong.size} of {len(ids)} ids)", file=self.folder,
            )  # fmt: skip
        return np.asarray(rows[known])

    def _bury(self, rows: np.ndarray) -> None:
        if rows.size:
            self._deleted = np.union1d(self._deleted, rows)

    def _write(self, arrays: dict[str, Blocks], rows: int, entries: int | None) -> None:
        manifest = self.store.manifest
        path = self.folder / f"shard-{manifest.generation + 1:05d}-{len(self._shards):05d}.safetensors"
        start = manifest.rows + sum(shard.rows for shard in self._shards)
        self._shards.append(_write_file(path, arrays, start, rows, entries))


def compact(
    folder: str | Path,
    *,
    shard_rows: int | None = None,
    block_rows: int = 4096,
    progress: Callable[[int, int], None] | None = None,
) -> RepresentationStore:
    """Write a store anew without its deleted items, in whole shards, and remove the files that are no longer needed.

    Shards and ids are then, byte for byte, those of a store that was written at once. Readers that have the store open
    keep what they opened. Ids are held in memory meanwhile.

    Args:
        folder: The store's.
        shard_rows: Rows per shard; None keeps the store's.
        block_rows: Items that are held in memory besides a shard.
        progress: Called with (items done, items in all).

    Raises:
        ArtefactError: It is no store, is damaged, or another process writes to it.
    """
    folder = Path(folder)
    with StoreEditor(folder) as editor:
        store = editor.store
        new = _rewritten(store, 0, shard_rows or store.manifest.shard_rows, block_rows, progress)
        new.write(folder)
        _clean(folder, new)
        # They speak of shards that are gone.
        shutil.rmtree(folder / RECEIPTS, ignore_errors=True)
        if progress:
            progress(len(store), len(store))
        return RepresentationStore.open(folder, checksums=False)


def _rewritten(
    store: RepresentationStore, first: int, shard_rows: int, block_rows: int, progress: Callable[[int, int], None] | None
) -> StoreManifest:  # fmt: skip
    """Write the rows from `first` on, where a commit began, in whole shards without deleted items.

    Returns:
        The manifest of that state, not yet written.
    """
    folder, manifest = store.folder, store.manifest
    number = manifest.generation + 1
    kept = [shard for shard in manifest.shards if shard.start < first]
    shards = list(kept)

    def write(arrays: dict[str, Blocks], rows: int, entries: int | None) -> None:
        path = folder / f"shard-{number:05d}-{len(shards) - len(kept):05d}.safetensors"
        shards.append(_write_file(path, arrays, sum(shard.rows for shard in shards), rows, entries))

    buffer = ShardBuffer(shard_rows, write, dict(manifest.arrays))
    before = int(np.searchsorted(store.deleted_rows, first))
    begin, longest = first - before, 0
    for start in range(begin, len(store), block_rows):
        if progress:
            progress(start - begin, len(store) - begin)
        block = store.block(store.live_rows(start, min(start + block_rows, len(store))))
        longest = max(longest, block.longest)
        buffer.append(block)
    buffer.flush(empty=None if shards else _without_items(store))
    id_files = tuple(one for one in manifest.id_files if one.start < first)
    rows = np.arange(begin, len(store))
    if store.has_ids and (len(rows) or not id_files):
        hashes = store.content_hash_at(rows) if store.has_content_hashes else None
        # A list that is mapped need not be copied.
        ids = as_ids(store.ids if first == 0 else store.ids_at(rows))
        path = folder / f"ids-{number:05d}.safetensors"
        id_files = (*id_files, _write_file(path, segment_arrays(ids, hashes), first, len(ids)))
    deletions = manifest.deletions if before else None
    if 0 < before < store.deleted:
        path = folder / f"deleted-{number:05d}.safetensors"
        deletions = _write_file(path, {"rows": ("I64", [store.deleted_rows[:before]])}, 0, before)
    ragged, whole = manifest.stride == "ragged", first == 0
    return manifest.next(
        shards=tuple(shards), id_files=id_files, deletions=deletions, shard_rows=buffer.shard_rows,
        longest=longest if ragged and whole else manifest.longest,
    )  # fmt: skip


def _without_items(store: RepresentationStore) -> Block:
    return store.block(np.empty(0, np.int64))


def _write_file(
    path: Path, arrays: Mapping[str, Blocks], start: int, rows: int, entries: int | None = None
) -> FileEntry:
    write_arrays(path, arrays)
    return FileEntry.of(path, start, rows, entries)


def _drop(folder: Path, shards: Sequence[FileEntry]) -> None:
    """Remove shards that no state has; a commit that failed may have replaced the manifest before it did."""
    with contextlib.suppress(ArtefactError, OSError):  # where it cannot be read, the next editor removes them
        named = {one.file for one in StoreManifest.load(folder).files}
        for shard in shards:
            if shard.file not in named:
                (folder / shard.file).unlink(missing_ok=True)


def _clean(folder: Path, manifest: StoreManifest) -> None:
    """Remove files of the store that the manifest does not name; the caller holds the lock."""
    needed = {one.file for one in manifest.files}
    for path in folder.iterdir():
        name = path.name
        # Temporary files are named after what they become.
        if name.startswith(".") and name.endswith(".tmp"):
            name = name[1:].rsplit(".", 2)[0]
            if _OURS.fullmatch(name) or name == "manifest.json":
                path.unlink(missing_ok=True)
        elif name not in needed and (_OURS.fullmatch(name) or name == LEGACY_IDS):
            path.unlink(missing_ok=True)
