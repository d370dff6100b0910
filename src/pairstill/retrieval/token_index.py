"""Approximate late interaction: every stored token is stood for by a centroid, and what ranks first by centroids is scored exactly."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from pairstill.errors import ArtefactError, InputError
from pairstill.files import (
    MANIFEST,
    fingerprint_file,
    locked_folder,
    refuse_other_artefact,
    write_manifest,
)
from pairstill.representation import Representation
from pairstill.retrieval.approximate import import_faiss
from pairstill.retrieval.best import Found
from pairstill.retrieval.index_state import check_settings, checked_manifest, staleness, state_of
from pairstill.retrieval.pairs import PairScorer, score_candidates, search_all
from pairstill.retrieval.recall import Recall, share_found
from pairstill.retrieval.token_kernels import centroid_maxima
from pairstill.store import RepresentationStore
from pairstill.store.shard_file import read_header, write_arrays
from pairstill.students import Student
from pairstill.students.heads.max_sim import MaxSimHead

KIND, VERSION, FILE = "token-index", 1, "tokens.safetensors"
SCORED = 128
"""Items that are scored exactly for a query and each centroid that is read for one of its tokens."""
TRAINED_ON = 16
"""Tokens a centroid is trained on."""
ROUNDS = 4
BLOCK_ITEMS = 2048
BLOCK_QUERIES = 64

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TokenIndexSettings:
    """How an index of tokens is built.

    Attributes:
        centroids: None takes eight times the square root of the number of tokens.
        recall: Least recall against exact search; the search's effort is doubled until it is reached.
        depth: Of that recall: the share of the best so many that are found.
        seed: Of the tokens that centroids are trained on.
    """

    centroids: int | None = None
    recall: float = 0.95
    depth: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Check ranges."""
        check_settings(self, ("centroids", "depth"))


@dataclass(frozen=True)
class TokenIndexManifest:
    """What stands in the `manifest.json` of an index of tokens; see docs/formats.md. The last ones are known when it is saved."""

    encoder_fingerprint: str
    store_state: str
    generation: int
    field: str
    items: int
    tokens: int
    dim: int
    normalised: bool
    settings: TokenIndexSettings
    centroids: int
    effort: int
    recall: Recall | None
    seconds: float
    library: str
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class _Arrays:
    """What the file of an index holds.

    Attributes:
        centroids: `(centroids, dim)` float32.
        codes: `(tokens,)` int32, the centroid of each token, item after item.
        offsets: `(items + 1,)` int64, first token of each item.
        listed: int32 items, centroid after centroid.
        lists: `(centroids + 1,)` int64, first of `listed` of each centroid.
    """

    centroids: np.ndarray
    codes: np.ndarray
    offsets: np.ndarray
    listed: np.ndarray
    lists: np.ndarray


ARRAY_TYPES = {"centroids": "F32", "codes": "I32", "offsets": "I64", "listed": "I32", "lists": "I64"}


