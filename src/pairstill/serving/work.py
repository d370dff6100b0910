"""What is computed: scores of tuples, encodings, nearest items; and how works of several requests are computed in one go."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from pairstill.representation import Representation, concatenate
from pairstill.runtime import RuntimeStudent
from pairstill.serving.batcher import Piece, Work
from pairstill.serving.snapshot import ItemSnapshot

TEXT_COST = 32
"""What encoding a text costs, in pairs of stored items: a 6-layer encoder of 384 takes 1.4 ms, a DiPair head 40 µs."""

ITEMS_PER_PAIR = 256
"""Items that exact search compares in the time of a pair: a million of 384 numbers take 150 ms of reading them."""

Encoded = Representation[np.ndarray]


@dataclass(frozen=True)
class Cells:
    """The distinct items of one field of a request: first those that are given as texts, then those that are stored.

    Attributes:
        texts: To be encoded.
        rows: `(stored,)` of `snapshot`.
        snapshot: None where none is stored.
    """

    texts: Sequence[str]
    rows: np.ndarray
    snapshot: ItemSnapshot | None


class ScoreWork(Work):
    """Tuples to score.

    Args:
        student: That scores them.
        cells: Of each field.
        index: `(tuples, fields)` into the items of `cells`.

    Attributes:
        logits: `(tuples, outputs)` float32.
    """

    def __init__(self, student: RuntimeStudent, cells: Sequence[Cells], index: np.ndarray) -> None:
        costs = np.full(len(index), pair_cost(student), np.int64)
        for field, one in enumerate(cells):
            if len(one.texts):
                distinct, first = np.unique(index[:, field], return_index=True)
                costs[first[distinct < len(one.texts)]] += TEXT_COST
        super().__init__(costs)
        self.student, self.cells, self.index = student, cells, index
        self.logits = np.empty((len(index), student.outputs), np.float32)

    @property
    def kind(self) -> Hashable:
        """Of one student."""
        return ScoreWork.__name__, id(self.student)


class EncodeWork(Work):
    """Texts of a field to encode.

    Attributes:
        parts: Encodings of the steps done so far, in their order, by the step that each begins with.
    """

    def __init__(self, student: RuntimeStudent, field: int, texts: Sequence[str]) -> None:
        super().__init__(np.full(len(texts), TEXT_COST))
        self.student, self.field, self.texts = student, field, texts
        self.parts: dict[int, Encoded] = {}

    @property
    def kind(self) -> Hashable:
        """Of one student and field."""
        return EncodeWork.__name__, id(self.student), self.field


class SearchWork(Work):
    """The items nearest to a query.

    Attributes:
        rows: `(found,)` of the snapshot.
        similarities: As many.
    """

    def __init__(self, student: RuntimeStudent, items: ItemSnapshot, query: str, depth: int, exact: bool) -> None:
        super().__init__(np.array([TEXT_COST + items.compared(exact) // ITEMS_PER_PAIR]))
        self.student, self.items, self.query, self.depth, self.exact = student, items, query, depth, exact
        self.rows = np.empty(0, np.int64)
        self.similarities = np.empty(0, np.float32)

    @property
    def kind(self) -> Hashable:
        """Searches of other depths are others: an index answers them by other ways, and no answer depends on neighbours."""
        return SearchWork.__name__, id(self.student), id(self.items), self.depth, self.exact


def pair_cost(student: RuntimeStudent) -> int:
    """What a pair of stored items costs: as much as a text where the head runs over whole texts."""
    return TEXT_COST if any(kept is None for kept in student.kept_vectors) else 1


class QueryCache:
    """Encodings of the first field's texts that were asked for last.

    Args:
        limit_bytes: Of all that is kept; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._bytes = limit_bytes, 0
        self._kept: OrderedDict[tuple[str, str], Encoded] = OrderedDict()

    def get(self, student: RuntimeStudent, text: str) -> Encoded | None:
        """The encoding, or None."""
        key = student.encoder_fingerprints[0], text
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, student: RuntimeStudent, text: str, encoded: Encoded) -> None:
        """Keep an encoding; the oldest go."""
        key = student.encoder_fingerprints[0], text
        if not self._limit or key in self._kept:
            return
        self._kept[key] = encoded
        self._bytes += _bytes(text, encoded)
        while self._bytes > self._limit:
            (_, old_text), old = self._kept.popitem(last=False)
            self._bytes -= _bytes(old_text, old)


