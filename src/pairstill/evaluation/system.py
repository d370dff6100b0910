"""A system under comparison: anything that gave scores to rows of a tuple set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pairstill.errors import InputError
from pairstill.evaluation.cost import Cost

Role = Literal["teacher", "student", "floor", "other"]


@dataclass(frozen=True)
class System:
    """Scores of one system on one or several splits.

    Attributes:
        name: Shown in tables; two seeds of one system share it and are one `System`.
        role: `teacher` (at most one), `student`, `floor` (what needs no training) or `other`.
        logits: Per split `(seeds, rows, outputs)` float32 in the order of that split's tuples.
        calibrated: False where the score is a similarity: log loss and calibration error are then left empty.
        description: One sentence for the report.
        cost: What it costs on this machine; None where it was not measured.
    """

    name: str
    role: Role
    logits: Mapping[str, np.ndarray]
    calibrated: bool = True
    description: str = ""
    cost: Cost | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Check shapes and that every score is finite."""
        for split, values in self.logits.items():
            if values.ndim != 3:
                raise ValueError(f"logits of {self.name} on {split} are {values.shape}, not (seeds, rows, outputs)")
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                raise InputError(
                    f"the score of system '{self.name}' is not a finite number", row=int(bad[0][1]) + 1,
                    column=f"split {split}", expected="a finite score for every row of the split",
                )  # fmt: skip

    @property
    def seeds(self) -> int:
        """How many runs of this system there are."""
        return next((len(values) for values in self.logits.values()), 0)


def merge_seeds(systems: list[System]) -> list[System]:
    """Systems of equal name become one with several seeds, in the place of the first; the first one's cost is kept."""
    merged: dict[str, System] = {}
    for one in systems:
        if one.name not in merged:
            merged[one.name] = one
            continue
        first = merged[one.name]
        if first.role != one.role:
            raise InputError(
                f"the name '{one.name}' is given to a {first.role} and a {one.role}", fix="Rename one of them"
            )
        if first.description != one.description:
            raise InputError(
                f"the name '{one.name}' is given to two that are no seeds of one another: {first.description}; {one.description}",
                fix="Rename one of them",
            )
        merged[one.name] = System(
            name=one.name, role=one.role, calibrated=one.calibrated, description=first.description,
            logits={split: np.concatenate([values, one.logits[split]]) for split, values in first.logits.items()},
            cost=first.cost or one.cost,
        )  # fmt: skip
    return list(merged.values())
