"""How a student's pairs are scored at a precision when speed counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pairstill.representation import Representation
from pairstill.students.inference import precision_context

if TYPE_CHECKING:
    from torch import Tensor

    from pairstill.students.base import Student


class Execution:
    """`prepare` and `score` of a student by its fast head where there is one, by the student otherwise.

    Safe to be called by several threads at once; each call uses one.

    Args:
        student: In evaluation mode.
        precision: `float32` or `bfloat16`.
        fast: False takes the student's own graph in any case.
    """

    def __init__(self, student: Student, precision: str, *, fast: bool = True) -> None:
        from pairstill.scoring.fast_head import FastHead, runs_fast

        usable = fast and runs_fast(student)
        self.precision = precision
        self.head = FastHead.of(student, precision, threads=1) if usable else None
        self.student = student if usable else student.with_precision(precision)
        self.runtime = "fast head" if usable else "PyTorch"

    def prepare(self, field: int, block: Representation[Any]) -> Any:
        """Prepared items of one field."""
        if self.head is not None:
            return self.head.prepare(field, block)
        with precision_context(self.precision):
            return self.student.prepare(field, block)

    def score(self, prepared: Sequence[Any], index: Tensor) -> np.ndarray:
        """Logits `(pairs, outputs)` float32 of `index (pairs, fields)`."""
        if self.head is not None:
            return self.head.score(prepared, index.numpy())
        with precision_context(self.precision):
            logits: np.ndarray = self.student.score(prepared, index).float().numpy()
        return logits
