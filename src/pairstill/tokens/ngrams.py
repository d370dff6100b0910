"""Unigrams and bigrams of words as ids: a learned vocabulary or hash buckets (BERT2DNN)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from pairstill.errors import InputError
from pairstill.files import fingerprint_file, write_json, write_text
from pairstill.machine import usable_cores
from pairstill.scratch import scratch_table
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
from pairstill.tokens.texts import ArrowTexts

TEXTS_PER_TASK = 8192
TEXTS_COUNTED = 2048
"""Texts that a vocabulary is learned from at a time; there is room for their n-grams, should all be different."""
MOST_BUCKETS = 1 << 24
"""Sums of counts that are held meanwhile, 4 bytes each."""
TEXTS = pa.schema([("text", pa.large_string())])


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
                raise InputError("the vocabulary of n-grams is empty", expected="one n-gram or more")
            keys = np.empty(len(self.vocabulary), dtype=np.uint64)
            kernels.entry_keys(*_utf8(self.vocabulary), keys)
            self._table, self._ids, twice = _hash_table(keys, len(keys))
            if twice >= 0:
                raise InputError(f"the vocabulary of n-grams has {self.vocabulary[twice]!r} twice")

    @classmethod
    def learn(
        cls, texts: Iterable[str], settings: NGramSettings, *, size: int, minimum_count: int = 1, most_words: int | None = None
    ) -> Self:  # fmt: skip
        """Learn the most frequent n-grams of texts; those of equal count are taken in the order of their text.

        Texts may be larger than memory: they are copied to a temporary file (`scratch`) and gone through there. In memory are at
        most 128 MiB and those n-grams that may be frequent enough: mostly about twice `size`, never fewer than all that occur
        as often as the last one that is taken.

        Args:
            texts: Read once.
            settings: What an n-gram is.
            size: At most so many n-grams.
            minimum_count: How often an n-gram must occur.
            most_words: Words read of a text; None reads all.

        Raises:
            InputError: No n-gram occurs often enough, or the temporary folder has no room for the texts.
        """
        if settings.hash_buckets is not None:
            return cls(settings)
        held = scratch_table(_batches(texts), TEXTS).column("text")
        vocabulary = _Counter(held, settings, most_words).most_frequent(size, minimum_count)
        if not vocabulary:
            raise InputError(
                f"no n-gram occurs {minimum_count:,} times in {len(held):,} texts",
                expected="enough texts to learn a vocabulary from",
                fix="Lower encoder.minimum_count, give more texts, or set encoder.hash_buckets",
            )
        return cls(settings, vocabulary)

    def __len__(self) -> int:
        """How many ids there are, from 0."""
        return self.settings.hash_buckets or len(self.vocabulary or ())

    def encode(
        self, texts: Sequence[str], most_words: int | None = None, *, threads: int | None = None
    ) -> RaggedTokens:
        """Ids of the n-grams of texts; on disk where they are many (`scratch`).

        Args:
            texts: Any number of them; of `ArrowTexts` the bytes are read, without making strings.
            most_words: Words read of a text; None reads all.
            threads: None takes every core that is ours.
        """
        column = texts.column if isinstance(texts, ArrowTexts) else texts
        starts = range(0, len(texts), TEXTS_PER_TASK)

        def encode(start: int) -> RaggedTokens:
            return self._encode(column[start : start + TEXTS_PER_TASK], most_words)

        threads = min(threads or usable_cores(), len(starts))
        if threads < 2:
            return RaggedTokens.concatenate(map(encode, starts))
        with ThreadPoolExecutor(threads) as pool:
            return RaggedTokens.concatenate(_in_order(pool, threads, encode, starts))

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

    def _encode(self, texts: Sequence[str] | pa.Array, most_words: int | None) -> RaggedTokens:
        keys, counts = _keys(texts, self.settings, self._classes, most_words)
        if self.settings.hash_buckets is not None:
            ids = (keys % np.uint64(self.settings.hash_buckets)).astype(np.int32)
        else:
            out, kept = np.empty(len(keys), dtype=np.int32), np.empty_like(counts)
            ids, counts = out[: kernels.look_up(keys, counts, self._table, self._ids, out, kept)].copy(), kept
        return RaggedTokens(ids, np.concatenate([[0], np.cumsum(counts)]))


class _Counter:
    """Finds the most frequent n-grams of texts, exactly, without a count of every n-gram.

    Keys fall into buckets. The sum of a bucket's counts is known first, in little memory; a key whose bucket has a sum below
    some number has a lower count, too, and is left out when keys are counted one by one.

    Args:
        texts: Gone through several times.
        settings: What an n-gram is.
        most_words: Words read of a text; None reads all.
    """

    def __init__(self, texts: pa.ChunkedArray, settings: NGramSettings, most_words: int | None) -> None:
        self.texts, self.settings, self.most_words = texts, settings, most_words
        self.classes = _byte_classes(settings.split_punctuation)

    def most_frequent(self, size: int, minimum_count: int) -> list[str]:
        """At most `size` n-grams of at least `minimum_count` occurrences, by falling count and then by text."""
        bits = min(64 * size, self.texts.nbytes + 1, MOST_BUCKETS).bit_length() - 1
        sums = self._sums(max(bits, 1))
        # About twice as many keys as are wanted are then counted one by one, where few share a bucket.
        least, many = minimum_count, 2 * size
        if np.count_nonzero(sums >= minimum_count) > many:
            least = max(minimum_count, int(np.partition(sums, -many)[-many]))
        counts, first = self._counts(sums, least)
        while least > minimum_count and np.count_nonzero(counts >= least) < size:
            least = max(minimum_count, least // 2)
            counts, first = self._counts(sums, least)
        enough = np.flatnonzero(counts >= least)
        if len(enough) > size:
            taken = np.partition(counts[enough], len(enough) - size)[len(enough) - size]
            enough = enough[counts[enough] >= taken]
        return [one for _, one in sorted(self._named(counts[enough], first[enough]))[:size]]

    def _named(self, counts: np.ndarray, first: np.ndarray) -> Iterator[tuple[int, str]]:
        """Minus its count, and the text, of every n-gram that is first seen there (see `_counts`)."""
        order = np.argsort(first[:, 0], kind="stable")
        counts, first = counts[order], first[order]
        before = 0
        for texts in self.texts.chunks:
            low, high = np.searchsorted(first[:, 0], [before, before + len(texts)])
            numbers, which = np.unique(first[low:high, 0] - before, return_inverse=True)
            found = [ngrams(one, self.settings, self.most_words) for one in texts.take(pa.array(numbers)).to_pylist()]
            for count, text, place in zip(counts[low:high].tolist(), which.tolist(), first[low:high, 1].tolist(), strict=True):  # fmt: skip
                yield -count, found[text][place]
            before += len(texts)

    def _sums(self, bits: int) -> np.ndarray:
        """`(2 ** bits,)` how often keys occur that begin with these bits."""
        sums = np.zeros(1 << bits, np.uint32)
        for texts in self.texts.chunks:
            keys, _ = _keys(texts, self.settings, self.classes, self.most_words)
            kernels.add_to_sums(keys, 64 - bits, sums)
        return sums

    def _counts(self, sums: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
        """Of the keys in buckets of such a sum: how often each occurs, and where it is first, the text's number and the place in it."""
        shift = 65 - len(sums).bit_length()
        known, times, first = np.empty(0, np.uint64), np.empty(0, np.int64), np.empty((0, 2), np.int64)
        table, ids = np.empty(0, np.uint64), np.empty(0, np.int32)
        entries = before = 0
        for texts in self.texts.chunks:
            keys, counts = _keys(texts, self.settings, self.classes, self.most_words)
            if entries + len(keys) > len(known):
                # Room for twice as many, so that this happens seldom.
                room = ((0, 2 * (entries + len(keys)) - entries),)
                known, times = np.pad(known[:entries], room), np.pad(times[:entries], room)
                first = np.pad(first[:entries], (*room, (0, 0)))
                table, ids, _ = _hash_table(known[:entries], len(known))
            entries = kernels.count(keys, counts, before, sums, shift, least, table, ids, entries, known, times, first)
            before += len(texts)
        return times[:entries], first[:entries]


