import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import InputError
from pairstill.evaluation.analyses.margins import margins_of


def plain_margins(logits, labels, groups):
    return sorted(
        logits[i] - logits[j]
        for i in range(len(logits))
        for j in range(len(logits))
        if groups[i] == groups[j] and labels[i] > labels[j]
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 4]), st.integers(2, 30))
def test_margins_are_those_of_every_pair(seed, grades, rows):
    rng = np.random.default_rng(seed)
    logits = rng.integers(-4, 5, rows).astype(float)
    labels, groups = rng.integers(0, grades, rows) / grades, rng.integers(0, 4, rows)
    expected = plain_margins(logits, labels, groups)
    if not expected:
        with pytest.raises(InputError, match="no group has two items with different labels"):
            margins_of("t", logits, labels, groups)
        return
    found = margins_of("t", logits, labels, groups)
    assert (found.pairs, found.measured) == (len(expected), len(expected))
    assert found.below_zero == pytest.approx(sum(one < 0 for one in expected) / len(expected))
    assert found.at_zero == pytest.approx(sum(one == 0 for one in expected) / len(expected))
    assert found.mean == pytest.approx(sum(expected) / len(expected), abs=1e-12)
    assert found.quantiles["0.5"] == pytest.approx(np.quantile(expected, 0.5))
    with_pair = {g for g in groups if plain_margins(logits[groups == g], labels[groups == g], groups[groups == g])}
    assert found.groups == len(with_pair)
    assert sum(found.counts) == len(expected)
    below = sum(count for edge, count in zip(found.edges, found.counts, strict=False) if edge < -1e-9)
    assert below == sum(one < 0 for one in expected)


def test_many_pairs_are_drawn_and_the_draw_is_seeded():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=400), rng.integers(0, 2, 400).astype(float)
    groups = np.zeros(400, dtype=int)
    whole = margins_of("t", logits + 2 * labels, labels, groups)
    part = margins_of("t", logits + 2 * labels, labels, groups, most=5000)
    assert (part.pairs, part.measured) == (whole.pairs, 5000)
    assert part.mean == pytest.approx(whole.mean, abs=0.1)
    assert part == margins_of("t", logits + 2 * labels, labels, groups, most=5000)
    assert part != margins_of("t", logits + 2 * labels, labels, groups, most=5000, seed=1)


def test_many_pairs_are_drawn_without_listing_them_all():
    labels = np.repeat([0.0, 1.0], 20_000)
    tracemalloc.start()
    found = margins_of("t", labels, labels, np.zeros(40_000, dtype=int), most=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.pairs, found.measured, found.mean) == (400_000_000, 1000, 1.0)
    assert peak < 50_000_000


def test_a_teacher_that_says_one_thing_has_one_bin_from_zero():
    found = margins_of("t", np.ones(4), np.array([0.0, 1.0, 0.0, 1.0]), np.zeros(4, dtype=int))
    assert (found.below_zero, found.at_zero, found.edges[0]) == (0.0, 1.0, 0.0)
    assert found.counts == (4,)
