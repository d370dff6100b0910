"""From queries to a run: encode, search, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import ArtefactError, InputError
from pairstill.machine import describe
from pairstill.representation import Representation
from pairstill.retrieval.approximate import ApproximateIndex
from pairstill.retrieval.best import Found
from pairstill.retrieval.exact import exact_search
from pairstill.retrieval.pairs import PairScorer, check_two_fields, rows_by_id, score_candidates, search_all
from pairstill.retrieval.recall import Recall
from pairstill.retrieval.run import read_run_table, write_run
from pairstill.retrieval.similarity import similarity_of
from pairstill.retrieval.token_index import TokenIndex, max_sim_of
from pairstill.retrieval.vectors import StoredVectors, logits_of, query_vectors
from pairstill.store import RepresentationStore
from pairstill.store.ids import as_ids
from pairstill.students import Student
from pairstill.students.fingerprints import representation_fingerprint, student_fingerprint

BLOCK_QUERIES = 2048
Way = Literal["exact", "approximate", "every pair", "candidates"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Queries:
    """What is asked.

    Attributes:
        ids: Distinct strings or integers.
        texts: As many texts (or numbers, or images).
        field: Position of their field in the student.
        name: Of that field.
        kind: Of each of `texts`.
    """

    ids: pa.Array
    texts: Sequence[Any]
    field: int
    name: str
    kind: str = "text"


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    Attributes:
        depth: Items returned for a query.
        precision: Of the encoder, float32 or bfloat16.
        check: The first so many queries (of 2,048) are searched exactly, too, where an index is used, and its effort is raised
            until they reach the recall that it was built for; 0 means none, None 100, or 20 where that scores every pair.
    """

    depth: int = 1000
    precision: str = "float32"
    check: int | None = None


@dataclass(frozen=True)
class Searched:
    """What a search did.

    Attributes:
        way: `exact` and `approximate` compare single vectors, `every pair` scores all items, `candidates` those of a run.
        queries: How many.
        items: In the store.
        rows: Of the run.
        encoded_per_s: Queries encoded a second.
        searched_per_s: Queries searched a second, after encoding, many at a time.
        recall: Of the index on these queries; None without an index or a check.
        effort: Of the index; None without one.
        without_candidates: Queries of which the run names no candidate.
    """

    way: Way
    queries: int
    items: int
    rows: int
    encoded_per_s: float
    searched_per_s: float
    recall: Recall | None
    effort: int | None
    without_candidates: int


def open_store(student: Student, field: int, folder: str | Path) -> RepresentationStore:
    """Open the store that queries of a field search: of the student's other field, made by its encoder.

    Raises:
        InputError: The student does not take two fields and give one output, or the store is empty or without ids.
        ArtefactError: The store is of another encoder, or damaged.
    """
    check_two_fields(student)
    if not 0 <= field < 2:
        raise InputError(f"the field {field + 1} asks", expected="1 or 2")
    fingerprint = representation_fingerprint(student, 1 - field)
    store = RepresentationStore.open(folder, checksums=False)
    if store.encoder_fingerprint != fingerprint:
        other = student.field_count == 2 and store.encoder_fingerprint == representation_fingerprint(student, field)
        raise ArtefactError(
            f"the store was made for this student's field {field + 1}, which asks" if other
            else f"the store was made by another encoder ({store.encoder_fingerprint[:12]})",
            file=store.folder, expected=f"representations of this student's field {2 - field} ({fingerprint[:12]})",
            fix="Encode the items with `pairstill encode` and this student, into another folder",
        )  # fmt: skip
    if not store.has_ids:
        raise InputError("the store has no ids, so a result could not be named", file=store.folder)
    if not len(store):
        raise InputError("the store has no items", file=store.folder)
    return store


