"""Unigrams and bigrams of words as ids: a learned vocabulary or hash buckets (BERT2DNN)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from pairstill.errors import InputError
from pairstill.files import fingerprint_file, write_json, write_text
from pairstill.machine import usable_cores
from pairstill.tokens import ngram_kernels as kernels
from pairstill.tokens.ngram_text import (
    FORMAT,
    FORMAT_VERSION,
    PUNCTUATION,
    SETTINGS_FILE,
    SPACES,
    VOCABULARY_FILE,
    NGramSettings,
    ngrams,
    read_ngrams,
)
from pairstill.tokens.ragged import RaggedTokens

TEXTS_PER_TASK = 8192


class NGramTokenizer:
    """Turns texts into ids of their n-grams, hundreds of thousands of texts a second.

    Texts are lower-cased (as `str.lower`) and split at ASCII white space. n words have n unigrams and n + 1 bigrams, in the
    order `^ w1`, `w1`, `w1 w2`, `w2`, ..., `wn`, `wn $s`. N-grams outside of a learned vocabulary are left out. Words are
    compared by 64-bit hashes, so two different n-grams are confounded with a probability of about entries / 2^64.

    Args:
        settings: What an n-gram is.
        vocabulary: N-grams in the order of their ids; None where ids are hash buckets.

    Raises:
        InputError: A vocabulary is missing, given for hash buckets, empty, or has an n-gram twice.

    Example:
        >>> NGramTokenizer.learn(["red shoe", "red hat"], NGramSettings(), size=3).vocabulary
        ('^ red', 'red', 'hat')
    """

    pad_token_id = 0

    def __init__(self, settings: NGramSettings, vocabulary: Sequence[str] | None = None) -> None:
        self.settings = settings
        self.vocabulary = None if vocabulary is None else tuple(vocabulary)
        if (settings.hash_buckets is None) != (self.vocabulary is not None):
            raise InputError("n-grams have either a vocabulary or hash buckets")
        self._classes = _byte_classes(settings.split_punctuation)
        if self.vocabulary is not None:
            if not self.vocabulary:
                raise InputError(
                    "the vocabulary of n-grams is empty", fix="Lower the minimum count, or give more texts"
                )
            self._table, self._ids = _hash_table(self.vocabulary)

    @classmethod
    def learn(
        cls, texts: Iterable[str], settings: NGramSettings, *, size: int, minimum_count: int = 1, most_words: int | None = None
    ) -> Self:  # fmt: skip
        """Learn the most frequent n-grams of texts; those of equal count are taken in the order of their text.

        Args:
            texts: Read once; held until the vocabulary is chosen.
            settings: What an n-gram is.
            size: At most so many n-grams.
            minimum_count: How often an n-gram must occur.
            most_words: Words read of a text; None reads all.

        Raises:
            InputError: No n-gram occurs often enough.
        """
        if settings.hash_buckets is not None:
            return cls(settings)
        counter = _Counter(settings, most_words)
        source = iter(texts)
        while chunk := list(islice(source, 8 * TEXTS_PER_TASK)):
            counter.add(chunk)
        return cls(settings, counter.most_frequent(size, minimum_count))

    def __len__(self) -> int:
        """How many ids there are, from 0."""
        return self.settings.hash_buckets or len(self.vocabulary or ())

    def encode(
        self, texts: Sequence[str], most_words: int | None = None, *, threads: int | None = None
    ) -> RaggedTokens:
        """Ids of the n-grams of texts.

        Args:
            texts: Any number of them.
            most_words: Words read of a text; None reads all.
            threads: None takes every core that is ours.
        """
        chunks = [texts[start : start + TEXTS_PER_TASK] for start in range(0, len(texts), TEXTS_PER_TASK)]
        threads = min(threads or usable_cores(), len(chunks))
        if threads < 2:
            parts = [self._encode(chunk, most_words) for chunk in chunks]
        else:
            with ThreadPoolExecutor(threads) as pool:
                parts = list(pool.map(lambda chunk: self._encode(chunk, most_words), chunks))
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        if not parts:
            return RaggedTokens(np.zeros(0, dtype=np.int32), offsets)
        np.cumsum(np.concatenate([counts for _, counts in parts]), out=offsets[1:])
        return RaggedTokens(np.concatenate([ids for ids, _ in parts]), offsets)

    def longer(self, texts: Sequence[str], words: int) -> np.ndarray:
        """`(texts,)` bool, which texts have more words than so many."""
        read, more = (_keys(texts, self.settings, self._classes, most)[1] for most in (words, words + 1))
        longer: np.ndarray = more > read
        return longer

    def get_vocab(self) -> dict[str, int]:
        """Ids by n-gram; empty for hash buckets."""
        return {one: number for number, one in enumerate(self.vocabulary or ())}

    def save_pretrained(self, folder: str) -> None:
        """Write `ngrams.json` and, for a learned vocabulary, `ngrams.txt`."""
        body = {
            "format": FORMAT, "version": FORMAT_VERSION, "bigrams": self.settings.bigrams,
            "split_punctuation": self.settings.split_punctuation, "hash_buckets": self.settings.hash_buckets,
        }  # fmt: skip
        if self.vocabulary is not None:
            path = Path(folder) / VOCABULARY_FILE
            write_text(path, "".join(f"{one}\n" for one in self.vocabulary))
            body |= {"entries": len(self.vocabulary), "sha256": fingerprint_file(path)}
        write_json(Path(folder) / SETTINGS_FILE, body)

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Read what `save_pretrained` wrote.

        Raises:
            ArtefactError: A file is missing, newer or damaged.
        """
        return cls(*read_ngrams(folder))

    def _encode(self, texts: Sequence[str], most_words: int | None) -> tuple[np.ndarray, np.ndarray]:
        keys, counts = _keys(texts, self.settings, self._classes, most_words)
        if self.settings.hash_buckets is not None:
            return (keys % np.uint64(self.settings.hash_buckets)).astype(np.int32), counts
        out, kept = np.empty(len(keys), dtype=np.int32), np.empty_like(counts)
        total = kernels.look_up(keys, counts, self._table, self._ids, out, kept)
        return out[:total].copy(), kept


