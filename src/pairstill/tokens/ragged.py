"""Token ids of many texts in two arrays, without padding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from pairstill import scratch


@dataclass(frozen=True)
class RaggedTokens:
    """Token ids of a list of texts.

    Attributes:
        ids: `(all tokens,)` int32, text after text.
        offsets: `(texts + 1,)` int64; text i is `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_lists(cls, lists: Sequence[Sequence[int]]) -> RaggedTokens:
        """Pack lists of ids."""
        offsets = np.zeros(len(lists) + 1, dtype=np.int64)
        np.cumsum([len(one) for one in lists], out=offsets[1:])
        ids = np.fromiter((token for one in lists for token in one), dtype=np.int32, count=int(offsets[-1]))
        return cls(ids, offsets)

    @classmethod
    def concatenate(cls, parts: Iterable[RaggedTokens]) -> RaggedTokens:
        """The texts of all parts, in their order; on disk where they are many (`scratch`).

        Args:
            parts: Taken one after another and then let go, so they may be made meanwhile and never be in memory together.
        """
        ids, offsets = _Joined(np.int32), _Joined(np.int64)
        offsets.add(np.zeros(1, np.int64))
        tokens = 0
        for one in parts:
            ids.add(one.ids)
            offsets.add(tokens + one.offsets[1:])
            tokens += len(one.ids)
        return cls(ids.array(), offsets.array())

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """`(texts,)` int64 number of tokens of each text."""
        return np.diff(self.offsets)

    def part(self, start: int, stop: int) -> Self:
        """The texts from `start` up to, not including, `stop`."""
        offsets = self.offsets[start : stop + 1]
        return replace(self, ids=self.ids[offsets[0] : offsets[-1]], offsets=offsets - offsets[0])

    def padded(self, rows: np.ndarray, padding: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The texts at `rows` as `(rows, longest)` int64 ids, and their `(rows,)` lengths."""
        starts, lengths = self.offsets[rows], self.offsets[np.asarray(rows) + 1] - self.offsets[rows]
        width = int(lengths.max(initial=1))
        columns = np.arange(width)
        valid = columns < lengths[:, None]
        out = np.full((len(starts), width), padding, dtype=np.int64)
        out[valid] = self.ids[(starts[:, None] + columns)[valid]]
        return out, lengths


class _Joined:
    """Arrays that come one after another, as one; of many, all but the last ones are on disk already."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.moved: list[np.ndarray] = []
        self.held: list[np.ndarray] = []
        self.bytes = 0

    def add(self, part: np.ndarray) -> None:
        self.held.append(part)
        self.bytes += part.nbytes
        if self.bytes > scratch.IN_MEMORY_BYTES:
            self.moved.append(self._copied(self.held))
            self.held, self.bytes = [], 0

    def array(self) -> np.ndarray:
        return self._copied([*self.moved, *self.held])

    def _copied(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        out, start = scratch.scratch_array((sum(map(len, arrays)),), self.dtype), 0
        for one in arrays:
            out[start : start + len(one)] = one
            start += len(one)
        return out


@dataclass(frozen=True)
class RaggedWords(RaggedTokens):
    """Texts whose tokens are words, each a short list of ids: ragged two levels deep, every distinct word held once.

    Attributes:
        ids: `(all words,)` int32 rows of `table`.
        table: `(distinct words + 1, letters)` int32 ids, 0 past a word's end; row 0, the word that pads, is all 0.
    """

    table: np.ndarray

    def padded(self, rows: np.ndarray, padding: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """The texts at `rows` as `(rows, most words, letters)` int64 ids padded with 0, and their `(rows,)` numbers of words."""
        del padding
        words, lengths = super().padded(rows)
        return self.table[words].astype(np.int64), lengths


def length_batches(lengths: np.ndarray, tokens_per_batch: int, rows_per_batch: int) -> list[np.ndarray]:
    """Positions grouped into batches of similar length, longest first, so that little is padded.

    Args:
        lengths: `(rows,)` number of tokens of each row.
        tokens_per_batch: Most tokens of a batch, padding counted; a single longer row is a batch of its own.
        rows_per_batch: Most rows of a batch.

    Returns:
        Positions into `lengths`; every position is in one batch. The result depends on `lengths` alone.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        count = max(1, min(rows_per_batch, tokens_per_batch // longest))
        batches.append(order[start : start + count])
        start += count
    return batches


def bucket_budget(lengths: np.ndarray, least: int = 4096) -> int:
    """Tokens of a forward pass in training: a few passes of similar length, none so small that its fixed cost shows.

    A pass pays for zeroing and adding the gradients of all weights, embeddings included, whatever its size.
    """
    return max(int(lengths.sum() * 1.15) // 3, least, int(lengths.max(initial=1)))
