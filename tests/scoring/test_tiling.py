from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairstill.scoring.bulk.scorer import Scorer
from pairstill.scoring.bulk.tiling import score_rows
from pairstill.scoring.forecast import expected_distinct, prepared_in_chunk


class Counting(Scorer):
    """Prepared items are their row numbers; a score names the items of the pair."""

    def __init__(self, fields: int) -> None:
        super().__init__([], 1)
        self._bytes_per_item = [1.0] * fields
        self.largest = [0] * fields
        self.times = [0] * fields

    def _prepare(self, field: int, rows: np.ndarray) -> Any:
        self.largest[field] = max(self.largest[field], len(rows))
        self.times[field] += len(rows)
        return rows

    def _score(self, prepared: Sequence[Any], index: np.ndarray) -> np.ndarray:
        names = sum(100.0**field * rows[index[:, field]] for field, rows in enumerate(prepared))
        return np.asarray(names, np.float32)[:, None]


@given(
    fields=st.integers(1, 3), count=st.integers(0, 80), seed=st.integers(0, 99),
    limits=st.tuples(st.integers(1, 20), st.integers(1, 20), st.integers(1, 20)),
)  # fmt: skip
def test_every_pair_gets_its_own_score_and_no_tile_is_larger_than_its_limit(
    fields: int, count: int, seed: int, limits: tuple[int, ...]
) -> None:
    rows = np.random.default_rng(seed).integers(0, 30, (count, fields))
    scorer = Counting(fields)
    found = score_rows(scorer, rows, limits[:fields])
    assert (
        found[:, 0].tolist()
        == sum(100.0**field * rows[:, field] for field in range(fields)).astype(np.float32).tolist()
    )
    assert all(one <= limit for one, limit in zip(scorer.largest, limits, strict=False))


def test_items_that_have_room_are_prepared_once_and_the_forecast_knows_how_often_others_are() -> None:
    random, pairs, items, limits = np.random.default_rng(0), 20_000, (500, 3000), (600, 400)
    rows = np.stack([random.integers(0, count, pairs) for count in items], axis=1)
    scorer = Counting(2)
    score_rows(scorer, rows, limits)
    assert scorer.times == [500, len(np.unique(rows[:, 1]))]
    for limits in ((600, 400), (60, 400), (10, 3000)):
        scorer = Counting(2)
        score_rows(scorer, rows, limits)
        expected = prepared_in_chunk(items, pairs, limits)
        assert np.allclose(np.array(scorer.times) / pairs, expected, rtol=0.05)


def test_expected_distinct_items() -> None:
    assert expected_distinct(1, 5) == 1
    random = np.random.default_rng(0)
    assert abs(expected_distinct(1000, 700) - len(np.unique(random.integers(0, 1000, 700)))) < 30
