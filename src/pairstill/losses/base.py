"""The contract of a training objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from pairstill.errors import InputError
from pairstill.losses.targets import ScoreKind, Targets

Unit = Literal["tuples", "groups", "in-batch"]
"""What a batch is made of: single tuples, whole groups of them, or every query of the batch with every passage of it."""


class Refusal(NamedTuple):
    """Why a loss does not take scores of a kind, and what to do instead."""

    reason: str
    fix: str


AS_LOGITS = (
    "Import probabilities with `pairstill annotate --import FILE --kind probability`, which turns them into logits"
)


class Loss(ABC):
    """A training objective: a mean over tuples, pairs or lists of a batch.

    Every loss takes raw logits of the student, `(tuples, 1)` unless `several_outputs`, and a `Targets`. It never sees a
    sigmoid of the student's.

    The value is a sum divided by a count that depends on the targets alone, not on the logits. So a batch can be dealt out to
    several processes: each divides its sum by the count of the `whole` batch, and the sums add up.

    Attributes:
        name: As on the command line.
        unit: What a batch must be made of.
        refused: Kinds of teacher scores that it does not take.
        several_outputs: Whether it takes more than one logit a tuple.
        learns_lonely_rows: Whether the only row of an item teaches something where `unit` is not `tuples`.
    """

    name: ClassVar[str]
    unit: ClassVar[Unit] = "tuples"
    refused: ClassVar[Mapping[ScoreKind, Refusal]] = {}
    several_outputs: ClassVar[bool] = False
    learns_lonely_rows: ClassVar[bool] = False

    @property
    def learns_teacher(self) -> bool:
        """Whether it reads the teacher's scores."""
        return True

    @property
    def learns_labels(self) -> bool:
        """Whether it reads labels."""
        return False

    @property
    def needs_teacher(self) -> bool:
        """Whether it cannot learn from labels alone."""
        return self.learns_teacher

    @property
    def needs_labels(self) -> bool:
        """Whether a tuple without a label teaches it nothing."""
        return self.learns_labels and not self.learns_teacher

    def __call__(self, logits: Tensor, targets: Targets, whole: Targets | None = None) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: `(tuples, outputs)` of the student.
            targets: Of the same tuples.
            whole: Of the whole batch where `logits` are a process's share of it; None where they are all of it.

        Raises:
            InputError: The shapes or the kind of the scores are not what this loss takes.
        """
        self.check(logits, targets)
        return self.total(wide(logits), targets) / max(self.count(targets if whole is None else whole), 1e-12)

    @abstractmethod
    def total(self, logits: Tensor, targets: Targets) -> Tensor:
        """Sum over what the mean is over."""

    @abstractmethod
    def count(self, targets: Targets) -> float:
        """How many things, or what sum of weights, the mean is over."""

    def description(self) -> dict[str, Any]:
        """Name and settings, for the identity of a training."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]

    def check_kind(self, kind: ScoreKind) -> None:
        """Refuse scores of a kind that makes no sense here.

        Raises:
            InputError: With the reason.
        """
        if self.learns_teacher and kind in self.refused:
            taken = [one for one in get_args(ScoreKind) if one not in self.refused]
            raise InputError(
                f"the loss '{self.name}' does not take teacher scores of kind '{kind}': {self.refused[kind].reason}",
                expected=f"scores of kind {' or '.join(taken)}",
                fix=self.refused[kind].fix,
            )

    def check_outputs(self, outputs: int) -> None:
        """Refuse classes where one number is needed.

        Raises:
            InputError: With the reason.
        """
        if outputs != 1 and not self.several_outputs:
            raise InputError(
                f"the loss '{self.name}' compares tuples by one score, and {outputs} outputs are given",
                fix="Use cross-entropy for classes",
            )

    def check(self, logits: Tensor, targets: Targets) -> None:
        """Refuse shapes and kinds that this loss does not take.

        Raises:
            InputError: With what was found and expected.
        """
        if logits.ndim != 2:
            raise InputError(f"the logits have the shape {tuple(logits.shape)}", expected="(tuples, outputs)")
        self.check_outputs(logits.shape[1])
        scores = targets.teacher_logits
        if scores is not None:
            self.check_kind(targets.score_kind)
            if scores.shape != logits.shape:
                raise InputError(
                    f"the teacher's scores have the shape {tuple(scores.shape)}", expected=f"{tuple(logits.shape)}"
                )
            if self.learns_teacher and self.unit != "in-batch" and bool(torch.isnan(scores).any()):
                raise InputError(
                    "a teacher's score of the batch is not a number", expected="a score of every tuple",
                    fix="Leave out tuples that the teacher was not asked of",
                )  # fmt: skip
        elif self.learns_teacher and not self.learns_labels:
            raise InputError(f"the loss '{self.name}' learns from a teacher, and the batch has no teacher scores")
        for name in ("labels", "weights", "groups", "own"):
            given = getattr(targets, name)
            if given is not None and given.shape != logits.shape[:1]:
                raise InputError(f"the {name} have the shape {tuple(given.shape)}", expected=f"({len(logits)},)")
        if self.unit != "tuples" and targets.groups is None:
            raise InputError(
                f"the loss '{self.name}' compares tuples of a group, and the batch says of none which group it is in"
            )


def wide(tensor: Tensor) -> Tensor:
    """At least float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def weights_of(targets: Targets, like: Tensor) -> Tensor:
    """`(tuples,)` weights, ones where none are given."""
    return like.new_ones(len(like)) if targets.weights is None else targets.weights.to(like.dtype)


def scores_of(targets: Targets) -> Tensor:
    """`(tuples,)` the teacher's single score.

    Raises:
        InputError: There are none.
    """
    if targets.teacher_logits is None:
        raise InputError("the batch has no teacher scores")
    return wide(targets.teacher_logits[:, 0])


def labels_of(targets: Targets) -> Tensor:
    """`(tuples,)` labels, NaN where there is none.

    Raises:
        InputError: The batch has none at all.
    """
    if targets.labels is None:
        raise InputError("the batch has no labels")
    return wide(targets.labels)


def check_labels(labels: Tensor, outputs: int) -> None:
    """Refuse labels that a cross-entropy has no meaning for; NaN is no label and passes.

    Raises:
        InputError: A label is outside 0 to 1, or with several outputs not the number of one of them.
    """
    known = labels[~torch.isnan(labels)]
    wrong = (known < 0) | (known > 1) if outputs == 1 else (known < 0) | (known >= outputs) | (known != known.round())
    if bool(wrong.any()):
        raise InputError(
            f"a label is {float(known[wrong][0]):g}",
            expected="0 to 1" if outputs == 1 else f"the number of a class, 0 to {outputs - 1}",
        )


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not above 0.

    Raises:
        InputError: It is not.
    """
    if not 0 < temperature < float("inf"):
        raise InputError(f"the temperature is {temperature}", expected="a number above 0")


def check_source(source: str) -> None:
    """Refuse a source of the order that is neither teacher nor labels.

    Raises:
        InputError: It is another word.
    """
    if source not in ("teacher", "labels"):
        raise InputError(f"the order is to come from '{source}'", expected="teacher or labels")