class _Counter:
    """Counts n-grams by key; the texts that keys were first seen in are kept, to say what the keys stand for."""

    def __init__(self, settings: NGramSettings, most_words: int | None) -> None:
        self.settings, self.most_words = settings, most_words
        self.classes = _byte_classes(settings.split_punctuation)
        self.texts: list[str] = []
        # Keys, how often each occurs, and where it was first: the text's number and the place in it.
        self.parts = [(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty((0, 2), np.int64))]

    def add(self, texts: Sequence[str]) -> None:
        keys, counts = _keys(texts, self.settings, self.classes, self.most_words)
        ends = np.cumsum(counts)
        found, places, times = np.unique(keys, return_index=True, return_counts=True)
        text = np.searchsorted(ends, places, side="right")
        first = np.stack([text + len(self.texts), places - (ends - counts)[text]], axis=1)
        self.texts.extend(texts)
        self.parts.append((found, times, first))
        if sum(len(part[0]) for part in self.parts[1:]) > len(self.parts[0][0]):
            self._merge()

    def _merge(self) -> None:
        keys, times, first = (np.concatenate(arrays) for arrays in zip(*self.parts, strict=True))
        keys, places, inverse = np.unique(keys, return_index=True, return_inverse=True)
        self.parts = [(keys, np.bincount(inverse, times).astype(np.int64), first[places])]

    def most_frequent(self, size: int, minimum_count: int) -> list[str]:
        self._merge()
        _, counts, first = self.parts[0]
        enough = np.flatnonzero(counts >= minimum_count)
        if len(enough) > size:
            least = np.partition(counts[enough], len(enough) - size)[len(enough) - size]
            enough = enough[counts[enough] >= least]
        held: dict[int, list[str]] = {}
        found = []
        for row in enough[np.argsort(first[enough, 0], kind="stable")]:
            text, place = first[row]
            if text not in held:
                held = {text: ngrams(self.texts[text], self.settings, self.most_words)}
            found.append((-int(counts[row]), held[text][place]))
        return [one for _, one in sorted(found)[:size]]


def _keys(
    texts: Sequence[str], settings: NGramSettings, classes: np.ndarray, most_words: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Keys of all n-grams, text after text, and how many each text has."""
    # Lower-casing ASCII is left to the compiled loop.
    data, offsets = _utf8([one if one.isascii() else one.lower() for one in texts])
    keys = np.empty(2 * int(offsets[-1]) + len(texts), dtype=np.uint64)
    counts = np.empty(len(texts), dtype=np.int64)
    most = np.iinfo(np.int64).max if most_words is None else most_words
    total = kernels.extract(data, offsets, classes, settings.bigrams, most, keys, counts)
    return keys[:total], counts


def _utf8(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """All bytes, and where each text begins and ends."""
    _, offsets, data = pa.array(texts, pa.large_string()).buffers()
    return np.frombuffer(data or b"", dtype=np.uint8), np.frombuffer(offsets, dtype=np.int64)[: len(texts) + 1]


def _byte_classes(split_punctuation: bool) -> np.ndarray:
    classes = np.full(256, kernels.LETTER, dtype=np.uint8)
    classes[[ord(one) for one in SPACES]] = kernels.SPACE
    if split_punctuation:
        classes[[ord(one) for one in PUNCTUATION]] = kernels.PUNCTUATION
    return classes


def _hash_table(vocabulary: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    keys = np.empty(len(vocabulary), dtype=np.uint64)
    kernels.entry_keys(*_utf8(vocabulary), keys)
    size = 1 << (2 * len(keys)).bit_length()
    table, ids = np.zeros(size, dtype=np.uint64), np.empty(size, dtype=np.int32)
    twice = kernels.fill_table(keys, table, ids)
    if twice >= 0:
        raise InputError(f"the vocabulary of n-grams has {vocabulary[twice]!r} twice")
    return table, ids
