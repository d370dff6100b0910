"""BM25's ranking against its formula, and the order of equal scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pairstill.retrieval import bm25
from pairstill.retrieval.bm25 import BM25, K1, B, Items, search_words
from pairstill.retrieval.run import read_run
from pairstill.retrieval.search import Queries
from pairstill.tokens.words import words as words_of


def plain(query: str, texts: list[str]) -> list[float]:
    """Lucene's form: idf(w) tf / (tf + k1 (1 - b + b length / mean length)), summed over the query's words."""
    words = [words_of(text) for text in texts]
    mean = sum(map(len, words)) / len(words)
    scores = []
    for of_text in words:
        total = 0.0
        for word in words_of(query):
            having = sum(word in other for other in words)
            count = of_text.count(word)
            idf = math.log(1 + (len(words) - having + 0.5) / (having + 0.5))
            total += idf * count / (count + K1 * (1 - B + B * len(of_text) / mean)) if count else 0.0
        scores.append(total)
    return scores


def test_scores_are_those_of_the_formula() -> None:
    generator = np.random.default_rng(0)
    texts = [
        " ".join(f"word{n}" for n in generator.integers(0, 30, length)) for length in generator.integers(1, 25, 60)
    ]
    queries = ["word3 word7", "word1 word1 word29", "word12"]
    found = BM25(texts).search(queries, 60)
    for row, query in enumerate(queries):
        expected = np.asarray(plain(query, texts))
        kept = found.rows[row][found.rows[row] >= 0]
        assert sorted(kept) == np.flatnonzero(expected > 0).tolist()
        np.testing.assert_allclose(found.scores[row][: len(kept)], expected[kept], rtol=1e-5)
        assert (np.diff(found.scores[row][: len(kept)]) <= 0).all()


def test_rare_words_count_and_texts_without_any_are_left_out() -> None:
    texts = ["the cat sat", "the dog ran", "a zebra and the cat", "nothing shared here", "the cat sat"]
    found = BM25(texts).search(["cat zebra", "unheard", ""], 4)
    assert found.rows[0, 0] == 2
    assert found.rows[0].tolist()[1:3] == [0, 4]  # equal scores: by number
    assert 3 not in found.rows[0]
    assert (found.rows[1:] == -1).all()
    assert np.isneginf(found.scores[1:]).all()


def test_words_of_one_letter_and_plurals_count() -> None:
    found = BM25(["garden hose 5 ft", "garden hoses 9 ft", "C"]).search(["5 hoses", "c"], 3)
    assert found.rows.tolist() == [[0, 1, -1], [2, -1, -1]]


def test_texts_without_words_are_not_found() -> None:
    found = BM25(["...", "!"]).search(["anything", "!"], 2)
    assert (found.rows == -1).all()


def test_blocks_of_queries_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"word{number % 7} word{number % 3}" for number in range(20)]
    items = Items(pa.array([f"i{number}" for number in range(20)]), texts, "item")
    asked = ["word1 word2", "none", "word6", "word0"]
    queries = Queries(pa.array([1, 2, 3, 4]), asked, 0, "query")
    done = search_words(items, queries, tmp_path / "whole", 5)
    assert (done.queries, done.items, done.without_items) == (4, 20, 1)
    monkeypatch.setattr(bm25, "BLOCK_QUERIES", 1)
    assert search_words(items, queries, tmp_path / "parts", 5).rows == done.rows
    assert read_run(tmp_path / "whole") == read_run(tmp_path / "parts")
