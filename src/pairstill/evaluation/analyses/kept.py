"""Students that keep several vectors a text, and a sample of tuples encoded by one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from pairstill.metrics.base import Floats
from pairstill.representation import Representation
from pairstill.tokens.ragged import RaggedTokens
from pairstill.tuples.tuple_set import Tuples, TupleSet

if TYPE_CHECKING:
    from pairstill.students.base import Student
    from pairstill.students.dual_encoder import DualEncoder


@dataclass(frozen=True)
class Encoded:
    """A sample of tuples in the eyes of one student.

    Attributes:
        representations: Per field, of its distinct items.
        tokens: Per field, of the same items.
        index: `(rows, fields)` into both.
    """

    representations: tuple[Representation[np.ndarray], ...]
    tokens: tuple[RaggedTokens, ...]
    index: np.ndarray

    def has_slot(self, field: int, slot: int) -> np.ndarray:
        """`(rows,)` whether the tuple's text is long enough to fill the slot."""
        return np.asarray(self.representations[field].lengths[self.index[:, field]] > slot)

    def without(self, field: int, slots: Sequence[int]) -> list[Representation[np.ndarray]]:
        """All representations, with some slots of a field replaced by their mean over the items that have them."""
        one = self.representations[field]
        vectors = one.vectors.copy()
        for slot in slots:
            present = one.lengths > slot
            if present.any():
                vectors[present, slot] = vectors[present, slot].mean(axis=0, dtype=np.float64)
        return [
            replace(other, vectors=vectors) if place == field else other
            for place, other in enumerate(self.representations)
        ]

    def means(self, field: int) -> Floats:
        """`(rows, dim)` mean over the filled slots of a field."""
        one = self.representations[field]
        valid = np.arange(one.vectors.shape[1]) < one.lengths[:, None]
        sums = (one.vectors * valid[:, :, None]).sum(axis=1, dtype=np.float64)
        return np.asarray((sums / np.maximum(one.lengths, 1)[:, None])[self.index[:, field]])


def reason_against(student: Student) -> str | None:
    """Why a student's slots cannot be looked into; None where they can."""
    from pairstill.students.dual_encoder import DualEncoder

    if set(student.kinds) != {"text"}:
        return f"this {student.name} reads {' and '.join(dict.fromkeys(student.kinds))}"
    counts = [student.kept_vectors(field) for field in range(student.field_count)]
    if not isinstance(student, DualEncoder) or any(one is None for one in counts):
        return f"a {student.name} keeps no fixed number of vectors a text"
    return f"a {student.name} keeps one vector a text" if counts == [1] * len(counts) else None


def slot_count(student: DualEncoder, field: int) -> int:
    """How many slots a field has."""
    count = student.kept_vectors(field)
    assert count is not None
    return count


def slots_are_tokens(student: DualEncoder, field: int) -> bool:
    """Whether slot j is a token's vector; those of learned codes and means are not."""
    return student.keeps[field].take in ("first", "last")


def encode_sample(student: DualEncoder, tuple_set: TupleSet, tuples: Tuples) -> Encoded:
    """Encode the distinct texts of a sample once."""
    index, representations, tokens = tuples.index.copy(), [], []
    for field in range(student.field_count):
        items, index[:, field] = np.unique(index[:, field], return_inverse=True)
        # Of texts alone: see `reason_against`.
        tokens.append(cast(RaggedTokens, student.tokenize(field, tuple_set.texts(field, items))))
        representations.append(student.encode(field, tokens[-1]).padded(slot_count(student, field)))
    return Encoded(tuple(representations), tuple(tokens), index)
