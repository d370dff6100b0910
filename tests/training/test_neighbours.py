from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.training.neighbours import neighbours


def plainly(group: np.ndarray, items: np.ndarray, begin: np.ndarray, cluster_rows: int) -> np.ndarray:
    """Shares of the rows of each group left whose item the cluster has; the largest is next, or the next of `begin`."""
    order: list[int] = []
    cluster: set[int] = set()
    rows = 0
    for _ in begin:
        left = [one for one in begin if one not in order]
        share = {one: float(np.mean([item in cluster for item in items[group == one]])) for one in left}
        best = max(share.values())
        # Which of equals comes is not promised; the compiled function takes the one that it met first.
        chosen = [one for one in left if share[one] == best] if best else left[:1]
        order.append(int(chosen[0]) if len(chosen) == 1 else -1)
        if order[-1] < 0:
            return np.array(order[:-1])
        rows += int((group == order[-1]).sum())
        if rows >= cluster_rows:
            rows, cluster = rows % cluster_rows, set()
            if not rows:
                continue
        cluster |= set(items[group == order[-1]].tolist())
    return np.array(order)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(2, 40))
def test_it_is_a_permutation_and_the_greedy_one(seed: int, groups: int, cluster_rows: int) -> None:
    generator = np.random.default_rng(seed)
    group = np.concatenate([np.arange(groups), generator.integers(0, groups, 3 * groups)])
    items = generator.integers(0, 2 * groups, len(group))
    begin = generator.permutation(groups)
    order = neighbours(group, items, begin, cluster_rows)
    assert sorted(order.tolist()) == list(range(groups))
    expected = plainly(group, items, begin, cluster_rows)
    np.testing.assert_array_equal(order[: len(expected)], expected)


def test_topics_are_found_whole() -> None:
    topics = np.random.default_rng(0).permutation(np.repeat(np.arange(40), 8))
    group = np.repeat(np.arange(320), 5)
    items = topics[group] * 5 + np.tile(np.arange(5), 320)
    order = neighbours(group, items, np.random.default_rng(1).permutation(320), 40)
    assert (np.ptp(topics[order].reshape(40, 8), axis=1) == 0).all()


def test_items_of_many_groups_are_followed_to_their_last_group() -> None:
    items = np.random.default_rng(0).permutation(np.repeat(np.arange(40), 100))
    order = neighbours(np.arange(4000), items, np.random.default_rng(1).permutation(4000), 8)
    distinct = [len(np.unique(cluster)) for cluster in items[order].reshape(-1, 8)]
    assert np.mean(distinct) < 1.2


def test_other_groups_meet_in_another_pass() -> None:
    items = np.random.default_rng(0).integers(0, 40, 2000)

    def together(seed: int) -> set[tuple[int, int]]:
        order = neighbours(np.arange(2000), items, np.random.default_rng(seed).permutation(2000), 8)
        return {
            (min(pair), max(pair)) for one in order.reshape(-1, 8).tolist() for pair in itertools.combinations(one, 2)
        }

    first, second = together(1), together(2)
    assert len(first & second) < 0.2 * len(first)


def test_groups_without_neighbours_stay_as_they_begin() -> None:
    nowhere = neighbours(np.arange(50), np.arange(50), np.arange(50)[::-1].copy(), 8)
    assert nowhere.tolist() == list(range(49, -1, -1))
