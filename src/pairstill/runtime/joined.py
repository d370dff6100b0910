"""A cross-encoder: all texts of a tuple in one sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pairstill.representation import Representation
from pairstill.runtime.graph import Graph
from pairstill.tokens.ragged import length_batches

TOKENS_PER_BLOCK = 1024
TUPLES_PER_BLOCK = 64


class JoinedHead:
    """Joins the token ids of a tuple's texts, cut longest-first, and runs the transformer over them.

    Args:
        graph: From `ids`, `lengths` and possibly `types` to `logits`.
        spec: `before`, `between`, `after` (special ids around and between the texts), `types` (whether later texts have token
            type 1), `max_length`.
        padding: Id of the padding token.
    """

    def __init__(self, graph: Graph, spec: Mapping[str, Any], padding: int) -> None:
        self.graph, self.padding, self.max_length = graph, padding, int(spec["max_length"])
        self.before, self.between, self.after = (list(spec[name]) for name in ("before", "between", "after"))
        self.types = bool(spec["types"])

    def prepare(self, field: int, representation: Representation[np.ndarray]) -> dict[str, np.ndarray]:
        """The token ids."""
        del field
        return {"ids": representation.vectors, "lengths": representation.lengths}

    def blocks(self, prepared: Sequence[Mapping[str, np.ndarray]], index: np.ndarray) -> list[np.ndarray]:
        """Tuples of similar length."""
        lengths = sum(one["lengths"][index[:, field]] for field, one in enumerate(prepared))
        joined = np.minimum(np.asarray(lengths) + self._special(len(prepared)), self.max_length)
        return length_batches(joined, TOKENS_PER_BLOCK, TUPLES_PER_BLOCK)

    def score(self, prepared: Sequence[Mapping[str, np.ndarray]], index: np.ndarray) -> np.ndarray:
        """Logits of the joined tuples."""
        ids, types, lengths = self.join(
            [one["ids"][index[:, field], : self.max_length] for field, one in enumerate(prepared)],
            [one["lengths"][index[:, field]] for field, one in enumerate(prepared)],
        )
        return self.graph.run({"ids": ids, "types": types, "lengths": lengths})["logits"]

    def join(
        self, ids: Sequence[np.ndarray], lengths: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Join texts into sequences.

        Args:
            ids: Per field, `(tuples, tokens)` ids without special ones.
            lengths: Per field, `(tuples,)`.

        Returns:
            Ids and token types `(tuples, width)`, and the lengths of the sequences `(tuples,)`.
        """
        kept = kept_lengths(np.stack(lengths, axis=1), self.max_length - self._special(len(ids)))
        total = kept.sum(axis=1) + self._special(len(ids))
        columns = np.arange(int(total.max()))
        out = np.full((len(kept), len(columns)), self.padding, np.int64)
        types = np.zeros_like(out)
        rows, place = np.arange(len(kept)), np.zeros(len(kept), np.int64)

        def special(tokens: Sequence[int]) -> None:
            nonlocal place
            for token in tokens:
                out[rows, place] = token
                place = place + 1

        special(self.before)
        for field, one in enumerate(ids):
            size = kept[:, field]
            target = (columns >= place[:, None]) & (columns < (place + size)[:, None])
            out[target] = one[np.arange(one.shape[1]) < size[:, None]]
            place = place + size
            if field < len(ids) - 1:
                special(self.between)
                if self.types and field == 0:
                    types[(columns >= place[:, None]) & (columns < total[:, None])] = 1
        special(self.after)
        return out, types, total

    def _special(self, fields: int) -> int:
        return len(self.before) + len(self.between) * (fields - 1) + len(self.after)


def kept_lengths(lengths: np.ndarray, budget: int) -> np.ndarray:
    """How much of each text is kept: `(tuples, fields)` -> the same, cut longest-first as `tokenizers` does.

    One token at a time comes off the longest text; for two texts the closed form of that library is used, which gives the odd
    token to the longer text.

    Args:
        lengths: Tokens of each text.
        budget: Tokens that all texts of a tuple have together, at most.
    """
    budget, fields = max(budget, 0), lengths.shape[1]
    if fields == 1:
        return np.asarray(np.minimum(lengths, budget))
    if fields == 2:
        short, long = lengths.min(axis=1), lengths.max(axis=1)
        kept_long = np.where(short > budget, short, np.maximum(short, budget - short))
        over = short + kept_long > budget
        short = np.where(over, budget // 2, short)
        kept_long = np.minimum(np.where(over, budget // 2 + budget % 2, kept_long), long)
        longer_first = (lengths[:, 0] > lengths[:, 1])[:, None]
        return np.where(longer_first, np.stack([kept_long, short], axis=1), np.stack([short, kept_long], axis=1))
    # The largest common ceiling that fits, then the tokens left over, first fields first.
    low, high = np.zeros(len(lengths), np.int64), np.full(len(lengths), budget, np.int64)
    while (low < high).any():
        middle = (low + high + 1) // 2
        fits = np.minimum(lengths, middle[:, None]).sum(axis=1) <= budget
        low, high = np.where(fits, middle, low), np.where(fits, high, middle - 1)
    kept = np.asarray(np.minimum(lengths, low[:, None]))
    for field in range(fields):
        spare = budget - kept.sum(axis=1)
        kept[:, field] += (spare > 0) & (kept[:, field] < lengths[:, field])
    return kept
