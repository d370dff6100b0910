from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pairstill.scoring.bulk.top import Scored, final_order, joined, keep_top, without_repeats

LEFT, RIGHT = 5, 9


class Store:
    """Ids in an order that is not that of the rows."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = pa.array(ids)

    def ids_at(self, rows: np.ndarray) -> pa.Array:
        return self.ids.take(pa.array(rows))


STORES = [Store([f"q{row}" for row in range(LEFT)]), Store([f"p{(row * 5) % RIGHT}" for row in range(RIGHT)])]
PAIRS = st.lists(st.tuples(st.integers(0, LEFT - 1), st.integers(0, RIGHT - 1)), max_size=60)


def score_of(pairs: list[tuple[int, int]], levels: int) -> Scored:
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    return Scored(rows, ((rows[:, 0] * 31 + rows[:, 1] * 17) % levels).astype(np.float32))


def plainly(scored: Scored, count: int) -> list[tuple[int, str, float]]:
    ids = STORES[1].ids.to_pylist()
    found = []
    for left in range(LEFT):
        mine = {
            (-float(score), ids[row[1]])
            for row, score in zip(scored.rows, scored.scores, strict=True)
            if row[0] == left
        }
        found += [(left, one, -score) for score, one in sorted(mine)[:count]]
    return found


def ordered(scored: Scored) -> list[tuple[int, str, float]]:
    ids = STORES[1].ids_at(scored.rows[:, 1])
    order = final_order(scored.rows[:, 0], scored.scores, [ids])
    return [(int(scored.rows[place, 0]), ids[int(place)].as_py(), float(scored.scores[place])) for place in order]


@given(pairs=PAIRS, levels=st.integers(1, 50), count=st.integers(1, 10))
def test_the_best_are_those_of_a_plain_sort_with_ties_by_id(
    pairs: list[tuple[int, int]], levels: int, count: int
) -> None:
    scored = score_of(pairs, levels)
    assert ordered(keep_top(scored, count, STORES)) == plainly(scored, count)  # type: ignore[arg-type]


@given(pairs=PAIRS, levels=st.integers(1, 6), count=st.integers(1, 6), cuts=st.lists(st.integers(0, 60), max_size=5))
def test_the_best_of_parts_are_the_best_of_all(
    pairs: list[tuple[int, int]], levels: int, count: int, cuts: list[int]
) -> None:
    scored = score_of(pairs, levels)
    parts = np.split(np.arange(len(scored)), sorted(min(cut, len(scored)) for cut in cuts))
    kept = [keep_top(scored.take(part), count, STORES) for part in parts]  # type: ignore[arg-type]
    assert ordered(keep_top(joined(kept), count, STORES)) == plainly(scored, count)  # type: ignore[arg-type]


@given(pairs=PAIRS)
def test_repeats_are_found(pairs: list[tuple[int, int]]) -> None:
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    assert [tuple(row) for row in rows[without_repeats(rows)].tolist()] == sorted(set(pairs))


def test_three_fields_tie_by_the_ids_of_the_second_and_then_the_third() -> None:
    stores = [STORES[0], Store(["b", "a"]), Store(["y", "x"])]
    rows = np.array([[0, 0, 1], [0, 1, 0], [0, 1, 1], [0, 0, 0]])
    best = keep_top(Scored(rows, np.zeros(4, np.float32)), 2, stores)  # type: ignore[arg-type]
    assert best.rows.tolist() == [[0, 1, 0], [0, 1, 1]]
