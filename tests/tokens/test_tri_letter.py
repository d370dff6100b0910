"""The tri-letter tokenizer against the rules and vectors of TwinBERT's authors."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.tokens.tri_letter import FILE, TriLetterConfig, TriLetterTokenizer

PUBLISHED = {
    "#he": 1121, "hel": 1450, "ell": 766, "llo": 1696, "lo#": 2878, "#wo": 684, "wor": 685, "orl": 1164, "rld": 1900, "ld#": 749,
}  # fmt: skip


def published(letters: int) -> TriLetterTokenizer:
    """A vocabulary with the ten known tri-letters of the authors' at their places (an id is a line number + 1, from 0)."""
    lines = [f"<{number}>" for number in range(1, 3000)]
    for one, number in PUBLISHED.items():
        lines[number - 1] = one
    return TriLetterTokenizer(lines, letters)


def transcribed(text: str, vocabulary: list[str], words: int, letters: int) -> tuple[list[list[int]], int]:
    """The rules one after another: ids of each word, and how many words there are."""
    text = text.lower()
    kept = ""
    for character in text:
        if character in "abcdefghijklmnopqrstuvwxyz0123456789 ":
            kept += character
    while "  " in kept:
        kept = kept.replace("  ", " ")
    kept = kept.strip(" ")
    rows = []
    for word in kept.split(" ")[:words]:
        marked = "#" + (word if word else "#") + "#"
        ids = []
        for start in range(len(marked) - 2):
            one = marked[start] + marked[start + 1] + marked[start + 2]
            ids.append(vocabulary.index(one) + 1 if one in vocabulary else 0)
        rows.append(ids[:letters])
    return rows, len(rows)


def test_published_ids() -> None:
    tokens = published(3).tokenize(["hello world"], 5)
    ids, lengths = tokens.padded(np.array([0]))
    assert lengths.tolist() == [2]
    assert ids.tolist() == [[[1121, 1450, 766], [684, 685, 1164]]]
    ids, _ = published(20).tokenize(["Hello, WORLD!"], 12).padded(np.array([0]))
    assert ids.tolist() == [[[1121, 1450, 766, 1696, 2878], [684, 685, 1164, 1900, 749]]]


@given(
    st.lists(st.text(alphabet="abcAB 19-é\t\n", max_size=25), min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 6)
)  # fmt: skip
def test_rules(texts: list[str], words: int, letters: int) -> None:
    vocabulary = ["#ab", "abc", "bc#", "###", "#a#", "a19", "19#", "aaa"]
    tokens = TriLetterTokenizer(vocabulary, letters).tokenize(texts, words)
    rows = np.arange(len(texts))[::-1]
    ids, lengths = tokens.padded(rows)
    for found, length, row in zip(ids, lengths, rows, strict=True):
        expected, count = transcribed(texts[row], vocabulary, words, letters)
        assert length == count
        for word in range(found.shape[0]):
            wanted = expected[word] if word < count else []
            assert found[word].tolist() == wanted + [0] * (found.shape[1] - len(wanted))


def test_an_empty_text_has_one_valid_word() -> None:
    tokenizer = TriLetterTokenizer(["###", "abc"])
    ids, lengths = tokenizer.tokenize(["", " !? "], 12).padded(np.arange(2))
    assert lengths.tolist() == [1, 1]
    assert ids.tolist() == [[[1]], [[1]]]


def test_parts_are_the_texts_between() -> None:
    texts = ["abc", "abc xyz", "", "19 19 19"]
    tokens = TriLetterTokenizer(["abc", "xyz", "#19"]).tokenize(texts, 12)
    part = tokens.part(1, 3)
    assert len(part) == 2
    for mine, whole in zip(part.padded(np.arange(2)), tokens.padded(np.array([1, 2])), strict=True):
        np.testing.assert_array_equal(mine, whole)


