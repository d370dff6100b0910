"""The best of each left item, found a part at a time: what is no more needed is dropped as soon as that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pairstill.store import RepresentationStore


@dataclass(frozen=True)
class Scored:
    """Scored pairs.

    Attributes:
        rows: `(pairs, fields)` store rows.
        scores: `(pairs,)` float32.
    """

    rows: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.scores)

    def take(self, positions: np.ndarray) -> Scored:
        """The pairs at these positions."""
        return Scored(self.rows[positions], self.scores[positions])

    @classmethod
    def empty(cls, fields: int) -> Scored:
        """No pairs."""
        return cls(np.empty((0, fields), np.int64), np.empty(0, np.float32))


def joined(parts: Sequence[Scored]) -> Scored:
    """Pairs of all parts, one behind the other."""
    return Scored(np.concatenate([one.rows for one in parts]), np.concatenate([one.scores for one in parts]))


def without_repeats(rows: np.ndarray) -> np.ndarray:
    """Positions of the first of every distinct row of `rows (pairs, fields)`, in the order of their items."""
    order = np.lexsort(rows.T[::-1])
    ascending = rows[order]
    first = np.ones(len(rows), bool)
    first[1:] = (ascending[1:] != ascending[:-1]).any(axis=1)
    return order[first]


def keep_top(scored: Scored, count: int, stores: Sequence[RepresentationStore]) -> Scored:
    """The `count` best pairs of every item of field 0, ordered by left row, then from the highest score down.

    A pair that comes twice counts once. Of equal scores the ones with the smaller ids (compared as UTF-8 bytes, integers by
    value; field 1 first) win a place; their order in the result is by store row. Keeping the best of parts and then of what
    they kept gives the same pairs as keeping the best of everything at once.

    Args:
        scored: Pairs.
        count: At least 1.
        stores: One a field, for the ids of equal scores.
    """
    if not len(scored):
        return scored
    scored = scored.take(without_repeats(scored.rows))
    left = scored.rows[:, 0]
    order = np.lexsort((-scored.scores, left))
    left, scores = left[order], scored.scores[order]
    starts = np.flatnonzero(np.diff(left, prepend=left[0] - 1))
    sizes = np.diff(starts, append=len(left))
    rank = np.arange(len(left)) - np.repeat(starts, sizes)
    # Groups in which the last that is kept and the first that is dropped have equal scores.
    full = starts[sizes > count]
    tied = full[scores[full + count - 1] == scores[full + count]]
    kept = rank < count
    if tied.size:
        boundary = np.full(len(left), np.nan, np.float32)
        spread = sizes[np.searchsorted(starts, tied)]
        group = np.repeat(tied, spread)
        members = group + np.arange(len(group)) - np.repeat(np.cumsum(spread) - spread, spread)
        boundary[members] = np.repeat(scores[tied + count - 1], spread)
        ties = np.flatnonzero(scores == boundary)
        owner = tied[np.searchsorted(tied, ties, side="right") - 1]
        wins = ties[_by_ids(owner, scored.rows[order[ties], 1:], stores[1:])]
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        place = np.arange(len(ties)) - np.repeat(first, np.diff(first, append=len(ties)))
        # The ties of a group stand side by side from their first rank on.
        room = count - rank[ties[first]]
        kept[ties] = False
        kept[wins[place < np.repeat(room, np.diff(first, append=len(ties)))]] = True
    return scored.take(order[kept])


def _by_ids(owner: np.ndarray, rows: np.ndarray, stores: Sequence[RepresentationStore]) -> np.ndarray:
    """Positions sorted by owner, then by the ids of the rows."""
    columns = {f"{field}": store.ids_at(rows[:, field]) for field, store in enumerate(stores)}
    table = pa.table({"owner": owner, **columns})
    return np.asarray(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names]).to_numpy())


def final_order(rows: np.ndarray, scores: np.ndarray, ids: Sequence[pa.Array]) -> np.ndarray:
    """Positions ordered by left row, then from the highest score down, equal ones by their ids.

    Args:
        rows: `(pairs,)` left store rows.
        scores: `(pairs,)`.
        ids: Of the other fields, each `(pairs,)`.
    """
    table = pa.table({"left": rows, "score": -scores, **{f"id{number}": one for number, one in enumerate(ids)}})
    return np.asarray(pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names]).to_numpy())
