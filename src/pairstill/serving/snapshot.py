"""One state of the items that are served."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pairstill.errors import InputError
from pairstill.representation import Representation, Similarity
from pairstill.retrieval.best import Found
from pairstill.retrieval.vectors import as_vectors
from pairstill.serving.search import ItemSearch
from pairstill.serving.texts import TextStore
from pairstill.store import RepresentationStore


class ItemSnapshot:
    """The items of a store at one moment; immutable, so a request keeps one from its beginning to its end.

    Rows hold for one snapshot, ids for ever.

    Attributes:
        generation: Of the store.
        store: That state of it.
    """

    def __init__(
        self, store: RepresentationStore, texts: TextStore | None, similarity: Similarity | None, search: ItemSearch | None
    ) -> None:  # fmt: skip
        self.store, self.generation = store, store.generation
        self._texts, self._similarity, self.item_search = texts, similarity, search

    def __len__(self) -> int:
        """Number of items."""
        return len(self.store)

    @property
    def recall(self) -> float | None:
        """Of the index against exact search, measured when it was built; None where search is exact."""
        covered = self.item_search.covered if self.item_search is not None else None
        return covered.index.manifest.recall.value if covered is not None else None

    @property
    def uncovered(self) -> int:
        """Items that came or went since the index was built; 0 where there is none."""
        covered = self.item_search.covered if self.item_search is not None else None
        return covered.behind if covered is not None else 0

    def compared(self, exact: bool) -> int:
        """Items that a search compares with one by one: all, or those that the index lacks."""
        covered = self.item_search.covered if self.item_search is not None else None
        return len(self) if exact or covered is None else len(covered.fresh)

    def lookup(self, ids: Sequence[str]) -> np.ndarray:
        """`(ids,)` int64 rows of items; -1 for ids that the store lacks."""
        return stored_rows(self.store, ids)

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """`(ids,)` int64 rows of items.

        Raises:
            InputError: The store lacks one.
        """
        rows = self.lookup(ids)
        unknown = np.flatnonzero(rows < 0)
        if len(unknown):
            raise InputError(
                f"there is no item {ids[int(unknown[0])]!r} ({len(unknown)} of {len(ids)} ids are unknown)",
                expected="ids of items that are stored",
            )
        return rows

    def gather(self, rows: np.ndarray) -> Representation[np.ndarray]:
        """What is kept of the items at these rows, in this order, vectors as float32."""
        return self.store.gather(rows, widen=True)

    def ids_at(self, rows: np.ndarray) -> list[str]:
        """Ids of the items at these rows, in this order."""
        return [str(name) for name in self.store.ids_at(rows).to_pylist()]

    def texts(self, rows: np.ndarray) -> list[str | None]:
        """Texts that the items' vectors were made from, or those of the file of texts; None where there is none."""
        if self._texts is None:
            return [None] * len(rows)
        return self._texts.texts(self.ids_at(rows), self.store.content_hash_at(rows))

    def search(self, queries: np.ndarray, depth: int, *, exact: bool = False) -> Found:
        """The nearest items: by the index where it reaches, exactly in what was put since, without what was deleted.

        Args:
            queries: `(queries, dim)` single vectors as the student encodes them.
            depth: At least 1.
            exact: Whether to compare with every item, although there is an index.

        Returns:
            `(queries, depth)` rows and similarities (cosines or dot products), the highest logit first, equal ones by id; fewer
            columns where the store has fewer items.

        Raises:
            InputError: The student or store keeps no single vectors, or a query's vector is not finite.
        """
        if self.item_search is None or self._similarity is None:
            raise InputError(
                "these items cannot be searched",
                file=self.store.folder,
                expected="a student and store of one vector an item",
            )
        vectors = as_vectors(queries, self._similarity.metric)
        if not np.isfinite(vectors).all():
            raise InputError("the vector of a query holds what is no finite number", fix="Look at the student")
        turned = self._similarity.scale < 0
        found = self.item_search.search(-vectors if turned else vectors, depth, exact=exact)
        return Found(found.rows, np.where(found.rows < 0, found.scores, -found.scores)) if turned else found


def stored_rows(store: RepresentationStore, ids: Sequence[str]) -> np.ndarray:
    """`(ids,)` rows of items by ids as texts, whatever type the store's are of; -1 where it lacks one."""
    if store.manifest.id_type != "integer":
        return store.lookup(list(ids))
    numbers = [as_integer(one) for one in ids]
    rows = store.lookup([one or 0 for one in numbers])
    rows[[one is None for one in numbers]] = -1
    return rows


def as_integer(name: str) -> int | None:
    """The integer whose text this is; None where it is none, such as `07`."""
    try:
        number = int(name)
    except ValueError:
        return None
    return number if str(number) == name and -(2**63) <= number < 2**63 else None
