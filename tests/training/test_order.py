from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pairstill.training.order import epoch_order


@given(st.integers(1, 200), st.integers(0, 3), st.integers(0, 3), st.sampled_from([1, 4, 50]))
def test_every_row_once_and_the_same_again(rows: int, seed: int, epoch: int, cluster: int) -> None:
    generator = np.random.default_rng(rows)
    index, groups = generator.integers(0, 20, (rows, 2)), generator.integers(0, 9, rows)
    order = epoch_order(index, groups, seed, epoch, cluster)
    assert sorted(order.tolist()) == list(range(rows))
    np.testing.assert_array_equal(order, epoch_order(index, groups, seed, epoch, cluster))


def test_clusters_have_fewer_distinct_texts_and_other_passes_other_orders() -> None:
    generator = np.random.default_rng(0)
    topic = generator.integers(0, 40, 4000)
    index = np.stack([topic * 5 + generator.integers(0, 5, 4000), topic * 25 + generator.integers(0, 25, 4000)], axis=1)

    def texts(cluster: int) -> float:
        order = epoch_order(index, index[:, 0], 0, 0, cluster)
        batches = order[: 4000 // 128 * 128].reshape(-1, 128)
        return float(np.mean([len(np.unique(index[batch, 0])) + len(np.unique(index[batch, 1])) for batch in batches]))

    assert texts(32) < 0.7 * texts(1)
    assert (epoch_order(index, index[:, 0], 0, 0, 32) != epoch_order(index, index[:, 0], 0, 1, 32)).any()
