"""N-grams: the compiled form against plain Python, the vocabulary's order, files and refusals."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pairstill.errors import ArtefactError, InputError
from pairstill.tokens.ngram_text import NGramSettings, ngrams
from pairstill.tokens.ngrams import NGramTokenizer
from pairstill.tokens.texts import ArrowTexts

SETTINGS = [
    NGramSettings(),
    NGramSettings(bigrams=False),
    NGramSettings(split_punctuation=True),
    NGramSettings(bigrams=False, split_punctuation=True),
]
TEXTS = st.text(st.sampled_from("aAbB1 .,-\t\n\u00a0\u2028éÉßΣİ漢"), max_size=24)


def test_order_and_boundaries_are_those_of_the_published_code() -> None:
    assert ngrams("Red running Shoe", NGramSettings()) == [
        "^ red", "red", "red running", "running", "running shoe", "shoe", "shoe $s",
    ]  # fmt: skip
    assert ngrams("a,b", NGramSettings(bigrams=False, split_punctuation=True)) == ["a", ",", "b"]
    assert ngrams(" \t ", NGramSettings()) == []
    assert ngrams("a b c", NGramSettings(), most_words=1) == ["^ a", "a", "a $s"]


@hypothesis_settings(deadline=None)  # The first call compiles.
@given(texts=st.lists(TEXTS, min_size=1, max_size=6), most=st.sampled_from([None, 1, 3]))
def test_ids_are_those_of_the_plain_form(texts: list[str], most: int | None) -> None:
    for settings in SETTINGS:
        lists = [ngrams(text, settings, most) for text in texts]
        words = sorted({one for found in lists for one in found})[::2]
        if not words:
            continue
        tokenizer = NGramTokenizer(settings, words)
        tokens = tokenizer.encode(texts, most)
        places = tokenizer.get_vocab()
        for number, found in enumerate(lists):
            ids = tokens.ids[tokens.offsets[number] : tokens.offsets[number + 1]]
            assert ids.tolist() == [places[one] for one in found if one in places]


@hypothesis_settings(deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=8), size=st.integers(1, 12), least=st.integers(1, 3))
def test_the_vocabulary_is_the_most_frequent_and_then_by_text(texts: list[str], size: int, least: int) -> None:
    for settings in SETTINGS:
        counts = Counter(one for text in texts for one in ngrams(text, settings))
        order = sorted((one for one in counts if counts[one] >= least), key=lambda one: (-counts[one], one))
        if not order:
            with pytest.raises(InputError, match=f"no n-gram occurs {least} times in {len(texts)} texts"):
                NGramTokenizer.learn(texts, settings, size=size, minimum_count=least)
            continue
        found = NGramTokenizer.learn(iter(texts), settings, size=size, minimum_count=least)
        assert list(found.vocabulary or ()) == order[:size]


@pytest.mark.parametrize("buckets", [2, 32, 1 << 24])
@pytest.mark.parametrize("skew", [1.3, 4.0])
def test_the_vocabulary_does_not_depend_on_how_it_is_counted(
    buckets: int, skew: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buckets that many n-grams share, and a first guess at the lowest count that is too high, change nothing."""
    random = np.random.default_rng(buckets)
    texts = [" ".join(f"w{one}" for one in random.zipf(skew, random.integers(0, 12)) % 5000) for _ in range(900)]
    counts = Counter(one for text in texts for one in ngrams(text, NGramSettings(), 8))
    order = sorted(counts, key=lambda one: (-counts[one], one))
    monkeypatch.setattr("pairstill.tokens.ngrams.MOST_BUCKETS", buckets)
    monkeypatch.setattr("pairstill.tokens.ngrams.TEXTS_COUNTED", 50)
    for size, least in itertools.product((1, 7, 100, 800, 10**6), (1, 2, 5)):
        found = NGramTokenizer.learn(iter(texts), NGramSettings(), size=size, minimum_count=least, most_words=8)
        assert list(found.vocabulary or ()) == [one for one in order if counts[one] >= least][:size]


def test_a_vocabulary_is_refused_where_no_ngram_is_frequent_enough() -> None:
    with pytest.raises(InputError, match="no n-gram occurs 3 times in 2 texts") as refused:
        NGramTokenizer.learn(["a b", "a c"], NGramSettings(), size=9, minimum_count=3)
    assert "encoder.minimum_count" in str(refused.value)
    with pytest.raises(InputError, match="no n-gram occurs 1 times in 0 texts"):
        NGramTokenizer.learn([], NGramSettings(), size=9)
    with pytest.raises(InputError, match="the vocabulary of n-grams is empty"):
        NGramTokenizer(NGramSettings(), [])


def test_buckets_are_made_without_reading_a_text() -> None:
    def texts() -> Iterator[str]:
        raise AssertionError
        yield ""

    assert len(NGramTokenizer.learn(texts(), NGramSettings(hash_buckets=5), size=9)) == 5


