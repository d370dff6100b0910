"""What a head is: the part of a student that is paid per tuple."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from pairstill.representation import Similarity as Similarity


def gather(prepared: Sequence[Mapping[str, Tensor]], name: str, index: Tensor) -> list[Tensor]:
    """Per field, what each tuple reads of `name`: `(tuples, ...)` rows of `(items, ...)`.

    Selected, not indexed: in training the gradient of an indexing costs four times that of a selection.

    Args:
        prepared: Per field, what `Head.prepare` computed.
        name: Of a tensor in each.
        index: `(tuples, fields)`.
    """
    return [one[name].index_select(0, index[:, field]) for field, one in enumerate(prepared)]


class Head(nn.Module, ABC):
    """From kept vectors to logits, in two steps.

    `prepare` computes what depends on one item alone; `score` computes the rest for each tuple. Fast kernels, export and
    cost belong to the head type, so they are written once and serve every student with that head.
    """

    @abstractmethod
    def prepare(self, field: int, vectors: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Per item.

        Args:
            field: Position of the field.
            vectors: `(items, tokens, dim)`, zero past each length.
            lengths: `(items,)`.
        """

    @abstractmethod
    def score(self, prepared: Sequence[Mapping[str, Tensor]], index: Tensor) -> Tensor:
        """Logits `(tuples, outputs)` of `index (tuples, fields)` into `prepared`."""

    def similarity(self) -> Similarity | None:
        """What search needs to know of a head that compares one vector an item; None for every other head."""
        return None

    @abstractmethod
    def start_at_zero(self) -> None:
        """Zero the last layer, so that another term of the logit is all there is before training."""

    @abstractmethod
    def multiply_adds_per_pair(self) -> float:
        """Multiply-adds of one tuple with nothing shared between tuples, and only what is read computed."""

    @abstractmethod
    def multiply_adds_prepared(self, field: int) -> float:
        """The part of `multiply_adds_per_pair` that `prepare` pays once per item."""
