"""A student's head over stores: items are prepared by store row, pairs are scored by place among what was prepared."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pairstill.errors import ArtefactError, InputError
from pairstill.files import MANIFEST, fingerprint_file, fingerprint_json
from pairstill.machine import set_threads
from pairstill.representation import Representation
from pairstill.scoring.fast_head import FastHead, runs_fast
from pairstill.scoring.fast_heads.linear import as_array
from pairstill.store import RepresentationStore
from pairstill.students import Student, load_student
from pairstill.students.fingerprints import representation_fingerprint, student_fingerprint
from pairstill.students.inference import precision_context

BLOCK_ITEMS = 512
"""Items that are gathered and prepared at a time: what is not yet prepared never takes more room than so many."""
STUDENT_PAIRS = 1024
"""Pairs of one call of a student that has no fast form."""


@dataclass(frozen=True)
class ScorerSettings:
    """What opens a scorer in any process.

    Attributes:
        student: Folder.
        stores: Folders, one a field.
        manifests: Fingerprints of the stores' manifests when the job was planned, one a field.
        precision: float32, bfloat16 or int8.
        calibration: Of int8, from `FastHead.calibration`; None for other precisions.
        use_prepared: Per field, whether the store's prepared part is read rather than made anew.
    """

    student: str
    stores: tuple[str, ...]
    manifests: tuple[str, ...]
    precision: str
    calibration: tuple[tuple[float, float, float], ...] | None = None
    use_prepared: tuple[bool, ...] = ()

    def open(self) -> Scorer:
        """Load the student, open the stores (sizes and headers are checked, not checksums), one thread."""
        set_threads(1)
        student = load_student(self.student)
        return make_scorer(student, self.open_stores(), self)

    def open_stores(self) -> list[RepresentationStore]:
        """The stores as they were when the job was planned; rows of another state would be other items.

        Raises:
            ArtefactError: A store was edited since.
        """
        stores = []
        for folder, planned in zip(self.stores, self.manifests, strict=True):
            stores.append(RepresentationStore.open(folder, checksums=False))
            if fingerprint_file(Path(folder) / MANIFEST) != planned:
                raise ArtefactError(
                    "the store was edited while a job that reads it is not finished", file=folder,
                    expected="the state that the job began with",
                    fix="Start the job again in another folder, and edit the store when it has ended, or a copy of it",
                )  # fmt: skip
        return stores


class Scorer(ABC):
    """Scores by store rows; subclasses say how.

    Attributes:
        stores: One a field.
        outputs: Logits of a pair.
        prepare_s: Seconds spent in `prepare` so far.
        head_s: Seconds spent in `score` so far.
        bytes_read: Of the stores so far.
        items_prepared: So far, an item as often as it was prepared.
    """

    def __init__(self, stores: Sequence[RepresentationStore], outputs: int) -> None:
        self.stores, self.outputs = list(stores), outputs
        self.prepare_s = self.head_s = self.bytes_read = 0.0
        self.items_prepared = 0
        self._bytes_per_item = [store.bytes_per_item() for store in stores]

    def prepare(self, field: int, rows: np.ndarray) -> Any:
        """Items of a field by store row, ready to be paired."""
        began = time.perf_counter()
        prepared = self._prepare(field, rows)
        self.prepare_s += time.perf_counter() - began
        self.items_prepared += len(rows)
        self.bytes_read += len(rows) * self._bytes_per_item[field]
        return prepared

    def score(self, prepared: Sequence[Any], index: np.ndarray) -> np.ndarray:
        """Logits `(pairs, outputs)` float32 of `index (pairs, fields)`, places in `prepared`.

        Raises:
            ArtefactError: A logit is not a number.
        """
        began = time.perf_counter()
        logits = self._score(prepared, index)
        self.head_s += time.perf_counter() - began
        if not np.isfinite(logits).all():
            raise ArtefactError("the student gives a logit that is no finite number", fix="Look at student and stores")
        return logits

    def prepared_bytes(self, prepared: Any) -> int:
        """Memory that prepared items take: here arrays by name."""
        return sum(one.nbytes for one in prepared.values())

    @abstractmethod
    def _prepare(self, field: int, rows: np.ndarray) -> Any: ...

    @abstractmethod
    def _score(self, prepared: Sequence[Any], index: np.ndarray) -> np.ndarray: ...

    def _check_lengths(self, field: int, rows: np.ndarray, lengths: Any) -> None:
        if len(rows) and int(lengths.min()) < 1:
            store, place = self.stores[field], int(lengths.argmin())
            name = store.ids_at(rows[place : place + 1])[0].as_py()
            raise ArtefactError(f"the item {name!r} keeps no token", file=store.folder, fix="Encode it again")


class FastScorer(Scorer):
    """By the head's fast form: the same logits to the bit, whatever pairs stand beside each other."""

    def __init__(self, head: FastHead, stores: Sequence[RepresentationStore], use_prepared: Sequence[bool]) -> None:
        super().__init__(stores, head.outputs)
        self.head, self.use_prepared = head, list(use_prepared)

    def prepared_bytes(self, prepared: Any) -> int:
        """Of what the head keeps of them."""
        return super().prepared_bytes(self.head.arrays(prepared))

    def _prepare(self, field: int, rows: np.ndarray) -> Any:
        out: dict[str, np.ndarray] = {}
        lengths, store = np.empty(len(rows), np.int64), self.stores[field]
        # Blocks of a ragged store are as wide as their longest item; together they take the width of the longest of all.
        width = int(store.lengths(rows).max(initial=1)) if store.stride == "ragged" else 0
        for start in range(0, len(rows), BLOCK_ITEMS):
            part = rows[start : start + BLOCK_ITEMS]
            arrays, lengths[start : start + len(part)] = self._block(field, part, width)
            for name, array in arrays.items():
                if name not in out:
                    out[name] = np.empty((len(rows), *array.shape[1:]), array.dtype)
                out[name][start : start + len(part)] = array
        return self.head.from_arrays(out, lengths)

    def _block(self, field: int, rows: np.ndarray, width: int) -> tuple[Mapping[str, np.ndarray], np.ndarray]:
        store = self.stores[field]
        if self.use_prepared[field]:
            lengths = store.lengths(rows)
            self._check_lengths(field, rows, lengths)
            tensors = store.gather_prepared_tensors(rows)
            return {name: as_array(tensor) for name, tensor in tensors.items()}, lengths
        items = store.gather_tensors(rows, torch.float32 if store.dtype == "int8" else None)
        self._check_lengths(field, rows, items.lengths)
        return self.head.arrays(self.head.prepare(field, items.padded(width))), items.lengths.numpy()

    def _score(self, prepared: Sequence[Any], index: np.ndarray) -> np.ndarray:
        return self.head.score(prepared, index)


