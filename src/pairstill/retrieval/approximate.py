"""Approximate nearest neighbours: a faiss index beside a store, its effort chosen by recall against exact search."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pairstill.errors import ArtefactError, InputError, MissingExtraError
from pairstill.files import (
    MANIFEST,
    fingerprint_file,
    locked_folder,
    refuse_other_artefact,
    write_atomic,
    write_manifest,
)
from pairstill.retrieval.best import Found
from pairstill.retrieval.exact import exact_search
from pairstill.retrieval.index_state import check_settings, checked_manifest, staleness, state_of
from pairstill.retrieval.item_keys import item_keys, kept_rows
from pairstill.retrieval.recall import Recall, share_found
from pairstill.retrieval.vectors import Metric, StoredVectors
from pairstill.store import RepresentationStore
from pairstill.store.shard_file import read_header, write_arrays

KIND, VERSION, FILE, KEYS_FILE = "index", 1, "index.faiss", "items.safetensors"
Structure = Literal["hnsw", "ivf"]
LEAST_EFFORT = {"hnsw": 16, "ivf": 1}
BLOCK_ROWS = 65_536
TRAINED_ON = 64
"""Items a list of an inverted file is trained on."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class IndexSettings:
    """How an index is built.

    Attributes:
        structure: `hnsw`, a graph: the faster search, the slower build. `ivf`, lists around centroids: built in a fraction of
            that time, which counts from about a million items on.
        neighbours: Of hnsw: links of an item and level, half of those on the lowest.
        build_effort: Of hnsw: candidates held while an item is added.
        lists: Of ivf; None takes four times the square root of the number of items.
        recall: Least recall against exact search; the search's effort is doubled until it is reached.
        depth: Of that recall: the share of the best so many that are found.
        sample: Items that recall is measured with, where no queries are given.
        seed: Of the sample and the centroids.
    """

    structure: Structure = "hnsw"
    neighbours: int = 32
    build_effort: int = 200
    lists: int | None = None
    recall: float = 0.95
    depth: int = 10
    sample: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.structure not in get_args(Structure):
            raise InputError(
                f"the index structure '{self.structure}' is unknown", expected=" or ".join(get_args(Structure))
            )
        check_settings(self, ("neighbours", "build_effort", "lists", "depth", "sample"))


@dataclass(frozen=True)
class IndexManifest:
    """What stands in an index's `manifest.json`; see docs/formats.md."""

    encoder_fingerprint: str
    store_state: str
    generation: int
    field: str
    items: int
    dim: int
    metric: Metric
    settings: IndexSettings
    effort: int
    recall: Recall
    seconds: float
    library: str
    bytes: int
    sha256: str
    keys_sha256: str | None = None


