"""The representation store: what an encoder keeps of every item of a field, on disk, read at memory speed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pairstill.errors import ArtefactError, InputError
from pairstill.files import read_manifest, read_parquet
from pairstill.jobs import check_output
from pairstill.representation import Representation
from pairstill.store.shard_file import STORED, from_bfloat16, open_shard

if TYPE_CHECKING:
    import torch

FORMAT = "representation-store"
FORMAT_VERSION = 1


class RepresentationStore:
    """Representations of all items of one field, in shards of a fixed stride that are mapped into memory.

    Open one with `RepresentationStore.open`, write one with `StoreWriter` or `write_store`. Rows are numbered from 0 in
    the order in which they were written.

    Attributes:
        folder: Where it lies.
        encoder_fingerprint: Of the encoder that made it.
        field: Name of the field.
        dtype: Precision of vectors: `float32`, `float16` or `bfloat16`; integer token ids keep their own type.
        provenance: What its writer noted.

    Example:
        >>> store = RepresentationStore.open("runs/store/query", encoder_fingerprint=mine)      # doctest: +SKIP
        >>> store.gather(np.array([5, 2, 5])).vectors.shape                                      # doctest: +SKIP
        (3, 16, 384)
    """

    def __init__(
        self, folder: Path, manifest: dict[str, Any], shards: Sequence[dict[str, tuple[str, np.ndarray]]]
    ) -> None:
        self.folder = folder
        self.encoder_fingerprint: str = manifest["encoder_fingerprint"]
        self.field: str = manifest["field"]
        self.dtype: str = manifest["dtype"]
        self.provenance: dict[str, Any] = manifest["provenance"]
        self._arrays: dict[str, tuple[str, tuple[int, ...]]] = {
            name: (entry["dtype"], tuple(entry["shape"])) for name, entry in manifest["arrays"].items()
        }
        self._shards = [{name: array for name, (_, array) in shard.items()} for shard in shards]
        self._starts = np.concatenate([[0], np.cumsum([entry["rows"] for entry in manifest["shards"]])]).astype(
            np.int64
        )
        self._ids_file: str | None = manifest["ids"]

    @classmethod
    def open(
        cls, folder: str | Path, encoder_fingerprint: str | None = None, *, checksums: bool = True
    ) -> RepresentationStore:
        """Open a store and check it.

        Args:
            folder: Written by `StoreWriter`.
            encoder_fingerprint: Of the encoder that is going to be used with it; None accepts any.
            checksums: Whether to read every shard once and compare its checksum. Without, sizes and headers are checked.

        Raises:
            ArtefactError: It is no store, is unfinished, newer, damaged, or was made by another encoder.
        """
        folder = Path(folder)
        manifest = read_manifest(folder, FORMAT, FORMAT_VERSION)
        if encoder_fingerprint is not None and manifest["encoder_fingerprint"] != encoder_fingerprint:
            raise ArtefactError(
                f"the store was made by another encoder ({manifest['encoder_fingerprint'][:12]})", file=folder,
                expected=f"the encoder {encoder_fingerprint[:12]}", fix="Encode the items again into another folder",
            )  # fmt: skip
        shards = []
        for entry in manifest["shards"]:
            path = folder / entry["file"]
            if checksums:
                check_output(path, entry["bytes"], entry["sha256"])
            shard = open_shard(path)
            found = {name: [dtype, list(array.shape)] for name, (dtype, array) in shard.items()}
            expected = {
                name: [spec["dtype"], [entry["rows"], *spec["shape"]]] for name, spec in manifest["arrays"].items()
            }
            if found != expected:
                raise ArtefactError(
                    f"the shard holds {found}", file=path, expected=f"{expected}", fix="Write the store again"
                )
            shards.append(shard)
        return cls(folder, manifest, shards)

    def __len__(self) -> int:
        """Number of items."""
        return int(self._starts[-1])

    @property
    def tokens(self) -> int:
        """Vectors, or token ids, kept per item (the stride)."""
        return self._arrays["vectors"][1][0]

    @property
    def dim(self) -> int | None:
        """Width of a vector; None where token ids are kept."""
        shape = self._arrays["vectors"][1]
        return shape[1] if len(shape) > 1 else None

    @property
    def ids(self) -> pa.Array | None:
        """Ids of the items in row order; None where none were stored."""
        if self._ids_file is None:
            return None
        column = read_parquet(self.folder / self._ids_file).column("id").combine_chunks()
        return column.chunk(0) if isinstance(column, pa.ChunkedArray) else column

    def bytes_per_item(self) -> int:
        """Bytes that one item occupies, its length not counted."""
        return sum(
            STORED[dtype].itemsize * int(np.prod(shape, dtype=np.int64))
            for name, (dtype, shape) in self._arrays.items()
            if name != "lengths"
        )

    def gather(self, rows: np.ndarray | Sequence[int], *, widen: bool = False) -> Representation[np.ndarray]:
        """The items at `rows`, in this order; a row may occur several times.

        Args:
            rows: `(items,)` integers from 0 up to the number of items.
            widen: Whether bfloat16 comes as float32. Otherwise it comes as its bits in uint16, for NumPy has no such type.

        Raises:
            InputError: A row is out of range.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (int(wanted.min()) < 0 or int(wanted.max()) >= len(self)):
            bad = int(wanted.min()) if int(wanted.min()) < 0 else int(wanted.max())
            raise InputError(f"the row {bad} is asked for", file=self.folder, expected=f"0 to {len(self) - 1}")
        taken = {name: self._take(name, wanted) for name in self._arrays}
        if widen:
            taken = {
                name: from_bfloat16(array) if self._arrays[name][0] == "BF16" else array
                for name, array in taken.items()
            }
        return Representation(**taken)

    def gather_tensors(self, rows: np.ndarray | Sequence[int]) -> Representation[torch.Tensor]:
        """The items at `rows` as PyTorch tensors in the stored precision; gathered once, not copied again.

        Raises:
            InputError: A row is out of range.
        """
        import torch

        gathered = self.gather(rows)
        return Representation(
            **{
                name: torch.from_numpy(array).view(torch.bfloat16)
                if self._arrays[name][0] == "BF16"
                else torch.from_numpy(array)
                for name, array in gathered.arrays().items()
            }
        )

    def _take(self, name: str, rows: np.ndarray) -> np.ndarray:
        dtype, shape = self._arrays[name]
        out = np.empty((len(rows), *shape), STORED[dtype])
        if len(self._shards) == 1:
            # "clip" writes straight into `out`; the rows were checked.
            return np.take(self._shards[0][name], rows, axis=0, out=out, mode="clip")
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers):
            positions = np.flatnonzero(numbers == number)
            out[positions] = self._shards[number][name][rows[positions] - self._starts[number]]
        return out
