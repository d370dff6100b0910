"""N-grams in plain Python are those of the compiled loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pairstill.tokens.ngram_text import NGramSettings, PlainNGrams
from pairstill.tokens.ngrams import NGramTokenizer

TEXTS = [
    "Red running Shoe",
    "a,b  c!\t^ $s",
    "",
    "Über İstanbul straße \x1c x",
    "red red red",
    "^",
    "x\u00a0y 東京 shoe",
]
WAYS = [
    NGramSettings(bigrams, split, buckets)
    for bigrams in (True, False)
    for split in (True, False)
    for buckets in (None, 97)
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("most_words", [None, 2])
def test_ids(way: NGramSettings, most_words: int | None, tmp_path: Path) -> None:
    tokenizer = NGramTokenizer.learn(TEXTS, way, size=40)
    tokenizer.save_pretrained(str(tmp_path))
    plain, compiled = PlainNGrams.from_folder(tmp_path).encode(TEXTS, most_words), tokenizer.encode(TEXTS, most_words)
    np.testing.assert_array_equal(plain.ids, compiled.ids)
    np.testing.assert_array_equal(plain.offsets, compiled.offsets)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
def test_any_text(texts: list[str]) -> None:
    way = NGramSettings(split_punctuation=True, hash_buckets=1 << 20)
    plain, compiled = PlainNGrams(way, None).encode(texts), NGramTokenizer(way).encode(texts)
    np.testing.assert_array_equal(plain.ids, compiled.ids)
    np.testing.assert_array_equal(plain.offsets, compiled.offsets)