class TokenIndex:
    """Which items of a store late interaction should look at, for one state of it.

    For every token of a query the centroids nearest to it are read; the items that have a token there are ranked by MaxSim
    over centroids instead of tokens, and the first of them by MaxSim itself. The first two steps are those of PLAID
    (Santhanam et al., arXiv 2205.09707, sections 4.1 to 4.3); scores are the student's own, from the store.

    Attributes:
        manifest: What it was built from, how, and its measured recall.
        effort: Centroids read for each token of a query; at first what building chose.
    """

    def __init__(self, manifest: TokenIndexManifest, arrays: _Arrays) -> None:
        self.manifest, self.effort, self._arrays = manifest, manifest.effort, arrays

    @classmethod
    def build(
        cls, student: Student, store: RepresentationStore, settings: TokenIndexSettings | None = None,
        progress: Progress | None = None,
    ) -> TokenIndex:  # fmt: skip
        """Find centroids and give every token its own; the effort is 1 until `tune` raises it.

        Args:
            student: Of late interaction, such as ColBERT, whose first field asks.
            store: Of its second field.
            settings: None means the defaults.
            progress: Called with (items whose tokens have their centroids, in all).

        Raises:
            InputError: The student is no such one.
            MissingExtraError: faiss is not installed.
        """
        settings, head = settings or TokenIndexSettings(), max_sim_of(student)
        state, began = state_of(store), time.perf_counter()
        arrays = _built(head, store, settings, progress)
        manifest = TokenIndexManifest(
            store.encoder_fingerprint, state, store.generation, store.field, len(store), len(arrays.codes),
            arrays.centroids.shape[1], head.normalise, settings, len(arrays.centroids), 1, None,
            round(time.perf_counter() - began, 3), f"faiss {version('faiss-cpu')}",
        )  # fmt: skip
        return cls(manifest, arrays)

    def save(self, folder: str | Path, recall: Recall) -> None:
        """Write the index, its effort and what `tune` measured; an older one in the folder is replaced.

        Raises:
            InputError: The folder holds something else.
            ArtefactError: Another process writes to it.
        """
        folder = Path(folder)
        refuse_other_artefact(folder, KIND)
        folder.mkdir(parents=True, exist_ok=True)
        with locked_folder(folder):
            (folder / MANIFEST).unlink(missing_ok=True)
            path = folder / FILE
            write_arrays(path, {name: (dtype, [getattr(self._arrays, name)]) for name, dtype in ARRAY_TYPES.items()})
            self.manifest = replace(
                self.manifest,
                effort=self.effort,
                recall=recall,
                bytes=path.stat().st_size,
                sha256=fingerprint_file(path),
            )
            write_manifest(folder, KIND, VERSION, asdict(self.manifest))

    @classmethod
    def open(cls, folder: str | Path, student: Student, store: RepresentationStore) -> TokenIndex:
        """Open an index of this very state of a store.

        Raises:
            ArtefactError: It is no index of tokens, damaged, newer, of another store or state of it, or the student makes
                lengths of vectors equal and the index does not, or the other way round.
        """
        folder = Path(folder)
        manifest = read_token_index_manifest(folder)
        stale = staleness(manifest, store)
        if stale is None and manifest.normalised != max_sim_of(student).normalise:
            stale = "the student normalises token vectors and those of the index are not, or the other way round"
        if stale is not None:
            raise ArtefactError(
                stale, file=folder, fix="Build it again: `pairstill index` with the same --out replaces a stale index"
            )
        path = folder / FILE
        if not path.exists() or fingerprint_file(path) != manifest.sha256:
            raise ArtefactError("the file is missing or does not have the checksum of manifest.json", file=path)
        header = read_header(path)
        return cls(manifest, _Arrays(**{name: header[name].map() for name in ARRAY_TYPES}))

    def candidates(self, tokens: np.ndarray, depth: int) -> np.ndarray:
        """Rows of the store that may be among the best `depth` for a query, ascending.

        Args:
            tokens: `(tokens, dim)` float32 of the query.
            depth: At least 1.
        """
        arrays, effort = self._arrays, self.effort
        products = arrays.centroids @ tokens.T
        while True:
            if effort >= len(arrays.centroids):
                return np.arange(self.manifest.items)
            near = np.unique(np.argpartition(-products, effort - 1, axis=0)[:effort])
            lists = [arrays.listed[arrays.lists[one] : arrays.lists[one + 1]] for one in near]
            items = np.unique(np.concatenate(lists)).astype(np.int64)
            if len(items) >= min(depth, self.manifest.items):
                break
            effort *= 2
        wanted = max(depth, SCORED * self.effort)
        if len(items) <= wanted:
            return items
        scores = np.empty(len(items), np.float32)
        centroid_maxima(np.ascontiguousarray(products), arrays.codes, arrays.offsets, items, scores)
        return np.sort(items[np.argpartition(-scores, wanted - 1)[:wanted]])

    def search(
        self, scorer: PairScorer, queries: Representation[np.ndarray], store: RepresentationStore, by_id: np.ndarray,
        depth: int, progress: Progress | None = None,
    ) -> Found:  # fmt: skip
        """The best items of every query as far as the index finds them, with the student's logits.

        Args:
            scorer: Of the student.
            queries: Encoded, of its first field.
            store: That the index was built from.
            by_id: Rows in the order of their ids.
            depth: Items wanted of a query.
            progress: Called with (queries done, in all).
        """
        if self.effort >= self.manifest.centroids:
            return search_all(scorer, queries, store, by_id, depth, progress)
        head, depth, parts = max_sim_of(scorer.student), min(depth, self.manifest.items), []
        for start in range(0, len(queries), BLOCK_QUERIES):
            block = queries.take(slice(start, start + BLOCK_QUERIES))
            vectors, lengths = _tokens_of(head, 0, block)
            proposed = [
                self.candidates(one[:length], depth)
                for one, length in zip(vectors.numpy(), lengths.tolist(), strict=True)
            ]
            parts.append(score_candidates(scorer, block, store, by_id, proposed, depth))
            if progress is not None:
                progress(start + len(block), len(queries))
        return Found(np.concatenate([one.rows for one in parts]), np.concatenate([one.scores for one in parts]))

    def tune(
        self, scorer: PairScorer, queries: Representation[np.ndarray], store: RepresentationStore, by_id: np.ndarray,
        progress: Progress | None = None,
    ) -> Recall:  # fmt: skip
        """Raise the effort until these queries reach the recall that the index was built for.

        Args:
            scorer: Of the student.
            queries: Encoded, of its first field; every item is scored for each of them, too.
            store: That the index was built from.
            by_id: Rows in the order of their ids.
            progress: Called with (queries done, in all) of that exact search.
        """
        depth, settings = min(self.manifest.settings.depth, len(store)), self.manifest.settings
        began = time.perf_counter()
        truth = search_all(scorer, queries, store, by_id, depth, progress)
        exact_s = time.perf_counter() - began
        self.search(scorer, queries.take(slice(0, 1)), store, by_id, depth)  # compiles what is not yet
        while True:
            began = time.perf_counter()
            share = share_found(self.search(scorer, queries, store, by_id, depth), truth)
            seconds = time.perf_counter() - began
            if share >= settings.recall or self.effort >= self.manifest.centroids:
                break
            self.effort = min(2 * self.effort, self.manifest.centroids)
        return Recall(depth, share, len(queries), "queries", len(queries) / seconds, len(queries) / exact_s)


