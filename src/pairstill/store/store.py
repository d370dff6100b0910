"""The representation store: what an encoder keeps of every item of a field, on disk, read at memory speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pairstill.errors import ArtefactError, InputError
from pairstill.representation import Representation
from pairstill.store.blocks import PREPARED, Block
from pairstill.store.columns import spread
from pairstill.store.files import StoreFiles
from pairstill.store.ids import HASH_BYTES, Ids, as_content_hash, as_ids, find_rows
from pairstill.store.manifest import StoreManifest
from pairstill.store.quantise import widened_arrays
from pairstill.store.shard_file import STORED

if TYPE_CHECKING:
    import torch

ATTEMPTS = 20


class RepresentationStore:
    """One state of a store: representations of all items of one field, mapped into memory.

    Open one with `RepresentationStore.open`, write one with `StoreWriter` or `write_store`, change one with `StoreEditor`.
    Rows are numbered from 0 in the order in which they were written, deleted items left out. What is opened stays as it is
    whatever is written afterwards; row numbers hold for this object, ids for ever.

    Attributes:
        folder: Where it lies.
        generation: Counts the states of the store from 1; every edit makes the next.
        encoder_fingerprint: Of the encoder that made it.
        field: Name of the field.
        dtype: Precision of vectors: `float32`, `float16`, `bfloat16`, `int8` or `uint8`; integer token ids keep their own type.
        stride: `fixed` (every item has the same number of entries) or `ragged`.
        provenance: What its writer noted.
        prepared_fingerprint: Of what made the prepared part; None where nobody said.

    Example:
        >>> store = RepresentationStore.open("runs/store/query", encoder_fingerprint=mine)      # doctest: +SKIP
        >>> store.gather(store.find(["q5", "q2"])).vectors.shape                                 # doctest: +SKIP
        (2, 16, 384)
    """

    def __init__(self, folder: Path, manifest: StoreManifest, files: StoreFiles) -> None:
        self.folder, self.manifest, self._files = folder, manifest, files
        self.generation = manifest.generation
        self.encoder_fingerprint, self.field = manifest.encoder_fingerprint, manifest.field
        self.dtype, self.stride = manifest.dtype, manifest.stride
        self.provenance: Mapping[str, Any] = manifest.provenance
        self.prepared_fingerprint = manifest.prepared_fingerprint
        # Live row r is the row r + (deletions whose distance from their own number is at most r).
        self._shifted = files.deleted - np.arange(len(files.deleted))

    @classmethod
    def open(
        cls,
        folder: str | Path,
        encoder_fingerprint: str | None = None,
        *,
        prepared_fingerprint: str | None = None,
        checksums: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> RepresentationStore:
        """Open a store and check it.

        Args:
            folder: Written by `StoreWriter`.
            encoder_fingerprint: Of the encoder that is going to be used with it; None accepts any.
            prepared_fingerprint: Of what the prepared part must have been made by; None accepts any, or none.
            checksums: Whether to read every file once and compare its checksum. Without, sizes and headers are checked,
                and opening takes under a second for ten million items.
            progress: Called with (bytes compared, bytes in all) where checksums are compared.

        Raises:
            ArtefactError: It is no store, is unfinished, newer, damaged, or was made by another encoder.
        """
        folder = Path(folder)
        for attempt in range(ATTEMPTS):
            manifest = StoreManifest.load(folder)
            for what, found, wanted in (
                ("encoder", manifest.encoder_fingerprint, encoder_fingerprint),
                ("head's prepared part", manifest.prepared_fingerprint, prepared_fingerprint),
            ):
                if wanted is not None and found != wanted:
                    raise ArtefactError(
                        f"the store was made by another {what} ({str(found)[:12]})", file=folder,
                        expected=f"the {what} {wanted[:12]}", fix="Encode the items again into another folder",
                    )  # fmt: skip
            try:
                files = StoreFiles.open(folder, manifest, checksums=checksums, progress=progress)
                return cls(folder, manifest, files)
            except ArtefactError:
                # A writer may have replaced the state, and compacting removed its files, while they were being opened.
                if attempt + 1 == ATTEMPTS or StoreManifest.load(folder).generation == manifest.generation:
                    raise
        raise AssertionError("unreachable")

    def __len__(self) -> int:
        """Number of items, deleted ones left out."""
        return self.manifest.rows - len(self._files.deleted)

    @property
    def deleted(self) -> int:
        """Items that are deleted and still occupy space; `compact` frees it."""
        return len(self._files.deleted)

    @property
    def tokens(self) -> int:
        """Vectors, or token ids, kept per item; where the stride is ragged, of the longest item that was written."""
        return self.manifest.longest

    @property
    def dim(self) -> int | None:
        """Width of a vector; None where token ids are kept."""
        shape = self.manifest.arrays["vectors"][1]
        width = shape if self.stride == "ragged" else shape[1:]
        return width[0] if width else None

    @property
    def has_ids(self) -> bool:
        """Whether ids were stored."""
        return self.manifest.id_type is not None

    @property
    def has_content_hashes(self) -> bool:
        """Whether contents were hashed, for all items or for some."""
        return any(segment.content_hash is not None for segment in self._files.segments)

    @property
    def deleted_rows(self) -> np.ndarray:
        """Rows in the shards of deleted items, ascending."""
        return self._files.deleted

    @property
    def ids(self) -> pa.Array | None:
        """Ids of the items in row order (large_string or int64); None where none were stored.

        Mapped, not read, where the store was written at once and nothing was deleted; copied into memory otherwise.
        """
        if not self.has_ids:
            return None
        parts = [segment.array() for segment in self._files.segments]
        ids = parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
        return ids.take(pa.array(self._stored_rows(np.arange(len(self))))) if self.deleted else ids

    def ids_at(self, rows: np.ndarray | Sequence[int]) -> pa.Array:
        """Ids of the items at `rows`, in this order; only these are read.

        Raises:
            InputError: The store has no ids, or a row is out of range.
        """
        self._need_ids()
        wanted = self._stored_rows(rows)
        segments = self._files.segments
        numbers = np.searchsorted([segment.start for segment in segments], wanted, side="right") - 1
        if len(segments) == 1 or not len(wanted):
            return segments[0].take(wanted)
        order = np.argsort(numbers, kind="stable")
        parts = [
            segments[number].take(wanted[order[numbers[order] == number]] - segments[number].start)
            for number in np.unique(numbers)
        ]
        return pa.concat_arrays(parts).take(pa.array(np.argsort(order, kind="stable")))

    def content_hash_at(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """Content hashes of the items at `rows`: `(items, 16)` uint8, zeros where an item was written without.

        Raises:
            InputError: The store has no ids, or a row is out of range.
        """
        self._need_ids()
        wanted = self._stored_rows(rows)
        out = np.zeros((len(wanted), HASH_BYTES), np.uint8)
        for segment in self._files.segments:
            here = np.flatnonzero((wanted >= segment.start) & (wanted < segment.start + len(segment)))
            if segment.content_hash is not None and here.size:
                out[here] = segment.content_hash[wanted[here] - segment.start]
        return out

    def find(self, ids: Ids) -> np.ndarray:
        """Rows of the items with these ids, in this order: `(ids,)` int64.

        Args:
            ids: Strings or integers, as the store has; an id may occur several times.

        Raises:
            InputError: The store has no ids, ids of another type, or lacks one that is asked for.
        """
        rows = self.lookup(ids)
        unknown = np.flatnonzero(rows < 0)
        if unknown.size:
            place = int(unknown[0])
            one = as_ids(ids)[place].as_py()
            raise InputError(
                f"the store has no item {one!r} (position {place}; {unknown.size} of {len(rows)} ids are unknown)",
                file=self.folder, expected=f"ids of the field '{self.field}'",
            )  # fmt: skip
        return rows

    def lookup(self, ids: Ids) -> np.ndarray:
        """As `find`, with -1 for an id that the store lacks."""
        rows = self.lookup_stored(ids)
        known = rows >= 0
        rows[known] -= np.searchsorted(self._files.deleted, rows[known])
        return rows

    def lookup_stored(self, ids: Ids) -> np.ndarray:
        """As `lookup`, but rows in the shards, where deleted items still have theirs."""
        self._need_ids()
        return find_rows(self._files.segments, as_ids(ids, self.manifest.id_type), self._files.deleted)

    def changed(self, ids: Ids, content_hash: np.ndarray) -> np.ndarray:
        """Which items must be encoded again: `(ids,)` bool, true where the id is unknown or its content is another.

        Args:
            ids: Of the items as they are now.
            content_hash: `(ids, 16)` uint8 of their contents, from `content_hashes`.

        Raises:
            InputError: The store has no ids.
        """
        as_content_hash(content_hash, len(ids))
        rows = self.lookup_stored(ids)
        out = np.ones(len(rows), bool)
        for segment in self._files.segments:
            here = np.flatnonzero((rows >= segment.start) & (rows < segment.start + len(segment)))
            if segment.content_hash is not None and here.size:
                stored = segment.content_hash[rows[here] - segment.start]
                out[here] = (stored != content_hash[here]).any(axis=1)
        return out

    def _need_ids(self) -> None:
        if not self.has_ids:
            raise InputError("the store has no ids", file=self.folder, fix="Write it with ids")

    def lengths(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        """Valid entries of the items at `rows`: `(items,)` int64; nothing else is read."""
        return np.asarray(self.block(self._stored_rows(rows), ["lengths"]).arrays["lengths"][1])

    @property
    def position(self) -> int | None:
        """Which of its student's fields the items were encoded as, from 0; None where the writer did not note it."""
        noted = self.manifest.provenance.get("field")
        return noted if isinstance(noted, int) else None

    def bytes_per_item(self) -> float:
        """Bytes that an item occupies, its length and place not counted; the mean where the stride is ragged."""
        total = 0
        for name, (dtype, shape) in self.manifest.arrays.items():
            if name != "lengths":
                count = self._files.count(name)
                total += count * STORED[dtype].itemsize * int(np.prod(shape, dtype=np.int64))
        return total / max(1, self.manifest.rows)

    def gather(self, rows: np.ndarray | Sequence[int], *, widen: bool = False) -> Representation[np.ndarray]:
        """The items at `rows`, in this order; a row may occur several times.

        Where the stride is ragged, items are padded with zeros to the longest that is asked for.

        Args:
            rows: `(items,)` integers from 0 up to the number of items.
            widen: Whether float vectors of every precision come as float32 (8-bit ones with their scales applied).
                Otherwise they come as stored: bfloat16 as its bits in uint16, for NumPy has no such type, and 8-bit levels,
                those of int8 with `scales`; the similarity vector of an 8-bit store always comes as float32.

        Raises:
            InputError: A row is out of range.
        """
        arrays = self._gathered(rows)
        if widen:
            return Representation(**widened_arrays(arrays))
        taken = {name: array for name, (_, array) in arrays.items() if name != "similarity_scales"}
        if "similarity_scales" in arrays:
            taken["similarity"] = widened_arrays(arrays)["similarity"]
        return Representation(**taken)

    def gather_tensors(
        self, rows: np.ndarray | Sequence[int], dtype: torch.dtype | None = None
    ) -> Representation[torch.Tensor]:
        """The items at `rows` as PyTorch tensors.

        Args:
            rows: See `gather`.
            dtype: Of float vectors and similarity, scales applied; None keeps the stored precision (levels of int8 come
                with `scales`, those of uint8 as float32). Token ids, lengths and scalars keep their type.

        Raises:
            InputError: A row is out of range.
        """
        from pairstill.store.tensors import as_tensors

        return Representation(**as_tensors(self._gathered(rows), dtype))

    @property
    def prepared_names(self) -> list[str]:
        """Names of the arrays of the prepared part."""
        return [
            name.removeprefix(PREPARED)
            for name in sorted(self.manifest.arrays)
            if name.startswith(PREPARED) and not name.endswith("_scales")
        ]

    def gather_prepared(self, rows: np.ndarray | Sequence[int]) -> dict[str, np.ndarray]:
        """The prepared part of the items at `rows`, by name: `(items, ...)` float32.

        Raises:
            InputError: A row is out of range.
        """
        arrays = widened_arrays(self.block(self._stored_rows(rows), self._names(prepared=True)).arrays)
        return {name.removeprefix(PREPARED): array for name, array in arrays.items()}

    def gather_prepared_tensors(
        self, rows: np.ndarray | Sequence[int], dtype: torch.dtype | None = None
    ) -> dict[str, torch.Tensor]:
        """As `gather_prepared`, as PyTorch tensors; dtype None keeps the stored precision, float32 of an int8 store."""
        from pairstill.store.tensors import as_tensors

        tensors = as_tensors(self.block(self._stored_rows(rows), self._names(prepared=True)).arrays, dtype)
        return {name: tensors[PREPARED + name] for name in self.prepared_names}

    def export_parquet(self, path: str | Path, *, progress: Callable[[int, int], None] | None = None) -> None:
        """Write all items to one Parquet file: id, length and the arrays as lists, floats widened to float32.

        Args:
            path: The file, replaced if there.
            progress: Called with (items done, items in all).
        """
        from pairstill.store.export import export_parquet

        export_parquet(self, Path(path), progress)

    def export_numpy(self, folder: str | Path, *, progress: Callable[[int, int], None] | None = None) -> None:
        """Write all items to a new folder of `.npy` files, floats widened to float32.

        `vectors.npy` is `(items, tokens, dim)`; where the stride is ragged it is `(entries, dim)`, and item i has the entries
        from `offsets[i]` up to `offsets[i + 1]`.

        Args:
            folder: Must not exist.
            progress: Called with (items done, items in all).

        Raises:
            InputError: The folder exists, or an id ends with a NUL character, which NumPy drops.
        """
        from pairstill.store.export import export_numpy

        export_numpy(self, Path(folder), progress)

    @property
    def content_hash(self) -> np.ndarray | None:
        """`(items, 16)` uint8 in row order, zeros where a part was written without; None where no part has any."""
        segments = self._files.segments
        if not self.has_content_hashes:
            return None
        parts: list[np.ndarray] = [
            np.zeros((len(one), HASH_BYTES), np.uint8) if one.content_hash is None else one.content_hash
            for one in segments
        ]
        return np.concatenate(parts)[self.live_rows(0, len(self)), :]

    def block(self, stored_rows: np.ndarray, names: Sequence[str] | None = None) -> Block:
        """Items as shards hold them, for copying without rounding again.

        Args:
            stored_rows: Rows in the shards (`live_rows`), not checked.
            names: Of the arrays; None takes all.
        """
        chosen = list(self.manifest.arrays) if names is None else names
        return Block(self._files.take(chosen, stored_rows), self.stride)

    def _names(self, *, prepared: bool) -> list[str]:
        return [name for name in self.manifest.arrays if name.startswith(PREPARED) == prepared]

    def live_rows(self, start: int, stop: int) -> np.ndarray:
        """Rows in the shards of the items from `start` up to, not including, `stop`."""
        return self._stored_rows(np.arange(start, stop))

    def _stored_rows(self, rows: np.ndarray | Sequence[int]) -> np.ndarray:
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (int(wanted.min()) < 0 or int(wanted.max()) >= len(self)):
            bad = int(wanted.min()) if int(wanted.min()) < 0 else int(wanted.max())
            raise InputError(f"the row {bad} is asked for", file=self.folder, expected=f"0 to {len(self) - 1}")
        return wanted + np.searchsorted(self._shifted, wanted, side="right") if self.deleted else wanted

    def _gathered(self, rows: np.ndarray | Sequence[int]) -> dict[str, tuple[str, np.ndarray]]:
        block = self.block(self._stored_rows(rows), self._names(prepared=False))
        return block.arrays if self.stride == "fixed" else _padded(block)


def _padded(block: Block) -> dict[str, tuple[str, np.ndarray]]:
    lengths = block.arrays["lengths"][1]
    width = max(1, block.longest)
    places = spread(np.arange(len(lengths)) * width, lengths)
    arrays = dict(block.arrays)
    for name in ("vectors", "scales"):
        if name in arrays:
            dtype, entries = arrays[name]
            out = np.zeros((len(lengths) * width, *entries.shape[1:]), entries.dtype)
            out[places] = entries
            arrays[name] = (dtype, out.reshape(len(lengths), width, *entries.shape[1:]))
    return arrays
