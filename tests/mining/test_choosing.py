from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairstill.mining.choosing import draw, hash_ids, mix, repeats_in_row, wanted_negatives


@given(st.permutations(range(12)))
def test_a_hash_depends_on_the_id_alone(order: list[int]) -> None:
    ids = [f"item {number}" for number in range(12)]
    straight = hash_ids(0, "x", ids)
    assert hash_ids(0, "x", [ids[place] for place in order]).tolist() == straight[list(order)].tolist()
    assert len(set(straight.tolist())) == len(ids)


def test_seed_and_purpose_change_hashes() -> None:
    assert hash_ids(0, "a", ["x"]) != hash_ids(1, "a", ["x"])
    assert hash_ids(0, "a", ["x"]) != hash_ids(0, "b", ["x"])


def test_mixed_hashes_are_spread_evenly() -> None:
    left, right = hash_ids(0, "p", [str(n) for n in range(300)]), hash_ids(0, "q", [str(n) for n in range(100)])
    values = mix(left[None, :], right[:, None]) / 2.0**64
    assert values.shape == (100, 300)
    assert abs(values.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(values[0], values[1])[0, 1]) < 0.2


def test_repeats_keep_the_first() -> None:
    assert repeats_in_row(np.array([[1, 2, 1, 1], [3, 3, 4, 4]])).tolist() == [
        [False, False, True, True], [False, True, False, True],
    ]  # fmt: skip


def test_fractions_are_met_over_many_queries() -> None:
    hashes = hash_ids(0, "q", [str(number) for number in range(4000)])
    positives = np.ones(4000, dtype=np.int64)
    assert abs(wanted_negatives(positives, 0.25, hashes).mean() - 0.25) < 0.03
    assert (wanted_negatives(positives * 3, 2, hashes) == 6).all()


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 1000))
def test_draw_takes_only_what_is_allowed_and_the_lowest_hashes(rows: int, columns: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    allowed = generator.random((rows, columns)) < 0.5
    hashes = generator.integers(0, 2**63, (rows, columns)).astype(np.uint64)
    wanted = generator.integers(0, columns + 2, rows)
    row, column = draw(allowed, hashes, wanted)
    for number in range(rows):
        mine = column[row == number]
        best = sorted(np.flatnonzero(allowed[number]), key=lambda place: hashes[number, place])
        assert mine.tolist() == best[: wanted[number]]