class ApproximateIndex:
    """An index that was built from one state of one store.

    Attributes:
        manifest: What it was built from, how, and its measured recall.
        effort: Of a search: candidates held (hnsw) or lists read (ivf); at first what building chose.
    """

    def __init__(self, manifest: IndexManifest, faiss_index: Any) -> None:
        self.manifest, self.effort, self._faiss = manifest, manifest.effort, faiss_index

    @classmethod
    def open(cls, folder: str | Path, store: RepresentationStore) -> ApproximateIndex:
        """Open an index of this very state of a store.

        Raises:
            ArtefactError: It is no index, damaged, newer, or of another store or state of it.
            MissingExtraError: faiss is not installed.
        """
        folder = Path(folder)
        manifest = read_index_manifest(folder)
        stale = staleness(manifest, store)
        if stale is not None:
            raise ArtefactError(
                stale, file=folder, fix="Build it again: `pairstill index` with the same --out replaces a stale index"
            )
        return cls.read(folder, manifest)

    @classmethod
    def open_behind(cls, folder: str | Path, store: RepresentationStore) -> tuple[ApproximateIndex, np.ndarray] | None:
        """Open an index though its store was edited since it was built, where it can be told how; only its size is checked.

        Args:
            folder: Of the index.
            store: As it is now.

        Returns:
            The index and those of its rows whose items are deleted or replaced, ascending: its other rows are the first items
            of the store, in order. None where the index is of other items, or nothing tells that it is not: an item without
            a content hash may have been replaced.

        Raises:
            ArtefactError: It is no index, damaged, newer, or of another encoder.
            MissingExtraError: faiss is not installed.
        """
        folder = Path(folder)
        manifest = read_index_manifest(folder)
        if manifest.encoder_fingerprint != store.encoder_fingerprint:
            raise ArtefactError(
                str(staleness(manifest, store)), file=folder, fix="Build it of this store: `pairstill index`"
            )
        if manifest.store_state == state_of(store):
            return cls.read(folder, manifest, checksum=False), np.empty(0, np.int64)
        if manifest.keys_sha256 is None:
            return None
        keys = folder / KEYS_FILE
        if not keys.exists() or fingerprint_file(keys) != manifest.keys_sha256:
            raise ArtefactError("the file is missing or does not have the checksum of manifest.json", file=keys)
        kept = kept_rows(read_header(keys)["keys"].map(), item_keys(store))
        if not len(kept):
            return None
        return cls.read(folder, manifest, checksum=False), np.setdiff1d(np.arange(manifest.items), kept)

    @classmethod
    def read(cls, folder: Path, manifest: IndexManifest, *, checksum: bool = True) -> ApproximateIndex:
        """Map the file of an index into memory, whatever has become of its store.

        Args:
            folder: Of the index.
            manifest: Its own.
            checksum: Whether to read all of the file and compare its checksum; otherwise its size alone.

        Raises:
            ArtefactError: The file is missing or damaged.
            MissingExtraError: faiss is not installed.
        """
        faiss = import_faiss()
        path = folder / FILE
        whole = path.exists() and path.stat().st_size == manifest.bytes
        if not whole or (checksum and fingerprint_file(path) != manifest.sha256):
            raise ArtefactError("the file is missing or does not have the checksum of manifest.json", file=path)
        try:
            return cls(manifest, faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))
        except RuntimeError as error:
            raise ArtefactError(f"faiss {faiss.__version__} cannot read the file: {error}", file=path) from None

    def search(self, queries: np.ndarray, depth: int) -> Found:
        """Nearest items as far as the index finds them; equal similarities by row.

        Args:
            queries: `(queries, dim)` float32, as for exact search.
            depth: At least 1.
        """
        depth = min(depth, self.manifest.items)
        similarities, rows = _searched(self._faiss, self.manifest.settings.structure, queries, depth, self.effort)
        order = np.lexsort((rows, -similarities), axis=1)
        rows, similarities = np.take_along_axis(rows, order, 1), np.take_along_axis(similarities, order, 1)
        return Found(rows, np.where(rows < 0, -np.inf, similarities).astype(np.float32))

    def tune(self, items: StoredVectors, queries: np.ndarray) -> Recall:
        """Raise the effort until these queries reach the recall that the index was built for.

        Items of the store, with which an index is built where no queries are at hand, are easier than real queries.

        Args:
            items: Of the store.
            queries: `(queries, dim)` float32, searched exactly, too.
        """
        self.effort, recall = _tuned(self._faiss, items, self.manifest.settings, queries, None, self.effort)
        return recall


def build_index(
    items: StoredVectors,
    folder: str | Path,
    settings: IndexSettings | None = None,
    queries: np.ndarray | None = None,
    progress: Progress | None = None,
    state: str | None = None,
) -> ApproximateIndex:
    """Build an index of a store and save it; an older one in the folder is replaced when the new one is whole.

    Args:
        items: Of the store.
        folder: Of the index.
        settings: None means the defaults.
        queries: `(queries, dim)` to measure recall with; None asks with items of the store.
        progress: Called with (items added, in all).
        state: Of the store, from `state_of` when it was opened; None where nobody edits it meanwhile.

    Raises:
        InputError: The store is empty, or the folder holds something else.
        ArtefactError: Another process writes to the folder.
        MissingExtraError: faiss is not installed.
    """
    settings, folder = settings or IndexSettings(), Path(folder)
    refuse_other_artefact(folder, KIND)
    if len(items) < 2:
        raise InputError(
            f"the store holds {len(items)} items", file=items.store.folder, expected="at least 2 to search in"
        )
    faiss = import_faiss()
    folder.mkdir(parents=True, exist_ok=True)
    with locked_folder(folder):
        state = state or state_of(items.store)
        began = time.perf_counter()
        index = _built(faiss, items, settings, progress)
        seconds = time.perf_counter() - began
        own = _sample(len(items), settings.sample, settings.seed) if queries is None else None
        asked = items.take(own) if own is not None else np.asarray(queries)
        effort, recall = _tuned(index, items, settings, asked, own, LEAST_EFFORT[settings.structure])
        with write_atomic(folder / FILE) as file:
            faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
            (folder / MANIFEST).unlink(missing_ok=True)
        write_arrays(folder / KEYS_FILE, {"keys": ("U64", [item_keys(items.store)])})
        manifest = IndexManifest(
            items.store.encoder_fingerprint, state, items.store.generation, items.store.field, len(items), items.dim,
            items.metric, settings, effort, recall, round(seconds, 3), f"faiss {version('faiss-cpu')}",
            (folder / FILE).stat().st_size, fingerprint_file(folder / FILE), fingerprint_file(folder / KEYS_FILE),
        )  # fmt: skip
        write_manifest(folder, KIND, VERSION, asdict(manifest))
    return ApproximateIndex(manifest, index)


