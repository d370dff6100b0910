"""What an encoder keeps of one item; arrays only, so that it can be stored and served without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, TypeVar

import numpy as np

Array = TypeVar("Array", bound=Any)
Other = TypeVar("Other", bound=Any)


@dataclass(frozen=True)
class Representation(Generic[Array]):
    """What is kept of a block of items: NumPy arrays where it is stored, PyTorch tensors where it is computed.

    Attributes:
        vectors: `(items, tokens, dim)` float vectors, or `(items, tokens)` integer token ids; valid entries first.
        lengths: `(items,)` int64, how many entries of each item are valid.
        similarity: `(items, dim)` one vector of the untrained base, for the similarity skip; None where a student has no
            such skip.
        scalars: `(items, count)` other numbers per item (such as the number of n-grams in a bag); None where there are none.
        scales: `(items, tokens)` of 8-bit vectors; None for all other precisions.
    """

    vectors: Array
    lengths: Array
    similarity: Array | None = None
    scalars: Array | None = None
    scales: Array | None = None

    def __len__(self) -> int:
        """Number of items."""
        return len(self.lengths)

    def arrays(self) -> dict[str, Array]:
        """The arrays that are present, by name."""
        return {name: value for name in ARRAYS if (value := getattr(self, name)) is not None}

    def map(self, function: Callable[[Array], Other]) -> Representation[Other]:
        """Apply `function` to every array that is present."""
        return Representation(**{name: function(value) for name, value in self.arrays().items()})

    def take(self, rows: Any) -> Representation[Array]:
        """The items at `rows` (integer array or slice)."""
        return self.map(lambda array: array[rows])

    def padded(self, tokens: int) -> Representation[Array]:
        """At least `tokens` entries wide: zeros behind the vectors (token ids, scales) of narrower blocks.

        A ragged store hands over blocks as wide as their longest item, and an encoder those of its longest text; a head
        and a store with a fixed stride want all slots.
        """
        missing = tokens - self.vectors.shape[1]
        if missing <= 0:
            return self
        return replace(
            self,
            vectors=_widened(self.vectors, missing),
            scales=None if self.scales is None else _widened(self.scales, missing),
        )

    def trimmed(self) -> Representation[Array]:
        """Without the columns that are padding in every item, as a ragged store hands over these items."""
        width = max(int(self.lengths.max()), 1) if len(self) else 1
        scales = None if self.scales is None else self.scales[:, :width]
        return replace(self, vectors=self.vectors[:, :width], scales=scales)

    def bytes_per_item(self) -> int:
        """Bytes that one item occupies, its length not counted."""
        return sum(
            int(array.dtype.itemsize)
            * (array.size if hasattr(array.size, "__index__") else array.numel())
            // max(len(self), 1)
            for name, array in self.arrays().items()
            if name != "lengths"
        )


@dataclass(frozen=True)
class Similarity:
    """A logit that is `scale * similarity of two kept vectors + bias`, so that nearest-neighbour search finds the highest.

    Attributes:
        metric: `cosine`, or `dot`: of the vectors as they are kept.
        scale: Below 0 where the least similar items have the highest logits.
        bias: Of the logit.
    """

    metric: Literal["cosine", "dot"]
    scale: float = 1.0
    bias: float = 0.0


ARRAYS = ("vectors", "lengths", "similarity", "scalars", "scales")


def concatenate(blocks: Sequence[Representation[np.ndarray]]) -> Representation[np.ndarray]:
    """Blocks one after another; vectors are padded to the widest block."""
    width = max(block.vectors.shape[1] for block in blocks)
    arrays = [block.padded(width).arrays() for block in blocks]
    return Representation(**{name: np.concatenate([one[name] for one in arrays]) for name in arrays[0]})


def _widened(array: Any, missing: int) -> Any:
    """`(items, tokens, ...)` with `missing` zeros behind the tokens."""
    if isinstance(array, np.ndarray):
        return np.pad(array, [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2))
    from torch.nn.functional import pad

    return pad(array, [0, 0] * (array.ndim - 2) + [0, missing])
