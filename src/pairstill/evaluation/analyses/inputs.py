"""What every analysis reads: the labelled rows of one split and the scores of all systems on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pairstill.evaluation.system import System
from pairstill.evaluation.trec import document_names
from pairstill.metrics.base import Floats, Predictions, Relevance
from pairstill.tuples.tuple_set import Tuples, TupleSet

SHOWN_CHARACTERS = 240


@dataclass(frozen=True)
class Inputs:
    """The labelled rows of a split.

    Use `Inputs.of`.

    Attributes:
        tuple_set: Texts, label kind, groups' names.
        tuples: The labelled rows.
        groups: `(rows,)` numbers of their groups, from 0 without gaps.
        logits: System -> `(rows, outputs)` float64, the mean over seeds.
        systems: In the comparison's order.
        relevance: How ranking metrics read labels.
    """

    tuple_set: TupleSet
    tuples: Tuples
    groups: np.ndarray
    logits: Mapping[str, Floats]
    systems: tuple[System, ...]
    relevance: Relevance

    @classmethod
    def of(
        cls, tuple_set: TupleSet, split: str, tuples: Tuples, systems: Sequence[System], relevance: Relevance
    ) -> Inputs:
        """The labelled rows among `tuples`, which are those of `split`."""
        assert tuples.labels is not None
        kept = np.flatnonzero(~np.isnan(tuples.labels))
        rows = tuples.take(kept)
        groups = np.unique(rows.groups, return_inverse=True)[1]
        logits = {one.name: one.logits[split].mean(axis=0, dtype=np.float64)[kept] for one in systems}
        return cls(tuple_set, rows, groups, logits, tuple(systems), relevance)

    @property
    def labels(self) -> Floats:
        """`(rows,)`."""
        assert self.tuples.labels is not None
        return self.tuples.labels.astype(np.float64)

    @property
    def teacher(self) -> System | None:
        """The system of that role."""
        return next((one for one in self.systems if one.role == "teacher"), None)

    @property
    def trained(self) -> tuple[System, ...]:
        """Teacher, students and others: all but the floors."""
        return tuple(one for one in self.systems if one.role != "floor")

    @cached_property
    def group_names(self) -> list[str]:
        """Name of each group."""
        first = np.unique(self.groups, return_index=True)[1]
        return [str(one) for one in self.tuple_set.tuples.column("group").take(self.tuples.rows[first]).to_pylist()]

    @cached_property
    def documents(self) -> np.ndarray:
        """`(rows,)` names by which ranking metrics break ties."""
        return document_names(self.tuple_set, self.tuples)

    def system(self, name: str) -> System:
        """The system called `name`."""
        return next(one for one in self.systems if one.name == name)

    def predictions(self, name: str) -> Predictions:
        """A system's scores as metrics read them."""
        return Predictions.of(
            self.logits[name], self.labels, self.groups, self.tuple_set.labels.kind,
            calibrated=self.system(name).calibrated, relevance=self.relevance, documents=self.documents,
        )  # fmt: skip

    def shared_texts(self, rows: np.ndarray) -> dict[str, str]:
        """Field -> text, of the fields whose item is the same in all of `rows`."""
        index = self.tuples.index[rows]
        same = (index == index[:1]).all(axis=0)
        return {name: self.text(rows[0], place) for place, name in enumerate(self.tuple_set.field_names) if same[place]}

    def text(self, row: int, field: int) -> str:
        """The text of a field of a row, its white space joined, cut to what a table can show; the id of numbers and of an image."""
        if self.tuple_set.fields[field].kind != "text":
            return str(self.tuple_set.collection_of(field).ids[int(self.tuples.index[row, field])].as_py())
        return shown_text(self.tuple_set.texts(field, self.tuples.index[[row], field])[0])


def shown_text(text: str) -> str:
    """On one line, at most `SHOWN_CHARACTERS` long."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1].rstrip() + "…"
