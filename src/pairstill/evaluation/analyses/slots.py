"""What kept vectors learn: DiPair's open question, by ablation, probe, attention and drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pairstill.evaluation.analyses.inputs import Inputs
from pairstill.evaluation.analyses.kept import Encoded, encode_sample, slot_count, slots_are_tokens
from pairstill.evaluation.analyses.slot_attention import attention_shares
from pairstill.evaluation.analyses.slot_drift import drift, load_base
from pairstill.evaluation.analyses.slot_probe import probe
from pairstill.evaluation.trec import document_names
from pairstill.metrics.base import Metric, Predictions, sigmoid
from pairstill.metrics.graded import pearson
from pairstill.representation import Representation

if TYPE_CHECKING:
    from pairstill.students.dual_encoder import DualEncoder

PAIRS = 5000
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Slot:
    """One kept vector.

    Attributes:
        field: Name of its field.
        slot: Its number, from 0.
        items: Distinct texts of the sample that fill it.
        removed: The headline with the slot replaced by its mean over these texts; None where it has no value.
        change: `removed` less the headline of the student as it is.
        probe: Pearson of the teacher's probability and what a ridge regression reads from the slot.
        attention: Target -> share of the attention of the slot's token in the encoder's last layer; None where the slot is
            no token.
        cosine: Mean cosine with the base's vector; None where there is none.
    """

    field: str
    slot: int
    items: int
    removed: float | None
    change: float | None
    probe: float | None
    attention: dict[str, float | None] | None
    cosine: float | None


@dataclass(frozen=True)
class StudentSlots:
    """The slots of one student.

    Attributes:
        system: Its name.
        rows: Of the sample.
        full: The headline as it is, on the sample.
        fields: Field -> the headline with every slot of this field replaced by its mean.
        none: The same of all fields together: what a similarity skip, or nothing, is worth.
        teacher: Pearson of the student's and the teacher's probability: what the whole student reads, beside the probes.
        slots: Field after field.
        notes: Why a column is empty.
    """

    system: str
    rows: int
    full: float | None
    fields: dict[str, float | None]
    none: float | None
    teacher: float | None
    slots: tuple[Slot, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slots:
    """The slots of all students that keep several vectors a text.

    Attributes:
        metric: Name of the headline.
        systems: One entry a student.
    """

    metric: str
    systems: tuple[StudentSlots, ...]


def slots(
    inputs: Inputs,
    students: Sequence[tuple[str, DualEncoder]],
    metric: Metric,
    *,
    pairs: int = PAIRS,
    seed: int = 0,
    progress: Progress | None = None,
) -> Slots:
    """Look into the slots of students.

    Args:
        inputs: Labelled rows and the teacher's scores.
        students: Names and models that keep several vectors a text.
        metric: The headline.
        pairs: Rows at most: whole groups are drawn until there are so many.
        seed: Of the sample.
        progress: Called with (done, total) slots.
    """
    from pairstill.evaluation.student_cost import sample_groups

    sample = sample_groups(inputs.tuples, pairs, seed)
    places = np.sort(np.searchsorted(inputs.tuples.rows, sample.rows))
    total = sum(slot_count(one, field) for _, one in students for field in range(one.field_count))
    found, done = [], 0
    for name, student in students:

        def tick(count: int, before: int = done) -> None:
            if progress is not None:
                progress(before + count, total)

        found.append(_Sample(inputs, places, student, metric).measure(name, tick))
        done += len(found[-1].slots)
    return Slots(metric.name, tuple(found))


class _Sample:
    """Sampled rows and one student, encoded once."""

    def __init__(self, inputs: Inputs, places: np.ndarray, student: DualEncoder, metric: Metric) -> None:
        self.inputs, self.student, self.metric = inputs, student, metric
        self.tuples = inputs.tuples.take(places)
        self.documents = document_names(inputs.tuple_set, self.tuples)
        student.eval()
        self.encoded: Encoded = encode_sample(student, inputs.tuple_set, self.tuples)
        teacher = inputs.teacher
        self.target = None if teacher is None else sigmoid(inputs.logits[teacher.name][places, 0])

    def measure(self, name: str, tick: Callable[[int], None]) -> StudentSlots:
        student, encoded = self.student, self.encoded
        kept, names = encoded.representations, self.inputs.tuple_set.field_names
        logits = self._logits(kept)
        full = self._headline(logits)
        every = [
            encoded.without(field, range(slot_count(student, field)))[field] for field in range(student.field_count)
        ]
        fields = {
            field_name: self._headline(self._logits([*kept[:field], every[field], *kept[field + 1 :]]))
            for field, field_name in enumerate(names)
        }
        notes: list[str] = []
        base = load_base(student)
        if isinstance(base, str):
            notes.append(f"No drift: {base}.")
        if self.target is None:
            notes.append("No probe: there is no teacher.")
        found: list[Slot] = []
        for field, field_name in enumerate(names):
            count, tokens = slot_count(student, field), encoded.tokens[field]
            shares: Sequence[dict[str, float | None] | None] | None = None
            cosines: list[float | None] = [None] * count
            if slots_are_tokens(student, field):
                shares = attention_shares(student, field, tokens)
                if shares is None:
                    notes.append("No attention: the encoder does not compute it in a way that can be recorded.")
                if not isinstance(base, str):
                    cosines = drift(student, base, field, tokens)
            else:
                notes.append(f"No attention and drift of {field_name}: its vectors are not those of tokens.")
            for slot in range(count):
                removed = self._headline(self._logits(encoded.without(field, [slot])))
                found.append(
                    Slot(
                        field_name, slot, int((kept[field].lengths > slot).sum()), removed,
                        None if removed is None or full is None else removed - full, self._probe(field, slot),
                        None if shares is None else shares[slot], cosines[slot],
                    )
                )  # fmt: skip
                tick(len(found))
        agreement = None if self.target is None else pearson(sigmoid(logits[:, 0]), self.target).value
        return StudentSlots(
            name,
            len(self.tuples),
            full,
            fields,
            self._headline(self._logits(every)),
            agreement,
            tuple(found),
            tuple(notes),
        )

    def _logits(self, representations: Sequence[Representation[np.ndarray]]) -> np.ndarray:
        logits = self.student.score_representations(representations, self.encoded.index)
        return logits[:, 1:] - logits[:, :1] if logits.shape[1] == 2 else logits

    def _headline(self, logits: np.ndarray) -> float | None:
        assert self.tuples.labels is not None
        predictions = Predictions.of(
            logits, self.tuples.labels, self.tuples.groups, self.inputs.tuple_set.labels.kind,
            relevance=self.inputs.relevance, documents=self.documents,
        )  # fmt: skip
        return self.metric.measure(predictions).value

    def _probe(self, field: int, slot: int) -> float | None:
        if self.target is None:
            return None
        return probe(self.encoded, field, slot, self.target, self.tuples.groups).value
