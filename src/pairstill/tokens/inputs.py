"""What an encoder reads of a list of items: token ids, numbers or pixels, padded block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from pairstill.errors import InputError


@runtime_checkable
class Inputs(Protocol):
    """Items of one field as an encoder reads them; `RaggedTokens` is the one of texts."""

    @property
    def lengths(self) -> np.ndarray:
        """`(items,)` int64, by which items are batched: tokens, or what a transformer makes of an item."""

    def __len__(self) -> int:
        """Number of items."""

    def part(self, start: int, stop: int) -> Self:
        """The items from `start` up to, not including, `stop`."""

    def padded(self, rows: np.ndarray, padding: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The items at `rows` as one array, such as `(rows, longest)` token ids, and their `(rows,)` lengths."""


@dataclass(frozen=True)
class NumericInputs:
    """Items of a fixed number of numbers.

    Attributes:
        values: `(items, features)` float32.
    """

    values: np.ndarray

    @classmethod
    def from_items(cls, items: Sequence[Any], features: int) -> NumericInputs:
        """Items from arrays, lists or tuples.

        Raises:
            InputError: An item has another number of numbers, or one that is not finite.
        """
        try:
            values = np.asarray(items, dtype=np.float32).reshape(len(items), -1)
        except (TypeError, ValueError):
            values = np.empty((len(items), 0), np.float32)
        if values.shape[1] == features and np.isfinite(values).all():
            return cls(values)
        for number, item in enumerate(items, start=1):
            as_numbers(item, features, f"item {number}")
        return cls(values.reshape(len(items), features))

    def __len__(self) -> int:
        """Number of items."""
        return len(self.values)

    @property
    def lengths(self) -> np.ndarray:
        """One each."""
        return np.ones(len(self), np.int64)

    def part(self, start: int, stop: int) -> Self:
        """The items from `start` up to, not including, `stop`."""
        return type(self)(self.values[start:stop])

    def padded(self, rows: np.ndarray, padding: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The items at `rows`: `(rows, features)` float32, and ones."""
        del padding
        return self.values[rows], np.ones(len(rows), np.int64)


def as_numbers(item: Any, features: int, what: str) -> tuple[float, ...]:
    """One item's numbers.

    Args:
        item: An array, a list or a tuple.
        features: How many there must be.
        what: What a message calls the item.

    Raises:
        InputError: They are no numbers, not finite, or another number of them.
    """
    try:
        values = np.asarray(item, dtype=np.float32)
    except (TypeError, ValueError):
        values = np.empty(0, np.float32)
    if values.shape != (features,) or not np.isfinite(values).all():
        raise InputError(f"{what} is {item!r:.200}", expected=f"{features} finite numbers")
    return tuple(values.tolist())
