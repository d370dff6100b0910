"""N-grams in plain Python: one text in microseconds, with nothing to compile or import; see `NGramTokenizer`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

from pairstill.errors import ArtefactError
from pairstill.files import fingerprint_file, read_json, refuse_newer
from pairstill.tokens.ragged import RaggedTokens

FORMAT, FORMAT_VERSION = "pairstill/ngrams", 1
SETTINGS_FILE, VOCABULARY_FILE = "ngrams.json", "ngrams.txt"
SPACES = " \t\n\r\v\f"
PUNCTUATION = "".join(one for one in map(chr, range(33, 127)) if not one.isalnum())
START, END = "^", "$s"
_ALL = (1 << 64) - 1


@dataclass(frozen=True)
class NGramSettings:
    """What the n-grams of a text are.

    Attributes:
        bigrams: Pairs of neighbouring words beside the single words, the first with `^` before it and the last with `$s` after it.
        split_punctuation: ASCII punctuation marks are words of their own; False splits at white space alone (the paper's code).
        hash_buckets: An n-gram's id is its hash modulo so many; None means a learned vocabulary.
    """

    bigrams: bool = True
    split_punctuation: bool = False
    hash_buckets: int | None = None


def ngrams(text: str, settings: NGramSettings, most_words: int | None = None) -> list[str]:
    """The n-grams of one text, in plain Python; see `NGramTokenizer`."""
    marks = re.escape(PUNCTUATION) if settings.split_punctuation else ""
    pattern = f"[^{SPACES}{marks}]+" + (f"|[{marks}]" if marks else "")
    words = re.findall(pattern, text.lower())[:most_words]
    if not settings.bigrams or not words:
        return words
    found = [f"{START} {words[0]}"]
    for before, word in pairwise(words):
        found += [before, f"{before} {word}"]
    return [*found, words[-1], f"{words[-1]} {END}"]


def ngram_key(ngram: str) -> int:
    """The 64-bit key of an n-gram given as text, as the compiled loops have it; see docs/formats.md, "n-grams"."""
    hashes = [_fnv1a(word) for word in ngram.split(" ")]
    return _mix(hashes[0] if len(hashes) == 1 else hashes[0] * 0x9E3779B97F4A7C15 + hashes[1])


class PlainNGrams:
    """The ids that `NGramTokenizer` gives, for a few texts at a time.

    Args:
        settings: What an n-gram is.
        vocabulary: N-grams in the order of their ids; None where ids are hash buckets.
    """

    def __init__(self, settings: NGramSettings, vocabulary: Sequence[str] | None) -> None:
        self.settings = settings
        self._ids = {one: number for number, one in enumerate(vocabulary or ())}

    @classmethod
    def from_folder(cls, folder: str | Path) -> Self:
        """Read what `NGramTokenizer.save_pretrained` wrote; raises `ArtefactError` as `read_ngrams` does."""
        return cls(*read_ngrams(folder))

    def encode(self, texts: Sequence[str], most_words: int | None = None) -> RaggedTokens:
        """Ids of the n-grams of texts; `most_words` words are read of each, None reads all."""
        found = [ngrams(one, self.settings, most_words) for one in texts]
        buckets, ids = self.settings.hash_buckets, self._ids
        if buckets is not None:
            return RaggedTokens.from_lists([[ngram_key(one) % buckets for one in text] for text in found])
        return RaggedTokens.from_lists([[ids[one] for one in text if one in ids] for text in found])


def read_ngrams(folder: str | Path) -> tuple[NGramSettings, list[str] | None]:
    """Settings and vocabulary (None for hash buckets) of a folder.

    Raises:
        ArtefactError: A file is missing, newer or damaged.
    """
    path = Path(folder) / SETTINGS_FILE
    body = read_json(path)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise ArtefactError("the file holds no settings of n-grams", file=path, expected=f'"format": "{FORMAT}"')
    refuse_newer(path, body, FORMAT_VERSION)
    try:
        settings = NGramSettings(body["bigrams"], body["split_punctuation"], body["hash_buckets"])
        wanted = None if settings.hash_buckets is not None else body["sha256"]
    except KeyError as error:
        raise ArtefactError(f"the key {error} is missing", file=path) from None
    buckets = settings.hash_buckets
    if buckets is not None and not (isinstance(buckets, int) and buckets > 0):
        raise ArtefactError(f"hash_buckets is {buckets!r}", file=path, expected="a number above 0, or null")
    if wanted is None:
        return settings, None
    file = Path(folder) / VOCABULARY_FILE
    if not file.is_file() or fingerprint_file(file) != wanted:
        raise ArtefactError(f"the file is missing or does not have the checksum of {SETTINGS_FILE}", file=file)
    # Words may hold what Python takes for a line's end, but no line feed.
    return settings, file.read_bytes().decode().split("\n")[:-1]


def _fnv1a(word: str) -> int:
    value = 0xCBF29CE484222325
    for byte in word.encode():
        value = ((value ^ byte) * 0x100000001B3) & _ALL
    return value


def _mix(value: int) -> int:
    """The finaliser of SplitMix64; 0 becomes 1, as in the compiled loops."""
    value &= _ALL
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _ALL
    return (value ^ (value >> 31)) or 1