def _batches(texts: Iterable[str]) -> Iterator[pa.RecordBatch]:
    source = iter(texts)
    while chunk := list(islice(source, TEXTS_COUNTED)):
        yield pa.record_batch([pa.array(chunk, pa.large_string())], schema=TEXTS)


def _in_order(
    pool: ThreadPoolExecutor, threads: int, function: Callable[[int], RaggedTokens], arguments: Iterable[int]
) -> Iterator[RaggedTokens]:
    """As `map`, by several threads, of which few results wait to be taken."""
    waiting: deque[Future[RaggedTokens]] = deque()
    for one in arguments:
        waiting.append(pool.submit(function, one))
        if len(waiting) > 2 * threads:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _keys(
    texts: Sequence[str] | pa.Array, settings: NGramSettings, classes: np.ndarray, most_words: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Keys of all n-grams, text after text, and how many each text has."""
    data, offsets = _utf8(texts)
    if data.max(initial=0) > 127:
        # As Python lower-cases, which is not as Arrow does; ASCII is left to the compiled loop.
        strings = texts.to_pylist() if isinstance(texts, pa.Array) else texts
        data, offsets = _utf8([one if one.isascii() else one.lower() for one in strings])
    keys = np.empty(2 * len(data) + len(texts), dtype=np.uint64)
    counts = np.empty(len(texts), dtype=np.int64)
    most = np.iinfo(np.int64).max if most_words is None else most_words
    total = kernels.extract(data, offsets, classes, settings.bigrams, most, keys, counts)
    return keys[:total], counts


def _utf8(texts: Sequence[str] | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """All bytes, and where each text begins and ends."""
    column = texts.cast(pa.large_string()) if isinstance(texts, pa.Array) else pa.array(texts, pa.large_string())
    _, places, data = column.buffers()
    offsets = np.frombuffer(places, dtype=np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data or b"", dtype=np.uint8)[offsets[0] : offsets[-1]], offsets - offsets[0]


def _byte_classes(split_punctuation: bool) -> np.ndarray:
    classes = np.full(256, kernels.LETTER, dtype=np.uint8)
    classes[[ord(one) for one in SPACES]] = kernels.SPACE
    if split_punctuation:
        classes[[ord(one) for one in PUNCTUATION]] = kernels.PUNCTUATION
    return classes


def _hash_table(keys: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray, int]:
    """A table for so many keys with these in it, its ids, and what `kernels.fill_table` returns."""
    size = 1 << (2 * room).bit_length()
    table, ids = np.zeros(size, dtype=np.uint64), np.empty(size, dtype=np.int32)
    return table, ids, kernels.fill_table(keys, table, ids)
