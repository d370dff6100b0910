"""Writing a representation store, shard by shard, so that an interrupted one is resumed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pairstill.errors import ArtefactError, InputError
from pairstill.files import MANIFEST
from pairstill.jobs import Job, Receipt, Shard
from pairstill.jobs.job import RECEIPTS, ShardTask
from pairstill.representation import Representation
from pairstill.store.blocks import ShardBuffer, check_precision, make_block
from pairstill.store.ids import Ids, as_ids, segment_arrays, type_of
from pairstill.store.manifest import FileEntry, StoreManifest
from pairstill.store.shard_file import Blocks, read_header, write_arrays
from pairstill.store.store import RepresentationStore

SUFFIX = ".safetensors"
IDS_FILE = "ids-00000.safetensors"
SHARD_ROWS = 16_384


class StoreWriter:
    """Appends blocks of representations to a new store; use it as a context manager and call `finish` at the end.

    Blocks of any size are cut into shards of `shard_rows`. After an interruption a writer of the same settings goes on:
    `rows` says how many rows are safe, and the next block that is appended must begin with that row. A finished store is
    changed by `StoreEditor`.

    Args:
        folder: Made where it does not exist.
        encoder_fingerprint: Of the encoder whose output is stored; a student of another one is refused it.
        field: Name of the field.
        dtype: Precision of float vectors: float32, float16, bfloat16, int8 with a scale per vector, or uint8 with 256
            levels from -1 to 1 for single vectors that were trained for them. Integer token ids
            keep their type.
        stride: `fixed` keeps every item as wide as the blocks are; `ragged` keeps only valid entries, and blocks may differ
            in width.
        shard_rows: Rows per shard. A shard is held in memory until it is full.
        provenance: What the rows are, such as the tuple set's fingerprint; part of the settings that resuming compares.
        prepared_fingerprint: Of what makes the prepared part; None where there is none.

    Raises:
        ArtefactError: The folder was started with other settings, holds an edited store, or another process works in it
            (on entering).
        InputError: The dtype or stride is unknown, or `shard_rows` is below 1.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        encoder_fingerprint: str,
        field: str,
        dtype: str = "float32",
        stride: str = "fixed",
        shard_rows: int = SHARD_ROWS,
        provenance: Mapping[str, Any] | None = None,
        prepared_fingerprint: str | None = None,
    ) -> None:
        check_precision(dtype, stride, shard_rows)
        self.folder, self.dtype, self.stride, self.shard_rows = Path(folder), dtype, stride, shard_rows
        self.settings: dict[str, Any] = {
            "encoder_fingerprint": encoder_fingerprint, "field": field, "dtype": dtype, "shard_rows": shard_rows,
            "provenance": dict(provenance or {}),
        }  # fmt: skip
        # Said only where they are not the default, so that stores begun before there was a choice are resumed.
        more = {"stride": None if stride == "fixed" else stride, "prepared_fingerprint": prepared_fingerprint}
        settings = {**self.settings, **{name: value for name, value in more.items() if value is not None}}
        self.settings |= {"stride": stride, "prepared_fingerprint": prepared_fingerprint}
        self._job = Job(self.folder, "representation-store", settings, SUFFIX, precision=dtype)
        self._stack = contextlib.ExitStack()
        self._receipts: list[Receipt] = []
        self._buffer = ShardBuffer(shard_rows, self._write)
        self._longest = 0

    def __enter__(self) -> StoreWriter:
        """Lock the folder and count the shards that are done."""
        self._stack.enter_context(self._job.locked())
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._stack.close)
            self._resume()
            on_error.pop_all()
        return self

    def _resume(self) -> None:
        if (self.folder / MANIFEST).exists() and StoreManifest.load(self.folder).generation > 1:
            raise ArtefactError(
                "the store was edited after it was written", file=self.folder,
                fix="Change it with StoreEditor, or choose another folder",
            )  # fmt: skip
        number = 0
        while (self.folder / RECEIPTS / f"{_name(number)}.json").exists():
            receipt = Receipt.load(self.folder / RECEIPTS / f"{_name(number)}.json")
            # A short shard is the last of a finished store, or of one that was interrupted while finishing.
            if not receipt.output_is_there(self.folder) or len(receipt.shard) < self.shard_rows:
                break
            self._receipts.append(receipt)
            number += 1
        if self._receipts:
            shard = read_header(self.folder / self._receipts[0].file)
            self._buffer.spec = {
                name: (array.dtype, array.shape[1:]) for name, array in shard.items() if name != "offsets"
            }
        self._longest = max([0, *(int(one.details.get("longest", 0)) for one in self._receipts)])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the folder; rows that did not fill a shard are lost unless `finish` was called."""
        self._stack.close()

    @property
    def rows(self) -> int:
        """How many rows are appended, those of an interrupted writer's whole shards included."""
        return self._stored_rows + self._buffer.rows

    @property
    def _stored_rows(self) -> int:
        return sum(len(receipt.shard) for receipt in self._receipts)

    def append(self, representation: Representation[Any], *, prepared: Mapping[str, Any] | None = None) -> None:
        """Add the items of a block; NumPy arrays, or PyTorch tensors on any device.

        Args:
            representation: Of the items.
            prepared: Float arrays that a head computes once per item, `(items, ...)` by name; fixed stride only.

        Raises:
            InputError: A block has other arrays, tokens or dim than the ones before, or lengths beyond its tokens.
        """
        self._buffer.append(make_block(representation, self.dtype, self.stride, prepared))

    def finish(self, ids: Ids | None = None, *, content_hash: np.ndarray | None = None) -> RepresentationStore:
        """Write what is pending and the manifest, and open the store.

        Args:
            ids: Id of every row, in order, strings or integers; None stores none.
            content_hash: `(rows, 16)` uint8 from `content_hashes`, by which `changed` knows what must be encoded again;
                None stores none.

        Raises:
            InputError: No row was appended, the number of ids is another than that of rows, or an id occurs twice.
        """
        if not self.rows or self._buffer.spec is None:
            raise InputError("the store has no rows", file=self.folder, expected="at least one item")
        if ids is not None and len(ids) != self.rows:
            raise InputError(f"{len(ids)} ids are given for {self.rows} rows", file=self.folder)
        if content_hash is not None and ids is None:
            raise InputError("content hashes are given without ids", file=self.folder, fix="Give the ids, too")
        array = None if ids is None else as_ids(ids)
        arrays = None if array is None else segment_arrays(array, content_hash)
        self._buffer.flush()
        self._unfinish()
        id_files: tuple[FileEntry, ...] = ()
        if arrays is not None:
            write_arrays(self.folder / IDS_FILE, arrays)
            id_files = (FileEntry.of(self.folder / IDS_FILE, 0, self.rows),)
        spec = self._buffer.spec
        StoreManifest(
            generation=1,
            **self.settings,
            longest=self._longest if self.stride == "ragged" else spec["vectors"][1][0],
            arrays=spec,
            shards=tuple(
                FileEntry(one.file, one.shard.start, len(one.shard), one.bytes, one.sha256, one.details.get("entries"))
                for one in self._receipts
            ),
            id_type=None if array is None else type_of(array),
            id_files=id_files,
            deletions=None,
        ).write(self.folder)
        return RepresentationStore.open(self.folder, checksums=False)

    def _unfinish(self) -> None:
        # A finished store that is written on is unfinished until `finish` is called again.
        (self.folder / MANIFEST).unlink(missing_ok=True)

    def _write(self, arrays: dict[str, Blocks], rows: int, entries: int | None) -> None:
        self._unfinish()
        longest = max(int(block.max(initial=0)) for block in arrays["lengths"][1])
        self._longest = max(self._longest, longest)

        def write(shard: Shard, path: Path) -> Mapping[str, Any]:
            write_arrays(path, arrays)
            return {} if entries is None else {"entries": entries, "longest": longest}

        start = self._stored_rows
        shard = Shard(_name(len(self._receipts)), start, start + rows)
        self._receipts.append(ShardTask(self.folder, SUFFIX, write, self.dtype)(shard))


