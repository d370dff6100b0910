"""Which tokens are masked, and with what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.errors import InputError
from pairstill.training.masking import Masking
from tiny import tiny_tokenizer

MASK, SIZE = 4, 50
SPECIAL = np.arange(SIZE) < 5
CONTINUES = (np.arange(SIZE) >= 30) & (np.arange(SIZE) < 40)


def sequences(generator: np.random.Generator, rows: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = generator.integers(3, longest + 3, rows)
    ids = np.zeros((rows, lengths.max()), dtype=np.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = [2, generator.integers(5, 30), *generator.integers(5, SIZE, length - 3), 3]
    return ids, lengths


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 12), st.booleans())
def test_words_are_chosen_whole_and_every_sequence_has_one(seed: int, rows: int, longest: int, whole: bool) -> None:
    ids, lengths = sequences(np.random.default_rng(seed), rows, longest)
    masking = Masking(MASK, SPECIAL, CONTINUES if whole else None)
    seen, chosen = masking.apply(ids, lengths, np.random.default_rng(seed))
    again, same = masking.apply(ids, lengths, np.random.default_rng(seed))
    np.testing.assert_array_equal(seen, again)
    np.testing.assert_array_equal(chosen, same)
    np.testing.assert_array_equal(seen[~chosen], ids[~chosen])
    for row in range(rows):
        assert chosen[row].any()
        for column in range(ids.shape[1]):
            if chosen[row, column]:
                assert column < lengths[row]
                assert not SPECIAL[ids[row, column]]
                assert seen[row, column] == MASK or not SPECIAL[seen[row, column]]
            if whole and CONTINUES[ids[row, column]]:
                assert chosen[row, column] == chosen[row, column - 1]


@pytest.mark.parametrize("whole", [False, True])
def test_shares(whole: bool) -> None:
    generator = np.random.default_rng(0)
    ids, lengths = sequences(generator, 400, 200)
    seen, chosen = Masking(MASK, SPECIAL, CONTINUES if whole else None).apply(ids, lengths, generator)
    inner = (np.arange(ids.shape[1]) < lengths[:, None]) & ~SPECIAL[ids]
    assert chosen.sum() / inner.sum() == pytest.approx(0.15, abs=0.01)
    assert (seen[chosen] == MASK).mean() == pytest.approx(0.8, abs=0.02)
    # A random token is the right one once in 45 times.
    assert (seen[chosen] == ids[chosen]).mean() == pytest.approx(0.1 + 0.1 / 45, abs=0.02)


def test_tokenizers() -> None:
    tokenizer = tiny_tokenizer()
    masking = Masking.of_tokenizer(tokenizer, whole_words=False)
    assert masking.mask == 4
    # An unknown word is a word to be guessed from its neighbours like any other.
    assert np.flatnonzero(masking.special).tolist() == [0, 2, 3, 4]
    with pytest.raises(InputError, match=r"does not say where words begin.*--masking tokens"):
        Masking.of_tokenizer(tokenizer)
    with pytest.raises(InputError, match="the share of masked tokens is 1"):
        Masking.of_tokenizer(tokenizer, whole_words=False, share=1.0)
    tokenizer.mask_token = None
    with pytest.raises(InputError, match="no mask token"):
        Masking.of_tokenizer(tokenizer)