def max_sim_of(student: Student) -> MaxSimHead:
    """The head of a student of late interaction.

    Raises:
        InputError: It is another student.
    """
    found = student.scoring_head()
    head = None if found is None else found[0]
    if not isinstance(head, MaxSimHead):
        raise InputError(
            f"the score of a {student.name} is neither a similarity of two vectors nor a MaxSim, so no index finds its best items",
            expected="a student such as de-cos or colbert",
            fix="Search with such a student, then let this one score what it found: `pairstill search --candidates RUN`",
        )
    if head.calibration is not None and head.calibration.numbers()[0] <= 0:
        raise InputError(
            "the student's learned scale is not above 0, so its best items are those of the smallest MaxSim",
            fix="Leave out --index, and every item is scored",
        )
    return head


def read_token_index_manifest(folder: Path) -> TokenIndexManifest:
    """What an index says of itself, without opening it.

    Raises:
        ArtefactError: It is no index of tokens, unfinished, newer or damaged.
    """
    return checked_manifest(folder, KIND, VERSION, TokenIndexManifest)


def _tokens_of(head: MaxSimHead, field: int, kept: Representation[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors `(items, tokens, dim)` as the head compares them, and `(items,)` how many count."""
    with torch.inference_mode():
        found = head.prepare(field, torch.from_numpy(kept.vectors), torch.from_numpy(kept.lengths))
    return found["vectors"], found["lengths"]


def _built(
    head: MaxSimHead, store: RepresentationStore, settings: TokenIndexSettings, progress: Progress | None
) -> _Arrays:
    faiss = import_faiss()
    lengths = np.asarray(store.lengths(np.arange(len(store))), np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = int(offsets[-1])
    count = min(settings.centroids or 8 * int(np.sqrt(tokens)), tokens)
    order = np.random.default_rng(settings.seed).permutation(len(store))
    some = np.sort(order[: int(np.searchsorted(np.cumsum(lengths[order]), TRAINED_ON * count)) + 1])
    training = _flat(head, store, some)
    grouped = faiss.Kmeans(
        training.shape[1], count, niter=ROUNDS, seed=settings.seed, min_points_per_centroid=1,
        max_points_per_centroid=TRAINED_ON,
    )  # fmt: skip
    grouped.train(training)
    del training
    codes = np.empty(tokens, np.int32)
    for start in range(0, len(store), BLOCK_ITEMS):
        stop = min(start + BLOCK_ITEMS, len(store))
        _, nearest = grouped.index.search(_flat(head, store, np.arange(start, stop)), 1)
        codes[offsets[start] : offsets[stop]] = nearest[:, 0]
        if progress is not None:
            progress(stop, len(store))
    pairs = np.unique(codes.astype(np.int64) * len(store) + np.repeat(np.arange(len(store)), lengths))
    lists = np.searchsorted(pairs, np.arange(count + 1) * len(store))
    return _Arrays(np.asarray(grouped.centroids), codes, offsets, (pairs % len(store)).astype(np.int32), lists)


def _flat(head: MaxSimHead, store: RepresentationStore, rows: np.ndarray) -> np.ndarray:
    """`(tokens, dim)` float32 of all tokens of the items at these rows, one behind the other."""
    vectors, lengths = _tokens_of(head, 1, store.gather(rows, widen=True))
    valid = torch.arange(vectors.shape[1]) < lengths[:, None]
    flat: np.ndarray = vectors[valid].numpy()
    if not np.isfinite(flat).all():
        item = int(rows[int(torch.where(valid)[0][int(np.flatnonzero(~np.isfinite(flat).all(axis=1))[0])])])
        raise ArtefactError(
            f"the item in row {item} has a token vector that is not finite",
            file=store.folder,
            fix="Look at the student",
        )
    return flat
