"""Which layer of the teacher each layer of the student learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pairstill.errors import InputError


@dataclass(frozen=True)
class LayerMap:
    """A teacher's layer for every student's layer, counted from 1; embeddings (0) always learn from embeddings.

    Attributes:
        teacher_layers: The i-th is the layer that student layer i + 1 learns from.
        depth: Layers of the teacher.

    Example:
        >>> LayerMap.uniform(3, 12).teacher_layers
        (4, 8, 12)
    """

    teacher_layers: tuple[int, ...]
    depth: int

    def __post_init__(self) -> None:
        if not self.teacher_layers:
            raise InputError("the layer map is empty", expected="one of the teacher's layers for each of the student's")
        for layer in self.teacher_layers:
            if not 1 <= layer <= self.depth:
                raise InputError(
                    f"the layer map names layer {layer}", expected=f"1 to {self.depth}, the teacher's layers"
                )
        if list(self.teacher_layers) != sorted(self.teacher_layers):
            raise InputError(f"the layer map {self.teacher_layers} goes down", expected="layers in rising order")

    @classmethod
    def uniform(cls, student_layers: int, teacher_layers: int) -> LayerMap:
        """Every k-th layer, g(m) = m k with k = teacher's layers / student's (TinyBERT, section 4.2).

        Raises:
            InputError: The student's number does not divide the teacher's.
        """
        if student_layers < 1 or teacher_layers % student_layers:
            raise InputError(
                f"{teacher_layers} layers cannot be dealt evenly to {student_layers}",
                fix="Name the layers, as in LayerMap((2, 5), 7), or use LayerMap.last",
            )
        step = teacher_layers // student_layers
        return cls(tuple(range(step, teacher_layers + 1, step)), teacher_layers)

    @classmethod
    def last(cls, student_layers: int, teacher_layers: int) -> LayerMap:
        """The teacher's last layers (TinyBERT, section 4.5, "top strategy")."""
        return cls(tuple(range(teacher_layers - student_layers + 1, teacher_layers + 1)), teacher_layers)

    @classmethod
    def first(cls, student_layers: int, teacher_layers: int) -> LayerMap:
        """The teacher's first layers (TinyBERT, section 4.5, "bottom strategy")."""
        return cls(tuple(range(1, student_layers + 1)), teacher_layers)

    def check(self, student_layers: int, teacher_layers: int) -> None:
        """Refuse models that it was not made for.

        Raises:
            InputError: They have other numbers of layers.
        """
        if student_layers != len(self.teacher_layers) or teacher_layers != self.depth:
            raise InputError(
                f"the student has {student_layers} layers and the teacher {teacher_layers}",
                expected=f"{len(self.teacher_layers)} and {self.depth}, as the layer map says",
            )


def check_batches(student_shape: Sequence[int], teacher_shape: Sequence[int], what: str) -> None:
    """Refuse outputs of different batches or different tokens.

    Raises:
        InputError: The shapes differ.
    """
    if tuple(student_shape) != tuple(teacher_shape):
        raise InputError(
            f"the student's {what} have the shape {tuple(student_shape)} and the teacher's {tuple(teacher_shape)}",
            expected="equal shapes: both models must read the same tokens",
        )
