from __future__ import annotations

import weakref
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairstill import scratch
from pairstill.tokens.ragged import RaggedTokens, bucket_budget, length_batches

lists = st.lists(st.lists(st.integers(0, 1000), max_size=12), min_size=1, max_size=20)


@given(lists, st.integers(0, 5))
def test_padding_keeps_every_token(texts: list[list[int]], padding: int) -> None:
    tokens = RaggedTokens.from_lists(texts)
    assert tokens.lengths.tolist() == [len(one) for one in texts]
    rows = np.arange(len(texts))[::-1]
    ids, lengths = tokens.padded(rows, padding)
    for row, length, place in zip(ids, lengths, rows, strict=True):
        assert row[:length].tolist() == texts[place]
        assert (row[length:] == padding).all()


@given(st.lists(st.integers(0, 100), max_size=60), st.integers(1, 300), st.integers(1, 10))
def test_batches_cover_each_row_once_within_the_budget(lengths: list[int], tokens: int, rows: int) -> None:
    sizes = np.array(lengths, dtype=np.int64)
    batches = length_batches(sizes, tokens, rows)
    assert sorted(int(one) for batch in batches for one in batch) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) <= rows
        assert len(batch) == 1 or len(batch) * sizes[batch].max() <= max(tokens, len(batch))


def test_training_passes_are_not_too_small() -> None:
    assert bucket_budget(np.array([10, 20])) == 4096
    assert bucket_budget(np.full(1000, 100)) == int(100_000 * 1.15) // 3


@given(st.lists(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=5), max_size=4))
def test_parts_are_put_together(parts: list[list[list[int]]]) -> None:
    expected = RaggedTokens.from_lists([text for one in parts for text in one])
    for limit in (scratch.IN_MEMORY_BYTES, 40, 0):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(scratch, "IN_MEMORY_BYTES", limit)
            whole = RaggedTokens.concatenate(RaggedTokens.from_lists(one) for one in parts)
        np.testing.assert_array_equal(whole.ids, expected.ids)
        np.testing.assert_array_equal(whole.offsets, expected.offsets)
        assert (whole.ids.dtype, whole.offsets.dtype) == (expected.ids.dtype, expected.offsets.dtype)


def test_few_parts_are_held_while_they_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is over the limit is on disk before the next part is made."""
    monkeypatch.setattr(scratch, "IN_MEMORY_BYTES", 10_000)
    made: list[weakref.ref[np.ndarray]] = []

    def parts() -> Iterator[RaggedTokens]:
        for number in range(50):
            assert sum(one() is not None for one in made) <= 4
            part = RaggedTokens.from_lists([[number] * 1000])
            made.append(weakref.ref(part.ids))
            yield part
            del part

    whole = RaggedTokens.concatenate(parts())
    np.testing.assert_array_equal(whole.ids, np.repeat(np.arange(50), 1000))
