"""Which rows are relevant where a teacher must say so: over all rows of a query, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import InputError
from pairstill.losses import InBatchCrossEntropy, InBatchMarginMSE, ScoreKind
from pairstill.training.data import TrainingData
from pairstill.training.in_batch_labels import in_batch_labels
from pairstill.tuples import Tuples

LEAST = {"logit": 0.0, "probability": 0.5, "other": float("-inf")}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0]), st.sampled_from([0.0, 0.4, 1.0, np.nan])), max_size=30),
    st.sampled_from(["logit", "probability", "other"]),
    st.booleans(),
)  # fmt: skip
def test_by_hand(rows: list[tuple[int, float, float]], kind: ScoreKind, labelled: bool) -> None:
    expected = []
    for query, score, label in rows:
        mine = [one for one in rows if one[0] == query]
        known = [one[2] for one in mine if labelled and not np.isnan(one[2])]
        best = max(one[1] for one in mine)
        rejected = len(mine) == 1 and best < LEAST[kind]
        chosen = not known and not rejected and score == best
        first = not any(one[0] == query and expected[at] == 1 for at, one in enumerate(rows[: len(expected)]))
        if known:
            expected.append(0.0 if np.isnan(label) else label)
        else:
            expected.append(1.0 if chosen and first else 0.0)
    columns = np.array(rows, np.float32).reshape(-1, 3)
    given_labels = columns[:, 2] if labelled else None
    found = in_batch_labels(columns[:, 0].astype(np.int64), columns[:, 1], given_labels, kind)
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def pairs(scores: list[float], queries: list[int], labels: list[float] | None = None) -> TrainingData:
    index = np.stack([np.array(queries), np.arange(len(queries))], axis=1)
    known = None if labels is None else np.array(labels, np.float32)
    tuples = Tuples(index, np.arange(len(queries)), known, None, index[:, 0])
    return TrainingData(tuples, np.array(scores, np.float32)[:, None])


def test_rows_that_the_teacher_rejects_only_lend_their_passages() -> None:
    data = pairs([3, -2, 1], [0, 1, 2])
    learnt = data.for_loss(InBatchCrossEntropy())
    assert learnt.tuples.labels is not None
    assert learnt.tuples.labels.tolist() == [1, 0, 1]
    again = learnt.for_loss(InBatchCrossEntropy()).tuples.labels
    assert again is not None
    assert again.tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="the teacher calls all irrelevant, each the only one of its query"):
        pairs([-3, -2, -1], [0, 1, 2]).for_loss(InBatchCrossEntropy())


def test_margins_against_the_batch_keep_their_labels() -> None:
    index = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    tuples = Tuples(index, np.arange(4), np.array([np.nan, 1, np.nan, np.nan], np.float32), None, index[:, 0])
    kept = TrainingData(tuples, np.ones((4, 1), np.float32)).for_loss(InBatchMarginMSE()).tuples.labels
    np.testing.assert_array_equal(kept, tuples.labels)  # type: ignore[arg-type]