def write_store(
    folder: str | Path,
    encode: Callable[[int, int], Representation[Any]],
    rows: int,
    *,
    encoder_fingerprint: str,
    field: str,
    dtype: str = "float32",
    stride: str = "fixed",
    shard_rows: int = SHARD_ROWS,
    block_rows: int = 4096,
    ids: Ids | None = None,
    content_hash: np.ndarray | None = None,
    provenance: Mapping[str, Any] | None = None,
    prepare: Callable[[Representation[Any]], Mapping[str, Any]] | None = None,
    prepared_fingerprint: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RepresentationStore:
    """Encode rows block by block into a store; resumes an interrupted one and returns a finished one as it is.

    Args:
        folder: The store's folder.
        encode: Called with (start, stop) and returns the representation of these rows.
        rows: Number of rows in all.
        encoder_fingerprint: See `StoreWriter`.
        field: See `StoreWriter`.
        dtype: See `StoreWriter`.
        stride: See `StoreWriter`.
        shard_rows: See `StoreWriter`.
        block_rows: Most rows that `encode` is asked for at once.
        ids: Id of every row; None stores none.
        content_hash: See `StoreWriter.finish`.
        provenance: See `StoreWriter`.
        prepare: Makes the prepared part of a block; None keeps none.
        prepared_fingerprint: See `StoreWriter`.
        progress: Called with (rows done, rows in all).

    Raises:
        ArtefactError: The folder was started with other settings, or another process works in it.
        InputError: `encode` returned another number of items than it was asked for, or an id occurs twice.
    """
    if ids is not None:
        # Before hours of encoding, not after them.
        if len(ids) != rows:
            raise InputError(f"{len(ids)} ids are given for {rows} rows", file=folder)
        ids = as_ids(ids)
        segment_arrays(ids, content_hash)
    with StoreWriter(
        folder, encoder_fingerprint=encoder_fingerprint, field=field, dtype=dtype, stride=stride, shard_rows=shard_rows,
        provenance={**(provenance or {}), "rows": rows}, prepared_fingerprint=prepared_fingerprint,
    ) as writer:  # fmt: skip
        if (Path(folder) / MANIFEST).exists() and _is_whole(Path(folder), rows):
            if progress:
                progress(rows, rows)
            return RepresentationStore.open(folder, encoder_fingerprint)
        while writer.rows < rows:
            if progress:
                progress(writer.rows, rows)
            start = writer.rows
            # Blocks end with shards, so that a resumed writer asks for the same blocks and gets the same bits.
            stop = min(rows, start + block_rows, (start // shard_rows + 1) * shard_rows)
            block = encode(start, stop)
            if len(block) != stop - start:
                raise InputError(f"the encoder returned {len(block)} items for the rows {start} to {stop}")
            writer.append(block, prepared=None if prepare is None else prepare(block))
        if progress:
            progress(rows, rows)
        return writer.finish(ids, content_hash=content_hash)


def _is_whole(folder: Path, rows: int) -> bool:
    manifest = StoreManifest.load(folder)
    return manifest.rows == rows and all(
        (folder / one.file).is_file() and (folder / one.file).stat().st_size == one.bytes for one in manifest.files
    )


def _name(number: int) -> str:
    return f"shard-{number:05d}"
