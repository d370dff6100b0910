"""Writing a representation store, shard by shard, so that an interrupted one is resumed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa

from pairstill.errors import InputError
from pairstill.files import MANIFEST, read_json, write_manifest, write_parquet
from pairstill.jobs import Job, Receipt, Shard
from pairstill.jobs.job import RECEIPTS, ShardTask
from pairstill.representation import Representation
from pairstill.store.shard_file import STORED, open_shard, to_stored, write_shard
from pairstill.store.store import FORMAT, FORMAT_VERSION, RepresentationStore

DTYPES = ("float32", "float16", "bfloat16")
SUFFIX = ".safetensors"
IDS_FILE = "ids.parquet"


class StoreWriter:
    """Appends blocks of representations to a store; use it as a context manager and call `finish` at the end.

    Blocks of any size are cut into shards of `shard_rows`. After an interruption a writer of the same settings goes on:
    `rows` says how many rows are safe, and the next block that is appended must begin with that row.

    Args:
        folder: Made where it does not exist.
        encoder_fingerprint: Of the encoder whose output is stored; a student of another one is refused it.
        field: Name of the field.
        dtype: Precision of float vectors: float32, float16 or bfloat16. Integer token ids keep their type.
        shard_rows: Rows per shard. A shard is held in memory until it is full.
        provenance: What the rows are, such as the tuple set's fingerprint; part of the settings that resuming compares.

    Raises:
        ArtefactError: The folder was started with other settings, or another process works in it (on entering).
        InputError: The dtype is unknown, or `shard_rows` is below 1.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        encoder_fingerprint: str,
        field: str,
        dtype: str = "float32",
        shard_rows: int = 16_384,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise InputError(f"the store precision '{dtype}' is unknown", expected=", ".join(DTYPES))
        if shard_rows < 1:
            raise InputError(f"the number of rows per shard is {shard_rows}", expected="at least 1")
        self.folder, self.dtype, self.shard_rows = Path(folder), dtype, shard_rows
        self.settings = {
            "encoder_fingerprint": encoder_fingerprint, "field": field, "dtype": dtype, "shard_rows": shard_rows,
            "provenance": dict(provenance or {}),
        }  # fmt: skip
        self._job = Job(self.folder, "representation-store", self.settings, SUFFIX, precision=dtype)
        self._stack = contextlib.ExitStack()
        self._receipts: list[Receipt] = []
        self._buffers: dict[str, np.ndarray] = {}
        self._pending_rows = 0
        self._spec: dict[str, tuple[str, tuple[int, ...]]] | None = None

    def __enter__(self) -> StoreWriter:
        """Lock the folder and count the shards that are done."""
        self._stack.enter_context(self._job.locked())
        number = 0
        while (self.folder / RECEIPTS / f"{_name(number)}.json").exists():
            receipt = Receipt.load(self.folder / RECEIPTS / f"{_name(number)}.json")
            # A short shard is the last of a finished store, or of one that was interrupted while finishing.
            if not receipt.output_is_there(self.folder) or len(receipt.shard) < self.shard_rows:
                break
            self._receipts.append(receipt)
            number += 1
        if self._receipts:
            shard = open_shard(self.folder / self._receipts[0].file)
            self._spec = {name: (dtype, array.shape[1:]) for name, (dtype, array) in shard.items()}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the folder; rows that did not fill a shard are lost unless `finish` was called."""
        self._stack.close()

    @property
    def rows(self) -> int:
        """How many rows are appended, those of an interrupted writer's whole shards included."""
        return self._stored_rows + self._pending_rows

    @property
    def _stored_rows(self) -> int:
        return sum(len(receipt.shard) for receipt in self._receipts)

    def append(self, representation: Representation[Any]) -> None:
        """Add the items of a block; NumPy arrays, or PyTorch tensors on any device.

        Raises:
            InputError: A block has other arrays, tokens or dim than the ones before, or lengths beyond its tokens.
        """
        stored = {name: to_stored(name, array, self.dtype) for name, array in representation.arrays().items()}
        _check_block({name: array for name, (_, array) in stored.items()})
        spec = {name: (dtype, array.shape[1:]) for name, (dtype, array) in stored.items()}
        if self._spec is None:
            self._spec = spec
        elif spec != self._spec:
            raise InputError(
                f"the block has the arrays {_said(spec)}", expected=f"{_said(self._spec)}, as the blocks before it"
            )
        if not self._buffers:
            self._buffers = {
                name: np.empty((self.shard_rows, *shape), STORED[dtype]) for name, (dtype, shape) in spec.items()
            }
        count, start = len(representation), 0
        while start < count:
            stop = min(count, start + self.shard_rows - self._pending_rows)
            for name, (_, array) in stored.items():
                self._buffers[name][self._pending_rows : self._pending_rows + stop - start] = array[start:stop]
            self._pending_rows += stop - start
            start = stop
            if self._pending_rows == self.shard_rows:
                self._flush()

    def finish(self, ids: Sequence[str] | pa.Array | None = None) -> RepresentationStore:
        """Write what is pending and the manifest, and open the store.

        Args:
            ids: Id of every row, in order; None stores none.

        Raises:
            InputError: No row was appended, or the number of ids is another than that of rows.
        """
        if not self.rows or self._spec is None:
            raise InputError("the store has no rows", file=self.folder, expected="at least one item")
        if ids is not None and len(ids) != self.rows:
            raise InputError(f"{len(ids)} ids are given for {self.rows} rows", file=self.folder)
        if self._pending_rows:
            self._flush()
        if ids is not None:
            write_parquet(self.folder / IDS_FILE, pa.table({"id": pa.array(ids, pa.string())}))
        vectors = self._spec["vectors"][1]
        write_manifest(
            self.folder, FORMAT, FORMAT_VERSION,
            {
                **self.settings,
                "rows": self.rows,
                "tokens": vectors[0],
                "dim": vectors[1] if len(vectors) > 1 else None,
                "arrays": {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in self._spec.items()},
                "ids": IDS_FILE if ids is not None else None,
                "shards": [
                    {"file": one.file, "rows": len(one.shard), "bytes": one.bytes, "sha256": one.sha256}
                    for one in self._receipts
                ],
            },
        )  # fmt: skip
        return RepresentationStore.open(self.folder, checksums=False)

    def _flush(self) -> None:
        if self._spec is None:
            return
        arrays = {name: (dtype, self._buffers[name][: self._pending_rows]) for name, (dtype, _) in self._spec.items()}
        # A finished store that is written on is unfinished until `finish` is called again.
        (self.folder / MANIFEST).unlink(missing_ok=True)

        def write(shard: Shard, path: Path) -> Mapping[str, Any]:
            write_shard(path, arrays)
            return {}

        start = self._stored_rows
        shard = Shard(_name(len(self._receipts)), start, start + self._pending_rows)
        self._receipts.append(ShardTask(self.folder, SUFFIX, write, self.dtype)(shard))
        self._pending_rows = 0


