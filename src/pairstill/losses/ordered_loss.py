"""Losses whose targets are the teacher's scores or the labels, as the user chooses."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from pairstill.losses.base import Loss, Unit, check_source, labels_of, scores_of
from pairstill.losses.targets import Targets


class OrderedLoss(Loss):
    """A loss of groups that either source may order.

    Attributes:
        order: Who says what is better: the `teacher`, or the `labels`.
    """

    order: Literal["teacher", "labels"]

    unit: ClassVar[Unit] = "groups"

    def __post_init__(self) -> None:
        check_source(self.order)

    @property
    def learns_teacher(self) -> bool:
        """Unless labels give the order."""
        return self.order == "teacher"

    @property
    def learns_labels(self) -> bool:
        """Where they give the order."""
        return self.order == "labels"

    def ordering(self, targets: Targets) -> Tensor:
        """`(tuples,)` what orders them; labels are NaN where there is none."""
        return scores_of(targets) if self.order == "teacher" else labels_of(targets)
