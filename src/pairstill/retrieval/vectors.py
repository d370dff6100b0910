"""What is compared: the single vectors of a store, or of queries, in the form in which a dot product ranks them."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.errors import ArtefactError, InputError
from pairstill.representation import Representation, Similarity
from pairstill.store import RepresentationStore

Metric = Literal["cosine", "dot"]
LEAST_LENGTH = np.float32(1e-12)
"""A shorter vector is divided by this, as PyTorch's `normalize` does."""


class StoredVectors:
    """The vectors of a store, read by blocks, so that a dot product of two of them is the similarity.

    Args:
        store: Of one vector an item, with ids.
        metric: `cosine` gives vectors of length 1.

    Raises:
        InputError: The store has no ids, or keeps several vectors an item.
    """

    def __init__(self, store: RepresentationStore, metric: Metric) -> None:
        if store.stride != "fixed" or store.tokens != 1 or store.dim is None:
            kept = "token ids" if store.dim is None else f"up to {store.tokens} vectors an item"
            raise InputError(
                f"the store keeps {kept}", file=store.folder, expected="one vector an item, as search needs"
            )
        if not store.has_ids:
            raise InputError("the store has no ids, so a result could not be named", file=store.folder)
        self.store, self.metric, self.dim = store, metric, store.dim

    def __len__(self) -> int:
        """Number of items."""
        return len(self.store)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """`(rows, dim)` float32 of the items at these rows.

        Raises:
            ArtefactError: A number is not finite.
        """
        found = as_vectors(self.store.gather(rows, widen=True).vectors[:, 0], self.metric)
        if not np.isfinite(found).all():
            bad = self.store.ids_at(rows[~np.isfinite(found).all(axis=1)][:1])[0].as_py()
            raise ArtefactError(
                f"the vector of item {bad!r} holds what is no finite number", file=self.store.folder,
                fix="Look at the student, and encode again",
            )  # fmt: skip
        return found

    def block(self, start: int, stop: int) -> np.ndarray:
        """As `take`, of the rows from `start` up to, not including, `stop`."""
        return self.take(np.arange(start, stop))

    @cached_property
    def by_id(self) -> np.ndarray:
        """`(items,)` int64 rows in the order of their ids (UTF-8 bytes, integers by value): equal similarities follow it."""
        return np.asarray(pc.sort_indices(self.store.ids)).astype(np.int64)

    def ids_at(self, rows: np.ndarray) -> pa.Array:
        """Ids of the items at these rows."""
        return self.store.ids_at(rows)


def query_vectors(similarity: Similarity, representation: Representation[Any]) -> np.ndarray:
    """`(queries, dim)` float32 whose dot product with stored vectors ranks as the student's logit does.

    Raises:
        ArtefactError: A number is not finite.
    """
    vectors = as_vectors(_widened(representation.vectors)[:, 0], similarity.metric)
    if not np.isfinite(vectors).all():
        raise ArtefactError("the vector of a query holds what is no finite number", fix="Look at the student")
    return -vectors if similarity.scale < 0 else vectors


def logits_of(similarity: Similarity, dots: np.ndarray) -> np.ndarray:
    """The student's logits, float32, of dot products with `query_vectors`."""
    return (np.float32(similarity.bias) + np.float32(abs(similarity.scale)) * dots).astype(np.float32)


def as_vectors(vectors: np.ndarray, metric: Metric) -> np.ndarray:
    """`(items, dim)` float32, of length 1 where the metric is the cosine."""
    found = np.ascontiguousarray(vectors, dtype=np.float32)
    if metric == "cosine":
        lengths = np.sqrt(np.einsum("id,id->i", found, found))
        found = found / np.maximum(lengths, LEAST_LENGTH)[:, None]
    return found


def _widened(vectors: Any) -> np.ndarray:
    """Of a NumPy array or a PyTorch tensor, float32."""
    if isinstance(vectors, np.ndarray):
        return vectors.astype(np.float32, copy=False)
    return np.asarray(vectors.detach().float().cpu().numpy())
