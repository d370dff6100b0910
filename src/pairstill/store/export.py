"""A store as Parquet or NumPy files, for programs that know nothing of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import InputError
from pairstill.files import sync_folder, write_atomic
from pairstill.store.quantise import widened_arrays

if TYPE_CHECKING:
    from pairstill.store.store import RepresentationStore

BLOCK_ROWS = 4096
Progress = Callable[[int, int], None]


def export_parquet(store: RepresentationStore, path: Path, progress: Progress | None = None) -> None:
    """See `RepresentationStore.export_parquet`."""
    import pyarrow.parquet as pq

    with write_atomic(path) as file:
        writer = None
        for rows, arrays in _blocks(store, progress):
            columns = {} if not store.has_ids else {"id": store.ids_at(rows)}
            columns["length"] = pa.array(arrays.pop("lengths"))
            if store.stride == "ragged":
                ends = np.concatenate([[0], np.cumsum(columns["length"].to_numpy())])
                columns["vectors"] = pa.LargeListArray.from_arrays(pa.array(ends), _nested(arrays.pop("vectors")))
            columns |= {name: _nested(array) for name, array in arrays.items()}
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
        if writer is not None:
            writer.close()


def export_numpy(store: RepresentationStore, folder: Path, progress: Progress | None = None) -> None:
    """See `RepresentationStore.export_numpy`."""
    if folder.exists():
        raise InputError("the folder exists", file=folder, expected="a new folder")
    ids = store.ids
    if ids is not None and pa.types.is_large_string(ids.type) and pc.any(pc.ends_with(ids, "\0")).as_py():
        raise InputError("an id ends with a NUL character, which NumPy drops", fix="Export to Parquet")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp") as name:
        temporary = Path(name) / "export"
        temporary.mkdir()
        if ids is not None:
            found = ids.to_numpy(zero_copy_only=False)
            np.save(temporary / "ids.npy", found.astype(np.str_) if found.dtype == object else found)
        counts = {}
        if store.stride == "ragged":
            parts = [store.block(store.live_rows(*edges), ("lengths",)).arrays["lengths"][1] for edges in _edges(store)]
            offsets = np.concatenate([[0], np.cumsum(np.concatenate(parts))])
            np.save(temporary / "offsets.npy", offsets)
            counts["vectors"] = int(offsets[-1])
        files: dict[str, np.ndarray] = {}
        written: dict[str, int] = {}
        for _, arrays in _blocks(store, progress):
            for key, array in arrays.items():
                if key not in files:
                    shape = (counts.get(key, len(store)), *array.shape[1:])
                    files[key] = np.lib.format.open_memmap(temporary / f"{key}.npy", "w+", array.dtype, shape)
                start = written.get(key, 0)
                files[key][start : start + len(array)] = array
                written[key] = start + len(array)
        for file in files.values():
            if isinstance(file, np.memmap):
                file.flush()
        sync_folder(temporary)
        temporary.rename(folder)
    sync_folder(folder.parent)


def _edges(store: RepresentationStore) -> list[tuple[int, int]]:
    """Where blocks begin and end; an empty store has one empty block."""
    return [(start, min(start + BLOCK_ROWS, len(store))) for start in range(0, max(1, len(store)), BLOCK_ROWS)]


def _blocks(
    store: RepresentationStore, progress: Progress | None
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Rows and arrays of all items, widened; ragged vectors one item behind the other."""
    for start, stop in _edges(store):
        if progress:
            progress(start, len(store))
        yield np.arange(start, stop), widened_arrays(store.block(store.live_rows(start, stop)).arrays)
    if progress:
        progress(len(store), len(store))


def _nested(array: np.ndarray) -> pa.Array:
    """`(rows, a, b)` as lists of a lists of b numbers."""
    nested = pa.array(array.reshape(-1))
    for size in reversed(array.shape[1:]):
        nested = pa.FixedSizeListArray.from_arrays(nested, size)
    return nested