def write_store(
    folder: str | Path,
    encode: Callable[[int, int], Representation[Any]],
    rows: int,
    *,
    encoder_fingerprint: str,
    field: str,
    dtype: str = "float32",
    shard_rows: int = 16_384,
    block_rows: int = 4096,
    ids: Sequence[str] | pa.Array | None = None,
    provenance: Mapping[str, Any] | None = None,
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
        shard_rows: See `StoreWriter`.
        block_rows: Most rows that `encode` is asked for at once.
        ids: Id of every row; None stores none.
        provenance: See `StoreWriter`.
        progress: Called with (rows done, rows in all).

    Raises:
        ArtefactError: The folder was started with other settings, or another process works in it.
        InputError: `encode` returned another number of items than it was asked for.
    """
    with StoreWriter(
        folder, encoder_fingerprint=encoder_fingerprint, field=field, dtype=dtype, shard_rows=shard_rows,
        provenance={**(provenance or {}), "rows": rows},
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
            writer.append(block)
        if progress:
            progress(rows, rows)
        return writer.finish(ids)


def _is_whole(folder: Path, rows: int) -> bool:
    body = read_json(folder / MANIFEST)
    return bool(body.get("rows") == rows) and all(
        (folder / one["file"]).is_file() and (folder / one["file"]).stat().st_size == one["bytes"]
        for one in body["shards"]
    )


def _name(number: int) -> str:
    return f"shard-{number:05d}"


def _said(spec: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in spec.items())


def _check_block(arrays: Mapping[str, np.ndarray]) -> None:
    count = len(arrays["lengths"])
    for name, array in arrays.items():
        if len(array) != count:
            raise InputError(f"the block has {count} lengths and {len(array)} rows of '{name}'")
    if arrays["vectors"].ndim not in (2, 3):
        raise InputError(
            f"the vectors have {arrays['vectors'].ndim} dimensions", expected="(items, tokens, dim) or (items, tokens)"
        )
    lengths, tokens = arrays["lengths"], arrays["vectors"].shape[1]
    if count and (int(lengths.min()) < 0 or int(lengths.max()) > tokens):
        raise InputError(f"a length is {int(lengths.max())} or below 0", expected=f"0 to {tokens}, the tokens kept")
