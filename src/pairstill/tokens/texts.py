"""Texts of an Arrow array as a sequence of strings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import pyarrow as pa

TEXTS_AT_ONCE = 8192


class ArrowTexts(Sequence[str]):
    """Strings that are made as they are read: a list of all of them would take several times the bytes of the array.

    Args:
        column: The texts, none of them null.
    """

    def __init__(self, column: pa.Array) -> None:
        self.column = column

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.column)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        """One text, or a list of those of a slice."""
        found = self.column[place]
        strings: str | list[str] = found.to_pylist() if isinstance(place, slice) else found.as_py()
        return strings

    def __iter__(self) -> Iterator[str]:
        """All texts, of which a few thousand are held at a time."""
        for start in range(0, len(self), TEXTS_AT_ONCE):
            yield from self[start : start + TEXTS_AT_ONCE]
