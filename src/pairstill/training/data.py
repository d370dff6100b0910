"""Rows to learn from, with what the teacher said about them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses import InBatchCrossEntropy, Loss, ScoreKind, Targets
from pairstill.scratch import pieces, positions, scratch_array, take
from pairstill.tokens.texts import TEXTS_AT_ONCE
from pairstill.training.in_batch_labels import in_batch_labels
from pairstill.tuples import Tuples, TupleSet


@dataclass(frozen=True)
class TrainingData:
    """Rows to learn from.

    Attributes:
        tuples: The rows.
        teacher_logits: `(rows, outputs)` the teacher's scores as stored; None where labels alone are learnt.
        score_kind: What they are.
        tuple_set: Fingerprint of the set that the rows and their texts are from; None leaves it unchecked on resuming.
    """

    tuples: Tuples
    teacher_logits: np.ndarray | None = None
    score_kind: ScoreKind = "logit"
    tuple_set: str | None = None

    def fingerprint(self) -> str:
        """Of the rows, labels, weights and scores; the texts are in `tuple_set`."""
        digest = hashlib.sha256()
        for array in (
            self.tuples.index,
            self.tuples.labels,
            self.tuples.weights,
            self.tuples.groups,
            self.teacher_logits,
        ):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
        if self.score_kind != "logit":
            digest.update(self.score_kind.encode())
        if self.tuples.lists is not None:
            digest.update(np.ascontiguousarray(self.tuples.lists).data)
        return digest.hexdigest()

    def targets(self, rows: np.ndarray, device: torch.device, groups: np.ndarray | None = None) -> Targets:
        """Of the rows of a batch, and which of them are compared with one another."""

        def tensor(array: np.ndarray | None) -> Tensor | None:
            return None if array is None else torch.from_numpy(array[rows]).to(device)

        return Targets(
            tensor(self.teacher_logits),
            tensor(self.tuples.labels),
            tensor(self.tuples.weights),
            None if groups is None else torch.from_numpy(groups).to(device),
            score_kind=self.score_kind,
        )

    def for_loss(self, loss: Loss) -> TrainingData:
        """The rows that a loss can learn from.

        Labelled ones where labels are all that it learns; where it compares rows, those with another one to compare with (see
        `Tuples.compared`).

        Raises:
            InputError: The loss does not take scores of this kind, or learns labels and there are none, or compares rows and no
                two share an item, or has nothing that is relevant or irrelevant in any batch.
        """
        if self.teacher_logits is not None:
            loss.check_kind(self.score_kind)
        if loss.needs_labels:
            labelled = self.labelled()
            if not len(labelled.tuples):
                raise InputError(
                    f"the loss '{loss.name}' learns labels and no row has one",
                    fix="Label rows, or choose a loss that learns the teacher's scores",
                )
            if len(labelled.tuples) < len(self.tuples):
                return labelled.for_loss(loss)
        if loss.unit == "tuples":
            return self
        first = self.tuples.compared
        if self.tuples.index.shape[1] < 2:
            raise InputError(
                f"the loss '{loss.name}' compares tuples that share the first field's item, and there is one field",
                fix="Use cross-entropy, mse-logit or mse-probability",
            )
        if loss.learns_lonely_rows:
            data = self
            if self.teacher_logits is not None and isinstance(loss, InBatchCrossEntropy):
                labels = in_batch_labels(first, self.teacher_logits[:, 0], self.tuples.labels, self.score_kind)
                data = replace(self, tuples=replace(self.tuples, labels=labels))
            _check_contrasts(data, loss)
            return data
        highest = max(int(first[piece].max()) for piece in pieces(len(first))) if len(first) else -1
        counts = scratch_array((highest + 1,), np.int64)
        counts[:] = 0
        for piece in pieces(len(first)):
            codes, several = np.unique(first[piece], return_counts=True)
            counts[codes] += several
        kept = positions(len(first), lambda piece: counts[first[piece]] > 1)
        if not len(kept):
            raise InputError(
                f"the loss '{loss.name}' compares tuples that share the first field's item, and no two rows do",
                fix="Score several candidates of an item (`pairstill mine` makes such rows), or use cross-entropy",
            )
        if loss.unit == "in-batch" and loss.name == "in-batch-margin-mse":
            _check_crossings(self.tuples.index)
        return self if len(kept) == len(first) else self.take(kept)

    def labelled(self) -> TrainingData:
        """The rows that have a label."""
        labels = self.tuples.labels
        if labels is None:
            return self.take(np.empty(0, np.int64))
        kept = positions(len(labels), lambda piece: ~np.isnan(labels[piece]))
        return self if len(kept) == len(labels) else self.take(kept)

    def take(self, positions: np.ndarray) -> TrainingData:
        """The rows at `positions`."""
        logits = None if self.teacher_logits is None else take(self.teacher_logits, positions)
        return replace(self, tuples=self.tuples.take(positions), teacher_logits=logits)


@dataclass(frozen=True)
class FieldItems:
    """Distinct items of a field that tuples name, read whenever they are gone through; of texts, a few thousand are strings at a time.

    Attributes:
        tuple_set: Where the items are.
        tuples: Rows that name them.
        field: Position of the field.
    """

    tuple_set: TupleSet
    tuples: Tuples
    field: int

    def __iter__(self) -> Iterator[Any]:
        """The items, in the order of the collection."""
        collection = self.tuple_set.collection_of(self.field)
        items = items_of([self.tuples.index], [self.field], len(collection))
        for start in range(0, len(items), TEXTS_AT_ONCE):
            yield from collection.take(items[start : start + TEXTS_AT_ONCE])


def corpus_of(tuple_set: TupleSet, tuples: Tuples) -> list[FieldItems]:
    """Distinct items of each field that the tuples name, for students that learn a vocabulary or the scale of numbers."""
    return [FieldItems(tuple_set, tuples, field) for field in range(len(tuple_set.fields))]


def items_of(parts: Sequence[np.ndarray], fields: Sequence[int], count: int) -> np.ndarray:
    """Distinct items of some fields, rising.

    Args:
        parts: `(rows, fields)` items.
        fields: Whose collection is the same.
        count: Items of the collection.
    """
    named = np.zeros(count, bool)
    for part in parts:
        for piece in pieces(len(part)):
            for field in fields:
                named[part[piece, field]] = True
    return positions(count, lambda piece: named[piece])


def _check_contrasts(data: TrainingData, loss: Loss) -> None:
    """Other rows' passages as negatives need two distinct ones, and something relevant to set against them."""
    index, labels = data.tuples.index, data.tuples.labels
    if not any((index[piece, 1:] != index[0, 1:]).any() for piece in pieces(len(index))):
        raise InputError(
            f"the loss '{loss.name}' learns against the other passages of a batch, and all rows have the same one",
            expected="two distinct passages or more",
        )
    decided = data.teacher_logits is None or isinstance(loss, InBatchCrossEntropy)
    if decided and (labels is None or not any((labels[piece] > 0.5).any() for piece in pieces(len(index)))):
        if data.teacher_logits is None:
            raise InputError(
                f"the loss '{loss.name}' has nothing to learn: no row is labelled relevant, above one half",
                fix="Give --scores, whose best rows are taken where labels lack, or label the pairs",
            )
        raise InputError(
            f"the loss '{loss.name}' has nothing to learn: no row is labelled relevant, and of those without a label the teacher "
            "calls all irrelevant, each the only one of its query",
            fix="Score rows of which some are relevant, or label them",
        )


def _check_crossings(index: np.ndarray) -> None:
    """In-batch margins need passages that the teacher scored with several queries."""
    _, rest = np.unique(index[:, 1:], axis=0, return_inverse=True)
    pairs = np.unique(np.stack([rest.reshape(-1), index[:, 0]], axis=1), axis=0)
    if np.bincount(pairs[:, 0]).max() < 2:
        raise InputError(
            "in-batch margins need passages that the teacher scored with several queries, and each is scored with one",
            fix="Score more pairs, such as neighbours' candidates, or use --loss margin-mse",
        )