@hypothesis_settings(deadline=None)
@given(texts=st.lists(TEXTS, max_size=8), start=st.integers(0, 3), wide=st.booleans())
def test_ids_of_an_arrow_array_are_those_of_its_strings(texts: list[str], start: int, wide: bool) -> None:
    column = pa.array(texts, pa.large_string() if wide else pa.string())[start:]
    for settings in (NGramSettings(hash_buckets=1000), NGramSettings(split_punctuation=True, hash_buckets=1000)):
        tokenizer = NGramTokenizer(settings)
        found, expected = tokenizer.encode(ArrowTexts(column)), tokenizer.encode(texts[start:])
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.offsets, expected.offsets)


def test_ids_on_disk_are_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"w{number} w{number % 7} w{number % 3}" for number in range(500)]
    tokenizer = NGramTokenizer.learn(texts, NGramSettings(), size=400)
    expected = tokenizer.encode(texts)
    monkeypatch.setattr("pairstill.scratch.IN_MEMORY_BYTES", 0)
    monkeypatch.setattr("pairstill.tokens.ngrams.TEXTS_PER_TASK", 30)
    for threads in (1, 3):
        found = tokenizer.encode(texts, threads=threads)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.offsets, expected.offsets)
        assert not found.ids.flags.owndata
    assert (found.ids.dtype, found.offsets.dtype) == (expected.ids.dtype, expected.offsets.dtype)


def test_counting_and_encoding_in_pieces_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    texts = [" ".join(f"w{one}" for one in random.integers(0, 30, random.integers(0, 9))) for _ in range(300)]
    whole = NGramTokenizer.learn(texts, NGramSettings(), size=80)
    expected = whole.encode(texts)
    monkeypatch.setattr("pairstill.tokens.ngrams.TEXTS_PER_TASK", 7)
    monkeypatch.setattr("pairstill.tokens.ngrams.TEXTS_COUNTED", 7)
    monkeypatch.setattr("pairstill.tokens.ngrams.usable_cores", lambda: 3)
    pieces = NGramTokenizer.learn(texts, NGramSettings(), size=80)
    assert pieces.vocabulary == whole.vocabulary
    found = pieces.encode(texts)
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    assert len(pieces.encode([])) == 0


def test_buckets_are_fixed() -> None:
    tokenizer = NGramTokenizer(NGramSettings(hash_buckets=1000))
    assert len(tokenizer) == 1000
    assert tokenizer.get_vocab() == {}
    assert tokenizer.encode(["Red shoe"]).ids.tolist() == [_bucket(one) for one in ngrams("red shoe", NGramSettings())]


def _bucket(ngram: str) -> int:
    """Plain transcription of docs/formats.md."""
    hashes = []
    for word in ngram.encode().split(b" "):
        found = 0xCBF29CE484222325
        for byte in word:
            found = ((found ^ byte) * 0x100000001B3) % 2**64
        hashes.append(found)
    key = hashes[0] if len(hashes) == 1 else (hashes[0] * 0x9E3779B97F4A7C15 + hashes[1]) % 2**64
    key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) % 2**64
    return (key ^ (key >> 31)) % 1000


@pytest.mark.parametrize("settings", [NGramSettings(split_punctuation=True), NGramSettings(hash_buckets=9)])
def test_saved_and_read(settings: NGramSettings, tmp_path: Path) -> None:
    texts = ["a b\u2028c é", "A\u0085b a b"]
    tokenizer = NGramTokenizer.learn(texts, settings, size=100)
    tokenizer.save_pretrained(str(tmp_path))
    again = NGramTokenizer.from_folder(tmp_path)
    assert (again.settings, again.vocabulary) == (tokenizer.settings, tokenizer.vocabulary)
    np.testing.assert_array_equal(again.encode(texts).ids, tokenizer.encode(texts).ids)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    NGramTokenizer(NGramSettings(), ["a", "a b"]).save_pretrained(str(tmp_path))
    settings, vocabulary = tmp_path / "ngrams.json", tmp_path / "ngrams.txt"
    good = settings.read_text()
    for text, message in (
        (good.replace('"version": 1', '"version": 2'), "Upgrade"),
        (good.replace("pairstill/ngrams", "other"), "no settings of n-grams"),
        (good.replace("bigrams", "trigrams"), "'bigrams' is missing"),
        (good.replace('"hash_buckets": null', '"hash_buckets": "many"'), "hash_buckets is 'many'"),
    ):
        settings.write_text(text)
        with pytest.raises(ArtefactError, match=message):
            NGramTokenizer.from_folder(tmp_path)
    settings.write_text(good)
    vocabulary.write_text("a\nb\n")
    with pytest.raises(ArtefactError, match="checksum"):
        NGramTokenizer.from_folder(tmp_path)
    vocabulary.unlink()
    with pytest.raises(ArtefactError, match="missing"):
        NGramTokenizer.from_folder(tmp_path)


def test_vocabularies_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="'a' twice"):
        NGramTokenizer(NGramSettings(), ["a", "b", "a"])
    with pytest.raises(InputError, match="either a vocabulary or hash buckets"):
        NGramTokenizer(NGramSettings())
    with pytest.raises(InputError, match="either a vocabulary or hash buckets"):
        NGramTokenizer(NGramSettings(hash_buckets=4), ["a"])
