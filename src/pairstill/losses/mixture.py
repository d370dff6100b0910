"""A teacher's loss and a labels' loss, mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses.base import Loss, Unit
from pairstill.losses.targets import ScoreKind, Targets


@dataclass(frozen=True)
class Mixture(Loss):
    """(1 - h) soft + h hard, each term the mean over its own tuples, pairs or lists.

    Knowledge distillation with hard labels (Hinton et al. 2015, section 2), as the "standard KD" baseline of Simplified
    TinyBERT mixes alpha soft + (1 - alpha) hard. `DistillationLoss` mixes tuple by tuple instead; this mixes any two losses,
    such as margins with cross-entropy, which also anchors the scores that margins leave free.

    Takes: what both take.

    Attributes:
        soft: Learns from the teacher.
        hard: Learns from labels; tuples without one have no part in it.
        hard_weight: h, at least 0 and below 1.
    """

    soft: Loss
    hard: Loss
    hard_weight: float

    name: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        if not 0 <= self.hard_weight < 1:
            raise InputError(
                f"the weight of hard labels is {self.hard_weight}",
                expected="0 or more, below 1: 1 is the hard loss alone",
            )
        if self.hard.learns_teacher or not self.hard.learns_labels:
            raise InputError(
                f"the hard term '{self.hard.name}' learns from the teacher",
                expected="a loss that learns from labels alone",
            )

    @property
    def unit(self) -> Unit:  # type: ignore[override]
        """What both can be formed of: the larger one."""
        sizes: tuple[Unit, ...] = ("tuples", "groups", "in-batch")
        return max(self.soft.unit, self.hard.unit, key=sizes.index)

    @property
    def several_outputs(self) -> bool:  # type: ignore[override]
        """Whether both do."""
        return self.soft.several_outputs and self.hard.several_outputs

    @property
    def learns_lonely_rows(self) -> bool:  # type: ignore[override]
        """Whether either does."""
        return self.soft.learns_lonely_rows or self.hard.learns_lonely_rows

    @property
    def learns_labels(self) -> bool:
        """Yes."""
        return True

    def description(self) -> dict[str, Any]:
        """Of both terms."""
        return {
            "name": self.name, "soft": self.soft.description(), "hard": self.hard.description(),
            "hard_weight": self.hard_weight,
        }  # fmt: skip

    def check_kind(self, kind: ScoreKind) -> None:
        """As the soft term."""
        self.soft.check_kind(kind)

    def check_outputs(self, outputs: int) -> None:
        """As both terms."""
        self.soft.check_outputs(outputs)
        self.hard.check_outputs(outputs)

    def __call__(self, logits: Tensor, targets: Targets, whole: Targets | None = None) -> Tensor:
        """See `Loss.__call__`."""
        soft, hard = self.soft(logits, targets, whole), self.hard(logits, targets, whole)
        return (1 - self.hard_weight) * soft + self.hard_weight * hard

    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """The mixture of both means."""
        return self(logits, targets)

    def count(self, targets: Targets) -> float:
        """One: both terms are means."""
        return 1.0