def test_unicode_keeps_other_scripts() -> None:
    plain, wide = TriLetterTokenizer(()), TriLetterTokenizer((), unicode=True)
    assert plain.words("Crème\tbrûlée für 2") == ["crmebrle", "fr", "2"]
    assert wide.words("Crème\tbrûlée für 2") == ["crème", "brûlée", "für", "2"]
    assert wide.words("ДОМ, дом! 東京\u3000हिन्दी ﬁve") == ["дом", "дом", "東京", "हिन्दी", "five"]


def test_the_vocabulary_is_the_most_frequent() -> None:
    corpus = [["aa aa ab", "aa"], ["ab cc"]]
    learn = TriLetterTokenizer.learn
    assert learn(corpus, TriLetterConfig(minimum_count=1)).vocabulary == (
        "#aa", "aa#", "#ab", "ab#", "#cc", "cc#",
    )  # fmt: skip
    assert learn(corpus, TriLetterConfig(minimum_count=2)).vocabulary == ("#aa", "aa#", "#ab", "ab#")
    assert learn(corpus, TriLetterConfig(vocabulary_size=3)).vocabulary == ("#aa", "aa#", "#ab")
    with pytest.raises(InputError, match="no tri-letter occurs 9 times in 3 texts"):
        learn(corpus, TriLetterConfig(minimum_count=9))


def test_texts_that_lose_everything_are_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["word"] * 195 + ["дом"] * 3 + ["", " "]
    with caplog.at_level(logging.WARNING):
        tokenizer = TriLetterTokenizer.learn([texts], TriLetterConfig())
        assert "3 of 200 texts (1.5%) have no word left" in caplog.text
        assert "unicode=true" in caplog.text
        caplog.clear()
        loaded = TriLetterTokenizer(tokenizer.vocabulary)
        loaded.tokenize(texts, 12)
        loaded.tokenize(texts, 12)
        assert len(caplog.records) == 1
        caplog.clear()
        TriLetterTokenizer(tokenizer.vocabulary).tokenize(texts[3:], 12)
        TriLetterTokenizer(tokenizer.vocabulary).tokenize(["дом"], 12)
        TriLetterTokenizer(tokenizer.vocabulary, unicode=True).tokenize(texts, 12)
        assert len(caplog.records) == 1, "3 of 197 are above one in a hundred; single texts are no corpus"


def test_a_few_texts_that_lose_everything_are_no_vocabulary(caplog: pytest.LogCaptureFixture) -> None:
    texts = ["красные кеды", "зимняя куртка", ""]
    with pytest.raises(
        InputError, match=r"none of 3 texts has a word after everything but a to z and 0 to 9.*unicode=true"
    ):
        TriLetterTokenizer.learn([texts], TriLetterConfig(minimum_count=1))
    learnt = TriLetterTokenizer.learn([texts], TriLetterConfig(minimum_count=1, unicode=True))
    assert "кед" in learnt.vocabulary
    with pytest.raises(InputError, match="everything but letters and digits was deleted") as refused:
        TriLetterTokenizer.learn([["!", "?"]], TriLetterConfig(minimum_count=1, unicode=True))
    assert "unicode=true" not in str(refused.value)
    with caplog.at_level(logging.WARNING):
        TriLetterTokenizer.learn([[*texts, "word word"]], TriLetterConfig())
    assert "2 of 4 texts (50.0%) have no word left" in caplog.text


def test_saved_and_loaded(tmp_path: Path) -> None:
    tokenizer = TriLetterTokenizer(("#aa", "東京#"), letters=7, unicode=True)
    tokenizer.save_pretrained(tmp_path)
    again = TriLetterTokenizer.load(tmp_path)
    assert again == tokenizer
    assert again.get_vocab() == {"#aa": 1, "東京#": 2}
    body = json.loads((tmp_path / FILE).read_text(encoding="utf-8"))
    for change, message in (
        ({"version": 2}, "Upgrade"),
        ({"format": "other"}, "no tri-letter vocabulary"),
        ({"vocabulary": [1]}, "damaged"),
    ):
        (tmp_path / FILE).write_text(json.dumps({**body, **change}))
        with pytest.raises(ArtefactError, match=message):
            TriLetterTokenizer.load(tmp_path)