class Computer:
    """Computes batches; of one thread."""

    def __init__(self, cache: QueryCache) -> None:
        self._cache = cache
        self._stage_s: dict[str, float] = {}

    def __call__(self, pieces: Sequence[Piece]) -> dict[str, float]:
        """Compute pieces of works, those of one kind together; returns the seconds of each stage."""
        self._stage_s = {}
        kinds: dict[Hashable, list[Piece]] = {}
        for piece in pieces:
            kinds.setdefault(piece.work.kind, []).append(piece)
        for alike in kinds.values():
            match alike[0].work:
                case ScoreWork():
                    self._score(alike)
                case EncodeWork():
                    self._encode(alike)
                case SearchWork():
                    self._search(alike)
        return self._stage_s

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self._stage_s[name] = self._stage_s.get(name, 0.0) + time.perf_counter() - began

    def _score(self, pieces: list[Piece]) -> None:
        works = [piece.work for piece in pieces if isinstance(piece.work, ScoreWork)]
        student = works[0].student
        prepared, columns = [], []
        for field in range(student.field_count):
            encoded, column = self._items(
                student,
                field,
                [
                    (work.cells[field], work.index[piece.start : piece.stop, field])
                    for work, piece in zip(works, pieces, strict=True)
                ],
            )
            columns.append(column)
            with self._stage("prepare"):
                prepared.append(student.prepare(field, encoded))
        with self._stage("head"):
            logits = student.score(prepared, np.stack(columns, axis=1))
        if not np.isfinite(logits).all():
            raise FloatingPointError("a logit is no finite number")
        start = 0
        for work, piece in zip(works, pieces, strict=True):
            count = piece.stop - piece.start
            work.logits[piece.start : piece.stop] = logits[start : start + count]
            start += count

    def _items(
        self, student: RuntimeStudent, field: int, parts: Sequence[tuple[Cells, np.ndarray]]
    ) -> tuple[Encoded, np.ndarray]:
        """What a field's items are in several works: all of them once, and where each tuple has its own."""
        texts: dict[str, int] = {}
        plans = []
        for cells, entries in parts:
            needed, inverse = np.unique(entries, return_inverse=True)
            stored = int(np.searchsorted(needed, len(cells.texts)))
            places = [texts.setdefault(cells.texts[entry], len(texts)) for entry in needed[:stored]]
            plans.append((cells.snapshot, places, cells.rows[needed[stored:] - len(cells.texts)], inverse))
        blocks = [self._encoded(student, field, list(texts))] if texts else []
        columns, end = [], len(texts)
        with self._stage("gather"):
            for snapshot, places, rows, inverse in plans:
                if snapshot is not None and len(rows):
                    blocks.append(snapshot.gather(rows))
                numbers = np.concatenate([np.array(places, np.int64), np.arange(end, end + len(rows))])
                columns.append(numbers[inverse])
                end += len(rows)
            return blocks[0] if len(blocks) == 1 else concatenate(blocks), np.concatenate(columns)

    def _encode(self, pieces: list[Piece]) -> None:
        works = [piece.work for piece in pieces if isinstance(piece.work, EncodeWork)]
        texts = [
            text for work, piece in zip(works, pieces, strict=True) for text in work.texts[piece.start : piece.stop]
        ]
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        encoded = self._encoded(works[0].student, works[0].field, list(distinct))
        start = 0
        for work, piece in zip(works, pieces, strict=True):
            stop = start + piece.stop - piece.start
            # By place: a piece is computed again where another of its batch failed.
            work.parts[piece.start] = encoded.take(np.array([distinct[text] for text in texts[start:stop]]))
            start = stop

    def _search(self, pieces: list[Piece]) -> None:
        works = [piece.work for piece in pieces if isinstance(piece.work, SearchWork)]
        first = works[0]
        distinct = {text: place for place, text in enumerate(dict.fromkeys(work.query for work in works))}
        encoded = self._encoded(first.student, 0, list(distinct))
        with self._stage("search"):
            found = first.items.search(encoded.vectors[:, 0], first.depth, exact=first.exact)
        for work in works:
            rows = found.rows[distinct[work.query]]
            work.rows = rows[rows >= 0]
            work.similarities = found.scores[distinct[work.query]][rows >= 0]

    def _encoded(self, student: RuntimeStudent, field: int, texts: list[str]) -> Encoded:
        """Encodings of distinct texts, in their order; those of the first field may have been kept."""
        known = (
            {text: kept for text in texts if (kept := self._cache.get(student, text)) is not None} if not field else {}
        )
        new = [text for text in texts if text not in known]
        blocks = list(known.values())
        if new:
            with self._stage("tokenize"):
                tokens = student.tokenize(field, new)
            with self._stage("encode"):
                encoded = student.encode(field, tokens)
            if not known and field:
                return encoded
            blocks.append(encoded)
            for place, text in enumerate(new if not field else ()):
                self._cache.put(student, text, encoded.take(slice(place, place + 1)).map(np.copy))
        if len(blocks) == 1:
            return blocks[0]
        rows = {text: row for row, text in enumerate([*known, *new])}
        return concatenate(blocks).take(np.array([rows[text] for text in texts]))


def _bytes(text: str, encoded: Encoded) -> int:
    return len(text) + sum(array.nbytes for array in encoded.arrays().values())
