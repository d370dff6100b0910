"""Systems that need no training: what a student has to beat before its retention means anything."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pairstill.errors import InputError
from pairstill.evaluation.system import System
from pairstill.tokens.texts import ArrowTexts
from pairstill.tokens.words import words
from pairstill.tuples.tuple_set import Tuples, TupleSet

FLOOR_NAMES = ("BM25", "word overlap", "untrained cosine", "constant")
Progress = Callable[[int, int], None]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bm25:
    """BM25 of a pair of texts, with document frequencies and mean length of a whole collection.

    Lucene's form, without its constant factor: `sum idf(t) tf / (tf + k1 (1 - b + b length / mean length))`,
    `idf(t) = ln(1 + (N - df + 0.5) / (df + 0.5))`; a word that stands twice in the query counts twice.
    """

    document_count: int
    mean_length: float
    frequencies: Counter[str]
    k1: float = 1.5
    b: float = 0.75

    @classmethod
    def of(cls, texts: Sequence[str], k1: float = 1.5, b: float = 0.75) -> Bm25:
        """Count the words of a collection."""
        frequencies: Counter[str] = Counter()
        total = 0
        for text in texts:
            found = words(text)
            total += len(found)
            frequencies.update(set(found))
        return cls(len(texts), total / max(len(texts), 1), frequencies, k1, b)

    def score(self, query: Sequence[str], document: Counter[str]) -> float:
        """The score of a document (its word counts) for the words of a query."""
        length = sum(document.values())
        norm = self.k1 * (1 - self.b + self.b * length / self.mean_length) if self.mean_length else self.k1
        total = 0.0
        for word in query:
            count = document.get(word, 0)
            if count:
                frequency = self.frequencies[word]
                idf = np.log1p((self.document_count - frequency + 0.5) / (frequency + 0.5))
                total += float(idf) * count / (count + norm)
        return total


def _pair_columns(tuples: Tuples) -> list[tuple[int, int]]:
    return [(0, field) for field in range(1, tuples.index.shape[1])]


def bm25_scores(tuple_set: TupleSet, tuples: Tuples) -> np.ndarray:
    """`(rows,)` BM25 of field 0 as the query against the other fields, their scores added up.

    Document frequencies come from the whole collection of the field that is scored.
    """
    out = np.zeros(len(tuples), dtype=np.float64)
    for left, right in _pair_columns(tuples):
        scorer = Bm25.of(ArrowTexts(tuple_set.collection_of(right).texts))
        queries, documents = (_words_of(tuple_set, tuples, field) for field in (left, right))
        counts = {item: Counter(found) for item, found in documents.items()}
        pairs = tuples.index[:, [left, right]].tolist()
        out += [scorer.score(queries[query], counts[document]) for query, document in pairs]
    return out


def _words_of(tuple_set: TupleSet, tuples: Tuples, field: int) -> dict[int, list[str]]:
    """Item -> words, of the items of a field that the rows name."""
    items = np.unique(tuples.index[:, field])
    return {item: words(text) for item, text in zip(items.tolist(), tuple_set.texts(field, items), strict=True)}


def overlap_scores(tuple_set: TupleSet, tuples: Tuples) -> np.ndarray:
    """`(rows,)` share of the distinct words of field 0 that stand in the other field; the mean over other fields."""
    out = np.zeros(len(tuples), dtype=np.float64)
    columns = _pair_columns(tuples)
    for left, right in columns:
        queries, documents = (
            {item: set(found) for item, found in _words_of(tuple_set, tuples, field).items()} for field in (left, right)
        )
        for row, (query, document) in enumerate(tuples.index[:, [left, right]].tolist()):
            wanted = queries[query]
            out[row] += len(wanted & documents[document]) / len(wanted) if wanted else 0.0
    return out / max(len(columns), 1)


def cosine_scores(
    tuple_set: TupleSet, tuples: Tuples, base: str, max_length: int = 128, progress: Progress | None = None
) -> np.ndarray:
    """`(rows,)` cosine of the untrained base's mean-pooled vectors, field 0 with each other field, the mean of them.

    Each distinct text of the rows is encoded once.

    Raises:
        InputError: The base cannot be loaded.
    """
    from pairstill.students.encoders.pretrained import MeanPooledEncoder

    encoder = MeanPooledEncoder(base, max_length)
    vectors, local = [], np.empty_like(tuples.index)
    fields = tuples.index.shape[1]
    sizes = [len(np.unique(tuples.index[:, field])) for field in range(fields)]
    for field in range(fields):
        items, local[:, field] = np.unique(tuples.index[:, field], return_inverse=True)
        before = sum(sizes[:field])
        report = None if progress is None else lambda done, _, base=before: progress(base + done, sum(sizes))
        vectors.append(encoder.encode(tuple_set.texts(field, items), progress=report))
    columns = _pair_columns(tuples)
    total = [(vectors[a][local[:, a]] * vectors[b][local[:, b]]).sum(axis=1) for a, b in columns]
    return np.asarray(np.mean(total, axis=0), dtype=np.float64)


def constant_logits(tuple_set: TupleSet, rows: int) -> tuple[np.ndarray, str]:
    """`(rows, outputs)` the same logits for every row, those of the label's mean (classes: shares) in training.

    Returns:
        The logits, and one sentence that says where they come from.
    """
    labels = None
    try:
        labels = tuple_set.split("train").labels
    except InputError:
        log.info("no train split: the constant floor predicts nothing but one half")
    known = np.array([]) if labels is None else labels[~np.isnan(labels)]
    outputs = tuple_set.labels.outputs
    if not len(known):
        return np.zeros((rows, outputs), dtype=np.float32), "the same for every row"
    if tuple_set.labels.kind == "classes":
        counts = np.bincount(known.astype(np.int64), minlength=outputs) + 1.0
        logits = np.log(counts / counts.sum())
    else:
        mean = float(np.clip(known.mean(dtype=np.float64), 1e-6, 1 - 1e-6))
        logits = np.array([np.log(mean / (1 - mean))])
    text = f"the {'class shares' if outputs > 1 else 'mean label'} of the train split for every row"
    return np.broadcast_to(logits.astype(np.float32), (rows, outputs)).copy(), text


def floor_systems(
    tuple_set: TupleSet,
    tuples: dict[str, Tuples],
    base: str | None,
    *,
    max_length: int = 128,
    progress: Progress | None = None,
) -> tuple[list[System], list[str]]:
    """BM25, word overlap, the untrained base's cosine, and constant, on each split.

    Args:
        tuple_set: The texts.
        tuples: Split name -> its rows.
        base: The untrained base (see `resolve_base`); None leaves the cosine out.
        max_length: Tokens that the base reads of a text.
        progress: Called with (done, total) while the base encodes.

    Returns:
        The systems, and sentences about floors that could not be had.
    """
    warnings: list[str] = []
    logits, text = {}, ""
    for split, rows in tuples.items():
        logits[split], text = constant_logits(tuple_set, len(rows))
    constant = System("constant", "floor", {k: v[None] for k, v in logits.items()}, True, text)
    if tuple_set.labels.kind == "classes" or len(tuple_set.fields) < 2:
        why = "classes have no similarity" if tuple_set.labels.kind == "classes" else "one field has no similarity"
        return [constant], [f"BM25, word overlap and cosine floors are left out: {why}."]
    others = [f"'{one.name}' ({one.kind})" for one in tuple_set.fields if one.kind != "text"]
    if others:
        why = f"they compare texts, and {' and '.join(others)} {'are' if len(others) > 1 else 'is'} none"
        return [constant], [f"BM25, word overlap and cosine floors are left out: {why}."]
    found = []
    makers: list[tuple[str, str, Callable[[Tuples], np.ndarray]]] = [
        ("BM25", "k1 1.5, b 0.75, document frequencies of the collection", lambda rows: bm25_scores(tuple_set, rows)),
        ("word overlap", "share of the first field's words in the other", lambda rows: overlap_scores(tuple_set, rows)),
    ]
    if base is not None:
        makers.append((
            "untrained cosine", f"mean-pooled {base}, not trained on these data",
            lambda rows: cosine_scores(tuple_set, rows, base, max_length, progress),
        ))  # fmt: skip
    for name, description, make in makers:
        try:
            scores = {split: make(rows).astype(np.float32)[None, :, None] for split, rows in tuples.items()}
        except InputError as error:
            warnings.append(f"The floor '{name}' is missing: {error}")
            continue
        found.append(System(name, "floor", scores, False, description))
    return [*found, constant], warnings