class StudentScorer(Scorer):
    """By the student's own graph, for heads without a fast form."""

    def __init__(self, student: Student, stores: Sequence[RepresentationStore], precision: str) -> None:
        super().__init__(stores, student.outputs)
        self.student, self.precision = student.eval(), precision

    def _prepare(self, field: int, rows: np.ndarray) -> Any:
        items: Representation[Any] = self.stores[field].gather_tensors(rows, torch.float32)
        self._check_lengths(field, rows, items.lengths)
        with torch.inference_mode(), precision_context(self.precision):
            return self.student.prepare(field, items)

    def _score(self, prepared: Sequence[Any], index: np.ndarray) -> np.ndarray:
        out = np.empty((len(index), self.outputs), np.float32)
        for start in range(0, len(index), STUDENT_PAIRS):
            part = torch.from_numpy(np.ascontiguousarray(index[start : start + STUDENT_PAIRS], np.int64))
            with torch.inference_mode(), precision_context(self.precision):
                out[start : start + STUDENT_PAIRS] = self.student.score_buckets(prepared, part).float().numpy()
        return out


def make_scorer(student: Student, stores: Sequence[RepresentationStore], settings: ScorerSettings) -> Scorer:
    """The fast form where there is one, otherwise the student itself.

    Raises:
        InputError: The precision is not one of this head's.
    """
    if runs_fast(student):
        head = FastHead.of(student, settings.precision, 1)
        if settings.calibration is not None:
            head.calibrate_to(settings.calibration)
        return FastScorer(head, stores, settings.use_prepared or [False] * len(stores))
    if settings.precision == "int8":
        raise InputError(
            f"a {student.name} has no 8-bit form", expected="float32 or bfloat16", fix="Leave out --precision int8"
        )
    return StudentScorer(student, stores, settings.precision)


def prepared_fingerprint(student: Student, precision: str) -> str:
    """Of the prepared part in a store: which head made it, in which precision (int8 prepares in bfloat16)."""
    kept = "float32" if precision == "float32" else "bfloat16"
    return fingerprint_json(["fast-head", 1, student_fingerprint(student), kept])


def check_stores(student: Student, stores: Mapping[str, RepresentationStore]) -> None:
    """Check that there is one store a field, in the student's order, made by its encoders, with ids.

    Raises:
        InputError: There is another number of stores, or one has no ids.
        ArtefactError: A store is of another student or of another field.
    """
    if len(stores) != student.field_count:
        raise InputError(
            f"{len(stores)} store{' is' if len(stores) == 1 else 's are'} given ({', '.join(stores)})",
            expected=f"{student.field_count}, one a field of this {student.name}, in the order of its fields",
        )
    wanted = [representation_fingerprint(student, field) for field in range(student.field_count)]
    for field, (name, store) in enumerate(stores.items()):
        if store.encoder_fingerprint != wanted[field] or store.position not in (None, field):
            other = [number for number, one in enumerate(wanted) if one == store.encoder_fingerprint]
            # Fields that share an encoder have one fingerprint.
            other = other if store.position is None else [one for one in other if one == store.position]
            raise ArtefactError(
                f"the store of '{name}' was made for this student's field {other[0] + 1}" if other
                else f"the store of '{name}' was made by another student ({store.encoder_fingerprint[:12]})",
                file=store.folder, expected=f"representations of this student's field {field + 1} ({wanted[field][:12]})",
                fix="Give --store in the order of the student's fields" if other
                else "Encode the items with `pairstill encode` and this student, into another folder",
            )  # fmt: skip
        if not store.has_ids:
            raise InputError(f"the store of '{name}' has no ids", file=store.folder, fix="Write it with ids")
        if not len(store):
            raise InputError(f"the store of '{name}' has no items", file=store.folder)