def read_index_manifest(folder: Path) -> IndexManifest:
    """What an index says of itself, without opening it.

    Raises:
        ArtefactError: It is no index, unfinished, newer or damaged.
    """
    return checked_manifest(folder, KIND, VERSION, IndexManifest)


def import_faiss() -> Any:
    """The library.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("faiss-cpu", "retrieval") from None
    return faiss


def _built(faiss: Any, items: StoredVectors, settings: IndexSettings, progress: Progress | None) -> Any:
    if settings.structure == "hnsw":
        index = faiss.IndexHNSWFlat(items.dim, settings.neighbours, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = settings.build_effort
        step = 1024
    else:
        lists = min(settings.lists or 4 * int(np.sqrt(len(items))), len(items))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(items.dim), items.dim, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.min_points_per_centroid = settings.seed, 1
        index.cp.max_points_per_centroid = TRAINED_ON
        index.train(items.take(_sample(len(items), lists * TRAINED_ON, settings.seed)))
        step = BLOCK_ROWS
    for start in range(0, len(items), step):
        stop = min(start + step, len(items))
        index.add(items.block(start, stop))
        if progress is not None:
            progress(stop, len(items))
    return index


def _searched(
    index: Any, structure: str, queries: np.ndarray, depth: int, effort: int
) -> tuple[np.ndarray, np.ndarray]:
    faiss = import_faiss()
    if structure == "hnsw":
        parameters = faiss.SearchParametersHNSW(efSearch=max(effort, depth))
    else:
        parameters = faiss.SearchParametersIVF(nprobe=min(effort, index.nlist))
    similarities, rows = index.search(np.ascontiguousarray(queries, dtype=np.float32), depth, params=parameters)
    return similarities, rows


def _tuned(
    index: Any, items: StoredVectors, settings: IndexSettings, asked: np.ndarray, own: np.ndarray | None, effort: int
) -> tuple[int, Recall]:
    """The effort, doubled until it reaches the recall; the greatest where none does. `own`: rows of the items that ask."""
    more = 0 if own is None else 1
    depth = min(settings.depth, len(items) - more)
    began = time.perf_counter()
    truth = _without(exact_search(asked, items, depth + more), own)
    exact_s = time.perf_counter() - began
    most = index.nlist if settings.structure == "ivf" else len(items)
    while True:
        began = time.perf_counter()
        similarities, rows = _searched(index, settings.structure, asked, depth + more, effort)
        seconds = time.perf_counter() - began
        share = share_found(_without(Found(rows, similarities), own), truth)
        if share >= settings.recall or effort >= most:
            break
        effort = min(2 * effort, most)
    kind: Literal["queries", "items"] = "queries" if own is None else "items"
    return effort, Recall(depth, share, len(asked), kind, len(asked) / seconds, len(asked) / exact_s)


def _without(found: Found, own: np.ndarray | None) -> Found:
    """What was found without the item that asked; where it was not found, without the last."""
    if own is None:
        return found
    same = found.rows == own[:, None]
    same[~same.any(axis=1), -1] = True
    shape = (len(own), found.rows.shape[1] - 1)
    return Found(found.rows[~same].reshape(shape), found.scores[~same].reshape(shape))


def _sample(count: int, wanted: int, seed: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).permutation(count)[:wanted]).astype(np.int64)
