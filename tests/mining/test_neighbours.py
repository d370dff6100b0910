from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.mining.neighbours import Blocks, nearest_by_dot


def brute_force(queries: np.ndarray, passages: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    similarities = queries.astype(np.float32) @ passages.astype(np.float32).T
    items = np.argsort(-similarities, axis=1, kind="stable")[:, :depth]
    return items, np.take_along_axis(similarities, items, axis=1)


@settings(deadline=None, max_examples=150)
@given(
    queries=st.integers(1, 9), passages=st.integers(1, 60), depth=st.integers(1, 12), dim=st.integers(1, 3),
    query_block=st.integers(1, 5), passage_block=st.integers(1, 25), seed=st.integers(0, 10_000),
)  # fmt: skip
def test_blocks_give_what_brute_force_gives_with_ties(
    queries: int, passages: int, depth: int, dim: int, query_block: int, passage_block: int, seed: int
) -> None:
    # Small whole numbers: sums are exact, and equal similarities are frequent.
    generator = np.random.default_rng(seed)
    left = generator.integers(-2, 3, (queries, dim)).astype(np.float32)
    right = generator.integers(-2, 3, (passages, dim)).astype(np.float16)
    found = nearest_by_dot(left, right, depth, query_block=query_block, passage_block=passage_block)
    items, similarities = brute_force(left, right, min(depth, passages))
    np.testing.assert_array_equal(found.items, items)
    np.testing.assert_array_equal(found.similarities, similarities)


@pytest.mark.parametrize("direction", [1, -1])
def test_sorted_passages_are_no_harder(direction: int) -> None:
    passages = np.arange(1000, dtype=np.float32)[::direction, None].copy()
    found = nearest_by_dot(np.ones((2, 1), np.float32), passages, 3, passage_block=100)
    assert found.similarities.tolist() == [[999, 998, 997]] * 2


def test_progress_ends_at_all_queries() -> None:
    seen: list[tuple[int, int]] = []
    vectors = np.eye(7, dtype=np.float32)
    nearest_by_dot(vectors, vectors, 2, query_block=3, passage_block=2, progress=lambda *one: seen.append(one))
    assert seen[-1] == (7, 7)
    assert seen == sorted(seen)


def test_blocks_read_like_one_matrix() -> None:
    matrix = np.arange(40).reshape(20, 2)
    blocks = Blocks([matrix[:7], matrix[7:8], matrix[8:]])
    assert len(blocks) == 20
    for start in range(0, 21):
        for stop in range(start, 23):
            np.testing.assert_array_equal(blocks[start:stop], matrix[start:stop])
    rows = np.array([19, 0, 7, 7, 8, 6])
    np.testing.assert_array_equal(blocks.take(rows), matrix[rows])