def search(
    student: Student,
    store: RepresentationStore,
    queries: Queries,
    out: str | Path,
    *,
    index: str | Path | None = None,
    candidates: str | Path | None = None,
    settings: SearchSettings | None = None,
    progress: Progress | None = None,
) -> Searched:
    """Find the best items of a store for every query and write the run.

    A student that compares single vectors is searched exactly, or by an index. Any other student scores every item, or
    the candidates of a run.

    Args:
        student: Of two fields and one output.
        store: From `open_store`.
        queries: What is asked.
        out: Folder of the run.
        index: Of the store; None searches exactly.
        candidates: A run whose items alone are scored, query by query; None searches the whole store.
        settings: None means the defaults.
        progress: Called with (queries done, in all).

    Raises:
        InputError: The student's vectors cannot be searched by an index, or candidates do not fit the store or queries.
        ArtefactError: The index is of another store or state of it, or something is damaged.
        MissingExtraError: An index is given and faiss is not installed.
    """
    settings, out = settings or SearchSettings(), Path(out)
    if settings.depth < 1:
        raise InputError(f"the best {settings.depth} are asked for", expected="at least 1")
    if not len(queries.texts):
        raise InputError("there are no queries", expected="at least one")
    student.check_kind(queries.field, queries.kind, queries.name)
    way = _way(student, store, queries, index, candidates)
    body: dict[str, Any] = {
        "way": way.name, "student": {"name": student.name, "fingerprint": student_fingerprint(student)},
        "store": {"encoder_fingerprint": store.encoder_fingerprint, "generation": store.generation, "items": len(store)},
        "queries": len(queries.texts), "depth": settings.depth,
    }  # fmt: skip
    ids = as_ids(queries.ids)
    encode_s = search_s = 0.0
    recall: Recall | None = None
    with write_run(out, (queries.name, store.field), (ids.type, store.ids_at([0]).type), student.name, body) as writer:
        for start in range(0, len(queries.texts), BLOCK_QUERIES):
            stop = min(start + BLOCK_QUERIES, len(queries.texts))
            began = time.perf_counter()
            encoded = student.encode(queries.field, queries.texts[start:stop], precision=settings.precision)
            encode_s += time.perf_counter() - began
            checked = way.check if settings.check is None else settings.check
            if start == 0 and checked:
                recall = way.tune(encoded.take(slice(checked)))
            began = time.perf_counter()
            found = way.find(encoded, start, settings.depth, _shifted(progress, start, len(queries.texts)))
            search_s += time.perf_counter() - began
            writer.write(ids.slice(start, stop - start), found, store.ids_at(found.rows[found.rows >= 0]))
        effort = way.index.effort if way.index is not None else None
        body["speed"] = {
            "encoded_per_s": round(len(ids) / encode_s, 3), "searched_per_s": round(len(ids) / search_s, 3),
            "recall": None if recall is None else asdict(recall), "effort": effort, "machine": describe(),
        }  # fmt: skip
        return Searched(
            way.name, len(ids), len(store), writer.rows, len(ids) / encode_s, len(ids) / search_s, recall, effort,
            sum(not len(one) for one in way.candidates or ()),
        )  # fmt: skip


class _BySimilarity:
    """Compares single vectors."""

    candidates = None

    def __init__(self, student: Student, store: RepresentationStore, index: str | Path | None) -> None:
        self.similarity = similarity_of(student)
        self.items = StoredVectors(store, self.similarity.metric)
        self.index = None if index is None else ApproximateIndex.open(index, store)
        if self.index is not None and self.index.manifest.metric != self.similarity.metric:
            raise ArtefactError(
                f"the index compares by {self.index.manifest.metric}", file=index,
                expected=f"{self.similarity.metric}, as this {student.name} does",
                fix=f"Build it again: `pairstill index --metric {self.similarity.metric}`",
            )  # fmt: skip
        self.name: Way = "exact" if self.index is None else "approximate"
        self.check = 100

    def vectors(self, encoded: Representation[Any]) -> np.ndarray:
        return query_vectors(self.similarity, encoded)

    def find(self, encoded: Representation[Any], start: int, depth: int, progress: Progress | None) -> Found:
        queries = self.vectors(encoded)
        if self.index is None:
            found = exact_search(queries, self.items, depth, progress=progress)
        else:
            found = self.index.search(queries, depth)
            if progress is not None:
                progress(len(queries), len(queries))
        return Found(found.rows, logits_of(self.similarity, found.scores))

    def tune(self, encoded: Representation[Any]) -> Recall | None:
        return None if self.index is None else self.index.tune(self.items, self.vectors(encoded))


