"""What two splits of a tuple set have in common."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow.compute as pc

from pairstill.tuples.tuple_set import SPLITS, TupleSet


@dataclass(frozen=True)
class Overlap:
    """What split `second` shares with split `first`.

    Attributes:
        first: A split, such as train.
        second: A later split, such as test.
        what: `group`, `tuple` (all texts equal), or the name of a collection (equal texts, whatever their ids).
        shared: How many distinct groups, tuples or texts are in both.
        rows: Rows of `second` that contain one of them.
        share: `rows` as a share of all rows of `second`.
    """

    first: str
    second: str
    what: str
    shared: int
    rows: int
    share: float


def find_overlaps(tuple_set: TupleSet) -> list[Overlap]:
    """Groups, tuples and texts that are in two splits, for every two splits that share any.

    Fields of one collection count together: a text that is left in one split and right in the other is shared, and so
    is a tuple whose fields are swapped.
    """
    column = tuple_set.tuples.column("split")
    present = [name for name in SPLITS if name in set(pc.unique(column).to_pylist())]
    rows_of = {name: np.flatnonzero(np.asarray(pc.equal(column, name))) for name in present}
    codes = _codes(tuple_set)
    found = []
    for first, second in combinations(present, 2):
        for what, matrix in codes.items():
            left, right = matrix[rows_of[first]], matrix[rows_of[second]]
            shared = np.intersect1d(left, right)
            if len(shared):
                rows = int(np.isin(right, shared).any(axis=1).sum())
                found.append(Overlap(first, second, what, len(shared), rows, rows / len(right)))
    return found


def _codes(tuple_set: TupleSet) -> dict[str, np.ndarray]:
    """For each thing that can be shared a matrix `(rows, occurrences)` of codes."""
    groups = pc.dictionary_encode(tuple_set.tuples.column("group").combine_chunks()).indices
    texts = {name: one.codes() for name, one in tuple_set.collections.items()}
    by_field = [texts[one.collection][tuple_set.index[:, at]] for at, one in enumerate(tuple_set.fields)]
    by_collection = {
        name: np.stack([by_field[at] for at, one in enumerate(tuple_set.fields) if one.collection == name], axis=1)
        for name in dict.fromkeys(one.collection for one in tuple_set.fields)
    }
    tuples = np.zeros(len(tuple_set), dtype=np.int64)
    for matrix in by_collection.values():
        for column in np.sort(matrix, axis=1).T:
            _, tuples = np.unique(tuples * (int(column.max()) + 1) + column, return_inverse=True)
    found = {"group": np.asarray(groups, dtype=np.int64)[:, None], "tuple": tuples[:, None]}
    if len(tuple_set.fields) == 1:
        del found["tuple"]
    return found | {name if name not in found else f"{name} (texts)": one for name, one in by_collection.items()}
