"""Where a batch's encoder outputs come from: the encoder itself, or a store that was written once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pairstill.representation import Representation
from pairstill.store import RepresentationStore
from pairstill.students import Student
from pairstill.tokens.inputs import Inputs
from pairstill.tokens.ragged import bucket_budget, length_batches
from pairstill.tokens.texts import ArrowTexts
from pairstill.tuples import TupleSet


class ItemSource(Protocol):
    """Gives encoder outputs of items of one field."""

    def outputs(self, student: Student, field: int, items: np.ndarray) -> Representation[Tensor]:
        """Encoder outputs, before the projection, of the items at these rows of the collection."""


class TokenSource:
    """Runs the encoder, with gradients where they are wanted; similar lengths together, so that little is padded.

    Args:
        tokens: Of the whole collection.
    """

    def __init__(self, tokens: Inputs) -> None:
        self.tokens = tokens

    def outputs(self, student: Student, field: int, items: np.ndarray) -> Representation[Tensor]:
        """Encode these items."""
        if not student.encoder_modules():
            return self._encode(student, field, items)
        lengths = self.tokens.lengths[items]
        batches = length_batches(lengths, bucket_budget(lengths), len(items))
        parts = [self._encode(student, field, items[rows]) for rows in batches]
        width = max(part.vectors.shape[1] for part in parts)
        parts = [part.padded(width) for part in parts]
        places = torch.from_numpy(np.argsort(np.concatenate(batches), kind="stable")).to(student.device)
        first = parts[0].arrays()
        return Representation(**{name: torch.cat([part.arrays()[name] for part in parts])[places] for name in first})

    def _encode(self, student: Student, field: int, items: np.ndarray) -> Representation[Tensor]:
        ids, lengths = self.tokens.padded(items, student.padding)
        return student.encoder_outputs(
            field, torch.from_numpy(ids).to(student.device), torch.from_numpy(lengths).to(student.device)
        )


class StoreSource:
    """Reads encoder outputs that were stored: stage 1, where the encoder is frozen.

    Args:
        store: Encoder outputs before the projection.
        places: `(items of the collection,)` row of each item in the store, -1 where it is not stored.
    """

    def __init__(self, store: RepresentationStore, places: np.ndarray) -> None:
        self.store, self.places = store, places

    def outputs(self, student: Student, field: int, items: np.ndarray) -> Representation[Tensor]:
        """Gather these items."""
        del field
        return self.store.gather_tensors(self.places[items]).map(lambda tensor: tensor.to(student.device))


class TupleScorer(nn.Module):
    """Scores rows of a tuple set with gradients, encoding each distinct text of a batch once.

    Args:
        student: Its parameters are trained.
        sources: One a field.
    """

    def __init__(self, student: Student, sources: Sequence[ItemSource]) -> None:
        super().__init__()
        self.student, self.sources = student, sources

    def forward(self, index: np.ndarray) -> Tensor:
        """Logits `(tuples, outputs)` of `index (tuples, fields)` into the collections."""
        local, prepared = np.empty_like(index), []
        for field, source in enumerate(self.sources):
            items, local[:, field] = np.unique(index[:, field], return_inverse=True)
            outputs = self.student.project(field, source.outputs(self.student, field, items))
            prepared.append(self.student.prepare(field, outputs))
        return self.student.score_buckets(prepared, torch.from_numpy(local).to(self.student.device))


def token_sources(student: Student, tuple_set: TupleSet) -> list[TokenSource]:
    """A source a field that runs the encoder; every text is tokenised once, from the collection's Arrow array."""
    sources = []
    for field in range(student.field_count):
        collection = tuple_set.collection_of(field)
        items = ArrowTexts(collection.texts) if collection.kind == "text" else tuple_set.values(field)
        sources.append(TokenSource(student.tokenize(field, items)))
    return sources