class _ByPairs:
    """Scores pairs: all of them, or those of a run."""

    index: TokenIndex | None = None
    check = 0

    def __init__(self, student: Student, store: RepresentationStore, queries: Queries, run: str | Path | None) -> None:
        self.scorer, self.store = PairScorer(student, queries.field), store
        self.by_id = rows_by_id(store)
        self.candidates = None if run is None else read_candidates(Path(run), queries, store)
        self.name: Way = "every pair" if self.candidates is None else "candidates"

    def find(self, encoded: Representation[Any], start: int, depth: int, progress: Progress | None) -> Found:
        if self.candidates is None:
            return search_all(self.scorer, encoded, self.store, self.by_id, depth, progress)
        part = self.candidates[start : start + len(encoded)]
        return score_candidates(self.scorer, encoded, self.store, self.by_id, part, depth, progress)

    def tune(self, encoded: Representation[Any]) -> Recall | None:
        return None


class _ByTokens(_ByPairs):
    """Scores the pairs that an index of tokens proposes."""

    check = 20

    def __init__(self, student: Student, store: RepresentationStore, queries: Queries, index: str | Path) -> None:
        max_sim_of(student)
        if queries.field:
            raise InputError(
                "the student's second field asks, and an index of tokens serves its first",
                fix="Leave out --index, and every item is scored",
            )
        super().__init__(student, store, queries, None)
        self.index: TokenIndex = TokenIndex.open(index, student, store)
        self.name = "approximate"

    def find(self, encoded: Representation[Any], start: int, depth: int, progress: Progress | None) -> Found:
        return self.index.search(self.scorer, encoded, self.store, self.by_id, depth, progress)

    def tune(self, encoded: Representation[Any]) -> Recall:
        return self.index.tune(self.scorer, encoded, self.store, self.by_id)


def _way(
    student: Student, store: RepresentationStore, queries: Queries, index: str | Path | None, run: str | Path | None
) -> _BySimilarity | _ByPairs:
    if index is not None and run is not None:
        raise InputError("an index and candidates are given", expected="one of them: candidates are not searched for")
    if run is None and student.similarity() is not None:
        return _BySimilarity(student, store, index)
    if index is not None:
        return _ByTokens(student, store, queries, index)
    return _ByPairs(student, store, queries, run)


def read_candidates(run: Path, queries: Queries, store: RepresentationStore) -> list[np.ndarray]:
    """Rows of the store that a run names for each query; queries that it does not name have none.

    Raises:
        InputError: The run names a query that is not asked, an item that the store lacks, or a pair twice.
    """
    table = read_run_table(run)
    asked, items = (table.column(place).combine_chunks() for place in (0, 1))
    integers = pa.types.is_integer(as_ids(queries.ids).type)
    own = queries.ids.cast(pa.string())
    number = np.asarray(pc.fill_null(pc.index_in(asked.cast(pa.string()), value_set=own), -1))
    unknown = np.flatnonzero(number < 0)
    if len(unknown):
        raise InputError(
            f"the run names the query {asked[int(unknown[0])].as_py()!r}, which is not asked ({len(unknown):,} rows are so)",
            file=run, expected=f"ids of the queries, such as {own[0].as_py()!r}" + (" (integers)" if integers else ""),
        )  # fmt: skip
    if store.manifest.id_type == "integer" and not pa.types.is_integer(items.type):
        try:
            items = items.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise InputError(
                f"an item's id is no whole number: {error}", file=run, expected="as the store has"
            ) from None
    elif store.manifest.id_type == "string":
        items = items.cast(pa.large_string())
    rows = store.find(items)
    order = np.lexsort((rows, number))
    number, rows = number[order], rows[order]
    twice = np.flatnonzero((number[1:] == number[:-1]) & (rows[1:] == rows[:-1]))
    if len(twice):
        place = int(order[twice[0] + 1])
        raise InputError(
            f"the item {items[place].as_py()!r} of query {asked[place].as_py()!r} comes twice", file=run, row=place + 1
        )
    return np.split(rows, np.searchsorted(number, np.arange(1, len(own))))


def _shifted(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _: progress(before + done, total)
